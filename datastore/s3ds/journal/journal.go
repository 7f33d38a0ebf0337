package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

var (
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("journal is closed")

	// ErrNoSegment says that a segment is not in the journal, or no longer: its
	// pack is in the bucket, and whoever holds the location asks the index again.
	ErrNoSegment = errors.New("no such segment in the journal")
)

// A Location says where in the journal a block is. It holds for as long as the
// segment does; only recovery of a damaged segment changes it (see [Open]).
type Location struct {
	Segment pack.ID
	Offset  int64 // of the section from the start of the segment, in bytes
	Length  int64 // of the section, in bytes
}

// A Located block is one that the journal holds.
type Located struct {
	Location
	Multihash mh.Multihash
	DataLen   int64 // bytes
}

// A Journal is a folder of segments. Safe for concurrent use.
type Journal struct {
	dir  string
	opts Options
	fs   vfs.FS
	lock io.Closer
	room room

	closing   chan struct{} // closed when Close begins
	closeOnce sync.Once
	closeErr  error

	kick      chan struct{} // wakes the committer, which looks at what follows
	committed chan struct{} // closed when the committer has ended
	kickSeal  chan struct{} // wakes the sealer
	sealerEnd chan struct{} // closed when the sealer has ended

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when ready or finishing changes
	queue     []*request
	segs      map[pack.ID]*Segment // all
	active    *Segment             // being written, nil for none
	finishing []*Segment           // written, not yet sealed, oldest first
	ready     []*Segment           // sealed, not yet taken, oldest first
	sealErr   error                // of the last attempt, nil after a success
	sealBegun int                  // attempts to seal all that is finishing
	sealEnded int
	syncs     int64
}

// Append writes blocks and returns where they are, in the same order. All are
// durable when it returns without an error, unless the loss of the disk itself.
// Blocks are verified first: one whose data does not match its multihash
// matches pack.ErrCorrupt, one that no pack can hold pack.ErrTooLarge or
// pack.ErrUnknownHash, and then nothing is written.
//
// Append waits while the journal is full. When ctx ends it returns the error of
// ctx; when it returns any error, some of the blocks may be in the journal all
// the same. Blocks are not referred to after it has returned.
func (j *Journal) Append(ctx context.Context, blocks []pack.Block) ([]Location, error) {
	costs := make([]int64, len(blocks))
	for i, b := range blocks {
		n, err := pack.SectionLen(b.Multihash, len(b.Data))
		if err != nil {
			return nil, fmt.Errorf("append to journal: %w", err)
		}
		if err := pack.Verify(b.Multihash, b.Data); err != nil {
			return nil, fmt.Errorf("append block %s to journal: %w", b.Multihash.HexString(), err)
		}
		costs[i] = n + int64(len(b.Multihash)) + 8 // the section and its record in the index
		if costs[i] > j.opts.MaxBytes {
			return nil, fmt.Errorf("append block %s of %d bytes to journal: %w: the journal is bounded to %d bytes",
				b.Multihash.HexString(), len(b.Data), pack.ErrTooLarge, j.opts.MaxBytes)
		}
	}
	locs := make([]Location, 0, len(blocks))
	for len(blocks) > 0 {
		// No more than a segment at a time, so that a huge batch takes its turn
		// under the bound instead of waiting for an empty journal.
		n, cost := 1, costs[0]
		for n < len(blocks) && cost+costs[n] <= j.opts.SegmentBytes {
			cost += costs[n]
			n++
		}
		got, err := j.append(ctx, blocks[:n], costs[:n], cost)
		if err != nil {
			return nil, err
		}
		locs = append(locs, got...)
		blocks, costs = blocks[n:], costs[n:]
	}
	return locs, nil
}

func (j *Journal) append(ctx context.Context, blocks []pack.Block, costs []int64, cost int64) ([]Location, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := j.room.take(ctx, j.closing, cost, j.wake); err != nil {
		return nil, err
	}
	r := newRequest(blocks, costs, cost)
	if err := j.submit(r); err != nil {
		j.room.give(cost)
		return nil, err
	}
	select {
	case <-r.done:
		return r.locs, r.err
	case <-ctx.Done():
	}
	if j.withdraw(r) {
		j.room.give(cost)
		return nil, ctx.Err()
	}
	select { // the blocks are being copied
	case <-r.done:
		return r.locs, r.err
	case <-r.released:
		return nil, ctx.Err()
	}
}

