package index

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Pack is what the index knows about a pack in the bucket.
type Pack struct {
	ID          PackID
	Name        string // of the object
	Size        int64  // bytes of the object
	IndexOffset int64  // bytes in front of the pack's own index
	Blocks      int64  // blocks in the pack, duplicates included
	Bytes       int64  // bytes of these
	LiveBlocks  int64  // blocks that entries of the index point to
	LiveBytes   int64  // bytes of these
	// Incomplete: AddPack was interrupted, or is under way, or did not have all blocks. Repeat it.
	Incomplete bool
	Unfit      string // why its blocks cannot be relied on; "" if they can
}

// PackInfo describes a pack that is to be added.
type PackInfo struct {
	Name        string
	Size        int64 // bytes
	IndexOffset int64 // bytes
	// Unfit is why the entries may not be all of its blocks; "" if they are. Such a pack stays Incomplete, and AddPack may be
	// called again with what it has then.
	Unfit string
}

const (
	maxPackName = 1024 // bytes: the longest name of an object
	maxUnfit    = 300  // bytes: a line
)

// appendPack encodes the part of p that does not change while blocks come and go:
//
//	flags byte (1: incomplete, 2: unfit) | uvarint size | uvarint index offset | uvarint blocks | uvarint bytes | uvarint length, name
//	if it is unfit: uvarint length, why
func appendPack(b []byte, p Pack) []byte {
	var flags byte
	if p.Incomplete {
		flags = incompleteFlag
	}
	if p.Unfit != "" {
		flags |= unfitFlag
	}
	b = append(b, flags)
	for _, n := range []int64{p.Size, p.IndexOffset, p.Blocks, p.Bytes, int64(len(p.Name))} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(b, p.Name...)
	if p.Unfit != "" {
		b = append(binary.AppendUvarint(b, uint64(len(p.Unfit))), p.Unfit...)
	}
	return b
}

const (
	incompleteFlag = 1
	unfitFlag      = 2
)

func decodePack(id PackID, b []byte) (Pack, error) {
	if len(b) == 0 || b[0] > incompleteFlag|unfitFlag {
		return Pack{}, fmt.Errorf("record of pack %d has unknown flags", id)
	}
	r := varints{b: b[1:]}
	p := Pack{ID: id, Incomplete: b[0]&incompleteFlag != 0, Size: r.int64(), IndexOffset: r.int64(), Blocks: r.int64(), Bytes: r.int64()}
	p.Name = string(r.bytes(maxPackName))
	if b[0]&unfitFlag != 0 {
		p.Unfit = string(r.bytes(maxUnfit))
	}
	if err := r.end(); err != nil {
		return Pack{}, fmt.Errorf("record of pack %d: %w", id, err)
	}
	if b[0]&unfitFlag != 0 && p.Unfit == "" {
		return Pack{}, fmt.Errorf("record of pack %d is unfit without a reason", id)
	}
	return p, nil
}

// count is a number of blocks and their bytes.
type count struct{ blocks, bytes int64 }

func (c count) plus(o count) count { return count{c.blocks + o.blocks, c.bytes + o.bytes} }

func appendCount(b []byte, c count) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(c.blocks)), uint64(c.bytes))
}

func (r *varints) count() count { return count{r.int64(), r.int64()} }

// totals is what is counted over all entries, besides the live blocks of each pack.
type totals struct {
	journal, loose count
	nextPack       PackID // the number that the next pack gets
	complete       bool
}

