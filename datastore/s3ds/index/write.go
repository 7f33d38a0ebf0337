package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// chunk is how many entries go into one atomic update at most: ~400 KiB in memory, and a tenth of a memtable.
const chunk = 4096

// txn is one atomic update: entries, and the counters that follow from them.
type txn struct {
	x      *Index
	batch  *pebble.Batch
	seen   map[string]*Location // entries of this update; nil: deleted
	live   map[PackID]count     // new live counts
	totals totals
	packs  []Pack // added or changed
	gone   []PackID
	noted  map[string]bool // blocks that this update notes as damaged (true), or no longer
	damage int64           // what that adds to their number
}

// get returns the entry of key as this update leaves it.
func (t *txn) get(key []byte) (Location, bool, error) {
	if l, ok := t.seen[string(key)]; ok {
		if l == nil {
			return Location{}, false, nil
		}
		return *l, true, nil
	}
	return t.x.lookup(key)
}

// set replaces an entry; had tells whether there was one, old.
func (t *txn) set(key []byte, old Location, had bool, l Location) error {
	if err := l.check(); err != nil {
		return fmt.Errorf("entry %x: %w", key, err)
	}
	if had {
		if err := t.count(old, -1); err != nil {
			return err
		}
	}
	if err := t.count(l, 1); err != nil {
		return err
	}
	t.seen[string(key)] = &l
	if err := t.setDamaged(key, false); err != nil {
		return err
	}
	return t.batch.Set(entryKey(key), appendLocation(make([]byte, 0, maxValue), l), nil)
}

func (t *txn) remove(key []byte, old Location) error {
	if err := t.count(old, -1); err != nil {
		return err
	}
	t.seen[string(key)] = nil
	if err := t.setDamaged(key, false); err != nil {
		return err
	}
	return t.batch.Delete(entryKey(key), nil)
}

// damaged reports whether a block is noted as damaged or lost, as this update leaves it.
func (t *txn) damaged(key []byte) (bool, error) {
	if is, ok := t.noted[string(key)]; ok {
		return is, nil
	}
	if t.x.damages == 0 {
		return false, nil
	}
	return t.x.isDamaged(key)
}

func (t *txn) setDamaged(key []byte, damaged bool) error {
	was, err := t.damaged(key)
	if err != nil || was == damaged {
		return err
	}
	if t.noted == nil {
		t.noted = make(map[string]bool)
	}
	t.noted[string(key)] = damaged
	if damaged {
		t.damage++
		return t.batch.Set(damageKey(key), nil, nil)
	}
	t.damage--
	return t.batch.Delete(damageKey(key), nil)
}

// bad reports whether the block of an entry cannot be relied on, and makes place for any other copy.
func (t *txn) bad(key []byte, l Location) (bool, error) {
	if t.x.unfit(l) {
		return true, nil
	}
	return t.damaged(key)
}

// count adds an entry to the counters, or takes it away.
func (t *txn) count(l Location, sign int64) error {
	c := count{sign, sign * l.Length}
	var now count
	switch l.Kind {
	case Journal:
		t.totals.journal = t.totals.journal.plus(c)
		now = t.totals.journal
	case Loose:
		t.totals.loose = t.totals.loose.plus(c)
		now = t.totals.loose
	case InPack:
		was, ok := t.live[l.Pack]
		if !ok {
			p, known := t.x.packs[l.Pack]
			if !known {
				return corrupt("count", fmt.Errorf("an entry names pack %d, which has no record", l.Pack))
			}
			was = count{p.LiveBlocks, p.LiveBytes}
		}
		now = was.plus(c)
		t.live[l.Pack] = now
	}
	if now.blocks < 0 || now.bytes < 0 {
		return corrupt("count", fmt.Errorf("more blocks taken out of the %s than were counted in", l.Kind))
	}
	return nil
}

// finish writes the counters.
func (t *txn) finish() error {
	for id, c := range t.live {
		if slices.Contains(t.gone, id) {
			continue
		}
		if err := t.batch.Set(idKey(liveTag, id), appendCount(nil, c), nil); err != nil {
			return err
		}
	}
	for _, p := range t.packs {
		if err := t.batch.Set(idKey(packTag, p.ID), appendPack(nil, p), nil); err != nil {
			return err
		}
	}
	for _, id := range t.gone {
		if err := errors.Join(t.batch.Delete(idKey(packTag, id), nil), t.batch.Delete(idKey(liveTag, id), nil)); err != nil {
			return err
		}
	}
	if t.totals != t.x.totals {
		return t.batch.Set(totalsKey, appendTotals(nil, t.totals), nil)
	}
	return nil
}