// Get reads the block h at loc and verifies it. Damage is a *pack.CorruptError
// that names file and offset. Memory is the section. [ErrNoSegment] means that
// the block has moved on to the bucket.
func (j *Journal) Get(loc Location, h mh.Multihash) ([]byte, error) {
	j.mu.Lock()
	s := j.segs[loc.Segment]
	j.mu.Unlock()
	switch {
	case s != nil:
		return s.get(loc, h)
	case j.isClosing():
		return nil, ErrClosed
	}
	return nil, fmt.Errorf("segment %s: %w", loc.Segment, ErrNoSegment)
}

// Blocks yields all blocks that are durable in the journal, in the order in
// which they came, for an index to catch up. Blocks that are appended or
// segments that are removed meanwhile may or may not be among them. Data is not
// read, and so not verified. Memory is one index.
func (j *Journal) Blocks() iter.Seq2[Located, error] {
	return func(yield func(Located, error) bool) {
		j.mu.Lock()
		segs := make([]*Segment, 0, len(j.segs))
		for _, s := range j.segs {
			segs = append(segs, s)
		}
		j.mu.Unlock()
		slices.SortFunc(segs, byID)
		for _, s := range segs {
			err := j.blocksOf(s, func(b Located) bool { return yield(b, nil) })
			switch {
			case errors.Is(err, errStop):
				return
			case errors.Is(err, ErrNoSegment): // removed meanwhile
			case err != nil:
				yield(Located{}, s.named(err))
				return
			}
		}
	}
}

// Sealed returns the name of the pack that a segment is; false for one that is still
// being written, or is not here.
func (j *Journal) Sealed(id pack.ID) (pack.Name, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, ok := j.segs[id]
	if !ok || s.sealed.Size == 0 {
		return pack.Name{}, false
	}
	return s.sealed.Name, true
}

var errStop = errors.New("stop")

func (j *Journal) blocksOf(s *Segment, yield func(Located) bool) error {
	located := func(h mh.Multihash, off, length, dataLen int64) Located {
		return Located{Location{s.id, off, length}, h, dataLen}
	}
	j.mu.Lock()
	sealed := s.sealed.Size > 0
	j.mu.Unlock()
	if sealed {
		entries, err := s.Entries()
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !yield(located(e.Multihash, e.Offset, e.Length, e.DataLen())) {
				return errStop
			}
		}
		return nil
	}
	return walk(s, pack.FirstSection, s.durableEnd(), func(off int64, h pack.Header) error {
		if !yield(located(slices.Clone(h.Multihash), off, h.Length, h.DataLen())) {
			return errStop
		}
		return nil
	})
}

func byID(a, b *Segment) int {
	switch {
	case a.id < b.id:
		return -1
	case a.id > b.id:
		return 1
	}
	return 0
}

// Seal seals what has been appended before the call, full or not, and returns
// when it is. If sealing fails its error is returned; the blocks stay where
// they are and sealing is tried again in the background.
func (j *Journal) Seal(ctx context.Context) error {
	r := newRequest(nil, nil, 0)
	r.seal = true
	if err := j.submit(r); err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.err != nil {
		return r.err
	}
	// Only an attempt that begins now tells anything: the disk may have been
	// full at the last one.
	j.mu.Lock()
	attempt := j.sealBegun + 1
	j.mu.Unlock()
	j.wakeSealer()
	for _, s := range r.sealing {
		if err := j.awaitSealed(ctx, s, attempt); err != nil {
			return err
		}
	}
	return nil
}

