package gc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-cid"

	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

// History is what a Guard needs of a touched.Log.
type History interface {
	Add(keys ...touched.Digest) error
	Cut() error
	Visit(from touched.Time, fn func(touched.Digest)) error
	Since() touched.Time
	Now() touched.Time
}

// Guard knows what is under way in a repo: operations, touches and deletions. All blocks of the repo go through one Guard.
// Safe for concurrent use.
type Guard struct {
	history History
	age     time.Duration
	// before is called before the first touch, until it returns nil.
	before func(context.Context) error
	ready  atomic.Bool

	watched atomic.Int32 // len(sweeps), for who does not hold mu

	mu       sync.Mutex
	ops      map[*Operation]struct{}
	sweeps   map[*sweep]struct{}
	deleting map[touched.Digest]chan struct{} // closed when the batch is over
	removing *sweep                           // of the GCLock that is held

	removal    sync.Mutex    // one GCLock at a time
	collecting chan struct{} // holds a token while a collection runs
}

// NewGuard returns a guard that keeps what was touched within age. before, if not nil, must succeed before the first block is
// written or relied on.
func NewGuard(age time.Duration, before func(context.Context) error) *Guard {
	return &Guard{
		age: age, before: before,
		ops: map[*Operation]struct{}{}, sweeps: map[*sweep]struct{}{}, deleting: map[touched.Digest]chan struct{}{},
		collecting: make(chan struct{}, 1),
	}
}

// Use sets the history; nothing else may be called before.
func (g *Guard) Use(h History) { g.history = h }

// Age is how long a touch keeps a block.
func (g *Guard) Age() time.Duration { return g.age }

// Floor is the time before which touches are not needed.
func (g *Guard) Floor(now touched.Time) touched.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	floor := g.horizon(now, g.age)
	for s := range g.sweeps {
		floor = min(floor, s.horizon)
	}
	return floor
}

// horizon is called with mu held.
func (g *Guard) horizon(now touched.Time, age time.Duration) touched.Time {
	h := now.Add(-age)
	for op := range g.ops {
		h = min(h, op.began)
	}
	return h
}

// Operation is something under way whose blocks must stay until it ends, however long that takes.
type Operation struct {
	guard   *Guard
	began   touched.Time
	adopted []cid.Cid
	ended   chan struct{}
	once    sync.Once
}

