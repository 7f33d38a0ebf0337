package s3ds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// ErrLost is what Get fails with when a block should be there, and is not: its pack, object or segment is gone. It is never
// "not found". Put the block again, or delete it and let the node fetch it.
var ErrLost = errors.New("block is lost")

// maxMoves is how often a block may move (from the journal to a pack, from a pack to another one) while it is read.
const maxMoves = 4

// Get implements datastore.Datastore. Blocks are verified; see ErrCorrupt and ErrLost.
func (p *Packed) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("s3ds: get %s: %w", key, err)
	}
	defer leave()
	n, _ := nameOf(key)
	value, err := p.get(ctx, n)
	switch {
	case err == nil:
		p.hits.Add(1)
		return value, nil
	case err == index.ErrNotFound:
		p.miss.Add(1)
		return nil, ds.ErrNotFound // the very value, which callers compare with ==
	}
	return nil, fmt.Errorf("s3ds: get %s: %w", key, err)
}

// get returns the value of a name, or index.ErrNotFound itself if there is none.
func (p *Packed) get(ctx context.Context, n name) ([]byte, error) {
	var last index.Location
	var gone error
	for range maxMoves {
		l, err := p.x.Get(n)
		if errors.Is(err, index.ErrNotFound) {
			return nil, index.ErrNotFound
		} else if err != nil {
			return nil, err
		}
		if gone != nil && l == last {
			break // it did not move
		}
		value, err := p.fetch(ctx, n, l)
		switch {
		case err == nil:
			p.kin.learn(n, value)
			p.sound(ctx, n)
			return value, nil
		case errors.Is(err, journal.ErrNoSegment), errors.Is(err, bucket.ErrNotFound), errors.Is(err, index.ErrNotFound):
			last, gone = l, err
		case errors.Is(err, pack.ErrCorrupt), errors.Is(err, ErrCorrupt):
			if value, ok := p.ownObject(ctx, n, l); ok {
				return value, nil
			}
			p.damaged(ctx, n, l)
			if errors.Is(err, ErrCorrupt) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		case l.Kind == index.InPack && (errors.Is(err, bucket.ErrInvalidRange) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, bucket.ErrArchived)):
			if value, ok := p.ownObject(ctx, n, l); ok {
				return value, nil
			}
			if why, asked := p.judge(ctx, l.Pack); why == "" || asked != nil || errors.Is(err, bucket.ErrArchived) {
				return nil, err
			}
			last, gone = l, err
		default:
			return nil, err
		}
	}
	if value, ok := p.ownObject(ctx, n, last); ok {
		return value, nil
	}
	if last.Kind == index.InPack && errors.Is(gone, bucket.ErrNotFound) {
		// A wrong answer of a server, or of something in front of it, makes nothing lost.
		if why, err := p.judge(ctx, last.Pack); err != nil {
			return nil, err
		} else if why == "" {
			return nil, fmt.Errorf("%s is there, and was not a moment ago: try again: %w", p.describe(last), gone)
		}
	} else {
		p.damaged(ctx, n, last)
	}
	return nil, fmt.Errorf("%w: the index says that it is in %s, where it is not: put it again, or delete it: %w", ErrLost, p.describe(last), gone)
}

