package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"
)

// Options are what a Store may do besides. The zero value is the default.
type Options struct {
	// Promote writes values that were read from the cold store to the hot one as well. If that fails the read succeeds, and
	// Stats counts it.
	Promote bool
}

// Store is a hot store in front of a cold one. Safe for concurrent use.
type Store struct {
	hot, cold ds.Batching
	o         Options
	moves     moves

	coldReads, promoted, promoteFailures atomic.Uint64
	shared                               atomic.Int64 // bytes that are known to be in both
}

// Stats are totals since New.
type Stats struct {
	ColdReads       uint64 // values that came from the cold store
	Promoted        uint64 // of these, that were written to the hot one
	PromoteFailures uint64
}

var (
	_ ds.Batching            = (*Store)(nil)
	_ ds.PersistentDatastore = (*Store)(nil)
	_ ds.CheckedDatastore    = (*Store)(nil)
	_ ds.ScrubbedDatastore   = (*Store)(nil)
	_ ds.GCDatastore         = (*Store)(nil)
)

// New puts hot in front of cold. Both belong to the Store from then on.
func New(hot, cold ds.Batching, o Options) *Store {
	s := &Store{hot: hot, cold: cold, o: o}
	s.moves.init()
	return s
}

// Hot and Cold are the two stores. They stay the Store's.
func (s *Store) Hot() ds.Batching  { return s.hot }
func (s *Store) Cold() ds.Batching { return s.cold }

// Stats returns the totals.
func (s *Store) Stats() Stats {
	return Stats{s.coldReads.Load(), s.promoted.Load(), s.promoteFailures.Load()}
}

// Put implements datastore.Datastore: as durable as the hot store makes it.
func (s *Store) Put(ctx context.Context, key ds.Key, value []byte) error {
	return s.hot.Put(ctx, key, value)
}

// Get implements datastore.Datastore.
func (s *Store) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	value, err := s.hot.Get(ctx, key)
	if !errors.Is(err, ds.ErrNotFound) {
		return value, err
	}
	if s.o.Promote {
		return s.promote(ctx, key)
	}
	value, err = s.cold.Get(ctx, key)
	if err == nil {
		s.coldReads.Add(1)
	}
	return value, notFound(err)
}

// notFound gives callers the very value that they compare with ==.
func notFound(err error) error {
	if errors.Is(err, ds.ErrNotFound) {
		return ds.ErrNotFound
	}
	return err
}

// promote reads a value from the cold store and writes it to the hot one, unless it is deleted meanwhile.
func (s *Store) promote(ctx context.Context, key ds.Key) ([]byte, error) {
	m := s.Mover()
	defer m.Close()
	value, err := m.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	s.coldReads.Add(1)
	if n, err := m.Put(ctx, []Entry{{key, value}}); err != nil {
		s.promoteFailures.Add(1)
	} else {
		s.promoted.Add(uint64(n))
	}
	return value, nil
}

// Has implements datastore.Datastore.
func (s *Store) Has(ctx context.Context, key ds.Key) (bool, error) {
	if has, err := s.hot.Has(ctx, key); has || err != nil {
		return has, err
	}
	return s.cold.Has(ctx, key)
}

// GetSize implements datastore.Datastore.
func (s *Store) GetSize(ctx context.Context, key ds.Key) (int, error) {
	size, err := s.hot.GetSize(ctx, key)
	if !errors.Is(err, ds.ErrNotFound) {
		return size, err
	}
	size, err = s.cold.GetSize(ctx, key)
	return size, notFound(err)
}

// Delete implements datastore.Datastore: from both.
func (s *Store) Delete(ctx context.Context, key ds.Key) error {
	end, err := s.moves.delete(ctx, key)
	if err != nil {
		return fmt.Errorf("tiered: delete %s: %w", key, err)
	}
	defer end()
	// The cold one first: whoever finds the value after a failure finds it as it was.
	if err := s.cold.Delete(ctx, key); err != nil {
		return fmt.Errorf("tiered: delete %s from the cold store: %w", key, err)
	}
	if err := s.hot.Delete(ctx, key); err != nil {
		return fmt.Errorf("tiered: delete %s from the hot store: %w", key, err)
	}
	return nil
}