// publish makes the counters of an applied update visible.
func (t *txn) publish() {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	t.x.totals = t.totals
	t.x.damages += t.damage
	for _, p := range t.packs {
		t.x.remember(p)
	}
	for id, c := range t.live {
		t.x.packs[id].LiveBlocks, t.x.packs[id].LiveBytes = c.blocks, c.bytes
	}
	for _, id := range t.gone {
		t.x.forget(id)
	}
}

// write makes one update: build fills it, alone among all writers, and then it is applied as a whole. It is not synced.
func (x *Index) write(ctx context.Context, doing string, build func(*txn) error) error {
	if err := x.enter(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := x.takeToken(ctx); err != nil {
		x.leave()
		return fmt.Errorf("%s: %w", doing, err)
	}
	t := &txn{x: x, batch: x.db.NewBatch(), seen: make(map[string]*Location), live: make(map[PackID]count), totals: x.totals}
	err := build(t)
	if err == nil {
		err = t.finish()
	}
	if err != nil || t.batch.Empty() {
		err = errors.Join(err, t.batch.Close())
		x.dropToken()
		if errors.Is(err, ErrCorrupt) {
			x.damaged(err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return nil
	}
	return x.apply(doing, func() error {
		if err := x.db.Apply(t.batch, pebble.NoSync); err != nil {
			return err
		}
		t.publish()
		return t.batch.Close()
	})
}

// takeToken waits for the right to write.
func (x *Index) takeToken(ctx context.Context) error {
	if err := x.Err(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	full := x.space.isFull()
	select {
	case <-full:
		return ErrDiskFull
	default:
	}
	select {
	case x.writer <- struct{}{}:
		return nil
	case <-full:
		return ErrDiskFull
	case <-x.stopped:
		return x.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *Index) dropToken() {
	<-x.writer
	x.leave()
}

// apply runs fn, which writes, with the token, and gives the token back when fn ends. It waits for that, unless the disk is full or
// Pebble gave up: then fn goes on by itself if it can. A stuck fn keeps the token, so that nothing overtakes it, but does
// not keep the index from being closed.
func (x *Index) apply(doing string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() { <-x.writer }()
		done <- fn() // does not return if a write failed, see guardedFS
	}()
	defer x.leave()
	var err error
	select {
	case err = <-done:
	case <-x.stopped:
		err = x.Err()
	case <-x.space.isFull():
		select {
		case err = <-done:
		default:
			err = ErrDiskFull
		}
	}
	return classify(doing, err)
}

// PutJournal adds blocks that are in the journal, whose Locations name segment, offset and length. A key that has an
// entry keeps it, unless its block is damaged, or in a pack that is unfit: the block is already somewhere. So a segment can be
// replayed any number of times, in any order, before AddPack has taken it over. It returns how many entries are new.
//
// Not synced: after a crash the store replays the segments that are still there.
func (x *Index) PutJournal(ctx context.Context, entries ...Entry) (added int, err error) {
	for part := range slices.Chunk(entries, chunk) {
		n := 0
		err := x.write(ctx, "index blocks of the journal", func(t *txn) error {
			for _, e := range part {
				if e.Kind != Journal {
					return fmt.Errorf("entry %x is not in the journal but in %s", e.Key, e.Kind)
				}
				old, had, err := t.get(e.Key)
				if err != nil {
					return err
				}
				if had {
					if bad, err := t.bad(e.Key, old); err != nil {
						return err
					} else if !bad {
						continue
					}
				}
				if err := t.set(e.Key, old, had, e.Location); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return added, err
		}
		added += n
	}
	return added, nil
}

// PutLoose adds blocks that are objects of their own. A key whose block is in the journal or in a pack, and good there, keeps that; the length of
// a loose one is replaced, for keys that are not multihashes can be overwritten. It returns how many entries are new.
//
// Not synced: Commit before relying on it, or list the loose objects again after a crash.
func (x *Index) PutLoose(ctx context.Context, entries ...Entry) (added int, err error) {
	for part := range slices.Chunk(entries, chunk) {
		n := 0
		err := x.write(ctx, "index loose blocks", func(t *txn) error {
			for _, e := range part {
				if e.Kind != Loose {
					return fmt.Errorf("entry %x is not loose but in %s", e.Key, e.Kind)
				}
				old, had, err := t.get(e.Key)
				if err != nil {
					return err
				}
				if had && (old.Kind != Loose || old == e.Location) {
					if bad, err := t.bad(e.Key, old); err != nil {
						return err
					} else if !bad {
						continue
					}
				}
				if err := t.set(e.Key, old, had, e.Location); err != nil {
					return err
				}
				if !had {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return added, err
		}
		added += n
	}
	return added, nil
}

// Replace lets an entry point elsewhere, if it points to old, and tells whether it did: one that has been deleted or has
// changed since stays as it is.
//
// Not synced: after a crash the entry may point to old again. Commit before anything is removed that old needs.
func (x *Index) Replace(ctx context.Context, old Location, e Entry) (done bool, err error) {
	err = x.write(ctx, "move a block in the index", func(t *txn) error {
		now, had, err := t.get(e.Key)
		if err != nil || !had || now != old {
			return err
		}
		done = true
		return t.set(e.Key, now, had, e.Location)
	})
	return done, err
}

// Delete removes entries; absent keys are no error. It returns how many there were.
//
// Not synced: after a crash deleted entries may be back. Commit before anything that they pointed to is deleted.
func (x *Index) Delete(ctx context.Context, keys ...[]byte) (removed int, err error) {
	for part := range slices.Chunk(keys, chunk) {
		n := 0
		err := x.write(ctx, "delete from the index", func(t *txn) error {
			for _, key := range part {
				old, had, err := t.get(key)
				if err != nil {
					return err
				}
				if !had {
					continue
				}
				if err := t.remove(key, old); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed += n
	}
	return removed, nil
}

// Take says which blocks of a pack an entry shall point to when the pack is added. Blocks that are not taken are dead in
// this pack: they were deleted meanwhile, or another copy is the one in use.
type Take struct {
	Absent  bool     // blocks without an entry, or with one that is damaged or in a pack that is unfit: when the index is rebuilt
	Journal bool     // blocks in the journal: after an upload, and when the index is rebuilt
	Loose   bool     // blocks that are loose objects: when these are repacked
	Packs   []PackID // blocks in these packs: when they are compacted into this one
	Older   bool     // blocks in packs whose names sort before this one's: when the index is rebuilt, so that a block that was put again because its old copy is damaged is found where it is good
}

func (k Take) takes(l Location, had bool) bool {
	switch {
	case !had:
		return k.Absent
	case l.Kind == Journal:
		return k.Journal
	case l.Kind == Loose:
		return k.Loose
	}
	return slices.Contains(k.Packs, l.Pack)
}

// AddPack adds a pack that is in the bucket, with all of its blocks; of the entries only Key, Offset and Length count.
// A pack of that name that is complete is left as it is. It is safe to interrupt: the pack is then Incomplete, its counters are
// right, and the same call again ends it.
//
// Not synced: Commit before what the pack replaces is deleted (a segment of the journal, other packs, loose objects).
func (x *Index) AddPack(ctx context.Context, info PackInfo, entries []Entry, take Take) (PackID, error) {
	doing := fmt.Sprintf("index pack %q", info.Name)
	if len(info.Name) == 0 || len(info.Name) > maxPackName || info.Size < 0 || info.IndexOffset < 0 || info.IndexOffset > info.Size {
		return 0, fmt.Errorf("%s of %d bytes with its index at %d: out of range", doing, info.Size, info.IndexOffset)
	}
	all := Pack{Name: info.Name, Size: info.Size, IndexOffset: info.IndexOffset, Incomplete: true, Unfit: info.Unfit[:min(len(info.Unfit), maxUnfit)]}
	for _, e := range entries {
		if e.Offset < 0 || e.Length < 0 || e.Offset > info.Size-e.Length {
			return 0, fmt.Errorf("%s: block %x at %d with %d bytes is outside of it", doing, e.Key, e.Offset, e.Length)
		}
		all.Blocks++
		all.Bytes += e.Length
	}
	added := false
	err := x.write(ctx, doing, func(t *txn) error {
		if at, ok := x.searchName(info.Name); ok {
			old := *x.packs[x.byName[at]]
			if old.Incomplete && old.Unfit != "" { // it may have other blocks than those that could be read
				all.ID, all.LiveBlocks, all.LiveBytes = old.ID, old.LiveBlocks, old.LiveBytes
				all.Blocks, all.Bytes = max(all.Blocks, old.LiveBlocks), max(all.Bytes, old.LiveBytes)
				t.packs = append(t.packs, all)
				return nil
			}
			if old.Size != all.Size || old.IndexOffset != all.IndexOffset || old.Blocks != all.Blocks || old.Bytes != all.Bytes {
				return fmt.Errorf("a pack of this name with other content is indexed already: %+v, now %+v", old, all)
			}
			all.ID, added = old.ID, !old.Incomplete
			return nil
		}
		all.ID = t.totals.nextPack
		t.totals.nextPack++
		t.add(all)
		return nil
	})
	if err != nil || added {
		return all.ID, err
	}
	parts := slices.Collect(slices.Chunk(entries, chunk))
	if len(parts) == 0 {
		parts = [][]Entry{nil}
	}
	for i, part := range parts {
		err := x.write(ctx, doing, func(t *txn) error {
			p, ok := x.packs[all.ID]
			if !ok {
				return fmt.Errorf("pack %d was removed meanwhile: %w", all.ID, ErrNotFound)
			}
			for _, e := range part {
				old, had, err := t.get(e.Key)
				if err != nil {
					return err
				}
				takes := take.takes(old, had) || take.Older && had && x.isOlder(old, info.Name)
				if !takes && take.Absent && had && (old.Kind != InPack || old.Pack != all.ID) {
					if takes, err = t.bad(e.Key, old); err != nil {
						return err
					}
				}
				if !takes {
					continue
				}
				l := Location{Kind: InPack, Pack: all.ID, Offset: e.Offset, Length: e.Length}
				if err := t.set(e.Key, old, had, l); err != nil {
					return err
				}
			}
			if i == len(parts)-1 {
				done := *p
				done.Incomplete = info.Unfit != ""
				t.packs = append(t.packs, done)
			}
			return nil
		})
		if err != nil {
			return all.ID, err
		}
	}
	return all.ID, nil
}

// Revive gives blocks of a pack their entries back that have none, or one in a pack that is unfit: they were deleted,
// and that is void. entries are all blocks of the pack. It returns how many entries are new.
//
// Not synced: after a crash it has to be repeated.
func (x *Index) Revive(ctx context.Context, id PackID, entries []Entry) (revived int, err error) {
	for part := range slices.Chunk(entries, chunk) {
		n := 0
		err := x.write(ctx, fmt.Sprintf("revive blocks of pack %d", id), func(t *txn) error {
			p, ok := x.packs[id]
			if !ok {
				return fmt.Errorf("it was removed meanwhile: %w", ErrNotFound)
			}
			for _, e := range part {
				old, had, err := t.get(e.Key)
				if err != nil {
					return err
				}
				if had {
					if bad, err := t.bad(e.Key, old); err != nil {
						return err
					} else if !bad {
						continue
					}
				}
				if e.Offset < 0 || e.Length < 0 || e.Offset > p.Size-e.Length {
					return fmt.Errorf("block %x at %d with %d bytes is outside of it", e.Key, e.Offset, e.Length)
				}
				if err := t.set(e.Key, old, had, Location{Kind: InPack, Pack: id, Offset: e.Offset, Length: e.Length}); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			return revived, err
		}
		revived += n
	}
	return revived, nil
}

// NoteDamage notes that blocks are damaged or lost where entries say that they are. The entries stay, so that nobody takes the
// blocks for absent, and make place for any other copy. What moved or was deleted meanwhile is left out.
//
// Not synced: Commit before relying on it.
func (x *Index) NoteDamage(ctx context.Context, entries ...Entry) error {
	for part := range slices.Chunk(entries, chunk) {
		err := x.write(ctx, "note damaged blocks", func(t *txn) error {
			for _, e := range part {
				l, had, err := t.get(e.Key)
				if err != nil {
					return err
				}
				if !had || l != e.Location {
					continue
				}
				if err := t.setDamaged(e.Key, true); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Sound takes back what NoteDamage noted about blocks that were found to be good where they are.
func (x *Index) Sound(ctx context.Context, keys ...[]byte) error {
	return x.write(ctx, "note sound blocks", func(t *txn) error {
		for _, key := range keys {
			if err := t.setDamaged(key, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetUnfit says why the blocks of a pack cannot be relied on, or, with "", that they can. Entries that point to it stay, and make place for
// any other copy of their block.
//
// Not synced: Commit before relying on it.
func (x *Index) SetUnfit(ctx context.Context, id PackID, why string) error {
	return x.write(ctx, fmt.Sprintf("judge pack %d", id), func(t *txn) error {
		p, ok := x.packs[id]
		if !ok {
			return fmt.Errorf("it is not in the index: %w", ErrNotFound)
		}
		if p.Unfit != why {
			changed := *p
			changed.Unfit = why[:min(len(why), maxUnfit)]
			t.packs = append(t.packs, changed)
		}
		return nil
	})
}

// unfit reports whether a location is in a pack that is. The caller holds mu or the writer's token.
func (x *Index) unfit(l Location) bool {
	if l.Kind != InPack {
		return false
	}
	p, ok := x.packs[l.Pack]
	return ok && p.Unfit != ""
}

// Unfit returns why the pack of a location is unfit, "" if it is not. It reads memory only.
func (x *Index) Unfit(l Location) string {
	if l.Kind != InPack {
		return ""
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p, ok := x.packs[l.Pack]; ok {
		return p.Unfit
	}
	return ""
}

// isOlder reports whether a location is in a pack whose name sorts before the given one. The index is locked.
func (x *Index) isOlder(l Location, name string) bool {
	if l.Kind != InPack {
		return false
	}
	p, ok := x.packs[l.Pack]
	return ok && p.Name < name
}

// add puts a new pack into the update.
func (t *txn) add(p Pack) {
	t.packs = append(t.packs, p)
	t.live[p.ID] = count{}
}

// RemovePack forgets a pack without live blocks; ErrPackInUse if it has some. An unknown pack is no error.
//
// Not synced: Commit before its object is deleted, else a crash can bring back entries that point to nothing.
func (x *Index) RemovePack(ctx context.Context, id PackID) error {
	return x.write(ctx, fmt.Sprintf("remove pack %d from the index", id), func(t *txn) error {
		p, ok := x.packs[id]
		if !ok {
			return nil
		}
		if p.LiveBlocks > 0 {
			return fmt.Errorf("%q: %w: %d", p.Name, ErrPackInUse, p.LiveBlocks)
		}
		t.gone = append(t.gone, id)
		return nil
	})
}

// Complete reports whether the index has an entry for every block of the store, so that "not found" is an answer.
// A new index is not complete.
func (x *Index) Complete() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.totals.complete
}

// SetComplete says whether the index is complete, and commits. The store says so when it has added everything in bucket and
// journal; until then a crash leaves an index that knows which packs it has, and the rebuild goes on with the others.
func (x *Index) SetComplete(ctx context.Context, complete bool) error {
	err := x.write(ctx, "complete the index", func(t *txn) error {
		t.totals.complete = complete
		return nil
	})
	if err != nil {
		return err
	}
	return x.Commit(ctx)
}

// Commit makes every update that returned before durable, with the note of Options, with two synced writes: Pebble's
// log, then the head. If a later Open does not find it again, it says ErrCorrupt.
func (x *Index) Commit(ctx context.Context) error {
	const doing = "commit the index"
	if err := x.enter(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := x.takeToken(ctx); err != nil {
		x.leave()
		return fmt.Errorf("%s: %w", doing, err)
	}
	var note Note
	has := false
	if x.note != nil {
		note, has = x.note()
	}
	return x.apply(doing, func() error {
		next := x.head.commit + 1
		b := x.db.NewBatch()
		err := b.Set(commitKey, binary.AppendUvarint(nil, next), nil)
		if has {
			err = errors.Join(err, b.Set(noteKey, appendNote(nil, note), nil))
		}
		if err != nil {
			return errors.Join(err, b.Close())
		}
		if err := x.db.Apply(b, pebble.Sync); err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
		if has {
			x.mu.Lock()
			x.noted, x.hasNote = note, true
			x.mu.Unlock()
		}
		if err := x.head.record(next); diskFull(err) {
			return err // the slot is written again by the next commit
		} else if err != nil {
			x.stop(fmt.Errorf("write the head: %w", err))
			return x.Err()
		}
		return nil
	})
}
