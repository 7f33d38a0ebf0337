package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

// patience bounds every wait for a condition.
const patience = 20 * time.Second

// backend is a target: a server of requests, and its readiness.
type backend struct {
	name  string
	serve *httptest.Server
	ready *httptest.Server
	state atomic.Value // string: "" is ready, else the JSON body of a 503
	hits  atomic.Int64
}

func newBackend(t *testing.T, name string, h http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{name: name}
	b.state.Store("")
	b.serve = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.hits.Add(1)
		h(w, r)
	}))
	t.Cleanup(b.serve.Close)
	b.ready = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := b.state.Load().(string); s != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, s)
		}
	}))
	t.Cleanup(b.ready.Close)
	return b
}

func (b *backend) config() TargetConfig {
	return TargetConfig{Name: b.name, URL: b.serve.URL, Ready: b.ready.URL + "/readyz"}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type fixture struct {
	url   string
	group *Group
	log   *syncBuffer
}

// front puts a proxy before the backends and waits until it has checked all.
func front(t *testing.T, backends ...*backend) *fixture {
	t.Helper()
	var cfg GroupConfig
	for _, b := range backends {
		cfg.Targets = append(cfg.Targets, b.config())
	}
	g, err := NewGroup("gateway", cfg)
	require.NoError(t, err)
	f := &fixture{group: g, log: &syncBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { defer close(watched); g.Watch(ctx, 10*time.Millisecond) }()
	proxy := NewProxy(g, log.New(f.log, "access ", 0), log.New(f.log, "problem ", 0))
	s := httptest.NewServer(proxy)
	f.url = s.URL
	t.Cleanup(func() { s.Close(); cancel(); <-watched; proxy.CloseIdleConnections() })
	f.eventually(t, func(s []TargetState) bool {
		for _, t := range s {
			if t.Reason == "not checked yet" {
				return false
			}
		}
		return true
	})
	return f
}

func (f *fixture) eventually(t *testing.T, cond func([]TargetState) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return cond(f.group.State()) }, patience, time.Millisecond)
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// closedServer is an address that refuses connections.
func closedServer(t *testing.T) string {
	return "http://" + ports.Address(t)
}

func TestRequestsPassUntouched(t *testing.T) {
	type seen struct {
		method, uri, host, body string
		header                  http.Header
	}
	got := make(chan seen, 1)
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(body), r.Header.Clone()}
	})
	f := front(t, b)

	const uri = "/ipfs/x//a%2Fb;c/%C3%A4?format=car&bad=%zz;x=1"
	req, err := http.NewRequest(http.MethodPut, f.url, strings.NewReader("payload"))
	require.NoError(t, err)
	req.URL.Opaque = uri
	req.Host = "bafy.ipfs.localhost:8080"
	sent := http.Header{
		"Authorization":     {"Basic dXNlcjpwYXNz"},
		"Range":             {"bytes=-5"},
		"Accept":            {"application/vnd.ipld.car", "*/*"},
		"Accept-Encoding":   {"br"},
		"If-None-Match":     {`W/"etag"`},
		"Content-Encoding":  {"gzip"},
		"X-Forwarded-For":   {"203.0.113.9"},
		"X-Forwarded-Proto": {"https"},
		"X-Forwarded-Host":  {"ipfs.example.org"},
		"Forwarded":         {"for=203.0.113.9"},
		"User-Agent":        {"curl/8"},
	}
	req.Header = sent.Clone()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())

	s := <-got
	require.Equal(t, http.MethodPut, s.method)
	require.Equal(t, uri, s.uri)
	require.Equal(t, "bafy.ipfs.localhost:8080", s.host)
	require.Equal(t, "payload", s.body)
	require.Equal(t, []string{"203.0.113.9, 127.0.0.1"}, s.header["X-Forwarded-For"])
	for name, values := range sent {
		if name != "X-Forwarded-For" {
			require.Equal(t, values, s.header[name], name)
		}
	}
}

func TestForwardedHeadersOfADirectRequest(t *testing.T) {
	got := make(chan http.Header, 1)
	b := newBackend(t, "task-1", func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Clone() })
	f := front(t, b)
	get(t, f.url)
	h := <-got
	require.Equal(t, "127.0.0.1", h.Get("X-Forwarded-For"))
	require.Equal(t, "http", h.Get("X-Forwarded-Proto"))
	require.Empty(t, h.Get("X-Forwarded-Host"))
}

