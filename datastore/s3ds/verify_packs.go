package s3ds

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
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
	Live      bool         // it is missed: the index points there
	Unasked   bool         // it could not be read, which does not mean that it is damaged
	Err       error
}

func (f Finding) String() string {
	if f.Unasked {
		return fmt.Sprintf("%s: could not be read: %v", f.Object, f.Err)
	}
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
// meanwhile. An object that cannot be read is reported and does not end it, but giveUp of them in a row do. What is found damaged was read twice. No two of its callbacks run at the same time.
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

	mu     sync.Mutex // held during callbacks
	done   Progress
	parts  []*part // begun, from the first that has not ended on
	silent int     // objects in a row that could not be read
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
			err := look(one)
			if err != nil && gctx.Err() == nil && !errors.Is(err, index.ErrClosed) && !errors.Is(err, ErrClosed) {
				err = v.unanswered(one, err)
			} else if err == nil {
				v.answered()
			}
			if err != nil {
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

func (v *verification) answered() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.silent = 0
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

// unanswered reports an object that could not be read, which says nothing about it. It returns the error if nothing is
// answered any more.
func (v *verification) unanswered(one *part, err error) error {
	v.mu.Lock()
	v.silent++
	over := v.silent >= giveUp
	v.mu.Unlock()
	if over {
		return err
	}
	object := v.p.name(one.mark)
	if strings.HasPrefix(one.mark, blockMark) {
		object = one.mark
	}
	one.found = append(one.found, Finding{Object: object, Unasked: true, Err: err})
	return nil
}

// giveUp is after how many objects in a row that could not be read verify ends: the bucket is down then.
const giveUp = 16

// verifySingle reads a block of the journal, or one that is an object of its own.
func (p *Packed) verifySingle(ctx context.Context, e index.Entry, one *part) error {
	n := name(e.Key)
	if e.Kind == index.Loose {
		one.did.Objects++
	}
	value, err := p.get(ctx, n)
	if errors.Is(err, ErrLost) { // ask twice
		value, err = p.get(ctx, n)
	}
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

// verifyPack reads all sections of a pack. It returns an error if the bucket gave no answer, or none that can be relied on.
func (p *Packed) verifyPack(ctx context.Context, k index.Pack, one *part) error {
	now, err := p.x.Pack(k.ID)
	if err != nil || now.LiveBlocks == 0 && !now.Incomplete {
		return nil // compacted meanwhile, or about to be
	}
	k = now
	n, err := pack.ParseName(k.Name)
	if err != nil {
		return err
	}
	object := p.name(k.Name)
	wrong := func(err error) {
		one.found = append(one.found, Finding{Object: object, Live: true, Err: err})
	}
	if k.Incomplete && k.Unfit != "" {
		if why, err := p.again(ctx, k, n); err != nil {
			return err
		} else if why != "" {
			wrong(fmt.Errorf("%s, and it is not known which blocks are in it", why))
			return nil
		}
		if k, err = p.x.Pack(k.ID); err != nil {
			return err
		}
	}
	body, info, err := p.b.Get(ctx, object, bucket.Range{})
	if err == nil {
		defer func() { _ = body.Close() }()
	}
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrArchived) || err == nil && info.Size < k.Size {
		why, asked := p.judge(ctx, k.ID)
		if asked != nil {
			return asked
		}
		if _, gone := p.x.Pack(k.ID); gone != nil {
			return nil // compacted meanwhile
		}
		if why == "" {
			if err == nil {
				err = fmt.Errorf("%d bytes of %d came", info.Size, k.Size)
			}
			return fmt.Errorf("the bucket has object %q as it should be, and did not send it a moment ago: look at what is between this node and the bucket: %w", object, err)
		}
		if err == nil {
			err = pack.ErrCorrupt
		}
		wrong(fmt.Errorf("%s: %w", why, err))
		if why == archived {
			return nil // all of it comes back
		}
		return p.verifyLive(ctx, k, body, info.Size, one)
	} else if err != nil {
		return err
	}
	entries, err := p.readPackIndex(ctx, n, info.Size)
	if errors.Is(err, pack.ErrCorrupt) {
		wrong(err)
		return p.verifyLive(ctx, k, body, info.Size, one)
	} else if err != nil {
		return err
	}
	if int64(len(entries)) != k.Blocks {
		wrong(fmt.Errorf("it has %d blocks, the index says %d: %w", len(entries), k.Blocks, pack.ErrCorrupt))
	}
	if _, err := io.CopyN(io.Discard, body, pack.FirstSection); err != nil {
		return err
	}
	var buf []byte
	var lost []index.Entry
	for _, e := range entries {
		if int64(cap(buf)) < e.Length {
			buf = make([]byte, e.Length)
		}
		buf = buf[:e.Length]
		if _, err := io.ReadFull(body, buf); err != nil {
			return err
		}
		data, err := sectionOf(buf, e.Multihash)
		if err != nil {
			if data, err = p.readTwice(ctx, object, e.Offset, buf, func(b []byte) ([]byte, error) { return sectionOf(b, e.Multihash) }); err != nil && !errors.Is(err, pack.ErrCorrupt) {
				return err
			}
		}
		if err == nil {
			one.did.Blocks++
			one.did.Bytes += int64(len(data))
			p.sound(ctx, name(e.Multihash))
			continue
		}
		l, look := p.x.Get(name(e.Multihash))
		live := look == nil && l.Kind == index.InPack && l.Pack == k.ID && l.Offset+l.Length == e.Offset+e.Length
		if live {
			lost = append(lost, index.Entry{Key: e.Multihash, Location: l})
		}
		one.found = append(one.found, Finding{Object: object, Offset: e.Offset, Multihash: e.Multihash, Live: live, Err: err})
	}
	if len(lost) == 0 {
		return p.mark(ctx, k.ID, "")
	}
	return p.note(ctx, lost)
}

// verifyLive looks at the blocks that the index has in a pack which is not whole, of which body, nil for none, is what is there.
func (p *Packed) verifyLive(ctx context.Context, k index.Pack, body io.Reader, size int64, one *part) error {
	var live, lost []index.Entry
	for e, err := range p.x.Entries(nil) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if e.Kind == index.InPack && e.Pack == k.ID {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b index.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	object := p.name(k.Name)
	at := int64(0)
	for _, e := range live {
		err := fmt.Errorf("it is not in the bucket any more: %w", ErrLost)
		if body != nil && e.Offset >= at && e.Offset+e.Length <= size {
			if _, err := io.CopyN(io.Discard, body, e.Offset-at); err != nil {
				return err
			}
			data := make([]byte, e.Length)
			if _, err := io.ReadFull(body, data); err != nil {
				return err
			}
			at = e.Offset + e.Length
			check := func(b []byte) ([]byte, error) { return b, pack.Verify(name(e.Key).multihash(), b) }
			if _, err = check(data); err != nil {
				if _, err = p.readTwice(ctx, object, e.Offset, data, check); err != nil && !errors.Is(err, pack.ErrCorrupt) {
					return err
				}
			}
			if err == nil {
				one.did.Blocks++
				one.did.Bytes += e.Length
				continue
			}
		}
		lost = append(lost, e)
		one.found = append(one.found, Finding{Object: object, Offset: e.Offset, Multihash: name(e.Key).multihash(), Live: true, Err: err})
	}
	return p.note(ctx, lost)
}

// note notes blocks as lost, durably.
func (p *Packed) note(ctx context.Context, lost []index.Entry) error {
	if len(lost) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := p.x.NoteDamage(ctx, lost...); err != nil {
		return err
	}
	return p.x.Commit(ctx)
}

func sectionOf(b []byte, h mh.Multihash) ([]byte, error) {
	s, err := pack.DecodeSection(b)
	if err == nil && string(s.Multihash) != string(h) {
		err = fmt.Errorf("another block is in its place: %w", pack.ErrCorrupt)
	}
	if err == nil {
		err = pack.Verify(s.Multihash, s.Data)
	}
	return s.Data, err
}

// readTwice reads bytes again that were not what they should be. Only if they are the same again, it is the object that
// is damaged, and the error matches pack.ErrCorrupt.
func (p *Packed) readTwice(ctx context.Context, object string, offset int64, first []byte, check func([]byte) ([]byte, error)) ([]byte, error) {
	second, err := p.readRange(ctx, object, offset, int64(len(first)))
	if err != nil {
		return nil, err
	}
	data, err := check(second)
	if err != nil && !bytes.Equal(first, second) {
		return nil, fmt.Errorf("two reads of %d bytes at %d of object %q gave different bytes: look at what is between this node and the bucket", len(first), offset, object)
	}
	return data, err
}
