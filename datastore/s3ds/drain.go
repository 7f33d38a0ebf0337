package s3ds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-datastore/query"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Drain returns when all that was put before it was called is in the bucket, and the inner nodes among it are gathered. It gives up
// when uploads have failed for 2 minutes, with the reason.
func (p *Packed) Drain(ctx context.Context) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return fmt.Errorf("s3ds: drain: %w", err)
	}
	defer leave()
	if err := p.drain(ctx); err != nil {
		return fmt.Errorf("s3ds: drain: %w", err)
	}
	return nil
}

func (p *Packed) drain(ctx context.Context) error {
	since := time.Now()
	packs := uint64(0)
	for {
		changed := p.up.watch()
		p.up.mu.Lock()
		stuck, done, failed := len(p.up.damaged), p.up.packs, p.up.err
		p.up.mu.Unlock()
		// A segment that is damaged stays in the journal; what is good in it was put anew.
		if p.j.Stats().Segments <= stuck && p.uploading() == 0 {
			break
		}
		if done != packs || failed == nil {
			packs, since = done, time.Now()
		} else if time.Since(since) > p.writeWait {
			return fmt.Errorf("nothing could be uploaded for %s: %w", p.writeWait, failed)
		}
		p.hurry()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return p.gatherNow(ctx, scattered)
}

// Stored yields keys and sizes of all values, as they lie: what is in packs in the order of the packs and of the blocks in them, then the
// rest. Whoever reads in this order has each pack fetched once. Cost: 1 GET per pack, for its index.
func (p *Packed) Stored(ctx context.Context) iter.Seq2[query.Entry, error] {
	return func(yield func(query.Entry, error) bool) {
		ctx, leave, err := p.enter(ctx)
		if err != nil {
			yield(query.Entry{}, err)
			return
		}
		defer leave()
		for _, k := range p.x.Packs() {
			if k.LiveBlocks == 0 {
				continue
			}
			goOn, err := p.storedIn(ctx, k, yield)
			if err != nil {
				yield(query.Entry{}, err)
			}
			if err != nil || !goOn {
				return
			}
		}
		for e, err := range p.x.Entries(nil) {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(query.Entry{}, err)
				return
			}
			if e.Kind != index.InPack && !yield(query.Entry{Key: name(e.Key).key().String(), Size: int(e.Length)}, nil) {
				return
			}
		}
	}
}

func (p *Packed) storedIn(ctx context.Context, k index.Pack, yield func(query.Entry, error) bool) (goOn bool, err error) {
	n, err := pack.ParseName(k.Name)
	if err != nil {
		return false, err
	}
	entries, err := p.readPackIndex(ctx, n, k.Size)
	if err != nil {
		return false, fmt.Errorf("s3ds: list pack %q: %w", p.name(k.Name), err)
	}
	for _, e := range entries {
		l, err := p.x.Get(name(e.Multihash))
		if errors.Is(err, index.ErrNotFound) || err == nil && (l.Kind != index.InPack || l.Pack != k.ID) {
			continue
		} else if err != nil {
			return false, err
		}
		if !yield(query.Entry{Key: name(e.Multihash).key().String(), Size: int(e.DataLen())}, nil) {
			return false, nil
		}
	}
	return true, nil
}
