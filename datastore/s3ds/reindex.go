package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/semaphore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const (
	// reindexWidth is how many indexes of packs are fetched at the same time: at 25 ms each, 2,500 packs a second.
	reindexWidth = 64
	// reindexMemory bounds the indexes that are in memory at the same time, in bytes. One of 32 MiB in blocks of 256
	// KiB has 5 KiB; the largest possible has 32 MiB, and takes six times as much when it is decoded.
	reindexMemory = 64 << 20
	// reindexCommit is how many packs an interrupted rebuild does again, at most.
	reindexCommit = 256
	// looseChunk is how many loose objects go into the index at once.
	looseChunk = 1000
)

// Reindex makes the index of a store anew from the bucket and the journal. The store must not be open: it is an error that names the other
// process if it is. Blocks that were deleted, and whose packs were not compacted yet, are there again. If it is broken off, the next call,
// or the next start, goes on with it.
func Reindex(ctx context.Context, c Config, repo string, progress func(Progress)) error {
	d, indexed, err := connectIn(ctx, c, repo)
	if err != nil {
		return fmt.Errorf("reindex: %w", err)
	}
	if !indexed {
		return errors.Join(fmt.Errorf("reindex: layout %q has no index where there are no packs: there is nothing to do", LayoutObjects), d.Close())
	}
	p, err := openPacked(ctx, d, c, repo, parts{fs: vfs.Default, reindex: true}, progress)
	if err != nil {
		return fmt.Errorf("reindex: %w", err)
	}
	return p.Close()
}

// openIndex opens the index, and makes it anew if it cannot be used or is not complete; or in any case, if renew says so.
func (p *Packed) openIndex(ctx context.Context, fs vfs.FS, renew bool, progress func(Progress)) (err error) {
	o := index.Options{FS: fs, Note: p.fence.note, Identity: index.Identity{
		Bucket: strings.Join([]string{p.c.RegionEndpoint, p.c.Region, p.c.Bucket}, " "), Prefix: p.root, Writer: p.node.id,
	}}
	p.x, err = index.Open(p.c.IndexPath, o)
	useless := errors.Is(err, index.ErrCorrupt) || errors.Is(err, index.ErrForeign) || errors.Is(err, index.ErrFormat)
	if err == nil && renew && p.x.Complete() {
		x := p.x
		p.x, useless = nil, true
		if err := x.Close(); err != nil {
			return err
		}
	}
	if useless {
		if err := index.Remove(p.c.IndexPath, fs); err != nil {
			return err
		}
		p.x, err = index.Open(p.c.IndexPath, o)
	}
	if err != nil {
		return err
	}
	if err := p.resync(ctx, progress); err != nil {
		return err
	}
	for _, k := range p.x.Packs() {
		n, err := pack.ParseName(k.Name)
		if err != nil {
			return fmt.Errorf("the index names a pack that is none: %w: remove %s", err, p.c.IndexPath)
		}
		p.ids.See(n.ID)
		if !k.Incomplete {
			continue
		}
		if k.Unfit != "" { // it could not be read when the index was made
			if _, err := p.again(ctx, k, n); err != nil && !ofObject(err) {
				return err
			}
			continue
		}
		// A crash came while it was added. It is in the bucket: packs are added after they were uploaded.
		entries, err := p.readPackIndex(ctx, n, k.Size)
		if err != nil && ofObject(err) {
			err = p.mark(ctx, k.ID, reason(err))
		} else if err == nil {
			info := index.PackInfo{Name: k.Name, Size: k.Size, IndexOffset: k.IndexOffset}
			_, err = p.x.AddPack(ctx, info, packEntries(entries), index.Take{Journal: true})
		}
		if err != nil {
			return err
		}
	}
	p.tellUnfit()
	return nil
}

