package swap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/keytransform"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/go-datastore/query"
	"github.com/ipfs/kubo/repo"
	"go.uber.org/fx"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/tiered"
)

var blocks = ds.NewKey("/blocks")

// Live is the store of the blocks of a repo that is open in this process.
type Live struct {
	// Own is the store that the repo was opened with: it stays open as long as the repo.
	Own ds.Batching
	// Migrating is held by whoever changes the store.
	Migrating sync.Mutex

	now      *tiered.Switch
	progress atomic.Pointer[migrate.Progress]

	mu    sync.Mutex
	extra []ds.Batching // stores that were opened since, to be closed with the repo
	both  *tiered.Store // in front of Own, or Own itself, while blocks move
}

// open holds what is live in this process, by the folder of the repo.
var open sync.Map

// Opened returns what is live of the repo in a folder, as repo.Repo's Path names it, if this process has it open. Safe for concurrent use.
func Opened(path string) (*Live, bool) {
	l, ok := open.Load(path)
	if !ok {
		return nil, false
	}
	return l.(*Live), true
}

// Repo lets the blocks of a repo go to another store while it is open; see the package. It is closed when lc ends.
func Repo(base repo.Repo, lc fx.Lifecycle) repo.Repo {
	own := namespace.Wrap(base.Datastore(), blocks)
	l := &Live{Own: own, now: tiered.NewSwitch(own)}
	path := base.Path()
	open.Store(path, l)
	// upstream: close-order
	// This hook runs before the one that closes the repo, for that was registered before.
	lc.Append(fx.Hook{OnStop: func(context.Context) error {
		open.CompareAndDelete(path, l)
		return l.close()
	}})
	below := keytransform.Wrap(l.now, &keytransform.Pair{Convert: inside, Invert: outside})
	return live{base, &datastore{Datastore: base.Datastore(), live: l, below: below}}
}

// inside and outside take /blocks off a key, and put it there.
func inside(k ds.Key) ds.Key {
	if !isBlock(k) {
		return ds.NewKey("/")
	}
	return ds.RawKey(k.String()[len(blocks.String()):])
}

func outside(k ds.Key) ds.Key { return ds.RawKey(blocks.String() + k.String()) }

func isBlock(k ds.Key) bool { return blocks.IsAncestorOf(k) }

// Now is the store that blocks are read from and written to, with keys as Own has them.
func (l *Live) Now() ds.Batching { return l.now }

// Both is the tiered store, if blocks move at present, or are about to.
func (l *Live) Both() *tiered.Store {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.both
}

// Progress is how far the migration has come that is at work in this process, nil if there is none.
func (l *Live) Progress() *migrate.Progress { return l.progress.Load() }

// Tell changes what Progress returns; nil ends it.
func (l *Live) Tell(p *migrate.Progress) { l.progress.Store(p) }

// Announce has Both return a store that Use is about to be called with, once the config names it: who finds it there finds it here.
func (l *Live) Announce(both *tiered.Store) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.both = both
}

// Use makes a store the one of the blocks from now on, and returns when no call is inside of the one before. It does not
// close that. both, which may be nil, is what Both returns.
func (l *Live) Use(ctx context.Context, store ds.Batching, both *tiered.Store) error {
	l.mu.Lock()
	l.both = both
	l.mu.Unlock()
	return l.now.To(ctx, store)
}

// Keep has a store closed when the repo is.
func (l *Live) Keep(store ds.Batching) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extra = append(l.extra, store)
}

// Moved reports whether the blocks are in another store than the repo was opened with, which is still open.
func (l *Live) Moved() bool { return l.now.Now() != l.Own }

func (l *Live) close() error {
	l.mu.Lock()
	extra := l.extra
	l.extra = nil
	l.mu.Unlock()
	var errs []error
	for _, d := range extra {
		if err := d.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the store of the blocks: %w", err))
		}
	}
	return errors.Join(errs...)
}

