package s3bucket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// transport is the SDK's HTTP client: one request per Do, never redirected. It adds a watchdog over progress to the
// timeouts of net/http, which know no stalled body, and tells the observer what became of each request.
type transport struct {
	base    http.RoundTripper
	stall   time.Duration
	observe func(Request)
}

// stalledError is what a request fails with when the watchdog ended it. The SDK takes it for a connection error, and retries.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string         { return "no progress for " + e.after.String() }
func (e *stalledError) Timeout() bool         { return true }
func (e *stalledError) ConnectionError() bool { return true }

// brokenBodyError is an answer that ended before it was complete. The SDK retries connection errors; a plain
// io.ErrUnexpectedEOF in the middle of an XML document it would not.
type brokenBodyError struct{ err error }

func (e *brokenBodyError) Error() string         { return "answer broke off: " + e.err.Error() }
func (e *brokenBodyError) Unwrap() error         { return e.err }
func (e *brokenBodyError) ConnectionError() bool { return true }

// Do implements the HTTP client of the SDK.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	x := &exchange{
		stall: t.stall, cancel: cancel, ctx: ctx, observe: t.observe, began: time.Now(),
		seen: Request{Op: opOf(req.Context()), Retry: isRetry(req.Header)},
	}
	x.timer = time.AfterFunc(t.stall, func() { cancel(&stalledError{t.stall}) })

	ctx, wire := follow(ctx)
	req = req.WithContext(ctx)
	var up *upload
	if req.Body != nil && req.Body != http.NoBody {
		up = &upload{ReadCloser: req.Body, x: x}
		req.Body = up
	}
	resp, err := t.base.RoundTrip(req)
	if up != nil {
		x.seen.Sent = up.detach() // before the timer stops: a read in the background starts it
	}
	x.timer.Stop()
	x.seen.Latency = time.Since(x.began)
	if err != nil {
		err = x.explain(err)
		x.seen.Failed = true
		if !wire.sent() {
			x.observe = nil
		}
		x.finish()
		return nil, err
	}
	x.seen.Status = resp.StatusCode
	x.seen.Throttle = resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests
	miss := resp.StatusCode == http.StatusNotFound && (x.seen.Op == bucket.OpGet || x.seen.Op == bucket.OpHead)
	empty := resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && x.seen.Op == bucket.OpHead
	taken := resp.StatusCode == http.StatusPreconditionFailed && x.seen.Op == bucket.OpPut
	x.seen.Failed = resp.StatusCode >= 300 && !miss && !empty && !taken
	resp.Body = &download{ReadCloser: resp.Body, x: x}
	return resp, nil
}

// isRetry reads the header in which the SDK tells the server which attempt this is: "attempt=2; max=5".
func isRetry(h http.Header) bool {
	attempt, ok := strings.CutPrefix(h.Get("Amz-Sdk-Request"), "attempt=")
	return ok && attempt != "1" && !strings.HasPrefix(attempt, "1;")
}

// exchange is one request and its answer.
type exchange struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stall   time.Duration
	timer   *time.Timer
	began   time.Time
	observe func(Request)
	seen    Request
	once    sync.Once
}

// explain replaces the "context canceled" that the watchdog causes by the reason.
func (x *exchange) explain(err error) error {
	var stalled *stalledError
	if errors.As(context.Cause(x.ctx), &stalled) {
		return stalled
	}
	return err
}

func (x *exchange) finish() {
	x.once.Do(func() {
		x.timer.Stop()
		x.cancel(nil)
		if x.observe != nil {
			x.observe(x.seen)
		}
	})
}

// upload is a request body. Each read of it is progress, for net/http reads the next bytes when the last ones have been
// taken by the connection. net/http may go on reading in the background when RoundTrip has returned; after
// detach it gets an error instead of bytes, so that the caller may reuse them and the SDK may rewind.
type upload struct {
	io.ReadCloser
	x *exchange

	mu       sync.Mutex
	sent     int64
	detached bool
}

var errDetached = errors.New("the request is over")

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.detached {
		return 0, errDetached
	}
	u.x.timer.Reset(u.x.stall)
	n, err := u.ReadCloser.Read(p)
	u.sent += int64(n)
	return n, err
}

func (u *upload) detach() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.detached = true
	return u.sent
}

// download is a response body. The watchdog runs only while a Read waits: a slow reader is not a stalled server.
type download struct {
	io.ReadCloser
	x *exchange
}

func (d *download) Read(p []byte) (int, error) {
	d.x.timer.Reset(d.x.stall)
	n, err := d.ReadCloser.Read(p)
	d.x.timer.Stop()
	d.x.seen.Received += int64(n)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		d.x.finish()
	default:
		err = &brokenBodyError{d.x.explain(err)}
		d.x.seen.Failed = true
		d.x.finish()
	}
	return n, err
}

func (d *download) Close() error {
	err := d.ReadCloser.Close()
	d.x.finish()
	return err
}

type opKey struct{}

// withOp says what a request is for, where its name does not: Head is a GetObject.
func withOp(ctx context.Context, op bucket.Op) context.Context {
	return context.WithValue(ctx, opKey{}, op)
}

func opOf(ctx context.Context) bucket.Op {
	if op, ok := ctx.Value(opKey{}).(bucket.Op); ok {
		return op
	}
	switch awsmiddleware.GetOperationName(ctx) {
	case "PutObject":
		return bucket.OpPut
	case "GetObject":
		return bucket.OpGet
	case "DeleteObject", "DeleteObjects":
		return bucket.OpDelete
	case "ListObjectsV2":
		return bucket.OpList
	}
	return bucket.OpCheck
}