// tellUnfit says in one line what cannot be relied on.
func (p *Packed) tellUnfit() {
	var n, unknown int
	var first index.Pack
	for _, k := range p.x.Packs() {
		if k.Unfit == "" {
			continue
		}
		if n++; n == 1 {
			first = k
		}
		if k.Incomplete {
			unknown++
		}
	}
	if n > 0 {
		p.fence.tell("%d packs are gone, cut or cannot be read, and of %d of them it is not known which blocks were in them; the first is %q: %s. "+
			"Restore these objects from a copy or an older version, or put their blocks again; `ipfs-aws datastore verify` names them",
			n, unknown, p.name(first.Name), first.Unfit)
	}
}

// again tries to adopt a pack that could not be read before. It returns why it still is unfit, "" if it is not.
func (p *Packed) again(ctx context.Context, k index.Pack, n pack.Name) (why string, err error) {
	info, err := p.b.Head(ctx, p.name(k.Name))
	if err == nil {
		_, _, err = p.adopt(ctx, n, info.Size, semaphore.NewWeighted(reindexMemory))
	}
	if err != nil && ofObject(err) {
		return reason(err), p.mark(ctx, k.ID, reason(err))
	}
	return "", err
}

// adopt adds a pack of the bucket to the index. One that cannot be read, or not to its end, is added with the blocks
// that were found in it, as unfit, and the error says why.
func (p *Packed) adopt(ctx context.Context, n pack.Name, size int64, memory *semaphore.Weighted) (blocks, bytes int64, err error) {
	cost := int64(pack.MaxIndex)
	if _, length, err := n.IndexRange(size); err == nil {
		cost = length
	}
	if err := memory.Acquire(ctx, cost); err != nil {
		return 0, 0, err
	}
	defer memory.Release(cost)
	entries, broken := p.readPackIndex(ctx, n, size)
	info := index.PackInfo{Name: n.String(), Size: size, IndexOffset: min(n.IndexOffset, size)}
	if broken != nil {
		if !ofObject(broken) {
			return 0, 0, broken
		}
		info.Unfit = reason(broken)
	}
	if _, err := p.x.AddPack(ctx, info, packEntries(entries), index.Take{Absent: true, Journal: true, Older: broken == nil}); err != nil {
		return 0, 0, err
	}
	if broken != nil {
		return 0, 0, broken
	}
	for _, e := range entries {
		bytes += e.DataLen()
	}
	return int64(len(entries)), bytes, nil
}

