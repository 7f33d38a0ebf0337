package s3ds

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/chain"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// doubt is what may be wrong about an index, and why.
type doubt struct {
	packs bool // packs may be there that it does not know, and others gone
	loose bool // objects of single blocks as well
	dead  bool // another process may have counted on blocks that the index has deleted
	why   string
}

// doubts compares the note of the index with the chain, as it was before this process took over.
func (p *Packed) doubts() doubt {
	everything := func(format string, args ...any) doubt { return doubt{true, true, true, fmt.Sprintf(format, args...)} }
	f := p.fence
	if f.broken.off && p.x.Complete() {
		return doubt{}
	}
	if !p.x.Complete() {
		return everything("")
	}
	noted, ok := p.x.Noted()
	newest := f.newest
	switch {
	case !ok:
		return everything("the index was written by a former release")
	case newest.Session == "" || newest.Seq < noted.Seq:
		return everything("the bucket is older than the index, which is true up to change %d by session %s", noted.Seq, noted.Session)
	case noted.Seq+1 < f.found.At:
		return everything("the index is older than the snapshot of the changes to the prefix: it knows those up to %d, of %d", noted.Seq, newest.Seq)
	}
	for _, r := range append(f.found.Records, newest) {
		if r.Seq < noted.Seq || r.Session == noted.Session {
			continue
		}
		if r.Seq == noted.Seq {
			return everything("the bucket has another history than the index: change %d is by node %q on host %q", r.Seq, r.Node, r.Host)
		}
		return everything("node %q on host %q (epoch %d) has changed the prefix since the index was written", newest.Node, newest.Host, newest.Epoch)
	}
	if newest.Kind == chain.Closed && newest.Seq == noted.Seq {
		return doubt{}
	}
	// The process before this one did not end in order, or the index is from before its end.
	return doubt{packs: true, loose: f.forced || newest.Kind == chain.Closed}
}

// found is what a resync has done.
type found struct {
	adopted, blocks  int64 // packs, and blocks in them
	vanished, lost   int64 // packs, and live blocks in them that are nowhere else
	revived          int64 // blocks that were dead
	reread           int64 // packs whose index was read for that
	loose, looseLost int64
}

// resync brings the index in step with the bucket if it may not be. Packs that it does not know are adopted; what is
// gone is noted as lost, and not forgotten; and if another process owned the prefix since, blocks that the index had
// deleted are alive again as long as they are in a pack, for that process may have answered that they are there. It
// may be broken off and repeated.
//
// Cost: nothing after an end in order; else 1 LIST per 1,000 objects (without those of single blocks, after a crash),
// 1 GET per pack that the index does not know, and after a takeover 1 GET per pack of which a part is dead.
func (p *Packed) resync(ctx context.Context, progress func(Progress)) error {
	d := p.doubts()
	if !d.packs {
		p.fence.trusted()
		p.finishDeletions(ctx, p.fence.overdue())
		return p.x.Commit(ctx)
	}
	fresh := !p.x.Complete()
	r := newResyncing(p, d, progress)
	err := r.run(ctx)
	if err == nil && len(r.unknown) > 0 && !d.loose {
		// A crash leaves such a pack between its upload and its record in the index; so does an index that is a copy from before.
		d.loose, d.why = true, "the bucket has packs that the index does not know"
		r = newResyncing(p, d, progress)
		err = r.run(ctx)
	}
	p.loose.health.record(ctx, err)
	if err == nil && r.denied != nil && r.what.adopted == 0 {
		err = r.denied // it is not about one pack
	}
	if err != nil {
		if fresh {
			err = fmt.Errorf("make the index from the bucket: %w", err)
		} else {
			err = fmt.Errorf("bring the index in step with the bucket: %w", err)
		}
		return errors.Join(err, p.x.Commit(context.WithoutCancel(ctx)))
	}
	p.fence.trusted()
	if fresh {
		err = p.x.SetComplete(ctx, true)
	} else {
		err = p.x.Commit(ctx)
	}
	if err != nil {
		return err
	}
	if w := r.what; !fresh && (d.why != "" || w != (found{})) {
		why := d.why
		if why == "" {
			why = "the process before this one did not end in order"
		}
		p.fence.tell("resynced with the bucket, for %s: %d packs adopted with %d blocks, %d packs gone and %d blocks with them, "+
			"%d deleted blocks alive again (%d packs read for that), %d single objects adopted and %d gone",
			why, w.adopted, w.blocks, w.vanished, w.lost, w.revived, w.reread, w.loose, w.looseLost)
	}
	there := map[string]struct{}{}
	for _, n := range r.doomed {
		there[n] = struct{}{}
	}
	for n := range p.fence.allDoomed() {
		if _, ok := there[n]; !ok && (d.loose || isPack(n)) {
			p.fence.deleted(nil, n)
		}
	}
	p.finishDeletions(ctx, r.doomed)
	return nil
}

