package s3ds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Finding is something that Verify found wrong.
type Finding struct {
	Object    string       // or segment of the journal
	Offset    int64        // of the section, in bytes
	Multihash mh.Multihash // nil if it is not about a block
	Live      bool         // somebody misses it: the index points there
	Err       error
}

func (f Finding) String() string {
	what := "the object"
	if f.Multihash != nil {
		what = "block " + f.Multihash.HexString()
	}
	state := "dead"
	if f.Live {
		state = "live"
	}
	return fmt.Sprintf("%s at %d: %s (%s): %v", f.Object, f.Offset, what, state, f.Err)
}

// VerifyOptions say what Verify looks at.
type VerifyOptions struct {
	Sample float64 // share of packs and of single blocks, from 0 (nothing) to 1 (all)
	After  string  // name of a pack: leave out those up to it, to go on after an interruption
	// Found is called for everything that is wrong.
	Found func(Finding)
	// Progress may be nil. Done is called with the name of each pack that was looked at, for After; it may be nil, too.
	Progress func(Progress)
	Done     func(name string)
}

// Verify reads and hashes blocks where they are, past the cache: 2 GETs per pack, 1 per loose object. What it finds is reported, and put
// right by the next put of the block. Reads and writes go on meanwhile. It ends with an error only if it could not go on.
func (p *Packed) Verify(ctx context.Context, o VerifyOptions) (Progress, error) {
	done := Progress{Doing: "verify"}
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return done, fmt.Errorf("s3ds: verify: %w", err)
	}
	defer leave()
	if o.Sample < 0 || o.Sample > 1 {
		return done, fmt.Errorf("s3ds: verify: sample %v: use a share from 0 to 1", o.Sample)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Done == nil {
		o.Done = func(string) {}
	}
	chosen := func() bool { return o.Sample == 1 || rand.Float64() < o.Sample }
	packs := p.x.Packs()
	done.TotalPacks = int64(len(packs))
	for _, k := range packs {
		if k.Name <= o.After || !chosen() {
			continue
		}
		if err := p.verifyPack(ctx, k, &done, o.Found); err != nil {
			return done, fmt.Errorf("s3ds: verify pack %q: %w", p.name(k.Name), err)
		}
		done.Packs++
		o.Done(k.Name)
		o.Progress(done)
	}
	for e, err := range p.x.Entries(nil) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return done, fmt.Errorf("s3ds: verify: %w", err)
		}
		if e.Kind == index.InPack || !chosen() {
			continue
		}
		n := name(e.Key)
		value, err := p.get(ctx, n)
		switch {
		case err == nil:
			done.Blocks++
			done.Bytes += int64(len(value))
		case errors.Is(err, index.ErrNotFound): // deleted meanwhile
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrLost):
			o.Found(Finding{Object: p.describe(e.Location), Offset: e.Offset, Multihash: n.multihash(), Live: true, Err: err})
		default:
			return done, fmt.Errorf("s3ds: verify: %w", err)
		}
		if e.Kind == index.Loose {
			done.Objects++
		}
		o.Progress(done)
	}
	return done, nil
}

// verifyPack reads all sections of a pack.
func (p *Packed) verifyPack(ctx context.Context, k index.Pack, done *Progress, found func(Finding)) error {
	object := p.name(k.Name)
	if now, err := p.x.Pack(k.ID); err != nil || now.LiveBlocks == 0 {
		return nil // compacted meanwhile, or about to be
	}
	n, err := pack.ParseName(k.Name)
	if err != nil {
		return err
	}
	wrong := func(err error) { found(Finding{Object: object, Live: k.LiveBlocks > 0, Err: err}) }
	entries, err := p.readPackIndex(ctx, n, k.Size)
	if err != nil {
		return p.judge(k, err, wrong)
	}
	body, info, err := p.b.Get(ctx, object, bucket.Range{})
	if err != nil {
		return p.judge(k, err, wrong)
	}
	defer func() { _ = body.Close() }()
	if info.Size != k.Size || int64(len(entries)) != k.Blocks {
		wrong(fmt.Errorf("it has %d bytes and %d blocks, the index says %d and %d: %w", info.Size, len(entries), k.Size, k.Blocks, pack.ErrCorrupt))
	}
	if _, err := io.CopyN(io.Discard, body, pack.FirstSection); err != nil {
		return err
	}
	var buf []byte
	for _, e := range entries {
		if int64(cap(buf)) < e.Length {
			buf = make([]byte, e.Length)
		}
		buf = buf[:e.Length]
		if _, err := io.ReadFull(body, buf); err != nil {
			return err
		}
		s, err := pack.DecodeSection(buf)
		if err == nil && string(s.Multihash) != string(e.Multihash) {
			err = fmt.Errorf("another block is in its place: %w", pack.ErrCorrupt)
		}
		if err == nil {
			err = pack.Verify(s.Multihash, s.Data)
		}
		if err == nil {
			done.Blocks++
			done.Bytes += int64(len(s.Data))
			continue
		}
		l, look := p.lookup(name(e.Multihash))
		live := look == nil && l.Kind == index.InPack && l.Pack == k.ID && l.Offset+l.Length == e.Offset+e.Length
		if live {
			p.damaged(name(e.Multihash))
		}
		found(Finding{Object: object, Offset: e.Offset, Multihash: e.Multihash, Live: live, Err: err})
	}
	return nil
}

// judge reports what says that a pack is damaged or gone, unless compaction has removed it meanwhile, and returns any other error.
func (p *Packed) judge(k index.Pack, err error, wrong func(error)) error {
	if !errors.Is(err, pack.ErrCorrupt) && !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	if now, gone := p.x.Pack(k.ID); gone == nil && now.LiveBlocks > 0 {
		wrong(err)
	}
	return nil
}
