package gate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/pass"
)

// RetryAfter is what a client that comes during a drain is told to wait. A load
// balancer has found another peer by then.
const RetryAfter = 5 * time.Second

// writeBuffer holds a piece of a request and its frame, so that they are one
// system call: bodies are passed on in pieces of 32 KiB.
const writeBuffer = 36 << 10

// Options are the limits of the public side. Zero means none.
type Options struct {
	TLS               *tls.Config
	ReadTimeout       time.Duration
	ReadHeaderTimeout time.Duration
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
	MaxHeaderBytes    int
	// Routes sends paths to backends (host:port) of their own.
	Routes map[string]string
	// Bodies are the handlers of POST requests to paths whose bodies are worth a
	// shortcut. The component is asked first, with the request's header alone; if
	// it answers 204, the handler gets the request, and the component's header
	// for the answer. Any other answer is the client's.
	Bodies map[string]http.Handler
	// Check, if not nil, returns what is wrong with a request; it is then answered with 400.
	Check func(*http.Request) error
	// Answer, if not nil, may change an answer of the component before it is passed on.
	Answer func(*http.Response) error
	// Guard, if not nil, decides who may use the API. Requests then go to the component with the password
	// that Inner gives the user; POST /token is answered here.
	Guard *pass.Guard
	Inner map[string]string
	// Requests receives a line for every request.
	Requests io.Writer
	// Failure makes the body of an answer of the gate's own that is an error; nil for that of the REST API.
	Failure func(status int, message string) any
	// Log receives what goes wrong between the gate and the component.
	Log *log.Logger
}

// Gate is an open gate. Its methods are safe for concurrent use.
type Gate struct {
	server *http.Server
	proxy  *httputil.ReverseProxy
	bodies map[string]http.Handler
	opts   Options
	served sync.WaitGroup

	mu       sync.Mutex
	inFlight int
	draining bool
	empty    chan struct{} // closed when draining and nothing is in flight
}

// Open serves the listeners and passes requests on to backend (host:port).
func Open(listeners []net.Listener, backend string, opts Options) *Gate {
	g := &Gate{empty: make(chan struct{}), bodies: opts.Bodies, opts: opts}
	if opts.Failure == nil {
		g.opts.Failure = func(status int, message string) any { return api.Error{Code: status, Message: message} }
	}
	target := &url.URL{Scheme: "http", Host: backend}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to := target
			if host, ok := opts.Routes[r.In.URL.Path]; ok {
				to = &url.URL{Scheme: "http", Host: host}
			}
			r.SetURL(to)
			r.Out.Host = r.In.Host
			// As it came: what is valid in it is the component's to say.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			// The gate has accepted the body; the component need not be asked.
			r.Out.Header.Del("Expect")
		},
		Transport: &http.Transport{
			DisableCompression:  true, // bytes pass as they are
			WriteBufferSize:     writeBuffer,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
		},
		// The component closes the connection after an add, so that a client whose
		// add failed half-way does not go on sending into it. So does the gate.
		ModifyResponse: func(r *http.Response) error {
			if r.Close {
				r.Header.Set("Connection", "close")
			}
			if _, may := r.Trailer[streamError]; may {
				r.Body = &breakOff{ReadCloser: r.Body, trailer: r.Trailer}
			}
			if opts.Answer != nil {
				return opts.Answer(r)
			}
			return nil
		},
		FlushInterval: -1, // at once: an add reports file by file
		ErrorLog:      opts.Log,
	}
	g.server = &http.Server{
		Handler:           g,
		ReadTimeout:       opts.ReadTimeout,
		ReadHeaderTimeout: opts.ReadHeaderTimeout,
		WriteTimeout:      opts.WriteTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    opts.MaxHeaderBytes,
		ErrorLog:          opts.Log,
	}
	for _, l := range listeners {
		if opts.TLS != nil {
			l = tls.NewListener(l, opts.TLS)
		}
		g.served.Go(func() {
			if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				opts.Log.Printf("the REST API's listener on %s ended: %v", l.Addr(), err)
			}
		})
	}
	return g
}

// streamError is the trailer in which ipfs-cluster's streams say that they are not whole.
//
// upstream: stream-error
const streamError = "X-Stream-Error"

// breakOff is a stream of JSON objects. If its trailer says that it is not whole, it ends with a line that is
// the error and breaks off, because clients and proxies that show no trailers take it for a whole one.
type breakOff struct {
	io.ReadCloser
	trailer http.Header // complete when the body has ended
	line    []byte
	err     error
}

// Read implements io.Reader.
func (b *breakOff) Read(p []byte) (int, error) {
	if b.err == nil {
		n, err := b.ReadCloser.Read(p)
		why := strings.Trim(strings.Join(b.trailer.Values(streamError), "; "), "; ")
		if !errors.Is(err, io.EOF) || why == "" {
			return n, err
		}
		b.err = fmt.Errorf("a stream was broken off: %s", why)
		line, err := json.Marshal(failedLate{why, http.StatusInternalServerError})
		if err != nil {
			return n, err
		}
		b.line = append(line, '\n')
		return n, nil
	}
	n := copy(p, b.line)
	b.line = b.line[n:]
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// failedLate is the last line of a stream that is not whole.
type failedLate struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}

