package edge

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// Proxy forwards requests to the targets of a group.
type Proxy struct {
	group   *Group
	access  *log.Logger
	forward httputil.ReverseProxy
	targets *balancer
}

// NewProxy makes a proxy that writes one line per request to access, and to
// problems what went wrong with one.
func NewProxy(group *Group, access, problems *log.Logger) *Proxy {
	p := &Proxy{group: group, access: access, targets: newBalancer(group)}
	p.forward = httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      p.targets,
		FlushInterval:  -1,
		ErrorLog:       problems,
		ModifyResponse: keepClose,
		ErrorHandler:   p.refuse,
	}
	return p
}

// rewrite undoes what httputil does to a request beyond hop-by-hop headers:
// the target is to see what the client sent. Its address is filled in by the
// balancer.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.Host = pr.In.Host
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	pr.Out.Header.Del("Expect") // answered on this hop, see invite
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = append([]string(nil), values...)
		}
	}
	host, proto := pr.Out.Header["X-Forwarded-Host"], pr.Out.Header["X-Forwarded-Proto"]
	pr.SetXForwarded() // appends the client's address to X-Forwarded-For
	restore(pr.Out.Header, "X-Forwarded-Host", host)
	if len(proto) > 0 {
		restore(pr.Out.Header, "X-Forwarded-Proto", proto)
	}
}

func restore(h http.Header, name string, values []string) {
	if len(values) == 0 {
		h.Del(name)
		return
	}
	h[name] = values
}

// keepClose passes on a target's wish that the connection be closed: the
// cluster API asks for it after an add.
func keepClose(res *http.Response) error {
	if res.Close {
		res.Header.Set("Connection", "close")
	}
	return nil
}

// ServeHTTP forwards one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	// HTTP/1 only; where it is not supported it is not needed.
	_ = http.NewResponseController(w).EnableFullDuplex()
	p.invite(w, r)
	rec := &record{}
	out := &countingWriter{ResponseWriter: w}
	defer func() {
		rec.finish()
		// An answer that breaks off is reported by a panic, which makes the
		// server cut the connection.
		broken, end := recover(), ""
		if broken != nil {
			end = " broken off"
		}
		p.access.Printf("%s %s %s %d %d %d%s", r.Method, strconv.Quote(r.URL.EscapedPath()), rec.targetName(),
			out.status, out.bytes, time.Since(start).Milliseconds(), end)
		if broken != nil {
			panic(broken)
		}
	}()
	in := r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
	if r.Body == nil || r.Body == http.NoBody {
		p.forward.ServeHTTP(out, in)
		return
	}
	body := &clientBody{body: r.Body}
	in.Body = body
	p.forward.ServeHTTP(out, in)
	body.linger(w)
}

// invite tells a client that waits for "100 Continue" to send its body. It is
// not left to the target: the cluster API answers an add before it reads, and
// a client that sees an answer first may take its body for unwanted and never
// send it, while the API waits for it.
func (p *Proxy) invite(w http.ResponseWriter, r *http.Request) {
	if r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue") && p.group.Ready() {
		w.WriteHeader(http.StatusContinue)
	}
}

// CloseIdleConnections closes connections to targets that are not in use.
func (p *Proxy) CloseIdleConnections() { p.targets.reads.CloseIdleConnections() }

// refuse answers a request that no target has answered.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		// The client has gone; nobody reads this.
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	status := http.StatusBadGateway
	var none *noTarget
	if errors.As(err, &none) && !p.group.Ready() {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	p.forward.ErrorLog.Printf("%s %s: %v", r.Method, strconv.Quote(r.URL.EscapedPath()), err)
	body, err := json.Marshal(struct {
		Error   string        `json:"error"`
		Group   string        `json:"group"`
		Targets []TargetState `json:"targets"`
	}{err.Error(), p.group.name, p.group.State()})
	if err != nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that has gone meanwhile is no problem of ours.
	_, _ = w.Write(append(body, '\n'))
}

// countingWriter notes the status and counts the body's bytes.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *countingWriter) WriteHeader(status int) {
	if c.status < http.StatusOK {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *countingWriter) Write(b []byte) (int, error) {
	if c.status < http.StatusOK {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