func appendTotals(b []byte, t totals) []byte {
	b = binary.AppendUvarint(appendCount(appendCount(b, t.journal), t.loose), uint64(t.nextPack))
	if t.complete {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeTotals(b []byte) (totals, error) {
	r := varints{b: b}
	t := totals{journal: r.count(), loose: r.count(), nextPack: PackID(r.uint64())}
	complete := r.uint64()
	if err := r.end(); err != nil {
		return totals{}, fmt.Errorf("totals: %w", err)
	}
	if complete > 1 || t.nextPack == 0 {
		return totals{}, fmt.Errorf("totals %x are out of range", b)
	}
	t.complete = complete == 1
	return t, nil
}

// searchName finds the place of a name in byName. The caller holds mu or the writer's token.
func (x *Index) searchName(name string) (int, bool) {
	return slices.BinarySearchFunc(x.byName, name, func(id PackID, name string) int { return cmp.Compare(x.packs[id].Name, name) })
}

// remember puts a pack in the tables in memory. The caller holds mu.
func (x *Index) remember(p Pack) {
	if old, ok := x.packs[p.ID]; ok {
		*old = p
		return
	}
	x.packs[p.ID] = &p
	at, _ := x.searchName(p.Name)
	x.byName = slices.Insert(x.byName, at, p.ID)
}

// forget is the opposite of remember. The caller holds mu.
func (x *Index) forget(id PackID) {
	if at, ok := x.searchName(x.packs[id].Name); ok {
		x.byName = slices.Delete(x.byName, at, at+1)
	}
	delete(x.packs, id)
}

// Pack returns what is known about a pack, or ErrNotFound. It reads memory only.
func (x *Index) Pack(id PackID) (Pack, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if p, ok := x.packs[id]; ok {
		return *p, nil
	}
	return Pack{}, fmt.Errorf("pack %d: %w", id, ErrNotFound)
}

// PackNamed is Pack for the name of its object.
func (x *Index) PackNamed(name string) (Pack, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if at, ok := x.searchName(name); ok {
		return *x.packs[x.byName[at]], nil
	}
	return Pack{}, fmt.Errorf("pack %q: %w", name, ErrNotFound)
}

// PackAfter returns the pack whose name is the next one behind name, which need not exist, or ErrNotFound. The names of packs
// sort by the time of their making, so this is the pack with the blocks that arrived next.
func (x *Index) PackAfter(name string) (Pack, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, ok := x.searchName(name)
	if ok {
		at++
	}
	if at < len(x.byName) {
		return *x.packs[x.byName[at]], nil
	}
	return Pack{}, fmt.Errorf("pack after %q: %w", name, ErrNotFound)
}

// Packs returns all packs in the order of their names, as they were at one moment. Their live shares are candidates for
// compaction without a scan.
func (x *Index) Packs() []Pack {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]Pack, 0, len(x.byName))
	for _, id := range x.byName {
		all = append(all, *x.packs[id])
	}
	return all
}

// Stats are counts over the whole index, exact at one moment.
type Stats struct {
	Blocks, Bytes               int64 // entries, and the bytes of their blocks
	JournalBlocks, JournalBytes int64 // of these: still in the journal
	LooseBlocks, LooseBytes     int64 // of these: in objects of their own
	LiveBlocks, LiveBytes       int64 // of these: in packs
	Packs                       int64 // objects
	PackBytes                   int64 // sizes of these objects, with dead blocks, headers and their indexes
	DeadBytes                   int64 // bytes of blocks in packs that no entry points to
	DamagedBlocks               int64 // of Blocks: damaged or lost, see NoteDamage
	UnfitPacks, UnfitBlocks     int64 // packs that are unfit, and the entries that point to them
}

// Stats reads memory only, in time proportional to the number of packs (~1 ms for 100,000).
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Stats{
		JournalBlocks: x.totals.journal.blocks, JournalBytes: x.totals.journal.bytes,
		LooseBlocks: x.totals.loose.blocks, LooseBytes: x.totals.loose.bytes, DamagedBlocks: x.damages,
	}
	for _, p := range x.packs {
		s.Packs++
		s.PackBytes += p.Size
		s.LiveBlocks += p.LiveBlocks
		s.LiveBytes += p.LiveBytes
		s.DeadBytes += p.Bytes - p.LiveBytes
		if p.Unfit != "" {
			s.UnfitPacks++
			s.UnfitBlocks += p.LiveBlocks
		}
	}
	s.Blocks = s.JournalBlocks + s.LooseBlocks + s.LiveBlocks
	s.Bytes = s.JournalBytes + s.LooseBytes + s.LiveBytes
	return s
}