func isPack(name string) bool {
	_, err := pack.ParseName(name)
	return err == nil
}

// finishDeletions deletes what an owner had retired and did not delete. If that fails the next start tries again.
func (p *Packed) finishDeletions(ctx context.Context, names []string) {
	for some := range slices.Chunk(names, deleteBatch) {
		objects := make([]string, len(some))
		for i, n := range some {
			objects[i] = p.name(n)
		}
		p.fence.deleted(p.b.Delete(ctx, objects...), some...)
	}
}

// resyncing is a resync that is under way.
type resyncing struct {
	p      *Packed
	doubt  doubt
	memory *semaphore.Weighted

	mu       sync.Mutex
	done     Progress
	progress func(Progress)
	denied   error // of a pack
	what     found

	before  []index.Pack              // of the index, when it began
	listed  map[index.PackID]struct{} // of these: in the bucket, and not retired
	unknown []unknown                 // packs that are not in the index, and not in the journal either
	fresh   []index.PackID            // packs that were found to be gone
	entries []index.Entry             // loose ones that are not in the index
	seen    int64                     // loose objects that the index has
	doomed  []string                  // objects that are there and were retired
}

// unknown is a pack of the bucket.
type unknown struct {
	name pack.Name
	size int64
}

func (r *resyncing) report(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.progress(r.done)
}

func newResyncing(p *Packed, d doubt, progress func(Progress)) *resyncing {
	return &resyncing{
		p: p, doubt: d, memory: semaphore.NewWeighted(reindexMemory), done: Progress{Doing: "index"}, progress: progress,
		before: p.x.Packs(), listed: map[index.PackID]struct{}{},
	}
}

