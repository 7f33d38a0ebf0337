package store

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
)

// Deferred returns a view of the store whose writes are durable when Sync has
// returned after them, or a write to the store itself. Closing it does nothing.
func (s *Store) Deferred() Datastore { return deferred{s} }

type deferred struct{ *Store }

func (d deferred) Put(_ context.Context, key ds.Key, value []byte) error {
	return d.life.do(func() error {
		if err := d.DB.Set(key.Bytes(), value, pebble.NoSync); err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		return nil
	})
}

func (d deferred) Delete(_ context.Context, key ds.Key) error {
	return d.life.do(func() error {
		if err := d.DB.Delete(key.Bytes(), pebble.NoSync); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		return nil
	})
}

func (d deferred) Batch(context.Context) (b ds.Batch, err error) {
	err = d.life.do(func() error {
		b = &deferredBatch{d.DB.NewBatch(), d.life}
		return nil
	})
	return b, err
}

func (deferred) Close() error { return nil }

type deferredBatch struct {
	batch *pebble.Batch
	life  *life
}

func (b *deferredBatch) Put(_ context.Context, key ds.Key, value []byte) error {
	return b.batch.Set(key.Bytes(), value, nil)
}

func (b *deferredBatch) Delete(_ context.Context, key ds.Key) error {
	return b.batch.Delete(key.Bytes(), nil)
}

func (b *deferredBatch) Commit(context.Context) error {
	return b.life.do(func() error {
		if err := b.batch.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("write a batch: %w", err)
		}
		return nil
	})
}
