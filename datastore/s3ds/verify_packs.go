package s3ds

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"

	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

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
	After  string  // what Done was called with last, to go on after an interruption; "" to begin
	// Found is called for everything that is wrong.
	Found func(Finding)
	// Progress may be nil. Done, which may be nil too, is called when everything up to a pack or a block was looked at: with the name of the
	// pack, or with blockMark and the multihash. What was found up to there has been reported then, and nothing of what comes behind.
	Progress func(Progress)
	Done     func(after string)
}

// blockMark begins what Done is called with for what is not in a pack; nothing else that it is called with has a space.
const blockMark = "block "

// verifyMemory bounds what is being verified at the same time, in bytes: 3 packs, each with the largest possible section and its index, or 128 blocks of 256 KiB. Like the
// index, it comes besides the memory setting.
const verifyMemory = 32 << 20

// Verify reads and hashes blocks where they are, past the cache: 2 GETs per pack, 1 per loose object, as many at the same time as
// Config.Downloads and verifyMemory allow. What it finds is reported, and put right by the next put of the block. Reads and writes go on
// meanwhile. It ends with an error only if it could not go on. No two of its callbacks run at the same time.
func (p *Packed) Verify(ctx context.Context, o VerifyOptions) (Progress, error) {
	v := &verification{p: p, o: o, memory: semaphore.NewWeighted(verifyMemory), done: Progress{Doing: "verify"}}
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return v.done, fmt.Errorf("s3ds: verify: %w", err)
	}
	defer leave()
	if !(o.Sample >= 0 && o.Sample <= 1) {
		return v.done, fmt.Errorf("s3ds: verify: sample %v: use a share from 0 to 1", o.Sample)
	}
	if err := v.all(ctx); err != nil {
		return v.done, fmt.Errorf("s3ds: verify: %w", err)
	}
	return v.done, nil
}

// verification is a Verify that is under way.
type verification struct {
	p      *Packed
	o      VerifyOptions
	memory *semaphore.Weighted

	mu    sync.Mutex // held during callbacks
	done  Progress
	parts []*part // begun, from the first that has not ended on
}

// part is a pack, or a block that is in none.
type part struct {
	mark  string
	over  bool
	found []Finding
	did   Progress
}

func (v *verification) all(ctx context.Context) error {
	packs := v.p.x.Packs()
	st := v.p.x.Stats()
	total := st.JournalBytes + st.LooseBytes
	after, single := strings.CutPrefix(v.o.After, blockMark)
	for _, k := range packs {
		if single || k.Name <= v.o.After {
			continue
		}
		total += k.Bytes
	}
	v.done.TotalPacks, v.done.TotalObjects, v.done.TotalBytes = int64(len(packs)), st.LooseBlocks, int64(float64(total)*v.o.Sample)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(v.p.c.Downloads)
	begin := func(mark string, bytes int64, look func(*part) error) error {
		if v.o.Sample < 1 && rand.Float64() >= v.o.Sample {
			return nil
		}
		bytes = min(bytes, verifyMemory)
		if err := v.memory.Acquire(gctx, bytes); err != nil {
			return err
		}
		one := v.begin(mark)
		group.Go(func() error {
			defer v.memory.Release(bytes)
			if err := look(one); err != nil {
				return err
			}
			v.end(one)
			return nil
		})
		return nil
	}
	err := v.begun(gctx, packs, after, single, begin)
	if failed := group.Wait(); failed != nil { // why the others ended
		return failed
	}
	return err
}

// begun begins with everything, in order.
func (v *verification) begun(ctx context.Context, packs []index.Pack, after string, single bool, begin func(string, int64, func(*part) error) error) error {
	for _, k := range packs {
		if single || k.Name <= v.o.After {
			continue
		}
		err := begin(k.Name, pack.MaxSectionLen+k.Size-k.IndexOffset, func(one *part) error {
			one.did.Packs++
			if err := v.p.verifyPack(ctx, k, one); err != nil {
				return fmt.Errorf("pack %q: %w", v.p.name(k.Name), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for e, err := range v.p.x.Entries(nil) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		mark := hex.EncodeToString(e.Key)
		if e.Kind == index.InPack || single && mark <= after {
			continue
		}
		if err := begin(blockMark+mark, e.Length, func(one *part) error { return v.p.verifySingle(ctx, e, one) }); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) begin(mark string) *part {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := &part{mark: mark}
	v.parts = append(v.parts, one)
	return one
}

// end reports a part, and those behind it that waited for it.
func (v *verification) end(one *part) {
	v.mu.Lock()
	defer v.mu.Unlock()
	one.over = true
	v.done.Packs += one.did.Packs
	v.done.Objects += one.did.Objects
	v.done.Blocks += one.did.Blocks
	v.done.Bytes += one.did.Bytes
	last := ""
	for len(v.parts) > 0 && v.parts[0].over {
		first := v.parts[0]
		v.parts = v.parts[1:]
		for _, f := range first.found {
			v.o.Found(f)
		}
		last = first.mark
	}
	if last != "" && v.o.Done != nil {
		v.o.Done(last)
	}
	if v.o.Progress != nil {
		v.o.Progress(v.done)
	}
}

// verifySingle reads a block of the journal, or one that is an object of its own.
func (p *Packed) verifySingle(ctx context.Context, e index.Entry, one *part) error {
	n := name(e.Key)
	if e.Kind == index.Loose {
		one.did.Objects++
	}
	value, err := p.get(ctx, n)
	switch {
	case err == nil:
		one.did.Blocks++
		one.did.Bytes += int64(len(value))
	case errors.Is(err, index.ErrNotFound): // deleted meanwhile
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrLost):
		one.found = append(one.found, Finding{Object: p.describe(e.Location), Offset: e.Offset, Multihash: n.multihash(), Live: true, Err: err})
	default:
		return err
	}
	return nil
}

// verifyPack reads all sections of a pack.
func (p *Packed) verifyPack(ctx context.Context, k index.Pack, one *part) error {
	object := p.name(k.Name)
	if now, err := p.x.Pack(k.ID); err != nil || now.LiveBlocks == 0 {
		return nil // compacted meanwhile, or about to be
	}
	n, err := pack.ParseName(k.Name)
	if err != nil {
		return err
	}
	wrong := func(err error) {
		one.found = append(one.found, Finding{Object: object, Live: k.LiveBlocks > 0, Err: err})
	}
	body, info, err := p.b.Get(ctx, object, bucket.Range{})
	if err != nil {
		return p.judge(k, err, wrong)
	}
	defer func() { _ = body.Close() }()
	if info.Size != k.Size {
		wrong(fmt.Errorf("it has %d bytes, the index says %d: %w", info.Size, k.Size, pack.ErrCorrupt))
		return nil
	}
	entries, err := p.readPackIndex(ctx, n, k.Size)
	if err != nil {
		return p.judge(k, err, wrong)
	}
	if int64(len(entries)) != k.Blocks {
		wrong(fmt.Errorf("it has %d blocks, the index says %d: %w", len(entries), k.Blocks, pack.ErrCorrupt))
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
			one.did.Blocks++
			one.did.Bytes += int64(len(s.Data))
			continue
		}
		l, look := p.lookup(name(e.Multihash))
		live := look == nil && l.Kind == index.InPack && l.Pack == k.ID && l.Offset+l.Length == e.Offset+e.Length
		if live {
			p.damaged(name(e.Multihash))
		}
		one.found = append(one.found, Finding{Object: object, Offset: e.Offset, Multihash: e.Multihash, Live: live, Err: err})
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