func TestAnswersPassUntouched(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	b := newBackend(t, "task-1", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Range", "bytes 0-4/100")
		h.Set("ETag", `"e"`)
		h.Set("Cache-Control", "public, max-age=29030400, immutable")
		h.Set("Connection", "close")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(zipped.Bytes())
	})
	f := front(t, b)
	req, err := http.NewRequest(http.MethodGet, f.url, nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, zipped.Bytes(), body)
	require.Equal(t, http.StatusPartialContent, res.StatusCode)
	require.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
	require.Equal(t, "bytes 0-4/100", res.Header.Get("Content-Range"))
	require.Equal(t, `"e"`, res.Header.Get("ETag"))
	require.Equal(t, "public, max-age=29030400, immutable", res.Header.Get("Cache-Control"))
	require.True(t, res.Close, "the target asked for the connection to be closed")
}

func TestTrailersPass(t *testing.T) {
	b := newBackend(t, "task-1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Stream-Error")
		fmt.Fprint(w, "partial")
		w.Header().Set("X-Stream-Error", "disk full")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "also")
	})
	f := front(t, b)
	res, body := get(t, f.url)
	require.Equal(t, "partial", body)
	require.Equal(t, "disk full", res.Trailer.Get("X-Stream-Error"))
	require.Equal(t, "also", res.Trailer.Get("X-Unannounced"))
}

// One line goes up, one comes down, many times over one request.
func TestBothDirectionsStreamAtOnce(t *testing.T) {
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(w, "got ", line)
			_ = c.Flush()
		}
	})
	f := front(t, b)
	pr, pw := io.Pipe()
	res := make(chan *http.Response, 1)
	go func() {
		r, err := http.Post(f.url+"/add", "text/plain", pr)
		if err == nil {
			res <- r
		}
		close(res)
	}()
	var down *bufio.Reader
	for i := range 20 {
		_, err := fmt.Fprintf(pw, "%d\n", i)
		require.NoError(t, err)
		if down == nil {
			r := <-res
			require.NotNil(t, r)
			defer r.Body.Close()
			down = bufio.NewReader(r.Body)
		}
		line, err := down.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("got %d\n", i), line)
	}
	require.NoError(t, pw.Close())
	_, err := down.ReadByte()
	require.Equal(t, io.EOF, err)
}

func TestLongBodiesAreNeitherLimitedNorBuffered(t *testing.T) {
	const size = 64 << 20
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	f := front(t, b)
	res, err := http.Post(f.url, "application/octet-stream", io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(size), string(body))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRequestsSpreadOverReadyTargets(t *testing.T) {
	var all []*backend
	for i := range 3 {
		all = append(all, newBackend(t, fmt.Sprintf("task-%d", i+1), answer("ok")))
	}
	f := front(t, all...)
	for range 30 {
		get(t, f.url)
	}
	for _, b := range all {
		require.Equal(t, int64(10), b.hits.Load(), b.name)
	}
	all[1].state.Store(`{"ready":false,"checks":[]}`)
	f.eventually(t, func(s []TargetState) bool { return !s[1].Ready })
	for range 10 {
		get(t, f.url)
	}
	require.Equal(t, int64(10), all[1].hits.Load(), "a target that is not ready gets nothing")
	all[1].state.Store("")
	f.eventually(t, func(s []TargetState) bool { return s[1].Ready })
	for range 9 {
		get(t, f.url)
	}
	require.Greater(t, all[1].hits.Load(), int64(10), "a target that is ready again gets its share")
}

func TestBusyTargetsGetLess(t *testing.T) {
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			held <- struct{}{}
			<-hold
		}
	}
	one, two := newBackend(t, "task-1", h), newBackend(t, "task-2", h)
	f := front(t, one, two)
	slow := make(chan error, 1)
	go func() {
		res, err := http.Get(f.url + "/slow")
		if err == nil {
			err = res.Body.Close()
		}
		slow <- err
	}()
	<-held
	free := two
	if two.hits.Load() == 1 {
		free = one
	}
	for range 10 {
		get(t, f.url)
	}
	require.Equal(t, int64(10), free.hits.Load())
	close(hold)
	require.NoError(t, <-slow)
	f.eventually(t, func(s []TargetState) bool { return s[0].InFlight == 0 && s[1].InFlight == 0 })
}

