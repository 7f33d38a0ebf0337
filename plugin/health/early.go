package health

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// starting is the report of a process that has no node yet: it waits for the repo, migrates it, or the
// blockstore makes its index again.
var starting = report{Checks: []result{{Name: "node", Detail: "starting"}}}

// listener serves what it was last told to.
type listener struct {
	address string
	server  *http.Server
	handler atomic.Pointer[http.Handler]
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*l.handler.Load()).ServeHTTP(w, r)
}

func (l *listener) serve(h http.Handler) { l.handler.Store(&h) }

// listen opens a listener that serves h.
func listen(address string, h http.Handler) (*listener, error) {
	on, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &listener{address: address}
	l.serve(h)
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := l.server.Serve(on); !errors.Is(err, http.ErrServerClosed) {
			log.Errorf("health listener on %s ended: %s", address, err)
		}
	}()
	return l, nil
}

// early is the listener of a process that has no node yet.
var early struct {
	sync.Mutex
	listener *listener
	ended    bool // the node has it, or opens its own
}

// Open serves /livez, and a /readyz that says "starting", until the plugin of the node takes over. A node may
// need minutes before it serves: without this, whatever watches over the process would end it in the middle, and
// it would begin again. It returns at once. As long as another process has the address, it tries again: that is
// the one whose repo this process waits for.
func Open(address string) {
	go func() {
		for !open(address) {
			time.Sleep(time.Second)
		}
	}()
}

// open reports whether there is nothing left to try.
func open(address string) bool {
	early.Lock()
	defer early.Unlock()
	if early.ended || early.listener != nil {
		return true
	}
	l, err := listen(address, whileStarting(draining.Load))
	if err != nil {
		return false // Start says so, if it stays like this
	}
	early.listener = l
	return true
}

// take ends what Open began, and returns its listener if it has the address.
func take(address string) *listener {
	early.Lock()
	defer early.Unlock()
	early.ended = true
	l := early.listener
	early.listener = nil
	if l != nil && l.address != address {
		l.server.Close()
		return nil
	}
	return l
}

func whileStarting(draining func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		rep := starting
		if draining() {
			rep = leaving
		}
		rep.write(w)
	})
	return mux
}

func alive(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }
