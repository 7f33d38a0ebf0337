package s3test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fault is what the proxy does to one request. The zero Fault lets it pass.
type Fault struct {
	// Status, if not 0, is answered instead of asking the server, with an S3 error document of Code and Message and with Header.
	Status  int
	Code    string
	Message string
	Header  http.Header
	// HTML is answered instead of the error document.
	HTML string

	// FlipUpload changes one bit of the body on its way to the server.
	FlipUpload bool

	// Cut spoils the server's answer after CutAfter bytes of its body.
	Cut      Cut
	CutAfter int
}

// Cut is how an answer is spoiled.
type Cut int

// The ways to spoil an answer.
const (
	Whole   Cut = iota
	Reset       // the connection is reset
	Close       // the connection is closed before the promised length
	Stall       // nothing more comes, until the client gives up
	Drop        // the connection is reset before the header, when the server has done its work
	Silence     // not even a header comes, until the client gives up
	Shorten     // a proxy cuts the body and corrects Content-Length
	Flip        // one bit is changed
)

// Proxy stands in front of a server. Safe for concurrent use.
type Proxy struct {
	URL string

	upstream string
	client   http.RoundTripper
	conns    atomic.Int64

	mu     sync.Mutex
	decide func(*http.Request) Fault
	lines  []string
}

// NewProxy starts a proxy in front of the server at upstream, which ends with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	p := &Proxy{upstream: upstream, client: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}}
	s := httptest.NewUnstartedServer(p)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.conns.Add(1)
		}
	}
	s.Start()
	p.URL = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections() // whoever still hangs is let go
		s.Close()
	})
	return p
}

// Disturb sets what happens to requests from now on; nil lets all of them pass.
func (p *Proxy) Disturb(decide func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide = decide
}

// Times returns a decision that disturbs the first n requests of a method ("" for all) with f, and lets the others pass.
func Times(n int, method string, f Fault) func(*http.Request) Fault {
	var seen atomic.Int64
	return func(r *http.Request) Fault {
		if (method == "" || r.Method == method) && seen.Add(1) <= int64(n) {
			return f
		}
		return Fault{}
	}
}

// Always returns a decision that disturbs all requests of a method ("" for all) with f.
func Always(method string, f Fault) func(*http.Request) Fault {
	return func(r *http.Request) Fault {
		if method == "" || r.Method == method {
			return f
		}
		return Fault{}
	}
}

// Connections returns how many connections clients have opened.
func (p *Proxy) Connections() int { return int(p.conns.Load()) }

// Take returns the requests since the last call, in the order of their answers: method, path, what matters of the
// query and the range, and status.
func (p *Proxy) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.lines
	p.lines = nil
	return lines
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	var f Fault
	if p.decide != nil {
		f = p.decide(r)
	}
	p.mu.Unlock()

	if f.Cut == Silence {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client leaves
		p.note(r, 0)
		hang(r.Context())
		return
	}
	if f.Status != 0 {
		_, _ = io.Copy(io.Discard, r.Body) // an error here is the client's
		p.note(r, f.Status)
		f.answer(w)
		return
	}
	resp, body, err := p.forward(r, f)
	if err != nil {
		p.note(r, http.StatusBadGateway)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.note(r, resp.StatusCode)
	if f.Cut == Drop {
		hangUp(w, true)
		return
	}
	f.spoil(w, r, resp, body)
}

func (p *Proxy) forward(r *http.Request, f Fault) (*http.Response, []byte, error) {
	up, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	if f.FlipUpload && len(up) > 0 {
		up[len(up)/2] ^= 1
	}
	to, err := url.Parse(p.upstream + r.RequestURI)
	if err != nil {
		return nil, nil, err
	}
	out := (&http.Request{
		Method: r.Method, URL: to, Host: r.Host, Header: r.Header.Clone(),
		Body: io.NopCloser(bytes.NewReader(up)), ContentLength: int64(len(up)),
	}).WithContext(r.Context())
	if len(up) == 0 {
		out.Body = http.NoBody
	}
	resp, err := p.client.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	return resp, body, resp.Body.Close()
}

func (p *Proxy) note(r *http.Request, status int) {
	q := r.URL.Query()
	what := ""
	for _, name := range []string{"prefix", "start-after", "max-keys", "encoding-type"} {
		if q.Has(name) {
			what += fmt.Sprintf(" %s=%s", name, q.Get(name))
		}
	}
	if q.Has("continuation-token") {
		what += " continued"
	}
	if q.Has("delete") {
		what += " delete"
	}
	if v := r.Header.Get("Range"); v != "" {
		what += " " + v
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, fmt.Sprintf("%s %s%s: %d", r.Method, r.URL.Path, what, status))
}

// answer sends the error that f describes.
func (f Fault) answer(w http.ResponseWriter) {
	maps.Copy(w.Header(), f.Header)
	body := f.HTML
	if body == "" {
		w.Header().Set("Content-Type", "application/xml")
		body = fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message></Error>", f.Code, f.Message)
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, body) // an error here is the client's
}

// spoil sends the server's answer as f has it.
func (f Fault) spoil(w http.ResponseWriter, r *http.Request, resp *http.Response, body []byte) {
	maps.Copy(w.Header(), resp.Header)
	cut := min(f.CutAfter, len(body))
	switch f.Cut {
	case Shorten:
		body = body[:cut]
		w.Header().Set("Content-Length", strconv.Itoa(cut))
	case Flip:
		if cut < len(body) {
			body[cut] ^= 1
		}
	}
	w.WriteHeader(resp.StatusCode)
	if f.Cut == Whole || f.Cut == Shorten || f.Cut == Flip {
		_, _ = w.Write(body) // an error here is the client's
		return
	}
	_, _ = w.Write(body[:cut])
	_ = http.NewResponseController(w).Flush()
	if f.Cut == Stall {
		hang(r.Context())
		return
	}
	hangUp(w, f.Cut == Reset)
}

// hangUp ends the connection, by a reset or in an orderly way.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // net/http ends the connection
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// hangTimeout ends a stall for the case that the client never gives up, which the test then finds out.
const hangTimeout = time.Minute

func hang(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hangTimeout)
	defer cancel()
	<-ctx.Done()
}

// Within runs f and fails the test if it hangs: if it has not returned after ten minutes, which is far beyond every timeout that tests
// set, and what their work takes on a slow machine under the race detector.
func Within(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Minute):
		require.FailNow(t, "hangs")
	}
}