func TestNobodyReady(t *testing.T) {
	one := newBackend(t, "task-1", answer("no"))
	one.state.Store(`{"ready":false,"checks":[{"name":"repo","ok":true},{"name":"blockstore","ok":false,"detail":"bucket b: access denied"}]}`)
	two := newBackend(t, "task-2", answer("no"))
	two.ready.Close()
	f := front(t, one, two)
	res, body := get(t, f.url+"/ipfs/x")
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, 1, strings.Count(body, "\n"))
	var said struct {
		Error   string
		Targets []TargetState
	}
	require.NoError(t, json.Unmarshal([]byte(body), &said))
	require.Equal(t, "no target is ready", said.Error)
	require.Equal(t, TargetState{Name: "task-1", Reason: "blockstore: bucket b: access denied"}, said.Targets[0])
	require.Equal(t, "task-2", said.Targets[1].Name)
	require.Contains(t, said.Targets[1].Reason, "connection refused")
	require.Zero(t, one.hits.Load())
}

// A target that refuses connections while its readiness still says ready.
func TestAnUnreachableTargetIsPassedOverWhateverTheMethod(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, "POST without body"} {
		t.Run(method, func(t *testing.T) {
			var bodies []string
			good := newBackend(t, "task-2", func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(b))
			})
			dead := newBackend(t, "task-1", answer("never"))
			dead.serve.Close()
			f := front(t, dead, good)
			name, body := method, "the whole body"
			if method == "POST without body" || method == http.MethodGet {
				name, _, _ = strings.Cut(method, " ")
				body = ""
			}
			for range 4 {
				req, err := http.NewRequest(name, f.url, strings.NewReader(body))
				require.NoError(t, err)
				res, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
			require.Equal(t, []string{body, body, body, body}, bodies)
		})
	}
}

func TestADialFailureTakesTheTargetOut(t *testing.T) {
	g, err := NewGroup("api", GroupConfig{Targets: []TargetConfig{{Name: "task-1", URL: closedServer(t), Ready: closedServer(t)}}})
	require.NoError(t, err)
	g.targets[0].up = true // as if a check had just succeeded
	p := NewProxy(g, log.New(io.Discard, "", 0), log.New(io.Discard, "", 0))
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.False(t, g.State()[0].Ready)
	require.Contains(t, g.State()[0].Reason, "connection refused")
	require.Zero(t, g.State()[0].InFlight)
}

// A target that has just died is passed over also by a write that would find a
// connection to it still open on our side.
func TestAWriteNeedsNoOldConnection(t *testing.T) {
	dying, good := newBackend(t, "task-1", answer("ok")), newBackend(t, "task-2", answer("ok"))
	f := front(t, dying, good)
	for range 4 {
		get(t, f.url) // leaves connections to both
		res, err := http.Post(f.url, "text/plain", strings.NewReader("x"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.False(t, res.Close, "the client's own connection is kept")
	}
	require.Positive(t, dying.hits.Load())
	dying.serve.Listener.Close()
	dying.serve.CloseClientConnections()
	for range 4 {
		res, err := http.Post(f.url, "text/plain", strings.NewReader("precious"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
}

// hangUp cuts the connection without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

func TestAReadThatGotNoAnswerIsAskedOfAnother(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		t.Run(method, func(t *testing.T) {
			bad, good := newBackend(t, "task-1", hangUp), newBackend(t, "task-2", answer("ok"))
			f := front(t, bad, good)
			for range 6 {
				req, err := http.NewRequest(method, f.url, nil)
				require.NoError(t, err)
				res, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
			require.Positive(t, bad.hits.Load())
		})
	}
}

func TestAWriteThatMayHaveHappenedIsNotRepeated(t *testing.T) {
	for name, body := range map[string]string{"with a body": "data", "without a body": ""} {
		t.Run(name, func(t *testing.T) {
			h := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				hangUp(w, r)
			}
			one, two := newBackend(t, "task-1", h), newBackend(t, "task-2", h)
			f := front(t, one, two)
			res, err := http.Post(f.url+"/pins/x", "text/plain", strings.NewReader(body))
			require.NoError(t, err)
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadGateway, res.StatusCode)
			require.Contains(t, string(text), "task-")
			require.Equal(t, int64(1), one.hits.Load()+two.hits.Load())
		})
	}
}

// The cluster API answers an add before it reads it, and asks for the
// connection to be closed. A client that waits for "100 Continue" first, as
// curl does with a large form, must get its body through all the same.
func TestAnUploadThatExpects100Continue(t *testing.T) {
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusOK)
		_ = c.Flush()
		_, _ = io.Copy(w, r.Body)
	})
	f := front(t, b)
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, f.url+"/add", strings.NewReader("precious"))
	require.NoError(t, err)
	req.Header.Set("Expect", "100-continue")
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "precious", string(body))
}

