package edge

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// lingerTime is how long an upload that was answered early is read on and
// thrown away: with unread bytes in its buffers the kernel resets a connection
// that is closed, and the reset may overtake the answer (RFC 9112, 9.6).
// net/http waits as long, but not if the body is being read when the answer ends.
const lingerTime = 500 * time.Millisecond

// clientBody is the body of a client's request. The attempt that reads it may
// go on doing so after it was answered, until the body is taken back.
type clientBody struct {
	body io.ReadCloser

	mu    sync.Mutex
	ended bool // no more is to come
	taken bool
}

var errTakenBack = errors.New("the request is over")

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken {
		return 0, errTakenBack
	}
	n, err := b.body.Read(p)
	b.ended = b.ended || err != nil
	return n, err
}

func (b *clientBody) Close() error { return b.body.Close() }

// linger sends what was answered and gives the client time to read it if it
// is still sending. After it, nobody reads the body.
func (b *clientBody) linger(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	// Errors mean that the connection is gone, or is not one of HTTP/1; then
	// there is nobody to wait for.
	if c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = true
	if !b.ended {
		if c.Flush() != nil {
			return
		}
		if _, err := io.Copy(io.Discard, b.body); err != nil {
			return // out of time: the server closes the connection
		}
	}
	_ = c.SetReadDeadline(time.Time{})
}
