package journal

import (
	"context"
	"slices"
	"sync"
)

// room counts the bytes that the journal may still take. Those who wait are
// served in the order in which they came, so that a large batch is not starved
// by small ones. Safe for concurrent use.
type room struct {
	max int64

	mu      sync.Mutex
	used    int64
	waiters []*waiter
}

type waiter struct {
	n       int64
	granted chan struct{}
}

// take waits until n bytes fit, ctx is done, or closing is closed. n must not
// exceed max. waits is called before the first wait.
func (r *room) take(ctx context.Context, closing <-chan struct{}, n int64, waits func()) error {
	r.mu.Lock()
	if len(r.waiters) == 0 && r.used+n <= r.max {
		r.used += n
		r.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	r.waiters = append(r.waiters, w)
	r.mu.Unlock()
	waits()
	var err error
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
		err = ErrClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiters, w); i >= 0 {
		r.waiters = slices.Delete(r.waiters, i, i+1)
	} else {
		r.used -= n // granted in the meantime
	}
	r.grant() // who stood behind may be smaller
	return err
}

// hold counts bytes that are there already, beyond the bound if need be.
func (r *room) hold(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	r.grant()
}

func (r *room) grant() {
	for len(r.waiters) > 0 && r.used+r.waiters[0].n <= r.max {
		r.used += r.waiters[0].n
		close(r.waiters[0].granted)
		r.waiters = slices.Delete(r.waiters, 0, 1)
	}
}

func (r *room) state() (used int64, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, len(r.waiters)
}
