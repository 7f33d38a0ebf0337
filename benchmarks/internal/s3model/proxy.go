package s3model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

// Upstream is the real server behind the model.
type Upstream struct {
	Endpoint    string // URL
	Region      string
	Credentials aws.CredentialsProvider
	// Budget bounds what is spent there; nil: nothing is.
	Budget *Budget
}

// Counts are what one store has asked of S3. Requests are as the server sees them: each attempt, each page, whatever became of it.
type Counts struct {
	Requests map[Op]int64 `json:"requests" doc:"requests that arrived at the server, by class: PUT, GET, HEAD, LIST, DELETE"`
	BytesIn  int64        `json:"bytesIn" doc:"bytes of request bodies (written)"`
	BytesOut int64        `json:"bytesOut" doc:"bytes of object bodies in answers (read)"`
	SlowDown int64        `json:"slowDown" doc:"requests answered 503 SlowDown, which are in requests as well"`
	Refused  int64        `json:"refused" doc:"requests that the budget did not allow, which are in requests as well and were not sent on"`
}

// Total is the number of all requests.
func (c Counts) Total() (n int64) {
	for _, k := range c.Requests {
		n += k
	}
	return n
}

// Minus is what was added since an earlier moment.
func (c Counts) Minus(o Counts) Counts {
	d := Counts{map[Op]int64{}, c.BytesIn - o.BytesIn, c.BytesOut - o.BytesOut, c.SlowDown - o.SlowDown, c.Refused - o.Refused}
	for op, n := range c.Requests {
		if n -= o.Requests[op]; n != 0 {
			d.Requests[op] = n
		}
	}
	return d
}

// Proxy is the model in front of a server. Safe for concurrent use.
type Proxy struct {
	URL string // of the listener, on loopback

	class  Class
	to     Upstream
	clock  *clock
	signer *v4.Signer
	server *http.Server
	pass   *httputil.ReverseProxy

	mu     sync.Mutex
	counts Counts
	active int
}

// New starts a proxy with dilation 0. Seed makes its delays repeatable.
func New(c Class, to Upstream, seed uint64) (*Proxy, error) {
	target, err := url.Parse(to.Endpoint)
	if err != nil || target.Host == "" {
		return nil, fmt.Errorf("S3 endpoint %q: use http(s)://host[:port]", to.Endpoint)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the S3 model: %w", err)
	}
	p := &Proxy{
		URL: "http://" + l.Addr().String(), class: c, to: to, clock: newClock(c, seed),
		counts: Counts{Requests: map[Op]int64{}},
		// S3 signs the path as it is sent; the signer would escape it once more.
		signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
	}
	p.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, target.Host
		},
		Transport:      &signing{p, &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, Proxy: http.ProxyFromEnvironment}},
		FlushInterval:  -1,
		BufferPool:     &buffers{},
		ModifyResponse: p.answered,
		ErrorHandler:   p.failed,
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(l) }() // returns when it is closed
	return p, nil
}

// Close ends the listener and everything that is under way.
func (p *Proxy) Close() error { return p.server.Close() }

// Dilate sets how many times slower than S3 everything is from now on; 0 is no waiting and no SlowDown.
func (p *Proxy) Dilate(d float64) { p.clock.dilate(d) }

// Class is the storage class that is modelled.
func (p *Proxy) Class() Class { return p.class }

// Counts returns the totals since New.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	c.Requests = maps.Clone(c.Requests)
	return c
}

// Active is the number of requests that are under way.
func (p *Proxy) Active() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active
}

// OpOf classes a request.
func OpOf(r *http.Request) Op {
	_, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch r.Method {
	case http.MethodGet:
		if object == "" {
			return List
		}
		return Get
	case http.MethodHead:
		return Head
	case http.MethodDelete:
		return Delete
	case http.MethodPost:
		if r.URL.Query().Has("delete") {
			return Delete
		}
	}
	return Put
}