// readPackIndex fetches the index of a pack: one GET. If it is damaged it is made from the sections: one GET more, of
// all. With an error that matches pack.ErrCorrupt it returns what comes before the damage.
func (p *Packed) readPackIndex(ctx context.Context, n pack.Name, size int64) ([]pack.Entry, error) {
	object := p.name(n.String())
	var damage error
	if off, length, err := n.IndexRange(size); err != nil {
		damage = err
	} else {
		for range 2 { // what was damaged on its way comes out right the second time
			b, err := p.readRange(ctx, object, off, length)
			if err != nil {
				return nil, err
			}
			entries, err := n.DecodeIndex(b)
			if err == nil {
				return entries, nil
			}
			damage = err
		}
	}
	body, _, err := p.b.Get(ctx, object, bucket.Range{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	var entries []pack.Entry
	for s, err := range pack.Sections(body) {
		if err != nil && !errors.Is(err, pack.ErrCorrupt) {
			return nil, fmt.Errorf("read object %q: %w", object, err)
		} else if err != nil {
			return entries, fmt.Errorf("object %q: %w; %w", object, damage, err)
		}
		entries = append(entries, pack.Entry{Multihash: bytes.Clone(s.Multihash), Offset: s.Offset, Length: s.Length})
	}
	return entries, nil
}

func (p *Packed) readRange(ctx context.Context, object string, off, length int64) ([]byte, error) {
	body, _, err := p.b.Get(ctx, object, bucket.Range{Offset: off, Length: length})
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	b := make([]byte, length)
	if _, err := io.ReadFull(body, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d of object %q: %w", length, off, object, err)
	}
	return b, nil
}

// replay brings the index up to date with the journal, and finds entries that point to what the journal no longer has.
func (p *Packed) replay(ctx context.Context) error {
	var confirmed int64
	var fresh []index.Entry
	flush := func() error {
		_, err := p.x.PutJournal(ctx, fresh...)
		confirmed += int64(len(fresh))
		fresh = fresh[:0]
		return err
	}
	// A segment whose pack the index has is here only because a crash came before it was removed, or undid that. Those of its
	// blocks that the index does not know were deleted.
	var segment pack.ID
	known := false
	pending := map[string]struct{}{} // keys of fresh: a block may be in the journal twice
	for b, err := range p.j.Blocks() {
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		if b.Segment != segment {
			segment, known = b.Segment, p.uploaded(b.Segment)
		}
		if known {
			continue
		}
		n := name(b.Multihash)
		if _, twice := pending[string(n)]; twice {
			continue
		}
		at := index.Location{Kind: index.Journal, Segment: uint64(b.Segment), Offset: b.Offset + b.Length - b.DataLen, Length: b.DataLen}
		l, err := p.x.Get(n)
		switch {
		case errors.Is(err, index.ErrNotFound):
			fresh = append(fresh, index.Entry{Key: n, Location: at})
			pending[string(n)] = struct{}{}
		case err != nil:
			return err
		case l == at:
			confirmed++
		default:
			if bad, err := p.bad(n, l); err != nil {
				return err
			} else if bad && l.Kind != index.Journal { // those are for repairJournalEntries
				fresh = append(fresh, index.Entry{Key: n, Location: at})
				pending[string(n)] = struct{}{}
			}
		}
		if len(fresh) >= looseChunk {
			if err := flush(); err != nil {
				return err
			}
			clear(pending)
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if p.x.Stats().JournalBlocks == confirmed {
		return nil
	}
	return p.repairJournalEntries(ctx)
}

// uploaded reports whether the index has the pack that a segment of the journal became. One that is not sealed became none; there may be a
// pack of its number from another copy of this repo.
func (p *Packed) uploaded(segment pack.ID) bool {
	n, sealed := p.j.Sealed(segment)
	if !sealed {
		return false
	}
	k, err := p.x.PackNamed(n.String())
	return err == nil && !k.Incomplete && k.Unfit == ""
}

// repairJournalEntries deals with entries whose place in the journal has nothing, or something else: the folder was lost, or
// recovery moved or gave up a part of it. Those that are elsewhere in the journal get their new place; the others are noted as
// damaged, and stay in the index, for they were acknowledged.
func (p *Packed) repairJournalEntries(ctx context.Context) error {
	valid := map[string][]index.Location{}
	for b, err := range p.j.Blocks() {
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		valid[string(b.Multihash)] = append(valid[string(b.Multihash)], index.Location{
			Kind: index.Journal, Segment: uint64(b.Segment), Offset: b.Offset + b.Length - b.DataLen, Length: b.DataLen,
		})
	}
	var lost, moved []index.Entry
	for e, err := range p.x.Entries(nil) {
		if err != nil {
			return err
		}
		if e.Kind != index.Journal {
			continue
		}
		places := valid[string(e.Key)]
		if len(places) == 0 {
			lost = append(lost, e)
			continue
		}
		found := false
		for _, l := range places {
			found = found || l == e.Location
		}
		if !found {
			lost = append(lost, e)
			moved = append(moved, index.Entry{Key: e.Key, Location: places[0]})
		}
	}
	if err := p.x.NoteDamage(ctx, lost...); err != nil {
		return err
	}
	if n := len(lost) - len(moved); n > 0 {
		p.fence.tell("%d acknowledged blocks are not in the journal, where the index has them: it was lost, rolled back or damaged. Restore %s from a copy and start again, "+
			"or put the blocks again; `ipfs-aws datastore verify` names them", n, p.c.JournalPath)
	}
	_, err := p.x.PutJournal(ctx, moved...)
	return errors.Join(err, p.x.Commit(ctx))
}
