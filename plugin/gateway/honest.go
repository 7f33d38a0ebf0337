package gateway

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	logging "github.com/ipfs/go-log/v2"
)

var log = logging.Logger("plugin/gateway")

const (
	// stall is how long a client may take nothing. A slow one takes some kilobytes in that time.
	stall = 2 * time.Minute

	// requestHeader has the id of the request in every answer.
	requestHeader = "X-Request-Id"

	// carBroken is what boxo writes behind a CAR that it could not finish. It says so in a header as
	// well, which it has cut off from the response by then.
	carBroken = "\n\n[Gateway Error: CAR stream truncated, response is incomplete]"
	carType   = "application/vnd.ipld.car"

	// tarType is a TAR file, behind which boxo writes the error.
	tarType = "application/x-tar"

	// maxLogged is how much of an error goes to the log.
	maxLogged = 4 << 10
)

// honest is a handler whose errors cannot be taken for answers.
func honest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res := &response{ResponseWriter: w, control: http.NewResponseController(w), id: strings.ToLower(rand.Text()[:16])}
		w.Header().Set(requestHeader, res.id)
		next.ServeHTTP(res, r)
		res.finish(r)
	})
}

// response is what the gateway writes to. It is used by one goroutine at a time, as any
// http.ResponseWriter is.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	id      string

	status   int    // 0: nothing was sent
	failed   bool   // the status is an error of ours: the body is kept back
	said     []byte // the beginning of that body
	broken   bool   // what was sent is not whole
	tar      tarEnd
	hijacked bool
	until    time.Time // when the client is cut off if it takes nothing
}

// Unwrap lets http.ResponseController find what it looks for.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *response) WriteHeader(status int) {
	if r.status != 0 || status < 200 {
		r.ResponseWriter.WriteHeader(status)
		return
	}
	r.status = status
	if status >= 500 && status != http.StatusNotImplemented {
		r.failed = true
		return
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.failed {
		r.said = append(r.said, b[:min(len(b), maxLogged-len(r.said))]...)
		return len(b), nil
	}
	if string(b) == carBroken && strings.HasPrefix(r.Header().Get("Content-Type"), carType) {
		r.broken = true
		return len(b), nil
	}
	r.tar.add(b)
	// A deadline for each write of some KiB would be a call into the runtime each time.
	if now := time.Now(); r.until.Sub(now) < stall/2 {
		r.until = now.Add(stall)
		_ = r.control.SetWriteDeadline(r.until) // not all have one, as in tests
	}
	return r.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (r *response) Flush() {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if !r.failed {
		_ = r.control.Flush()
	}
}

// Hijack implements http.Hijacker: the gateway takes the connection to break it off.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	return r.control.Hijack()
}

// finish sends the error that was kept back, or breaks off what is not whole.
func (r *response) finish(req *http.Request) {
	switch {
	case r.hijacked:
	case r.failed:
		log.Errorw("the gateway answered with an error", "request", r.id, "status", r.status, "method", req.Method,
			"host", req.Host, "path", req.URL.Path, "reason", strings.TrimSpace(string(r.said)))
		body := fmt.Sprintf("%d %s: %s\nRequest: %s\n", r.status, http.StatusText(r.status), explain(r.status), r.id)
		h := r.Header()
		for _, name := range []string{"Etag", "Last-Modified", "Content-Disposition", "Content-Range", "Content-Encoding", "X-Ipfs-Roots"} {
			h.Del(name)
		}
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		r.ResponseWriter.WriteHeader(r.status)
		if req.Method != http.MethodHead {
			_, _ = r.ResponseWriter.Write([]byte(body)) // the client is gone if it fails
		}
	case r.broken, r.status == http.StatusOK && req.Method == http.MethodGet && r.Header().Get("Content-Type") == tarType && !r.tar.whole():
		log.Errorw("the gateway broke off an answer that it could not finish", "request", r.id, "method", req.Method,
			"host", req.Host, "path", req.URL.Path)
		panic(http.ErrAbortHandler)
	}
}

// explain says what the public can do.
func explain(status int) string {
	switch status {
	case http.StatusGatewayTimeout:
		return "the content was not found in time. Check the CID, or try again later."
	case http.StatusServiceUnavailable:
		return "the node is busy or about to end. Try again."
	}
	return "the node could not read what was asked for. Try again later, and tell the operator if it goes on."
}

// tarEnd looks how a TAR file ends: with two blocks of 512 zeros, at a multiple of 512 bytes.
type tarEnd struct{ size, zeros int }

func (t *tarEnd) add(b []byte) {
	t.size += len(b)
	last := bytes.TrimRight(b, "\x00")
	if n := len(b) - len(last); n < len(b) {
		t.zeros = n
	} else {
		t.zeros += n
	}
}

func (t *tarEnd) whole() bool { return t.size%512 == 0 && t.zeros >= 1024 }
