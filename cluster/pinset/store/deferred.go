package store

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// Deferred returns a view of the store whose writes are durable when Sync has
// returned after them, or a write to the store itself. Closing it does nothing.
func (s *Store) Deferred() Datastore { return deferred{s.Datastore} }

type deferred struct{ *pebbleds.Datastore }

func (d deferred) Put(_ context.Context, key ds.Key, value []byte) error {
	if err := d.DB.Set(key.Bytes(), value, pebble.NoSync); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func (d deferred) Delete(_ context.Context, key ds.Key) error {
	if err := d.DB.Delete(key.Bytes(), pebble.NoSync); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (d deferred) Batch(context.Context) (ds.Batch, error) {
	return &deferredBatch{d.DB.NewBatch()}, nil
}

func (deferred) Close() error { return nil }

type deferredBatch struct{ batch *pebble.Batch }

func (b *deferredBatch) Put(_ context.Context, key ds.Key, value []byte) error {
	return b.batch.Set(key.Bytes(), value, nil)
}

func (b *deferredBatch) Delete(_ context.Context, key ds.Key) error {
	return b.batch.Delete(key.Bytes(), nil)
}

func (b *deferredBatch) Commit(context.Context) error {
	if err := b.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write a batch: %w", err)
	}
	return nil
}