// DeletesAlso is a store whose deletes are carried out in another one as well, first there. Nothing else goes there.
func DeletesAlso(store, other ds.Batching) ds.Batching { return deletesAlso{store, other} }

type deletesAlso struct {
	ds.Batching
	other ds.Batching
}

func (d deletesAlso) Delete(ctx context.Context, key ds.Key) error {
	if err := d.other.Delete(ctx, key); err != nil {
		return err
	}
	return d.Batching.Delete(ctx, key)
}

func (d deletesAlso) Sync(ctx context.Context, prefix ds.Key) error {
	return errors.Join(d.Batching.Sync(ctx, prefix), d.other.Sync(ctx, prefix))
}

func (d deletesAlso) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := d.Batching.Batch(ctx)
	if err != nil {
		return nil, err
	}
	o, err := d.other.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &deletesAlsoBatch{Batch: b, other: o}, nil
}

func (d deletesAlso) DiskUsage(ctx context.Context) (uint64, error) {
	return ds.DiskUsage(ctx, d.Batching)
}

type deletesAlsoBatch struct {
	ds.Batch
	other   ds.Batch
	deletes int
}

func (b *deletesAlsoBatch) Delete(ctx context.Context, key ds.Key) error {
	b.deletes++
	if err := b.other.Delete(ctx, key); err != nil {
		return err
	}
	return b.Batch.Delete(ctx, key)
}

func (b *deletesAlsoBatch) Commit(ctx context.Context) error {
	if b.deletes > 0 {
		if err := b.other.Commit(ctx); err != nil {
			return err
		}
	}
	return b.Batch.Commit(ctx)
}

// live is the repo that kubo sees.
type live struct {
	repo.Repo
	datastore *datastore
}

func (r live) Datastore() repo.Datastore { return r.datastore }

// GetStorageUsage is of what Datastore returns: the size that garbage collection begins at is compared with it.
func (r live) GetStorageUsage(ctx context.Context) (uint64, error) {
	return r.datastore.DiskUsage(ctx)
}

// datastore is the repo's, with the keys below /blocks going to wherever they are at present.
type datastore struct {
	repo.Datastore
	live  *Live
	below *keytransform.Datastore
}

// upstream: datastore-assertions
// What kubo looks for in its datastore by type assertion. kubo's own mount and measure have all of these, whatever they stand on.
var (
	_ ds.CheckedDatastore    = (*datastore)(nil)
	_ ds.GCDatastore         = (*datastore)(nil)
	_ ds.PersistentDatastore = (*datastore)(nil)
	_ ds.ScrubbedDatastore   = (*datastore)(nil)
)

// of is the store that a key belongs to.
func (d *datastore) of(key ds.Key) ds.Batching {
	if isBlock(key) {
		return d.below
	}
	return d.Datastore
}

func (d *datastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	return d.of(key).Put(ctx, key, value)
}

func (d *datastore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	return d.of(key).Get(ctx, key)
}

func (d *datastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	return d.of(key).Has(ctx, key)
}

func (d *datastore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return d.of(key).GetSize(ctx, key)
}

func (d *datastore) Delete(ctx context.Context, key ds.Key) error { return d.of(key).Delete(ctx, key) }

// Query looks below /blocks, elsewhere, or at both.
func (d *datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	prefix := ds.NewKey(q.Prefix)
	switch {
	case prefix == blocks || isBlock(prefix):
		return d.below.Query(ctx, q)
	case prefix.IsAncestorOf(blocks) && d.live.Moved():
		return d.queryAll(ctx, q)
	}
	return d.Datastore.Query(ctx, q)
}

