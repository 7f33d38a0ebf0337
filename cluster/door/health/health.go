package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one condition of readiness. Run returns what it found; the name
// need not be set. It obeys its context.
type Check struct {
	Name string
	Run  func(context.Context) Result
}

// Result is what a check found last.
type Result struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail is for people.
	Detail string `json:"detail"`
	// Missing names what the check looks for and does not find, if it has names.
	// A check may pass although something is missing.
	Missing []string `json:"missing,omitempty"`
}

// Report is the answer of /readyz.
type Report struct {
	Ready  bool     `json:"ready"`
	Checks []Result `json:"checks"`
}

// Health runs checks and keeps their results. Its methods are safe for
// concurrent use.
type Health struct {
	mu       sync.Mutex
	checks   []Check
	results  map[string]Result
	draining string
}

// New returns a Health that is not ready: until [Health.Watch] gives it checks,
// it reports the reason that it was made with.
func New(reason string) *Health {
	return &Health{draining: reason, results: map[string]Result{}}
}

// NotReady makes the peer not ready from now on, whatever the checks say, and
// gives the reason.
func (h *Health) NotReady(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = reason
}

// Watch runs the given checks now and then at the given interval, each with the
// given deadline, until the context ends. From its first round on, the checks
// alone decide about readiness, unless NotReady is called. It blocks.
func (h *Health) Watch(ctx context.Context, interval, deadline time.Duration, checks ...Check) {
	h.mu.Lock()
	h.checks = checks
	h.draining = ""
	h.mu.Unlock()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		var wg sync.WaitGroup
		for _, c := range checks {
			wg.Go(func() {
				cctx, cancel := context.WithTimeout(ctx, deadline)
				defer cancel()
				r := c.Run(cctx)
				r.Name = c.Name
				h.mu.Lock()
				defer h.mu.Unlock()
				h.results[c.Name] = r
			})
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Report returns the last results. It never blocks on a check.
func (h *Health) Report() Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := Report{Ready: true, Checks: []Result{}}
	if h.draining != "" {
		r.Ready = false
		r.Checks = append(r.Checks, Result{Name: "process", Detail: h.draining})
	}
	for _, c := range h.checks {
		res, ran := h.results[c.Name]
		if !ran {
			res = Result{Name: c.Name, Detail: "not checked yet"}
		}
		r.Ready = r.Ready && res.OK
		r.Checks = append(r.Checks, res)
	}
	return r
}

// Describe implements [prometheus.Collector].
func (h *Health) Describe(ch chan<- *prometheus.Desc) {
	ch <- readyDesc
	ch <- checkDesc
}

// Collect implements [prometheus.Collector].
func (h *Health) Collect(ch chan<- prometheus.Metric) {
	r := h.Report()
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, number(r.Ready))
	for _, c := range r.Checks {
		ch <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, number(c.OK), c.Name)
	}
}

var (
	readyDesc = prometheus.NewDesc("cluster_aws_ready", "1 if the peer is ready for traffic, 0 if not.", nil, nil)
	checkDesc = prometheus.NewDesc("cluster_aws_check_ok", "1 if the check passed when it ran last, 0 if not.", []string{"check"}, nil)
)

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Handler serves the three endpoints, with the metrics of the given gatherer.
func (h *Health) Handler(metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := h.Report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r) // a probe that hung up needs no answer
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

// Server is a running health listener.
type Server struct {
	http *http.Server
	done chan error
}

// Serve listens on address (host:port) and serves the handler until Close.
func Serve(address string, handler http.Handler) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open the health listener on %s: %w", address, err)
	}
	s := &Server{
		http: &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second},
		done: make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(l) }()
	return s, nil
}

// Close stops listening and cuts open connections.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
