package migrate

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/boxo/datastore/dshelp"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	mh "github.com/multiformats/go-multihash"
)

var (
	// ErrNotFound is what Get returns for a block that is not in the store.
	ErrNotFound = errors.New("block is not there")
	// ErrDamaged is matched by an error of Get that is about this one block: its bytes are not what its hash says, or
	// are gone. Any other error of Get ends the migration.
	ErrDamaged = errors.New("block is damaged")
)

// Listed is a block as a list shows it.
type Listed struct {
	Hash mh.Multihash
	Size int64 // bytes; 0 where the store does not tell
}

// Block is a block and its bytes.
type Block struct {
	Hash mh.Multihash
	Data []byte
}

// Source is where blocks come from. Implementations are safe for concurrent use.
type Source interface {
	// Blocks yields every block. An error ends it.
	Blocks(ctx context.Context) iter.Seq2[Listed, error]
	// Get reads a block. See ErrNotFound and ErrDamaged; it need not verify what it returns.
	Get(ctx context.Context, h mh.Multihash) ([]byte, error)
}

// Ordered is what a source may be that can list its blocks in the order in which they are best read, at a price.
type Ordered interface {
	InOrder(ctx context.Context) iter.Seq2[Listed, error]
}

// Forgetful is what a source may be that keeps in mind what it has returned until it is put. Forget ends that for a block that
// was returned by Get once, and will not be put.
type Forgetful interface {
	Forget(h mh.Multihash)
}

// Target is where they go. Implementations are safe for concurrent use, but for Sync, during which nothing else is called.
type Target interface {
	Source
	// Put stores blocks, in their order as far as that means anything. They are durable at the latest when Sync has returned.
	Put(ctx context.Context, blocks []Block) error
	// Delete removes blocks. One that is not there is no error.
	Delete(ctx context.Context, hashes []mh.Multihash) error
	// Sync makes durable what was put and deleted.
	Sync(ctx context.Context) error
}

// Datastore makes a source and a target of a go-datastore whose keys are those of kubo's blockstore: the base32 form of a
// multihash, directly under the root. Keys of any other form are passed over: they are no blocks.
type Datastore struct {
	Store ds.Batching
	// Damaged tells which errors of Get are about one block; nil: none. See ErrDamaged.
	Damaged func(error) bool
	// Stored lists the store in the order in which it is read best; nil: as Query does.
	Stored func(context.Context) iter.Seq2[query.Entry, error]
}

var (
	_ Target  = Datastore{}
	_ Ordered = Datastore{}
)

// InOrder implements Ordered.
func (d Datastore) InOrder(ctx context.Context) iter.Seq2[Listed, error] {
	if d.Stored == nil {
		return d.Blocks(ctx)
	}
	return func(yield func(Listed, error) bool) {
		for e, err := range d.Stored(ctx) {
			if err != nil {
				yield(Listed{}, fmt.Errorf("list blocks: %w", err))
				return
			}
			if h, ok := multihashOf(e.Key); ok && !yield(Listed{h, int64(max(e.Size, 0))}, nil) {
				return
			}
		}
	}
}

// Blocks implements Source.
func (d Datastore) Blocks(ctx context.Context) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		results, err := d.Store.Query(ctx, query.Query{KeysOnly: true, ReturnsSizes: true})
		if err != nil {
			yield(Listed{}, fmt.Errorf("list blocks: %w", err))
			return
		}
		defer results.Close()
		for {
			r, ok := results.NextSync()
			if !ok {
				if err := ctx.Err(); err != nil { // some stores end a list in silence when they are told to stop
					yield(Listed{}, err)
				}
				return
			}
			if r.Error != nil {
				yield(Listed{}, fmt.Errorf("list blocks: %w", r.Error))
				return
			}
			h, ok := multihashOf(r.Key)
			if ok && !yield(Listed{h, int64(max(r.Size, 0))}, nil) {
				return
			}
		}
	}
}

func multihashOf(key string) (mh.Multihash, bool) {
	raw, err := dshelp.BinaryFromDsKey(ds.RawKey(key))
	if err != nil {
		return nil, false
	}
	h, err := mh.Cast(raw)
	return h, err == nil
}

// Key is the key of a block.
func Key(h mh.Multihash) ds.Key { return dshelp.MultihashToDsKey(h) }

// Get implements Source.
func (d Datastore) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	data, err := d.Store.Get(ctx, Key(h))
	return data, d.Classify(err)
}

// Classify makes an error of the store's Get one that this package knows.
func (d Datastore) Classify(err error) error {
	switch {
	case errors.Is(err, ds.ErrNotFound):
		return ErrNotFound
	case err != nil && d.Damaged != nil && d.Damaged(err):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Put implements Target.
func (d Datastore) Put(ctx context.Context, blocks []Block) error {
	if len(blocks) == 1 { // some stores take one faster so
		return d.Store.Put(ctx, Key(blocks[0].Hash), blocks[0].Data)
	}
	return d.batch(ctx, func(b ds.Batch) error {
		for _, one := range blocks {
			if err := b.Put(ctx, Key(one.Hash), one.Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete implements Target.
func (d Datastore) Delete(ctx context.Context, hashes []mh.Multihash) error {
	return d.batch(ctx, func(b ds.Batch) error {
		for _, h := range hashes {
			if err := b.Delete(ctx, Key(h)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d Datastore) batch(ctx context.Context, fill func(ds.Batch) error) error {
	b, err := d.Store.Batch(ctx)
	if err != nil {
		return err
	}
	if err := fill(b); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// Sync implements Target.
func (d Datastore) Sync(ctx context.Context) error { return d.Store.Sync(ctx, ds.NewKey("/")) }
