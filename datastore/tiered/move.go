package tiered

import (
	"context"
	"math"

	"fmt"
	"sync"

	ds "github.com/ipfs/go-datastore"
)

// moves keeps deletes and moves of one key apart. A key is claimed from before it is read from the cold store until it is in the hot one.
type moves struct {
	mu     sync.Mutex
	keys   map[ds.Key]*claims
	change *sync.Cond // a write or a delete has ended
}

// claims are those on one key.
type claims struct {
	movers   map[*Mover]*claim
	writing  int // movers that write it to the hot store
	deleting int // calls that delete it
}

// claim is that of one Mover.
type claim struct {
	n    int  // how often it was read and neither put nor dropped
	void bool // it was deleted since
}

func (m *moves) init() {
	m.keys = map[ds.Key]*claims{}
	m.change = sync.NewCond(&m.mu)
}

func (m *moves) of(key ds.Key) *claims {
	c := m.keys[key]
	if c == nil {
		c = &claims{movers: map[*Mover]*claim{}}
		m.keys[key] = c
	}
	return c
}

// tidy forgets a key that nobody has to do with.
func (m *moves) tidy(key ds.Key) {
	if c := m.keys[key]; c != nil && len(c.movers) == 0 && c.writing == 0 && c.deleting == 0 {
		delete(m.keys, key)
	}
}

// wait returns when ok does, which holds m.mu.
func (m *moves) wait(ctx context.Context, ok func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.change.Broadcast()
	})
	defer stop()
	for !ok() {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.change.Wait()
	}
	return nil
}

// delete makes claims on keys worthless, waits for writes of them that are under way, and keeps further ones away until end is called.
func (m *moves) delete(ctx context.Context, keys ...ds.Key) (end func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		c := m.of(key)
		c.deleting++
		for _, one := range c.movers {
			one.void = true
		}
	}
	end = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, key := range keys {
			m.keys[key].deleting--
			m.tidy(key)
		}
		m.change.Broadcast()
	}
	for _, key := range keys {
		if err := m.wait(ctx, func() bool { return m.keys[key].writing == 0 }); err != nil {
			m.mu.Unlock()
			end()
			m.mu.Lock()
			return nil, err
		}
	}
	return end, nil
}

// Entry is a key and its value.
type Entry struct {
	Key   ds.Key
	Value []byte
}

// Mover copies values from the cold store to the hot one. What it has read and neither put nor dropped is kept in mind, as a key, until
// Close. Safe for concurrent use.
type Mover struct {
	s    *Store
	keys map[ds.Key]struct{} // that it has a claim on; under s.moves.mu
}

// Mover returns one that must be closed. What it copies is taken for being in both stores.
func (s *Store) Mover() *Mover { return &Mover{s: s, keys: map[ds.Key]struct{}{}} }

// Get reads a value from the cold store, to be put. ds.ErrNotFound: it is not there, or is being deleted.
func (v *Mover) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	m := &v.s.moves
	m.mu.Lock()
	c := m.of(key)
	if c.deleting > 0 {
		m.mu.Unlock()
		return nil, ds.ErrNotFound
	}
	if c.movers[v] == nil {
		c.movers[v] = &claim{}
	}
	c.movers[v].n++
	v.keys[key] = struct{}{}
	m.mu.Unlock()
	value, err := v.s.cold.Get(ctx, key)
	if err != nil {
		v.Drop(key)
		return nil, notFound(err)
	}
	return value, nil
}

// Drop forgets that a key was read, once, and is not put.
func (v *Mover) Drop(key ds.Key) {
	m := &v.s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	v.letGo(key, 1)
}

// letGo gives up a claim that was made some times. It holds m.mu.
func (v *Mover) letGo(key ds.Key, times int) {
	m := &v.s.moves
	c := m.keys[key]
	if c == nil || c.movers[v] == nil {
		return
	}
	if c.movers[v].n -= times; c.movers[v].n <= 0 {
		delete(v.keys, key)
		delete(c.movers, v)
		m.tidy(key)
	}
}

// Put writes values that Get returned to the hot store, in one batch, but for those that were deleted since. It returns how many it wrote; they are as
// durable as the hot store makes them.
func (v *Mover) Put(ctx context.Context, entries []Entry) (written int, err error) {
	m := &v.s.moves
	var good []Entry
	m.mu.Lock()
	for _, e := range entries {
		c := m.keys[e.Key]
		if c == nil || c.movers[v] == nil || c.movers[v].void || c.deleting > 0 {
			continue
		}
		c.writing++
		good = append(good, e)
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, e := range good {
			m.keys[e.Key].writing--
		}
		for _, e := range entries {
			v.letGo(e.Key, 1)
		}
		m.change.Broadcast()
	}()
	if len(good) == 0 {
		return 0, nil
	}
	if err := v.put(ctx, good); err != nil {
		return 0, fmt.Errorf("tiered: write %d values to the hot store: %w", len(good), err)
	}
	for _, e := range good {
		v.s.shared.Add(int64(len(e.Value)))
	}
	return len(good), nil
}

func (v *Mover) put(ctx context.Context, entries []Entry) error {
	if len(entries) == 1 {
		return v.s.hot.Put(ctx, entries[0].Key, entries[0].Value)
	}
	b, err := v.s.hot.Batch(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := b.Put(ctx, e.Key, e.Value); err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}

// Close forgets what was read and not put.
func (v *Mover) Close() {
	m := &v.s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range v.keys {
		v.letGo(key, math.MaxInt)
	}
}