// fetch reads a value from where it is. Blocks are verified. An error that matches index.ErrNotFound is about a pack
// that is no longer there.
func (p *Packed) fetch(ctx context.Context, n name, l index.Location) ([]byte, error) {
	h := n.multihash()
	switch l.Kind {
	case index.Journal:
		length, err := pack.SectionLen(h, int(l.Length))
		if err != nil {
			return nil, err
		}
		if err := p.loose.acquire(ctx); err != nil {
			return nil, err
		}
		defer p.loose.release()
		return p.j.Get(journal.Location{Segment: pack.ID(l.Segment), Offset: l.Offset + l.Length - length, Length: length}, h)
	case index.InPack:
		k, err := p.x.Pack(l.Pack)
		if err != nil {
			return nil, err
		}
		b := span.Block{Pack: p.spanPack(k), Offset: l.Offset, Length: l.Length, Hash: h}
		x := p.kin.expect(n, l.Length)
		b.Left = x.left
		if x.window > 0 {
			b.Near = func() span.Expected { return p.near(x, k, l) }
		}
		value, err := p.r.Get(ctx, b)
		p.loose.health.record(ctx, err)
		if errors.Is(err, span.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return value, err
	}
	if err := p.loose.acquire(ctx); err != nil {
		return nil, err
	}
	defer p.loose.release()
	value, err := p.loose.verified(ctx, n.key())
	p.loose.health.record(ctx, err)
	return value, err
}

// describe names a place for people.
func (p *Packed) describe(l index.Location) string {
	switch l.Kind {
	case index.Journal:
		return fmt.Sprintf("segment %s of the journal at %d", pack.ID(l.Segment), l.Offset)
	case index.InPack:
		if k, err := p.x.Pack(l.Pack); err == nil {
			return fmt.Sprintf("pack %q at %d", p.name(k.Name), l.Offset)
		}
		return fmt.Sprintf("pack number %d, which was removed", l.Pack)
	}
	return "an object of its own"
}

// Has implements datastore.Datastore. It asks the index only.
func (p *Packed) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := p.GetSize(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetSize implements datastore.Datastore. It asks the index only.
func (p *Packed) GetSize(ctx context.Context, key ds.Key) (int, error) {
	_, leave, err := p.enter(ctx)
	if err != nil {
		return -1, fmt.Errorf("s3ds: size of %s: %w", key, err)
	}
	defer leave()
	n, _ := nameOf(key)
	l, err := p.x.Get(n)
	switch {
	case err == nil:
		p.hits.Add(1)
		return int(l.Length), nil
	case errors.Is(err, index.ErrNotFound):
		p.miss.Add(1)
		return -1, ds.ErrNotFound
	}
	return -1, fmt.Errorf("s3ds: size of %s: %w", key, err)
}

// Query implements datastore.Datastore: prefix, filters, orders, offset, limit, with or without values. Keys come from the index as it
// was when the query began, in no order that means anything unless one is asked for. Values are fetched one by one.
func (p *Packed) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := p.usable(ctx); err != nil {
		return nil, fmt.Errorf("s3ds: query: %w", err)
	}
	return asker{p.entries, p.Get, func(context.Context, error) {}}.query(ctx, q), nil
}

// entries yields keys and sizes under a prefix.
func (p *Packed) entries(ctx context.Context, prefix string) iter.Seq[query.Result] {
	under := ds.NewKey(prefix)
	return func(yield func(query.Result) bool) {
		ctx, leave, err := p.enter(ctx)
		if err != nil {
			yield(query.Result{Error: err})
			return
		}
		defer leave()
		for e, err := range p.x.Entries(nil) {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(query.Result{Error: err})
				return
			}
			key := name(e.Key).key()
			if under.String() != "/" && !under.IsAncestorOf(key) {
				continue
			}
			if !yield(query.Result{Entry: query.Entry{Key: key.String(), Size: int(e.Length)}}) {
				return
			}
		}
	}
}

// DiskUsage implements datastore.PersistentDatastore: the bytes of all values, exact, from the index. What deleted blocks still take in
// packs until these are compacted is not in it, see Stat.
func (p *Packed) DiskUsage(ctx context.Context) (uint64, error) {
	_, leave, err := p.enter(ctx)
	if err != nil {
		return 0, fmt.Errorf("s3ds: disk usage: %w", err)
	}
	defer leave()
	return uint64(p.x.Stats().Bytes), nil
}

// lookEvery is how often Check has the bucket asked whether this process is still the owner, if nothing else does: an
// owner that is idle and was replaced says so after an hour at the latest. 720 GETs a month are $0.0003.
const lookEvery = time.Hour

// Check implements datastore.CheckedDatastore: nil if the store is believed to work: the index and the journal can be written, nobody
// else has taken the prefix, and uploads go on. See Datastore.Check for what it asks.
func (p *Packed) Check(ctx context.Context) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := p.x.Err(); err != nil {
		return err
	}
	if err := p.fence.lost(); err != nil {
		return err
	}
	p.fence.look(lookEvery)
	st := p.j.Stats()
	if st.SealErr != nil {
		return st.SealErr
	}
	if late := age(st.Oldest); late > 2*p.c.SealAge.Seconds()+writeWait.Seconds() {
		if err := p.up.trouble(); !errors.Is(err, errNoTrouble) {
			return fmt.Errorf("s3ds: blocks have waited for %.0f s to be uploaded: %w", late, err)
		}
	}
	return p.loose.Check(ctx)
}