// Sync implements datastore.Datastore: of both, for deletes are in both.
func (s *Store) Sync(ctx context.Context, prefix ds.Key) error {
	return both(s, "sync", func(d ds.Batching) error { return d.Sync(ctx, prefix) })
}

// Close implements io.Closer: closes both.
func (s *Store) Close() error {
	return both(s, "close", func(d ds.Batching) error { return d.Close() })
}

// Check implements datastore.CheckedDatastore: both must be well.
func (s *Store) Check(ctx context.Context) error {
	return both(s, "check", func(d ds.Batching) error {
		if c, ok := d.(ds.CheckedDatastore); ok {
			return c.Check(ctx)
		}
		return nil
	})
}

// Scrub implements datastore.ScrubbedDatastore.
func (s *Store) Scrub(ctx context.Context) error {
	return both(s, "scrub", func(d ds.Batching) error {
		if c, ok := d.(ds.ScrubbedDatastore); ok {
			return c.Scrub(ctx)
		}
		return nil
	})
}

// CollectGarbage implements datastore.GCDatastore.
func (s *Store) CollectGarbage(ctx context.Context) error {
	return both(s, "collect garbage", func(d ds.Batching) error {
		if c, ok := d.(ds.GCDatastore); ok {
			return c.CollectGarbage(ctx)
		}
		return nil
	})
}

// both does something with each store, and joins the errors.
func both(s *Store, doing string, do func(ds.Batching) error) error {
	var wg sync.WaitGroup
	var errs [2]error
	for i, d := range []ds.Batching{s.hot, s.cold} {
		wg.Go(func() {
			if err := do(d); err != nil {
				errs[i] = fmt.Errorf("tiered: %s the %s store: %w", doing, []string{"hot", "cold"}[i], err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// DiskUsage implements datastore.PersistentDatastore: of both, less what a Mover has copied: that is there twice for as long as it takes.
func (s *Store) DiskUsage(ctx context.Context) (uint64, error) {
	hot, err := ds.DiskUsage(ctx, s.hot)
	if err != nil {
		return 0, fmt.Errorf("tiered: disk usage of the hot store: %w", err)
	}
	cold, err := ds.DiskUsage(ctx, s.cold)
	if err != nil {
		return 0, fmt.Errorf("tiered: disk usage of the cold store: %w", err)
	}
	shared := uint64(max(s.shared.Load(), 0))
	return hot + cold - min(shared, hot, cold), nil
}

// Batch implements datastore.Batching. The last operation on a key wins.
func (s *Store) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := s.hot.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &batch{s: s, puts: b, removed: map[ds.Key]struct{}{}}, nil
}

// batch passes puts on to a batch of the hot store, and keeps deletes for both.
type batch struct {
	s *Store

	mu      sync.Mutex
	puts    ds.Batch
	removed map[ds.Key]struct{}
}

func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.removed, key)
	return b.puts.Put(ctx, key, value)
}

func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removed[key] = struct{}{}
	return b.puts.Delete(ctx, key) // after a Put of it
}

// Commit deletes from the cold store first: see Delete.
func (b *batch) Commit(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]ds.Key, 0, len(b.removed))
	for key := range b.removed {
		keys = append(keys, key)
	}
	end, err := b.s.moves.delete(ctx, keys...)
	if err != nil {
		return fmt.Errorf("tiered: commit: %w", err)
	}
	defer end()
	if len(keys) > 0 {
		cold, err := b.s.cold.Batch(ctx)
		for _, key := range keys {
			if err == nil {
				err = cold.Delete(ctx, key)
			}
		}
		if err == nil {
			err = cold.Commit(ctx)
		}
		if err != nil {
			return fmt.Errorf("tiered: delete %d values from the cold store: %w", len(keys), err)
		}
	}
	if err := b.puts.Commit(ctx); err != nil {
		return err
	}
	clear(b.removed)
	return nil
}