// ServeHTTP passes one request on, or refuses it.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.opts.Requests == nil {
		g.serve(&recorder{ResponseWriter: w}, r)
		return
	}
	rec, began, whole := &recorder{ResponseWriter: w}, time.Now(), false
	defer func() { rec.line(g.opts.Requests, r, began, !whole) }()
	g.serve(rec, r)
	whole = true
}

func (g *Gate) serve(w *recorder, r *http.Request) {
	if !g.enter() {
		w.Header().Set("Retry-After", strconv.Itoa(int(RetryAfter.Seconds())))
		g.refuse(w, http.StatusServiceUnavailable, "this peer is shutting down; try again")
		return
	}
	defer g.leave()
	// What a browser asks before it asks, and whether the process answers, needs no credentials.
	open := r.Method == http.MethodOptions || r.Method == http.MethodGet && r.URL.Path == "/health"
	if guard := g.opts.Guard; guard != nil && !open {
		user, err := guard.Who(r)
		if err != nil {
			pass.Challenge(w.Header())
			g.refuse(w, http.StatusUnauthorized, err.Error())
			return
		}
		w.user = user
		if r.Method == http.MethodPost && r.URL.Path == "/token" {
			g.issue(w, r)
			return
		}
		r.SetBasicAuth(user, g.opts.Inner[user])
	}
	if g.opts.Check != nil {
		if err := g.opts.Check(r); err != nil {
			g.refuse(w, http.StatusBadRequest, strings.ReplaceAll(err.Error(), "\n", "; "))
			return
		}
	}
	// HTTP/1 servers otherwise stop reading the request when they answer. Only
	// HTTP/2 cannot be told so, and does not need to be.
	_ = http.NewResponseController(w).EnableFullDuplex()
	if h := g.bodies[r.URL.Path]; h != nil && r.Method == http.MethodPost {
		g.serveBody(h, w, r)
		return
	}
	g.proxy.ServeHTTP(w, r)
}

// issue answers with a token.
func (g *Gate) issue(w http.ResponseWriter, r *http.Request) {
	token, err := g.opts.Guard.Issue(r)
	switch {
	case errors.Is(err, pass.ErrMistake):
		g.refuse(w, http.StatusBadRequest, err.Error())
	case err != nil:
		g.refuse(w, http.StatusInternalServerError, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(map[string]string{"token": token}) // the client has gone if it fails
	}
}

// refuse answers as the components do. The body is not read, so the connection cannot be used again.
func (g *Gate) refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(g.opts.Failure(status, message)) // the client has gone if it fails
}

// serveBody lets h serve a request if the component would.
func (g *Gate) serveBody(h http.Handler, w http.ResponseWriter, r *http.Request) {
	asked := r.Clone(r.Context())
	asked.Body, asked.ContentLength, asked.TransferEncoding = http.NoBody, 0, nil
	asked.Header.Del("Content-Length")
	said := &admission{ResponseWriter: w}
	g.proxy.ServeHTTP(said, asked)
	if said.granted {
		h.ServeHTTP(w, r)
	}
}

// admission passes an answer on, unless it is 204, of which only the header is
// kept.
type admission struct {
	http.ResponseWriter
	granted bool
}

// WriteHeader implements http.ResponseWriter. A refused body is not read, so the
// connection cannot be used again.
func (a *admission) WriteHeader(status int) {
	if status == http.StatusNoContent {
		a.granted = true
		return
	}
	if status >= http.StatusOK {
		a.Header().Set("Connection", "close")
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *admission) Write(b []byte) (int, error) {
	if a.granted {
		return len(b), nil
	}
	return a.ResponseWriter.Write(b)
}

// Flush implements http.Flusher: what was granted is not answered yet.
func (a *admission) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok && !a.granted {
		f.Flush()
	}
}

func (g *Gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	g.inFlight++
	return true
}

func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if g.draining && g.inFlight == 0 {
		close(g.empty)
	}
}

// Drain refuses new requests from now on and waits until those in flight are
// done, or the context ends; the error then says how many are left.
func (g *Gate) Drain(ctx context.Context) error {
	g.mu.Lock()
	if !g.draining {
		g.draining = true
		if g.inFlight == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		return fmt.Errorf("%d requests were still running: %w", g.inFlight, context.Cause(ctx))
	}
}

// Close closes the listeners and cuts what is still in flight.
func (g *Gate) Close() error {
	err := g.server.Close()
	g.served.Wait()
	if err != nil {
		return fmt.Errorf("close an API's listeners: %w", err)
	}
	return nil
}
