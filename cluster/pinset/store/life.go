package store

import (
	"context"
	"errors"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// ErrClosed is what an operation gets that comes after Close.
var ErrClosed = errors.New("the store of the pinset is closed: this peer has ended")

// life keeps Close apart from operations: it waits for those under way, and later ones fail.
type life struct {
	mu     sync.RWMutex
	closed bool
}

func (l *life) do(f func() error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	return f()
}

func doing[T any](l *life, f func() (T, error)) (v T, err error) {
	err = l.do(func() (err error) {
		v, err = f()
		return err
	})
	return v, err
}

// Get implements ds.Datastore.
func (s *Store) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	return doing(s.life, func() ([]byte, error) { return s.Datastore.Get(ctx, key) })
}

// Has implements ds.Datastore.
func (s *Store) Has(ctx context.Context, key ds.Key) (bool, error) {
	return doing(s.life, func() (bool, error) { return s.Datastore.Has(ctx, key) })
}

// GetSize implements ds.Datastore.
func (s *Store) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return doing(s.life, func() (int, error) { return s.Datastore.GetSize(ctx, key) })
}

// Query implements ds.Datastore.
func (s *Store) Query(ctx context.Context, q query.Query) (query.Results, error) {
	return doing(s.life, func() (query.Results, error) { return s.Datastore.Query(ctx, q) })
}

// Put implements ds.Datastore.
func (s *Store) Put(ctx context.Context, key ds.Key, value []byte) error {
	return s.life.do(func() error { return s.Datastore.Put(ctx, key, value) })
}

// Delete implements ds.Datastore.
func (s *Store) Delete(ctx context.Context, key ds.Key) error {
	return s.life.do(func() error { return s.Datastore.Delete(ctx, key) })
}

// Sync implements ds.Datastore.
func (s *Store) Sync(ctx context.Context, prefix ds.Key) error {
	return s.life.do(func() error { return s.Datastore.Sync(ctx, prefix) })
}

// DiskUsage implements ds.PersistentDatastore.
func (s *Store) DiskUsage(ctx context.Context) (uint64, error) {
	return doing(s.life, func() (uint64, error) { return s.Datastore.DiskUsage(ctx) })
}

// Batch implements ds.Batching.
func (s *Store) Batch(ctx context.Context) (ds.Batch, error) {
	return doing(s.life, func() (ds.Batch, error) {
		b, err := s.Datastore.Batch(ctx)
		return batch{b, s.life}, err
	})
}

type batch struct {
	ds.Batch
	life *life
}

func (b batch) Commit(ctx context.Context) error {
	return b.life.do(func() error { return b.Batch.Commit(ctx) })
}

// Close releases the folder. Closing it again does nothing.
func (s *Store) Close() error {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	if s.life.closed {
		return nil
	}
	s.life.closed = true
	return s.Datastore.Close()
}
