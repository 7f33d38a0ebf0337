package tiered

import (
	"context"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// Switch is a store that goes over to another one while it is used. Every call goes as a whole to the store that was the present one when it
// began. Safe for concurrent use.
type Switch struct {
	mu  sync.RWMutex // held for a moment: nobody does anything under it
	now *generation
}

// generation is a store, and the calls that are inside of it.
type generation struct {
	store ds.Batching
	calls sync.WaitGroup
}

var (
	_ ds.Batching            = (*Switch)(nil)
	_ ds.PersistentDatastore = (*Switch)(nil)
	_ ds.CheckedDatastore    = (*Switch)(nil)
	_ ds.ScrubbedDatastore   = (*Switch)(nil)
	_ ds.GCDatastore         = (*Switch)(nil)
)

// NewSwitch begins with a store.
func NewSwitch(store ds.Batching) *Switch { return &Switch{now: &generation{store: store}} }

// Now is the present store. It may be another one a moment later.
func (s *Switch) Now() ds.Batching {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now.store
}

// To makes all calls go to another store from now on, and returns when those that are inside of the old one have ended: what they
// put is in there then. Results of queries that began before may still be read. The old store is not closed. If ctx ends
// first, the new store is in use all the same.
func (s *Switch) To(ctx context.Context, store ds.Batching) error {
	s.mu.Lock()
	old := s.now
	s.now = &generation{store: store}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		old.calls.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter begins a call, which leave ends.
func (s *Switch) enter() (store ds.Batching, leave func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.now
	g.calls.Add(1)
	return g.store, g.calls.Done
}

// Put implements datastore.Datastore.
func (s *Switch) Put(ctx context.Context, key ds.Key, value []byte) error {
	d, leave := s.enter()
	defer leave()
	return d.Put(ctx, key, value)
}

// Get implements datastore.Datastore.
func (s *Switch) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	d, leave := s.enter()
	defer leave()
	return d.Get(ctx, key)
}

// Has implements datastore.Datastore.
func (s *Switch) Has(ctx context.Context, key ds.Key) (bool, error) {
	d, leave := s.enter()
	defer leave()
	return d.Has(ctx, key)
}

// GetSize implements datastore.Datastore.
func (s *Switch) GetSize(ctx context.Context, key ds.Key) (int, error) {
	d, leave := s.enter()
	defer leave()
	return d.GetSize(ctx, key)
}

// Query implements datastore.Datastore.
func (s *Switch) Query(ctx context.Context, q query.Query) (query.Results, error) {
	d, leave := s.enter()
	defer leave()
	return d.Query(ctx, q)
}

// Delete implements datastore.Datastore.
func (s *Switch) Delete(ctx context.Context, key ds.Key) error {
	d, leave := s.enter()
	defer leave()
	return d.Delete(ctx, key)
}

// Sync implements datastore.Datastore.
func (s *Switch) Sync(ctx context.Context, prefix ds.Key) error {
	d, leave := s.enter()
	defer leave()
	return d.Sync(ctx, prefix)
}

// Close implements io.Closer: closes the present store.
func (s *Switch) Close() error {
	d, leave := s.enter()
	defer leave()
	return d.Close()
}

// DiskUsage implements datastore.PersistentDatastore.
func (s *Switch) DiskUsage(ctx context.Context) (uint64, error) {
	d, leave := s.enter()
	defer leave()
	return ds.DiskUsage(ctx, d)
}

// Check implements datastore.CheckedDatastore.
func (s *Switch) Check(ctx context.Context) error {
	d, leave := s.enter()
	defer leave()
	if c, ok := d.(ds.CheckedDatastore); ok {
		return c.Check(ctx)
	}
	return nil
}

// Scrub implements datastore.ScrubbedDatastore.
func (s *Switch) Scrub(ctx context.Context) error {
	d, leave := s.enter()
	defer leave()
	if c, ok := d.(ds.ScrubbedDatastore); ok {
		return c.Scrub(ctx)
	}
	return nil
}

// CollectGarbage implements datastore.GCDatastore.
func (s *Switch) CollectGarbage(ctx context.Context) error {
	d, leave := s.enter()
	defer leave()
	if c, ok := d.(ds.GCDatastore); ok {
		return c.CollectGarbage(ctx)
	}
	return nil
}

// Batch implements datastore.Batching. A batch is a call from its first operation to its Commit, of whatever store is the present one at
// Commit: it keeps what it is given until then, as kubo's batches of 8 MiB and less allow.
func (s *Switch) Batch(context.Context) (ds.Batch, error) {
	return &switchBatch{s: s, ops: map[ds.Key]operation{}}, nil
}

type switchBatch struct {
	s *Switch

	mu    sync.Mutex
	ops   map[ds.Key]operation
	order []ds.Key
}

type operation struct {
	value  []byte
	remove bool
}

func (b *switchBatch) Put(_ context.Context, key ds.Key, value []byte) error {
	b.add(key, operation{value: value})
	return nil
}

func (b *switchBatch) Delete(_ context.Context, key ds.Key) error {
	b.add(key, operation{remove: true})
	return nil
}

func (b *switchBatch) add(key ds.Key, op operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, had := b.ops[key]; !had {
		b.order = append(b.order, key)
	}
	b.ops[key] = op
}

// Commit leaves the batch as it is if it fails.
func (b *switchBatch) Commit(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, leave := b.s.enter()
	defer leave()
	to, err := d.Batch(ctx)
	if err != nil {
		return err
	}
	for _, key := range b.order {
		if op := b.ops[key]; op.remove {
			err = to.Delete(ctx, key)
		} else {
			err = to.Put(ctx, key, op.value)
		}
		if err != nil {
			return err
		}
	}
	if err := to.Commit(ctx); err != nil {
		return err
	}
	clear(b.ops)
	b.order = b.order[:0]
	return nil
}
