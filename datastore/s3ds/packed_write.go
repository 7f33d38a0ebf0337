package s3ds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Put implements datastore.Datastore: durable when it returns nil. A block that is there already is not written again. Data that does
// not match its key, a multihash, is refused with an error that matches pack.ErrCorrupt.
func (p *Packed) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := p.write(ctx, []put{{key, value}}); err != nil {
		return fmt.Errorf("s3ds: put %s: %w", key, err)
	}
	return nil
}

// Batch implements datastore.Batching. See Datastore.Batch; the blocks of a Commit share one synced write.
func (p *Packed) Batch(ctx context.Context) (ds.Batch, error) {
	if err := p.usable(ctx); err != nil {
		return nil, err
	}
	return &batch{d: p, lock: make(chan struct{}, 1), ops: map[ds.Key]operation{}}, nil
}

// apply implements batched.
func (p *Packed) apply(ctx context.Context, removed []ds.Key, puts []put, done func(ds.Key, error)) {
	if len(removed) > 0 {
		err := p.remove(ctx, removed)
		for _, key := range removed {
			done(key, wrap(err, "s3ds: delete %s: %w", key))
		}
	}
	if len(puts) > 0 {
		err := p.write(ctx, puts)
		for _, one := range puts {
			done(one.key, wrap(err, "s3ds: put %s: %w", one.key))
		}
	}
}

func wrap(err error, format string, key ds.Key) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format, key, err)
}

// write stores values, in their order.
func (p *Packed) write(ctx context.Context, puts []put) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeoutCause(ctx, p.writeWait, errWaited)
	defer cancel()
	if err := p.store(ctx, puts); err != nil {
		if ended := context.Cause(ctx); ended != nil && errors.Is(err, ctx.Err()) {
			err = ended
		}
		if errors.Is(err, errWaited) {
			err = fmt.Errorf("%w %s (%w)", errWaited, p.writeWait, p.up.trouble())
		}
		return err
	}
	return nil
}

// errWaited is why a write ends that found no room in the journal, or whose pack was not uploaded.
var errWaited = errors.New("the bucket has not taken enough of what waits in the journal: raise journalSize if it is only slow; waited")

func (p *Packed) store(ctx context.Context, puts []put) error {
	if err := p.fence.hold(ctx); err != nil {
		p.loose.health.record(ctx, err)
		return err
	}
	var blocks []pack.Block
	var single []put
	var stored []name // what has to be in the bucket
	var here []put    // blocks that are there already
	for _, one := range puts {
		n, h := nameOf(one.key)
		if err := checkKey(one.key, n); err != nil {
			return err
		}
		if h != nil {
			stored = append(stored, n)
			present, err := p.present(n)
			if err != nil {
				return err
			}
			if present {
				here = append(here, one)
				continue
			}
			if _, err := pack.SectionLen(h, len(one.value)); err == nil && (p.c.Layout == LayoutPacks || p.fence.doomed(p.under(one.key))) {
				blocks = append(blocks, pack.Block{Multihash: h, Data: one.value})
				continue
			}
			if err := pack.Verify(h, one.value); err != nil {
				return err
			}
		}
		single = append(single, one)
	}
	if err := p.append(ctx, blocks); err != nil {
		return err
	}
	if err := p.putLoose(ctx, single); err != nil {
		return err
	}
	if p.c.Durability == DurableInBucket {
		if err := p.waitStored(ctx, stored); err != nil {
			return err
		}
	}
	// A process that was stopped since the first look may have been replaced meanwhile.
	known, err := p.fence.prove(ctx, p.fence.tolerant)
	if err != nil || known || len(here) == 0 {
		return err
	}
	return p.writeAgain(ctx, here)
}

// writeAgain writes blocks to the journal that are there already. While the owner is unknown the packs in the bucket may be another
// node's, which may have deleted what the index here says to be in them: what is acknowledged then has to be on this disk.
func (p *Packed) writeAgain(ctx context.Context, puts []put) error {
	blocks := make([]pack.Block, len(puts))
	for i, one := range puts {
		_, h := nameOf(one.key)
		if _, err := pack.SectionLen(h, len(one.value)); err != nil {
			return p.fence.certain(ctx) // too large for the journal
		}
		blocks[i] = pack.Block{Multihash: h, Data: one.value}
	}
	return p.append(ctx, blocks)
}