// queryAll puts together what is not below /blocks and what is.
func (d *datastore) queryAll(ctx context.Context, q query.Query) (query.Results, error) {
	part := query.Query{KeysOnly: q.KeysOnly, ReturnsSizes: q.ReturnsSizes, ReturnExpirations: q.ReturnExpirations, Filters: q.Filters}
	part.Prefix = q.Prefix
	rest, err := d.Datastore.Query(ctx, part)
	if err != nil {
		return nil, err
	}
	part.Prefix = blocks.String()
	below, err := d.below.Query(ctx, part)
	if err != nil {
		return nil, errors.Join(err, rest.Close())
	}
	next := func() (query.Result, bool) {
		for {
			r, ok := rest.NextSync()
			if !ok {
				return below.NextSync()
			}
			if r.Error != nil || !isBlock(ds.RawKey(r.Key)) {
				return r, true
			}
		}
	}
	all := query.ResultsFromIterator(q, query.Iterator{Next: next, Close: func() error { return errors.Join(rest.Close(), below.Close()) }})
	return query.NaiveQueryApply(query.Query{Orders: q.Orders, Offset: q.Offset, Limit: q.Limit}, all), nil
}

func (d *datastore) Sync(ctx context.Context, prefix ds.Key) error {
	if prefix == blocks || isBlock(prefix) {
		return d.live.now.Sync(ctx, ds.NewKey("/"))
	}
	err := d.Datastore.Sync(ctx, prefix)
	if prefix.IsAncestorOf(blocks) && d.live.Moved() {
		err = errors.Join(d.live.now.Sync(ctx, ds.NewKey("/")), err)
	}
	return err
}

// DiskUsage is that of the whole repo. While the blocks move, the store that the repo was opened with counts as the whole repo; afterwards, what is not
// blocks is left out: some MB.
func (d *datastore) DiskUsage(ctx context.Context) (uint64, error) {
	if d.live.Moved() {
		return d.live.now.DiskUsage(ctx)
	}
	return ds.DiskUsage(ctx, d.Datastore)
}

// also does something with the repo's own datastore, and with the store of the blocks if that is another one.
func (d *datastore) also(own, moved func() error) error {
	err := own()
	if d.live.Moved() {
		err = errors.Join(err, moved())
	}
	return err
}

func (d *datastore) Check(ctx context.Context) error {
	return d.also(func() error {
		if c, ok := d.Datastore.(ds.CheckedDatastore); ok {
			return c.Check(ctx)
		}
		return nil
	}, func() error { return d.live.now.Check(ctx) })
}

func (d *datastore) Scrub(ctx context.Context) error {
	return d.also(func() error {
		if c, ok := d.Datastore.(ds.ScrubbedDatastore); ok {
			return c.Scrub(ctx)
		}
		return nil
	}, func() error { return d.live.now.Scrub(ctx) })
}

func (d *datastore) CollectGarbage(ctx context.Context) error {
	return d.also(func() error {
		if c, ok := d.Datastore.(ds.GCDatastore); ok {
			return c.CollectGarbage(ctx)
		}
		return nil
	}, func() error { return d.live.now.CollectGarbage(ctx) })
}

// Batch keeps blocks apart from the rest. They are committed first, for what refers to them is in the rest.
func (d *datastore) Batch(context.Context) (ds.Batch, error) { return &batch{d: d}, nil }

type batch struct {
	d            *datastore
	mu           sync.Mutex
	blocks, rest ds.Batch
}

func (b *batch) of(ctx context.Context, key ds.Key) (_ ds.Batch, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to, from := &b.rest, ds.Batching(b.d.Datastore)
	if isBlock(key) {
		to, from = &b.blocks, b.d.below
	}
	if *to == nil {
		*to, err = from.Batch(ctx)
	}
	return *to, err
}

func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	to, err := b.of(ctx, key)
	if err != nil {
		return err
	}
	return to.Put(ctx, key, value)
}

func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	to, err := b.of(ctx, key)
	if err != nil {
		return err
	}
	return to.Delete(ctx, key)
}

func (b *batch) Commit(ctx context.Context) error {
	for _, part := range []ds.Batch{b.blocks, b.rest} {
		if part == nil {
			continue
		}
		if err := part.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}