func (r *resyncing) run(ctx context.Context) error {
	err := r.together(ctx, func(ctx context.Context, group *errgroup.Group) error { return r.list(ctx, group) })
	if err != nil || len(r.unknown) > 0 && !r.doubt.loose {
		return err
	}
	if err := r.vanish(ctx); err != nil {
		return err
	}
	err = r.together(ctx, func(ctx context.Context, group *errgroup.Group) error {
		for _, one := range r.unknown {
			r.adopt(ctx, group, one)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.doubt.dead && !r.p.fence.broken.keepDead {
		if err := r.revive(ctx); err != nil {
			return err
		}
	}
	if err := r.bury(ctx); err != nil {
		return err
	}
	if r.doubt.loose && r.seen < r.p.x.Stats().LooseBlocks-r.what.loose {
		return r.missLoose(ctx)
	}
	return nil
}

// together runs what do begins, some of it at the same time, and returns the first failure, which also ends the rest.
func (r *resyncing) together(ctx context.Context, do func(context.Context, *errgroup.Group) error) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(reindexWidth)
	err := do(gctx, group)
	if failed := group.Wait(); failed != nil {
		return failed
	}
	return err
}

// list goes through the objects under the prefix, and adopts those that the index does not know.
func (r *resyncing) list(ctx context.Context, group *errgroup.Group) error {
	p := r.p
	prefix := p.loose.prefix("")
	doomed := p.fence.allDoomed()
	after := ""
	if !r.doubt.loose {
		after = prefix + afterChain
	}
	for info, err := range p.b.List(ctx, prefix, after) {
		if err != nil {
			return err
		}
		under := strings.TrimPrefix(info.Key, prefix)
		n, err := pack.ParseName(under)
		if err == nil {
			p.ids.See(n.ID)
			if _, dead := doomed[under]; dead {
				r.doomed = append(r.doomed, under)
				continue
			}
			if err := r.pack(ctx, group, n, info.Size); err != nil {
				return err
			}
			continue
		}
		if !r.doubt.loose {
			if under >= "1" { // behind all packs, see docs/s3-format.md
				break
			}
			continue
		}
		key, ours := p.loose.key(info.Key)
		if !ours {
			continue
		}
		name, h := nameOf(key)
		if checkKey(key, name) != nil {
			continue
		}
		if _, dead := doomed[under]; dead && h != nil && fits(h, info.Size) {
			r.doomed = append(r.doomed, under)
			continue
		}
		if l, err := p.x.Get(name); err == nil {
			if l.Kind == index.Loose {
				r.seen++
			}
		} else if !errors.Is(err, index.ErrNotFound) {
			return err
		} else {
			r.entries = append(r.entries, index.Entry{Key: name, Location: index.Location{Kind: index.Loose, Length: info.Size}})
			if len(r.entries) == looseChunk {
				if err := r.flush(ctx); err != nil {
					return err
				}
			}
		}
		r.report(func() { r.done.Objects++; r.done.Blocks++; r.done.Bytes += info.Size })
	}
	return r.flush(ctx)
}

// fits reports whether a block can be in a pack.
func fits(h []byte, size int64) bool {
	_, err := pack.SectionLen(h, int(size))
	return err == nil
}

func (r *resyncing) flush(ctx context.Context) error {
	n, err := r.p.x.PutLoose(ctx, r.entries...)
	r.what.loose += int64(n)
	r.entries = r.entries[:0]
	return err
}

// pack takes note of a pack that is in the bucket, and adopts it if the index does not know it.
func (r *resyncing) pack(ctx context.Context, group *errgroup.Group, n pack.Name, size int64) error {
	p := r.p
	k, err := p.x.PackNamed(n.String())
	if err == nil {
		r.listed[k.ID] = struct{}{}
	}
	one := unknown{n, size}
	switch {
	case err == nil && !k.Incomplete:
		switch {
		case size < k.Size:
			if err := p.mark(ctx, k.ID, cutTo(size, k.Size)); err != nil {
				return err
			}
		case k.Unfit == missing: // it is back
			if err := p.mark(ctx, k.ID, ""); err != nil {
				return err
			}
		}
		r.report(func() { r.done.Packs++; r.done.Blocks += k.Blocks; r.done.Bytes += k.Bytes })
	case err == nil && !r.doubt.loose: // openIndex ends what was begun
	case !r.doubt.loose:
		if waits, ok := p.j.Sealed(n.ID); !ok || waits != n { // else it comes into the index by its upload
			r.unknown = append(r.unknown, one)
		}
	case len(r.before) > 0:
		r.unknown = append(r.unknown, one)
	default: // a new index: nothing has to be known before
		r.adopt(ctx, group, one)
	}
	return nil
}

func (r *resyncing) adopt(ctx context.Context, group *errgroup.Group, one unknown) {
	p := r.p
	group.Go(func() error {
		blocks, bytes, err := p.adopt(ctx, one.name, one.size, r.memory)
		if err != nil && ofObject(err) {
			if errors.Is(err, bucket.ErrAccessDenied) {
				r.report(func() { r.denied = err })
			}
			return nil // openIndex tells
		} else if err != nil {
			return err
		}
		commit := false
		r.report(func() {
			r.what.adopted++
			r.what.blocks += blocks
			r.done.Packs++
			r.done.Blocks += blocks
			r.done.Bytes += bytes
			commit = r.done.Packs%reindexCommit == 0
		})
		if commit {
			return p.x.Commit(ctx)
		}
		return nil
	})
}

// gone yields the packs of the index that are not in the bucket, or are being deleted there, as the index has them now.
func (r *resyncing) gone() iter.Seq[index.Pack] {
	return func(yield func(index.Pack) bool) {
		for _, k := range r.before {
			if _, here := r.listed[k.ID]; here {
				continue
			}
			if now, err := r.p.x.Pack(k.ID); err == nil && !yield(now) {
				return
			}
		}
	}
}

// vanish marks packs that are gone, so that whatever else has their blocks takes them.
func (r *resyncing) vanish(ctx context.Context) error {
	for k := range r.gone() {
		if k.Unfit == missing {
			continue
		}
		if err := r.p.x.SetUnfit(ctx, k.ID, missing); err != nil {
			return err
		}
		r.fresh = append(r.fresh, k.ID)
	}
	return nil
}

// bury forgets packs that are gone and of which every block is elsewhere. The entries of the others stay: their blocks were acknowledged, and
// are lost until they are put again.
func (r *resyncing) bury(ctx context.Context) error {
	for k := range r.gone() {
		if k.LiveBlocks == 0 {
			if err := r.p.x.RemovePack(ctx, k.ID); err != nil {
				return err
			}
		} else if slices.Contains(r.fresh, k.ID) {
			r.what.vanished++
			r.what.lost += k.LiveBlocks
		}
	}
	return nil
}

// revive gives blocks of packs that are here their entries back.
func (r *resyncing) revive(ctx context.Context) error {
	p := r.p
	return r.together(ctx, func(ctx context.Context, group *errgroup.Group) error {
		for _, k := range r.before {
			if _, here := r.listed[k.ID]; !here || k.Incomplete || k.Unfit != "" || k.LiveBlocks == k.Blocks {
				continue
			}
			n, err := pack.ParseName(k.Name)
			if err != nil {
				return err
			}
			cost := min(max(k.Size-k.IndexOffset, 1), reindexMemory)
			if err := r.memory.Acquire(ctx, cost); err != nil {
				return err
			}
			group.Go(func() error {
				defer r.memory.Release(cost)
				entries, err := p.readPackIndex(ctx, n, k.Size)
				if err != nil && ofObject(err) {
					return nil // what is alive in it is judged when it is read
				} else if err != nil {
					return err
				}
				revived, err := p.x.Revive(ctx, k.ID, packEntries(entries))
				r.report(func() { r.what.reread++; r.what.revived += int64(revived) })
				return err
			})
		}
		return nil
	})
}

// missLoose notes the blocks whose objects are gone.
func (r *resyncing) missLoose(ctx context.Context) error {
	p := r.p
	seed := maphash.MakeSeed()
	here := map[uint64]struct{}{} // 8 bytes for each object: names of 10 million do not fit into memory
	prefix := p.loose.prefix("")
	for info, err := range p.b.List(ctx, prefix, prefix+afterChain) {
		if err != nil {
			return err
		}
		if key, ours := p.loose.key(info.Key); ours {
			n, _ := nameOf(key)
			here[maphash.Bytes(seed, n)] = struct{}{}
		}
	}
	for under := range p.fence.allDoomed() {
		n, h := nameOf(ds.NewKey(under))
		if h != nil {
			delete(here, maphash.Bytes(seed, n))
		}
	}
	var lost []index.Entry
	for e, err := range p.x.Entries(nil) {
		if err != nil {
			return err
		}
		if e.Kind != index.Loose {
			continue
		}
		if _, ok := here[maphash.Bytes(seed, e.Key)]; !ok {
			r.what.looseLost++
			lost = append(lost, e)
		}
	}
	return p.x.NoteDamage(ctx, lost...)
}
