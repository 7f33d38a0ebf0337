package adds

import (
	"context"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/kubo/repo"
)

// Repo lets a Sync of the repo's datastore in a session, and each write to it,
// wait for the session's blocks; see the package. The session's own blocks come
// to the datastore without a session.
func Repo(base repo.Repo) repo.Repo {
	return ordered{base, orderedDatastore{base.Datastore()}}
}

type ordered struct {
	repo.Repo
	datastore orderedDatastore
}

func (r ordered) Datastore() repo.Datastore { return r.datastore }

type orderedDatastore struct{ repo.Datastore }

// upstream: datastore-assertions
// What kubo looks for in its datastore by type assertion. kubo's own mount and
// measure have all of these, whatever they stand on.
var (
	_ datastore.CheckedDatastore    = orderedDatastore{}
	_ datastore.GCDatastore         = orderedDatastore{}
	_ datastore.PersistentDatastore = orderedDatastore{}
	_ datastore.ScrubbedDatastore   = orderedDatastore{}
)

func settle(ctx context.Context) error {
	if s := sessionOf(ctx); s != nil {
		return s.sync()
	}
	return nil
}

func (d orderedDatastore) Sync(ctx context.Context, prefix datastore.Key) error {
	if err := settle(ctx); err != nil {
		return err
	}
	return d.Datastore.Sync(ctx, prefix)
}

func (d orderedDatastore) Put(ctx context.Context, k datastore.Key, value []byte) error {
	if err := settle(ctx); err != nil {
		return err
	}
	return d.Datastore.Put(ctx, k, value)
}

func (d orderedDatastore) Delete(ctx context.Context, k datastore.Key) error {
	if err := settle(ctx); err != nil {
		return err
	}
	return d.Datastore.Delete(ctx, k)
}

func (d orderedDatastore) Batch(ctx context.Context) (datastore.Batch, error) {
	b, err := d.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return orderedBatch{b}, nil
}

type orderedBatch struct{ datastore.Batch }

func (b orderedBatch) Commit(ctx context.Context) error {
	if err := settle(ctx); err != nil {
		return err
	}
	return b.Batch.Commit(ctx)
}

func (d orderedDatastore) Check(ctx context.Context) error {
	if c, ok := d.Datastore.(datastore.CheckedDatastore); ok {
		return c.Check(ctx)
	}
	return nil
}

func (d orderedDatastore) Scrub(ctx context.Context) error {
	if s, ok := d.Datastore.(datastore.ScrubbedDatastore); ok {
		return s.Scrub(ctx)
	}
	return nil
}

func (d orderedDatastore) CollectGarbage(ctx context.Context) error {
	if g, ok := d.Datastore.(datastore.GCDatastore); ok {
		return g.CollectGarbage(ctx)
	}
	return nil
}

func (d orderedDatastore) DiskUsage(ctx context.Context) (uint64, error) {
	return datastore.DiskUsage(ctx, d.Datastore)
}