type opKey struct{}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := OpOf(r)
	p.mu.Lock()
	p.counts.Requests[op]++
	p.active++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.active--
		p.mu.Unlock()
	}()
	if !p.clock.admit(time.Now(), op) {
		p.count(func(c *Counts) { c.SlowDown++ })
		refuse(w, r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		return
	}
	usd := p.class.USD[op] + float64(max(r.ContentLength, 0))/bill.GB*p.class.WrittenGB
	if op == Put {
		usd += p.class.USD[List] / 500 // what was put is listed when the run removes it, 1,000 to a page
	}
	if err := p.to.Budget.reserve(usd); err != nil {
		p.count(func(c *Counts) { c.Refused++ })
		refuse(w, r, http.StatusForbidden, "BudgetReached", err.Error())
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &paced{ReadCloser: r.Body, p: p, ctx: r.Context(), began: time.Now(), way: up}
	}
	if wait(r.Context(), p.clock.firstByte(op)) {
		p.pass.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), opKey{}, op)))
	}
}

func (p *Proxy) count(f func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

// answered paces what comes back, and has its bytes paid for before they come.
func (p *Proxy) answered(resp *http.Response) error {
	counted := resp.Request.Context().Value(opKey{}) == Get && resp.StatusCode < 300
	if counted {
		if err := p.to.Budget.reserve(float64(max(resp.ContentLength, 0)) / bill.GB * (p.class.ReadGB + EgressGB)); err != nil {
			p.count(func(c *Counts) { c.Refused++ })
			return err
		}
	}
	resp.Body = &paced{ReadCloser: resp.Body, p: p, ctx: resp.Request.Context(), began: time.Now(), way: down, uncounted: !counted}
	return nil
}

// failed answers for the server when it cannot: the client's SDK takes a 500 for what it is, and tries again.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrBudget) {
		refuse(w, r, http.StatusForbidden, "BudgetReached", err.Error())
		return
	}
	refuse(w, r, http.StatusInternalServerError, "InternalError", err.Error())
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	_, _ = io.Copy(io.Discard, r.Body) // so that the connection can be used again
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // an error here is the client's
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// paced lets bytes pass as fast as the model has it, and counts them.
type paced struct {
	io.ReadCloser
	p         *Proxy
	ctx       context.Context
	began     time.Time
	moved     int64
	way       int
	uncounted bool
}

func (r *paced) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if n == 0 {
		return n, err
	}
	r.moved += int64(n)
	if !r.uncounted {
		r.p.count(func(c *Counts) {
			if r.way == up {
				c.BytesIn += int64(n)
			} else {
				c.BytesOut += int64(n)
			}
		})
	}
	if !wait(r.ctx, time.Until(r.p.clock.pass(time.Now(), r.began, int64(n), r.moved, r.way))) {
		return n, r.ctx.Err()
	}
	return n, err
}

// buffers are larger than the proxy's own 32 KiB: what the model costs is paid on the same cores as what it measures.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte {
	if buf, ok := b.Pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 256<<10)
}

func (b *buffers) Put(buf []byte) { b.Pool.Put(&buf) }

// signing signs requests for the server behind.
type signing struct {
	p    *Proxy
	next http.RoundTripper
}

// unsigned is how S3 is told that the body is not part of the signature.
const unsigned = "UNSIGNED-PAYLOAD"

// RoundTrip implements http.RoundTripper.
func (s *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, h := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Forwarded-For", "Date"} {
		r.Header.Del(h)
	}
	sum := r.Header.Get("X-Amz-Content-Sha256")
	if strings.HasPrefix(sum, "STREAMING-") {
		return nil, fmt.Errorf("the store sends its body in signed chunks, which cannot be signed anew: switch that off")
	}
	if sum == "" {
		sum = unsigned
		r.Header.Set("X-Amz-Content-Sha256", sum)
	}
	creds, err := s.p.to.Credentials.Retrieve(r.Context())
	if err != nil {
		return nil, fmt.Errorf("credentials for the S3 server: %w", err)
	}
	if err := s.p.signer.SignHTTP(r.Context(), creds, r, sum, "s3", s.p.to.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign for the S3 server: %w", err)
	}
	return s.next.RoundTrip(r)
}