// Begin starts an operation. It never waits.
func (g *Guard) Begin() *Operation {
	op := &Operation{guard: g, ended: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	op.began = g.history.Now()
	g.ops[op] = struct{}{}
	return op
}

// End ends the operation: what it made is reachable, or given up. More than once is once.
func (op *Operation) End() {
	op.once.Do(func() {
		op.guard.mu.Lock()
		defer op.guard.mu.Unlock()
		delete(op.guard.ops, op)
		if op.ended != nil {
			close(op.ended)
		}
	})
}

// Unlock implements blockstore.Unlocker.
func (op *Operation) Unlock(context.Context) { op.End() }

// Adopt keeps what is reachable here from c until the operation ends, and for the rest of a collection that runs. It waits
// for a batch of deletions that is under way.
func (op *Operation) Adopt(ctx context.Context, c cid.Cid) error {
	g := op.guard
	g.mu.Lock()
	op.adopted = append(op.adopted, c)
	for s := range g.sweeps {
		s.pending = append(s.pending, c)
	}
	batches := map[chan struct{}]bool{}
	for _, b := range g.deleting {
		batches[b] = true
	}
	g.mu.Unlock()
	for b := range batches {
		if err := wait(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// Published notes a root of MFS, before it is recorded.
func (g *Guard) Published(c cid.Cid) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sweeps {
		s.pending = append(s.pending, c)
	}
}

func wait(ctx context.Context, batch chan struct{}) error {
	select {
	case <-batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Touch keeps blocks for the age from now on. When it returns, none of them is being deleted. It must come before a block is put into
// the store, or looked for by whoever relies on it.
func (g *Guard) Touch(ctx context.Context, keys ...touched.Digest) error {
	if !g.ready.Load() && g.before != nil {
		if err := g.before(ctx); err != nil {
			return err
		}
		g.ready.Store(true)
	}
	if err := g.history.Add(keys...); err != nil {
		return err
	}
	// A sweep is watched before it reads the history: what is not seen here is read there.
	if g.watched.Load() == 0 {
		return nil
	}
	batches := map[chan struct{}]bool{}
	g.mu.Lock()
	for s := range g.sweeps {
		for _, k := range keys {
			s.live.Add(k)
		}
	}
	for _, k := range keys {
		if b := g.deleting[k]; b != nil {
			batches[b] = true
		}
	}
	g.mu.Unlock()
	for b := range batches {
		if err := wait(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// sweep is one that deletes: what it must not.
type sweep struct {
	guard   *Guard
	start   touched.Time
	horizon touched.Time
	old     *touched.Set // touched at the horizon or later, before the sweep began
	removed *touched.Set
	dry     bool // deletes nothing
	refuse  bool // everything counts as touched

	// Held by the guard's mu.
	live    *touched.Set // touched since
	pending []cid.Cid    // adopted or published, and not walked yet
}

// YoungError: nothing can have been untouched for the age, because the history does not reach back so far.
type YoungError struct {
	Known time.Duration // how far it reaches back
	Age   time.Duration
}

func (e *YoungError) Error() string {
	return fmt.Sprintf("nothing goes yet: only blocks that were not touched for %s do, and touches are known for %s", e.Age, e.Known.Round(time.Millisecond))
}

// sweep begins one that keeps what was touched within age. It must be ended.
func (g *Guard) sweep(age time.Duration) (*sweep, error) {
	s := &sweep{guard: g, old: touched.NewSet(), live: touched.NewSet(), removed: touched.NewSet()}
	if age == 0 { // nothing that was touched before now, and by no operation, stays
		if err := g.history.Cut(); err != nil {
			return nil, err
		}
	}
	g.mu.Lock()
	s.start = g.history.Now()
	s.horizon = g.horizon(s.start, age)
	for op := range g.ops {
		s.pending = append(s.pending, op.adopted...)
	}
	g.sweeps[s] = struct{}{}
	g.watched.Store(int32(len(g.sweeps)))
	g.mu.Unlock()
	if since := g.history.Since(); protected && s.horizon < since {
		s.end()
		return nil, &YoungError{Known: s.start.Sub(since), Age: s.start.Sub(s.horizon)}
	}
	if !protected {
		return s, nil
	}
	if err := g.history.Visit(s.horizon, s.old.Add); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *sweep) end() {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	delete(s.guard.sweeps, s)
	s.guard.watched.Store(int32(len(s.guard.sweeps)))
}

// take returns what was adopted and not walked yet.
func (s *sweep) take() []cid.Cid {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	p := s.pending
	s.pending = nil
	return p
}

// batch deletes those of the keys that may go, and returns them; ready is false, and nothing was deleted, if something has
// to be walked first. fn is called for each key, concurrently.
func (s *sweep) batch(keys []cid.Cid, workers int, fn func(cid.Cid) error) (gone []cid.Cid, ready bool, errs []error) {
	g := s.guard
	over := make(chan struct{})
	g.mu.Lock()
	if protected && len(s.pending) > 0 {
		g.mu.Unlock()
		return nil, false, nil
	}
	for _, c := range keys {
		d := touched.Key(c.Hash())
		if s.touched(d) || g.deleting[d] != nil {
			continue
		}
		if !s.dry {
			g.deleting[d] = over
		}
		gone = append(gone, c)
	}
	g.mu.Unlock()

	failed := make([]error, len(gone))
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(workers, len(gone)) {
		done.Add(1)
		go func() {
			defer done.Done()
			for i := next.Add(1) - 1; i < int64(len(gone)); i = next.Add(1) - 1 {
				failed[i] = fn(gone[i])
			}
		}()
	}
	done.Wait()

	g.mu.Lock()
	for _, c := range gone {
		if d := touched.Key(c.Hash()); !s.dry {
			delete(g.deleting, d)
			s.removed.Add(d)
		}
	}
	g.mu.Unlock()
	close(over)
	kept := gone[:0]
	for i, c := range gone {
		if failed[i] != nil {
			errs = append(errs, fmt.Errorf("could not remove %s: %w", c, failed[i]))
			continue
		}
		kept = append(kept, c)
	}
	return kept, true, errs
}

// touched is called with the guard's mu held.
func (s *sweep) touched(d touched.Digest) bool {
	return protected && (s.refuse || s.live.Has(d) || s.old.Has(d))
}

// Collecting reports whether a collection runs, or a removal by name.
func (g *Guard) Collecting() bool { return g.watched.Load() > 0 }

// Removed reports whether a collection that runs has removed a block, or one that has the same digest.
func (g *Guard) Removed(c cid.Cid) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sweeps {
		if s.removed.Has(touched.Key(c.Hash())) {
			return true
		}
	}
	return false
}

// Locker is the guard as kubo knows it: a pin lock is an operation, and a gc lock is of who removes blocks by name.
type Locker struct{ *Guard }

var _ blockstore.GCLocker = Locker{}

// PinLock begins an operation. It never waits.
func (l Locker) PinLock(context.Context) blockstore.Unlocker { return l.Begin() }

// GCRequested is never true: no operation needs to make room for a collection.
func (l Locker) GCRequested(context.Context) bool { return false }

// removalPatience is how long a removal by name waits for operations that are under way: most end within it.
const removalPatience = 10 * time.Second

// GCLock is taken by `block rm`, which then asks the pinner and deletes. It waits for the operations that are under way, as kubo's
// does, but not for long, and excludes none: until the lock is released a deletion fails whose block was touched by an operation
// that is under way still, or began since.
func (l Locker) GCLock(ctx context.Context) blockstore.Unlocker {
	l.removal.Lock()
	l.await(ctx, removalPatience)
	s, err := l.sweep(0)
	if err != nil {
		// The history broke since the oldest operation began.
		s = &sweep{guard: l.Guard, refuse: true}
	}
	l.setRemoving(s)
	return &unlocker{func() {
		l.setRemoving(nil)
		s.end()
		l.removal.Unlock()
	}}
}

// await returns when the operations that are under way have ended, or after a while.
func (g *Guard) await(ctx context.Context, most time.Duration) {
	g.mu.Lock()
	ops := slices.Collect(maps.Keys(g.ops))
	g.mu.Unlock()
	late := time.NewTimer(most)
	defer late.Stop()
	for _, op := range ops {
		select {
		case <-op.ended:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (g *Guard) setRemoving(s *sweep) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removing = s
}

type unlocker struct{ f func() }

func (u *unlocker) Unlock(context.Context) {
	u.f()
	u.f = func() {}
}

// ErrInUse: a block was not deleted because an operation that is under way wrote it or relies on it.
var ErrInUse = errors.New("an operation that is under way has written this block or relies on it: try again when it has ended")

// remove deletes a block for who does it by name.
func (g *Guard) remove(c cid.Cid, delete func() error) error {
	g.mu.Lock()
	s := g.removing
	g.mu.Unlock()
	if s == nil {
		return delete()
	}
	gone, _, errs := s.batch([]cid.Cid{c}, 1, func(cid.Cid) error { return delete() })
	switch {
	case len(errs) > 0:
		return errors.Unwrap(errs[0])
	case len(gone) == 0:
		return ErrInUse
	}
	return nil
}

// Operations is how many operations are under way, and how long the oldest of them has been.
func (g *Guard) Operations() (n int, oldest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.history.Now()
	for _, op := range slices.Collect(maps.Keys(g.ops)) {
		oldest = max(oldest, now.Sub(op.began))
	}
	return len(g.ops), oldest
}
