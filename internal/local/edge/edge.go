package edge

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
	"os"
	"sync"
	"time"
)

// Config describes an edge process. It holds no secrets.
type Config struct {
	Gateway GroupConfig `json:"gateway"`
	API     GroupConfig `json:"api"`
	// Health is host:port of the listener for GET /livez and /readyz.
	Health string `json:"health"`
	// TLS makes gateway and API HTTPS; without it they are HTTP.
	TLS *TLSConfig `json:"tls,omitempty"`
	// CheckMillis is the time between two readiness checks of a target,
	// milliseconds; 0 means 1,000.
	CheckMillis int `json:"checkMillis,omitempty"`
	// DrainMillis is how long requests in flight may take to finish once the
	// edge has been asked to end, milliseconds; 0 means 5,000.
	DrainMillis int `json:"drainMillis,omitempty"`
}

// LoadConfig reads a configuration file (JSON).
func LoadConfig(path string) (Config, error) {
	var c Config
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("read the edge's configuration: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read the edge's configuration %s: %w", path, err)
	}
	return c, nil
}

func (c Config) checkInterval() time.Duration { return millis(c.CheckMillis, time.Second) }
func (c Config) drain() time.Duration         { return millis(c.DrainMillis, 5*time.Second) }

func millis(n int, otherwise time.Duration) time.Duration {
	if n <= 0 {
		return otherwise
	}
	return time.Duration(n) * time.Millisecond
}

// readHeaderTimeout bounds how long a client may take for a request's header.
// Bodies, either way, take as long as they take.
const readHeaderTimeout = 10 * time.Second

// Edge is two proxies and a health listener, all listening.
type Edge struct {
	cfg       Config
	out       *log.Logger
	groups    map[string]*Group
	proxies   []*Proxy
	servers   []*http.Server
	listeners []net.Listener
}

// Listen checks the configuration and opens all listeners, or none. Log lines
// go to w.
func Listen(cfg Config, w io.Writer) (*Edge, error) {
	e := &Edge{cfg: cfg, out: log.New(w, "", log.LstdFlags|log.LUTC|log.Lmsgprefix), groups: map[string]*Group{}}
	var secure *tls.Config
	if cfg.TLS != nil {
		var err error
		if secure, err = cfg.TLS.serverConfig(); err != nil {
			return nil, err
		}
	}
	for _, g := range []struct {
		name string
		cfg  GroupConfig
	}{{"gateway", cfg.Gateway}, {"api", cfg.API}} {
		group, err := NewGroup(g.name, g.cfg)
		if err != nil {
			e.closeListeners()
			return nil, err
		}
		e.groups[g.name] = group
		proxy := NewProxy(group, log.New(w, g.name+" ", log.LstdFlags|log.LUTC|log.Lmsgprefix), e.out)
		e.proxies = append(e.proxies, proxy)
		if err := e.listen(g.name, g.cfg.Listen, proxy, secure); err != nil {
			return nil, err
		}
	}
	if err := e.listen("health", cfg.Health, http.HandlerFunc(e.health), nil); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Edge) listen(name, address string, h http.Handler, secure *tls.Config) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		e.closeListeners()
		return fmt.Errorf("open the %s listener: %w", name, err)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	e.listeners = append(e.listeners, l)
	e.servers = append(e.servers, &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: 2 * time.Minute, ErrorLog: e.out,
	})
	return nil
}

func (e *Edge) closeListeners() {
	for _, l := range e.listeners {
		_ = l.Close() // never served: nothing to lose
	}
}

// Serve runs until ctx ends, then stops accepting, lets requests in flight
// finish for as long as the configuration grants, and cuts the rest off. It
// returns nil after an orderly end, also if it had to cut.
func (e *Edge) Serve(ctx context.Context) error {
	watch, stopWatching := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stopWatching()
	for _, g := range e.groups {
		watching.Go(func() { g.Watch(watch, e.cfg.checkInterval()) })
	}
	failed := make(chan error, len(e.servers))
	for i, s := range e.servers {
		go func() { failed <- s.Serve(e.listeners[i]) }()
	}
	e.out.Printf("edge: gateway on %s, api on %s, health on %s", e.listeners[0].Addr(), e.listeners[1].Addr(), e.listeners[2].Addr())
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	drain, cancel := context.WithTimeout(context.Background(), e.cfg.drain())
	defer cancel()
	var ending sync.WaitGroup
	for _, s := range e.servers {
		ending.Go(func() {
			if errors.Is(s.Shutdown(drain), context.DeadlineExceeded) {
				e.out.Printf("edge: requests still in flight after %s were cut off", e.cfg.drain())
				_ = s.Close() // what it would report is what was just logged
			}
		})
	}
	ending.Wait()
	for _, p := range e.proxies {
		p.CloseIdleConnections()
	}
	return err
}

// health answers /livez always and /readyz by whether both groups have a ready
// target; the body says what is known about each target.
func (e *Edge) health(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if r.URL.Path != "/readyz" {
		http.NotFound(w, r)
		return
	}
	status := Status{Ready: true}
	status.Gateway, status.API = e.groups["gateway"].State(), e.groups["api"].State()
	for _, g := range e.groups {
		status.Ready = status.Ready && g.Ready()
	}
	w.Header().Set("Content-Type", "application/json")
	if !status.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// A prober that has gone meanwhile asks again.
	_ = json.NewEncoder(w).Encode(status)
}

// Status is the body of the edge's /readyz.
type Status struct {
	Ready   bool          `json:"ready"`
	Gateway []TargetState `json:"gateway"`
	API     []TargetState `json:"api"`
}