// An upload that is refused need not be sent to its end.
func TestARefusalArrivesWhileTheBodyIsBeingSent(t *testing.T) {
	b := newBackend(t, "task-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	f := front(t, b)
	res, err := http.Post(f.url+"/add", "application/octet-stream", zeros{}) // without end
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
}

// A body goes to a second target only if the first can no longer have any of it.
func TestHeldBody(t *testing.T) {
	h := &heldBody{body: strings.NewReader("precious")}
	require.NoError(t, h.Close())
	require.True(t, h.giveUp())
	_, err := h.Read(make([]byte, 1))
	require.ErrorContains(t, err, "given up")
	require.False(t, h.giveUp())

	h = &heldBody{body: strings.NewReader("precious")}
	b, err := io.ReadAll(h)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
	require.False(t, h.giveUp())
}

func TestAnAnswerThatBreaksOffIsNeverComplete(t *testing.T) {
	for name, announce := range map[string]bool{"with Content-Length": true, "chunked": false} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
				if announce {
					w.Header().Set("Content-Length", "1000")
				}
				fmt.Fprint(w, strings.Repeat("x", 500))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			f := front(t, b)
			res, err := http.Get(f.url)
			require.NoError(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.Len(t, body, 500)
			require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "200 500 ") }, patience, time.Millisecond)
			require.Contains(t, f.log.String(), " broken off\n")
			require.Equal(t, int64(1), b.hits.Load())
		})
	}
}

// A client that goes away is noticed by the target, and gives its place back.
func TestAClientThatLeavesFreesTheTarget(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	b := newBackend(t, "task-1", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	})
	f := front(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	require.NoError(t, err)
	go func() { <-arrived; cancel() }()
	_, err = http.DefaultClient.Do(req)
	require.ErrorIs(t, err, context.Canceled)
	<-left
	f.eventually(t, func(s []TargetState) bool { return s[0].InFlight == 0 && s[0].Ready })
}

func TestSilenceIsForgivenForAWhile(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, never answers
	require.NoError(t, err)
	defer silent.Close()
	url := "http://" + silent.Addr().String()
	g, err := NewGroup("gateway", GroupConfig{Targets: []TargetConfig{{Name: "slow", URL: url, Ready: url}}})
	require.NoError(t, err)
	g.probe.Timeout = 10 * time.Millisecond
	tg := g.targets[0]
	tg.up = true
	for range silentProbes - 1 {
		g.check(t.Context(), tg)
		require.True(t, tg.up)
	}
	g.check(t.Context(), tg)
	require.False(t, tg.up)
	require.NotEmpty(t, tg.reason)
}

func TestAccessLogHoldsNoSecrets(t *testing.T) {
	b := newBackend(t, "task-1", answer("hello"))
	f := front(t, b)
	req, err := http.NewRequest(http.MethodGet, f.url+"/pins/a%20b?token=SECRET", nil)
	require.NoError(t, err)
	req.SetBasicAuth("user", "SECRET")
	req.Header.Set("Cookie", "session=SECRET")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Eventually(t, func() bool { return strings.HasSuffix(f.log.String(), "\n") }, patience, time.Millisecond)
	require.Regexp(t, `^access GET "/pins/a%20b" task-1 200 5 \d+\n$`, f.log.String())
}