// present reports whether a block is there, and not known to be damaged or lost.
func (p *Packed) present(n name) (bool, error) {
	l, err := p.x.Get(n)
	switch {
	case errors.Is(err, index.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	bad, err := p.bad(n, l)
	return !bad, err
}

// bad reports whether a block is known to be damaged or lost where the index has it, so that the next put of it is a real one.
func (p *Packed) bad(n name, l index.Location) (bool, error) {
	if p.x.Unfit(l) != "" {
		return true, nil
	}
	return p.x.IsDamaged(n)
}

// segments are those whose packs are, or are about to be, in the index. A block that is in one of them, and not in the index
// yet, would point to a segment that goes away, while the index has its copy in the pack for dead.
type segments struct {
	mu      sync.RWMutex // read-locked from the look at retired to the end of the update of the index
	retired map[pack.ID]struct{}

	calls   sync.Mutex
	running map[chan struct{}]struct{} // calls of append, each closed when it is over
}

// begin notes a call of append, until what it returns is called.
func (s *segments) begin() (end func()) {
	done := make(chan struct{})
	s.calls.Lock()
	defer s.calls.Unlock()
	s.running[done] = struct{}{}
	return func() {
		close(done)
		s.calls.Lock()
		defer s.calls.Unlock()
		delete(s.running, done)
	}
}

// patience is how long an upload waits for calls of append, so that their blocks need not be written once more: longer than indexing a batch
// takes, and no delay that matters to an upload if they wait for room, of which there is none before the upload has ended.
const patience = 100 * time.Millisecond

// settle waits until the calls that run now are over, but not for long.
func (s *segments) settle(ctx context.Context) {
	s.calls.Lock()
	running := slices.Collect(maps.Keys(s.running))
	s.calls.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	for _, done := range running {
		select {
		case <-done:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *segments) retire(id pack.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired[id] = struct{}{}
}

// append puts blocks into journal and index.
func (p *Packed) append(ctx context.Context, blocks []pack.Block) error {
	return p.appendAs(ctx, blocks, p.putJournal)
}

// appendAs puts blocks into the journal, and into the index with a function of the caller's.
func (p *Packed) appendAs(ctx context.Context, blocks []pack.Block, put func(context.Context, []index.Entry) error) error {
	defer p.segs.begin()()
	for len(blocks) > 0 {
		locs, err := p.j.Append(ctx, blocks)
		if err != nil {
			return err
		}
		// From here on nothing may be left half done because a caller has lost patience.
		if blocks, err = p.appended(context.WithoutCancel(ctx), blocks, locs, put); err != nil {
			return err
		}
	}
	return nil
}

// appended indexes blocks that are in the journal. It returns those that took longer to come here than their segment to the bucket.
func (p *Packed) appended(ctx context.Context, blocks []pack.Block, locs []journal.Location,
	put func(context.Context, []index.Entry) error,
) (again []pack.Block, err error) {
	p.segs.mu.RLock()
	defer p.segs.mu.RUnlock()
	entries := make([]index.Entry, 0, len(blocks))
	for i, loc := range locs {
		if _, gone := p.segs.retired[loc.Segment]; gone {
			again = append(again, blocks[i])
			continue
		}
		entries = append(entries, journalEntry(blocks[i], loc))
	}
	return again, put(ctx, entries)
}

func (p *Packed) putJournal(ctx context.Context, entries []index.Entry) error {
	_, err := p.x.PutJournal(ctx, entries...)
	return err
}

// journalEntry is the entry of a block whose section is at a place in the journal.
func journalEntry(b pack.Block, at journal.Location) index.Entry {
	n := int64(len(b.Data))
	return index.Entry{Key: b.Multihash, Location: index.Location{
		Kind: index.Journal, Segment: uint64(at.Segment), Offset: at.Offset + at.Length - n, Length: n,
	}}
}

// Delete implements datastore.Datastore. A key that is not there is no error. Until the next Sync, a crash may undo it; a block whose
// segment is still in the journal may be back after any restart. The space in packs is won back by compaction.
func (p *Packed) Delete(ctx context.Context, key ds.Key) error {
	return wrap(p.remove(ctx, []ds.Key{key}), "s3ds: delete %s: %w", key)
}

func (p *Packed) remove(ctx context.Context, keys []ds.Key) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := p.fence.hold(ctx); err != nil {
		p.loose.health.record(ctx, err)
		return err
	}
	var names, single [][]byte
	var objects []string // of single
	for _, key := range keys {
		n, _ := nameOf(key)
		l, err := p.x.Get(n)
		switch {
		case err != nil && !errors.Is(err, index.ErrNotFound):
			return err
		case err != nil && n.multihash() != nil:
			// A block that is not there. What a delete that failed may have left of it is garbage.
		case err != nil, l.Kind == index.Loose:
			single = append(single, n)
			objects = append(objects, p.loose.object(key))
		default:
			names = append(names, n)
		}
	}
	late := context.WithoutCancel(ctx)
	if len(names) > 0 {
		if _, err := p.x.Delete(late, names...); err != nil {
			return err
		}
		p.unsynced.Store(true)
		p.compact.wake()
	}
	if len(single) == 0 {
		return nil
	}
	return p.removeLoose(ctx, single, objects)
}

// Sync implements datastore.Datastore. What was put is durable already; what was deleted is now as well.
func (p *Packed) Sync(ctx context.Context, _ ds.Key) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !p.unsynced.Swap(false) {
		return nil
	}
	if err := p.x.Commit(ctx); err != nil {
		p.unsynced.Store(true)
		return fmt.Errorf("s3ds: sync: %w", err)
	}
	return nil
}
