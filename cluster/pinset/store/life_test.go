package store

import (
	"context"
	"errors"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"
)

// TestEveryOperationAfterCloseFails goes through the store, its deferred view and their batches.
// Pebble panics on most of these.
func TestEveryOperationAfterCloseFails(t *testing.T) {
	ctx := context.Background()
	s, err := Open(t.TempDir(), Options{})
	require.NoError(t, err)
	views := map[string]Datastore{"store": s, "deferred": s.Deferred()}
	batches := map[string]ds.Batch{}
	for name, d := range views {
		batches[name], err = d.Batch(ctx)
		require.NoError(t, err)
		require.NoError(t, batches[name].Put(ctx, key(1), []byte("value")))
	}
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing it again")
	for name, d := range views {
		for op, f := range map[string]func() error{
			"get":        func() error { _, err := d.Get(ctx, key(0)); return err },
			"has":        func() error { _, err := d.Has(ctx, key(0)); return err },
			"size":       func() error { _, err := d.GetSize(ctx, key(0)); return err },
			"query":      func() error { _, err := d.Query(ctx, query.Query{}); return err },
			"put":        func() error { return d.Put(ctx, key(0), nil) },
			"delete":     func() error { return d.Delete(ctx, key(0)) },
			"sync":       func() error { return d.Sync(ctx, ds.NewKey("/")) },
			"disk usage": func() error { _, err := d.DiskUsage(ctx); return err },
			"batch":      func() error { _, err := d.Batch(ctx); return err },
			"commit":     func() error { return batches[name].Commit(ctx) },
		} {
			require.ErrorIs(t, f(), ErrClosed, "%s: %s", name, op)
		}
	}
}

// TestClosingWhileOthersRead closes the store under readers, writers and queries.
func TestClosingWhileOthersRead(t *testing.T) {
	for range 5 {
		ctx := context.Background()
		s, err := Open(t.TempDir(), Options{})
		require.NoError(t, err)
		var work sync.WaitGroup
		begun := make(chan struct{}, 12)
		for i := range 12 {
			work.Go(func() {
				for n := 0; ; n++ {
					if n == 10 {
						begun <- struct{}{}
					}
					if err := turn(ctx, s, i); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("%d: %v", i, err)
						}
						return
					}
				}
			})
		}
		for range 12 {
			<-begun
		}
		require.NoError(t, s.Close())
		work.Wait()
	}
}

func turn(ctx context.Context, s *Store, i int) error {
	switch i % 4 {
	case 0:
		return s.Deferred().Put(ctx, key(i), []byte("value"))
	case 1:
		b, err := s.Batch(ctx)
		if err != nil {
			return err
		}
		if err := b.Put(ctx, key(i), []byte("value")); err != nil {
			return err
		}
		return b.Commit(ctx)
	case 2:
		_, err := s.Has(ctx, key(i))
		return err
	}
	r, err := s.Query(ctx, query.Query{})
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err = r.Rest(); err != nil && err.Error() == "close requested" { // what go-ds-pebble says in the middle of a query
		return ErrClosed
	}
	return err
}