// awaitSealed waits until s is sealed or the attempt of that number has failed.
func (j *Journal) awaitSealed(ctx context.Context, s *Segment, attempt int) error {
	for {
		j.mu.Lock()
		waiting, done, changed, err := slices.Contains(j.finishing, s), j.sealEnded >= attempt, j.changed, s.failed
		j.mu.Unlock()
		switch {
		case !waiting:
			return nil
		case done:
			return err
		}
		select {
		case <-changed:
		case <-j.sealerEnd:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Next waits for the next sealed segment that was not yet handed out, oldest
// first, and hands it out. It may be called by several uploaders. A segment
// whose sealing failed at first comes when it can. After Close the error is
// [ErrClosed]; what was not removed is handed out again after the next Open.
func (j *Journal) Next(ctx context.Context) (*Segment, error) {
	for {
		j.mu.Lock()
		var s *Segment
		if len(j.ready) > 0 && !j.isClosing() {
			s, j.ready = j.ready[0], j.ready[1:]
		}
		changed := j.changed
		j.mu.Unlock()
		if s != nil {
			j.wake() // sealing by age may have waited for this
			return s, nil
		}
		select {
		case <-changed:
		case <-j.closing:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Remove deletes a sealed segment. The caller has made sure that its pack is in
// the bucket and that the index, durably, says so. A removal may be undone by a
// loss of power.
func (j *Journal) Remove(id pack.ID) error {
	j.mu.Lock()
	s := j.segs[id]
	if s == nil || s.sealed.Size == 0 {
		j.mu.Unlock()
		return fmt.Errorf("remove segment %s: %w", id, ErrNoSegment)
	}
	j.mu.Unlock()
	if err := j.fs.Remove(s.location()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j.advise("remove segment "+id.String(), err)
	}
	j.mu.Lock()
	if j.segs[id] != s {
		j.mu.Unlock()
		return nil // somebody else was faster
	}
	delete(j.segs, id)
	j.ready = slices.DeleteFunc(j.ready, func(o *Segment) bool { return o == s })
	cost := s.cost
	j.mu.Unlock()
	s.replace(nil, s.location())
	j.room.give(cost)
	j.wakeSealer() // a copy may have waited for the space
	j.wake()       // what still grows may be all that is left
	return nil
}

// Stats describes the journal at one moment.
type Stats struct {
	Bytes    int64     // counted against Options.MaxBytes, bytes being appended included
	Waiting  int       // calls of Append that wait for room
	Segments int       // files, the growing one included
	Blocks   int       // in them
	Ready    int       // sealed and not yet taken by an uploader
	Unsealed int       // written and waiting to be sealed: more than one for long is trouble
	Oldest   time.Time // when the oldest block was taken, zero if there is none
	Syncs    int64     // group commits since Open
	SealErr  error     // of the last attempt to seal, nil when it went well
}

// Stats takes no I/O.
func (j *Journal) Stats() Stats {
	var st Stats
	st.Bytes, st.Waiting = j.room.state()
	j.mu.Lock()
	defer j.mu.Unlock()
	st.Segments, st.Ready, st.Unsealed = len(j.segs), len(j.ready), len(j.finishing)
	st.Syncs, st.SealErr = j.syncs, j.sealErr
	for _, s := range j.segs {
		st.Blocks += s.blocks
		if st.Oldest.IsZero() || s.born.Before(st.Oldest) {
			st.Oldest = s.born
		}
	}
	return st
}

// Close refuses further blocks, seals what there is, and lets go of the folder.
// An error means that sealing did not succeed: nothing is lost, the next Open
// takes care of it. Nothing is uploaded.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() {
		j.mu.Lock()
		close(j.closing)
		j.mu.Unlock()
		<-j.committed
		<-j.sealerEnd
		var errs []error
		j.mu.Lock()
		for _, s := range j.finishing {
			errs = append(errs, fmt.Errorf("segment %s stays unsealed until the next start: %w", s.location(), s.failed))
		}
		segs := j.segs
		j.segs = nil
		j.mu.Unlock()
		for _, s := range segs {
			s.replace(nil, s.location())
		}
		errs = append(errs, j.lock.Close())
		j.closeErr = errors.Join(errs...)
	})
	return j.closeErr
}

func (j *Journal) isClosing() bool {
	select {
	case <-j.closing:
		return true
	default:
		return false
	}
}

func (j *Journal) wake()       { signal(j.kick) }
func (j *Journal) wakeSealer() { signal(j.kickSeal) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce tells those who wait for a change. j.mu is held.
func (j *Journal) announce() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *Journal) path(name string) string { return j.fs.PathJoin(j.dir, name) }

func (j *Journal) syncDir() error {
	d, err := j.fs.OpenDir(j.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// advise wraps an error of the file system with what an operator does about it.
func (j *Journal) advise(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("journal: %s: %w: free space under %s, or point the setting %s to a larger disk; writes resume by themselves", doing, err, j.dir, PathSetting)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("journal: %s: %w: make %s writable, or point the setting %s elsewhere", doing, err, j.dir, PathSetting)
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("journal: %s: %w: check the disk under %s (setting %s)", doing, err, j.dir, PathSetting)
	}
	return fmt.Errorf("journal: %s: %w", doing, err)
}
