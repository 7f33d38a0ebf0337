package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// dialTimeout bounds one attempt to reach a target; a target that does not
// accept within it is passed over.
const dialTimeout = 2 * time.Second

// newTransport is a plain HTTP/1.1 client without a mind of its own: no
// decompression, no proxy from the environment, no limit on how long an answer
// takes.
//
// idle is how many unused connections to keep per target, negative for none.
func newTransport(idle int) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression:  true,
		MaxIdleConnsPerHost: idle,
		IdleConnTimeout:     30 * time.Second, // below the 60 s and more after which servers hang up
	}
}

// noTarget is the error of a request that no ready target could take.
type noTarget struct {
	tried []string // what each attempt ran into; empty if nobody was ready
}

func (e *noTarget) Error() string {
	if len(e.tried) == 0 {
		return "no target is ready"
	}
	return "no target could take the request: " + strings.Join(e.tried, "; ")
}

// balancer sends each request to one target of the group and moves on to the
// next only while nothing can have happened twice.
type balancer struct {
	group *Group
	// reads go over connections that are kept: if one turns out to be dead,
	// the request is simply sent again.
	reads *http.Transport
	// writes get a connection each. A kept one to a target that has just died
	// takes the request, and whether it arrived can no longer be told; a new
	// one is refused, and the request goes to the next target.
	writes *http.Transport
}

func newBalancer(g *Group) *balancer {
	return &balancer{group: g, reads: newTransport(128), writes: newTransport(-1)}
}

func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	record := recordOf(req.Context())
	tried := map[*target]bool{}
	failed := &noTarget{}
	for {
		t := b.group.pick(tried)
		if t == nil {
			return nil, failed
		}
		tried[t] = true
		res, err := b.attempt(req, t)
		if err == nil {
			record.assign(b.group, t)
			return res, nil
		}
		b.group.release(t)
		if ctxErr := req.Context().Err(); ctxErr != nil {
			return nil, ctxErr
		}
		if dialFailed(err) {
			b.group.markUnreachable(t, err)
		}
		failed.tried = append(failed.tried, t.name+": "+shortError(err))
		var final *finalError
		if errors.As(err, &final) {
			record.assign(nil, t)
			return nil, failed
		}
	}
}

// finalError is a failure after which the request must not be sent again.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// attempt sends the request to one target. Its error is a *finalError if
// another target must not be asked.
func (b *balancer) attempt(req *http.Request, t *target) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = t.url.Scheme, t.url.Host
	var held *heldBody
	if req.Body != nil && req.Body != http.NoBody {
		held = &heldBody{body: req.Body}
		out.Body = held
	}
	read := held == nil && (req.Method == http.MethodGet || req.Method == http.MethodHead)
	transport := b.writes
	if read {
		transport = b.reads
	}
	res, err := transport.RoundTrip(out)
	switch {
	case err == nil:
		return res, nil
	case read:
		return nil, err
	case held != nil && held.giveUp():
		return nil, err
	case held == nil && dialFailed(err):
		return nil, err
	}
	return nil, &finalError{err}
}

// heldBody lends a request body to one attempt. The attempt's Close does not
// close the body, so that another attempt may still send it; and once the
// attempt has been given up it can no longer read.
type heldBody struct {
	body  io.Reader
	state atomic.Int32
}

const (
	bodyUntouched = iota
	bodyRead
	bodyGivenUp
)

func (h *heldBody) Read(p []byte) (int, error) {
	if !h.state.CompareAndSwap(bodyUntouched, bodyRead) && h.state.Load() == bodyGivenUp {
		return 0, errors.New("the attempt was given up")
	}
	return h.body.Read(p)
}

func (h *heldBody) Close() error { return nil }

// giveUp says whether the body is still whole, and if so takes it back.
func (h *heldBody) giveUp() bool {
	return h.state.CompareAndSwap(bodyUntouched, bodyGivenUp)
}

// record is what the access log needs to know about a request. It also holds
// the request's place at its target until the answer is finished.
type record struct {
	group  *Group
	target *target
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	r, ok := ctx.Value(recordKey{}).(*record)
	if !ok {
		panic(fmt.Sprintf("edge: a request without a %T in its context", r))
	}
	return r
}

func (r *record) assign(g *Group, t *target) { r.group, r.target = g, t }

func (r *record) targetName() string {
	if r.target == nil {
		return "-"
	}
	return r.target.name
}

// finish gives the place at the target back.
func (r *record) finish() {
	if r.group != nil {
		r.group.release(r.target)
	}
}