func TestBadTargetsAreRefused(t *testing.T) {
	for _, u := range []string{"", "127.0.0.1:80", "https://x", "http://x/path", "http://x?q=1"} {
		_, err := NewGroup("api", GroupConfig{Targets: []TargetConfig{{Name: "task-1", URL: u, Ready: "http://x/readyz"}}})
		require.ErrorContains(t, err, "http://host:port", u)
	}
	_, err := NewGroup("api", GroupConfig{Targets: []TargetConfig{{Name: "task-1", URL: "http://x", Ready: "x"}}})
	require.ErrorContains(t, err, "ready")
	_, err = NewGroup("api", GroupConfig{})
	require.ErrorContains(t, err, "no targets")
}

func TestConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.json")
	_, err := LoadConfig(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(`{"gatway":{}}`), 0o600))
	_, err = LoadConfig(path)
	require.ErrorContains(t, err, "gatway")
	require.NoError(t, os.WriteFile(path, []byte(`{"health":"127.0.0.1:1","drainMillis":7}`), 0o600))
	c, err := LoadConfig(path)
	require.NoError(t, err)
	require.Equal(t, 7*time.Millisecond, c.drain())
	require.Equal(t, time.Second, c.checkInterval())
}

// whole starts an edge with all its listeners.
func whole(t *testing.T, drain time.Duration, b *backend) (e *Edge, out *syncBuffer, stop func() error) {
	t.Helper()
	out = &syncBuffer{}
	group := GroupConfig{Listen: "127.0.0.1:0", Targets: []TargetConfig{b.config()}}
	e, err := Listen(Config{Gateway: group, API: group, Health: "127.0.0.1:0", CheckMillis: 10, DrainMillis: int(drain / time.Millisecond)}, out)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return e, out, stop
}

func (e *Edge) url(i int) string { return "http://" + e.listeners[i].Addr().String() }

func TestHealthOfTheEdge(t *testing.T) {
	b := newBackend(t, "task-1", answer("ok"))
	e, _, _ := whole(t, time.Second, b)
	var status Status
	wait := func(want bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			res, body := get(t, e.url(2)+"/readyz")
			status = Status{}
			require.NoError(t, json.Unmarshal([]byte(body), &status))
			require.Equal(t, status.Ready, res.StatusCode == http.StatusOK)
			return status.Ready == want
		}, patience, time.Millisecond)
	}
	wait(true)
	require.Equal(t, []TargetState{{Name: "task-1", Ready: true}}, status.Gateway)
	b.state.Store("down")
	wait(false)
	require.Contains(t, status.Gateway[0].Reason+status.API[0].Reason, "readiness answers 503")
	res, _ := get(t, e.url(2)+"/livez")
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, _ = get(t, e.url(2)+"/")
	require.Equal(t, http.StatusNotFound, res.StatusCode)
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	arrived, proceed := make(chan struct{}), make(chan struct{})
	b := newBackend(t, "task-1", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-proceed
		fmt.Fprint(w, "whole")
	})
	e, _, stop := whole(t, patience, b)
	require.Eventually(t, e.groups["gateway"].Ready, patience, time.Millisecond)
	got := make(chan string, 1)
	go func() {
		res, err := http.Get(e.url(0))
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		got <- fmt.Sprint(string(body), err)
	}()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", e.listeners[0].Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "a draining edge accepts nothing new")
	close(proceed)
	require.NoError(t, <-stopped)
	require.Equal(t, "whole<nil>", <-got)
}

func TestDrainIsBounded(t *testing.T) {
	arrived := make(chan struct{})
	b := newBackend(t, "task-1", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	e, out, stop := whole(t, 20*time.Millisecond, b)
	require.Eventually(t, e.groups["api"].Ready, patience, time.Millisecond)
	failed := make(chan error, 1)
	go func() { _, err := http.Get(e.url(1)); failed <- err }()
	<-arrived
	require.NoError(t, stop())
	require.Error(t, <-failed)
	require.Contains(t, out.String(), "were cut off")
}

func TestListenOpensAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	free := strings.TrimPrefix(closedServer(t), "http://")
	b := newBackend(t, "task-1", answer(""))
	targets := []TargetConfig{b.config()}
	_, err = Listen(Config{
		Gateway: GroupConfig{Listen: free, Targets: targets},
		API:     GroupConfig{Listen: taken.Addr().String(), Targets: targets},
		Health:  "127.0.0.1:0",
	}, io.Discard)
	require.ErrorContains(t, err, "api listener")
	l, err := net.Listen("tcp", free)
	require.NoError(t, err, "the first listener was closed again")
	require.NoError(t, l.Close())
}
