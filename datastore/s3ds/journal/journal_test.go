package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const dir = "data/journal"

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// never is a seal age that no test reaches.
const never = 1000 * time.Hour

func blockOf(t require.TestingT, data []byte) pack.Block {
	h, err := mh.Sum(data, mh.SHA2_256, -1)
	require.NoError(t, err)
	return pack.Block{Multihash: h, Data: data}
}

// numbered makes a block of size bytes that no other number has.
func numbered(t require.TestingT, n, size int) pack.Block {
	data := bytes.Repeat([]byte{byte(n)}, max(size, 8))
	binary.BigEndian.PutUint64(data, uint64(n))
	return blockOf(t, data)
}

func options(fs *testFS) journal.Options {
	return journal.Options{Writer: "n3k7q", FS: fs, SealAge: never}
}

func open(t testing.TB, o journal.Options) *journal.Journal {
	j, _ := reopen(t, o)
	return j
}

func reopen(t testing.TB, o journal.Options) (*journal.Journal, journal.Recovery) {
	t.Helper()
	j, rec, err := journal.Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = j.Close() }) // tests that care close it themselves
	return j, rec
}

func put(t testing.TB, j *journal.Journal, blocks ...pack.Block) []journal.Location {
	t.Helper()
	locs, err := j.Append(t.Context(), blocks)
	require.NoError(t, err)
	require.Len(t, locs, len(blocks))
	return locs
}

// held reads all that the journal says it has, each block verified.
func held(t require.TestingT, j *journal.Journal) map[string][]byte {
	got := make(map[string][]byte)
	for b, err := range j.Blocks() {
		require.NoError(t, err)
		data, err := j.Get(b.Location, b.Multihash)
		require.NoError(t, err)
		require.Len(t, data, int(b.DataLen))
		got[string(b.Multihash)] = data
	}
	return got
}

func requireHeld(t require.TestingT, j *journal.Journal, blocks ...pack.Block) {
	got := held(t, j)
	for _, b := range blocks {
		data, ok := got[string(b.Multihash)]
		require.True(t, ok, "block %s is gone", b.Multihash.HexString())
		require.True(t, bytes.Equal(b.Data, data))
	}
}

func next(t testing.TB, j *journal.Journal) *journal.Segment {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := j.Next(ctx)
	require.NoError(t, err)
	return s
}

func TestAppendGet(t *testing.T) {
	j := open(t, options(newFS()))
	blocks := []pack.Block{blockOf(t, nil), blockOf(t, []byte("hello")), numbered(t, 1, 4<<20), numbered(t, 2, 300)}
	locs := put(t, j, blocks...)
	for i, b := range blocks {
		data, err := j.Get(locs[i], b.Multihash)
		require.NoError(t, err)
		require.True(t, bytes.Equal(b.Data, data))
	}
	requireHeld(t, j, blocks...)
	locs, err := j.Append(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, locs)

	_, err = j.Get(journal.Location{Segment: 7, Offset: 69, Length: 40}, blocks[0].Multihash)
	require.ErrorIs(t, err, journal.ErrNoSegment)
	for _, bad := range []journal.Location{
		{Segment: locs0(j), Offset: 0, Length: 100},
		{Segment: locs0(j), Offset: 69, Length: 1 << 40},
		{Segment: locs0(j), Offset: 1<<63 - 1, Length: 40},
		{Segment: locs0(j), Offset: 69, Length: -1},
		{Segment: locs0(j), Offset: 70, Length: 40},
	} {
		_, err = j.Get(bad, blocks[0].Multihash)
		require.ErrorIs(t, err, pack.ErrCorrupt, "%+v", bad)
	}
}

func locs0(j *journal.Journal) pack.ID {
	for b := range j.Blocks() {
		return b.Segment
	}
	return 0
}

func TestAppendRefuses(t *testing.T) {
	fs := newFS()
	j := open(t, options(fs))
	good := blockOf(t, []byte("good"))
	fs.takeLog()
	_, err := j.Append(t.Context(), []pack.Block{good, {Multihash: good.Multihash, Data: []byte("bad")}})
	require.ErrorIs(t, err, pack.ErrCorrupt)
	_, err = j.Append(t.Context(), []pack.Block{numbered(t, 1, pack.MaxSection)})
	require.ErrorIs(t, err, pack.ErrTooLarge)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = j.Append(ctx, []pack.Block{good})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, fs.takeLog(), "nothing is written")
}

// The operations of a put, and of a segment's life, are pinned down: on EFS
// each of them is a round trip.
func TestOperations(t *testing.T) {
	fs := newFS()
	j := open(t, options(fs))
	fs.takeLog()

	put(t, j, numbered(t, 0, 100))
	require.Equal(t, []string{"create .open", "write .open", "syncdata .open", "syncdir folder"}, fs.takeLog(), "first of a segment")
	for i := range 3 {
		put(t, j, numbered(t, 1+i, 100))
		require.Equal(t, []string{"write .open", "syncdata .open"}, fs.takeLog(), "every other")
	}
	var batch []pack.Block
	for i := range 128 {
		batch = append(batch, numbered(t, 100+i, 1000))
	}
	put(t, j, batch...)
	require.Equal(t, []string{"write .open", "syncdata .open"}, fs.takeLog(), "a batch is as good as one")

	require.NoError(t, j.Seal(t.Context()))
	require.Equal(t, []string{
		"write .open", "write .open", "write .open", // index: head and records; header
		"sync .open", "rename .car", "syncdir folder",
	}, fs.takeLog(), "sealing")
	s := next(t, j)
	require.NoError(t, s.Verify())
	require.NoError(t, j.Remove(s.ID()))
	require.Equal(t, []string{"remove .car"}, fs.takeLog())
	require.NoError(t, j.Close())
	require.Empty(t, fs.takeLog(), "nothing to seal, nothing to write")
}

// All who wait while a sync is under way share the next one.
func TestGroupCommit(t *testing.T) {
	fs := newFS()
	j := open(t, options(fs))
	entered, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.setHook(func(op, _ string) error {
		if op == "syncdata" {
			once.Do(func() { close(entered); <-gate })
		}
		return nil
	})
	var wg sync.WaitGroup
	var blocks []pack.Block
	for i := range 64 {
		blocks = append(blocks, numbered(t, i, 1000))
	}
	appendOne := func(b pack.Block) {
		wg.Go(func() {
			_, err := j.Append(t.Context(), []pack.Block{b})
			require.NoError(t, err)
		})
	}
	appendOne(blocks[0])
	<-entered
	for _, b := range blocks[1:] {
		appendOne(b)
	}
	require.Eventually(t, func() bool { return j.Queued() == 63 }, time.Minute, time.Millisecond)
	close(gate)
	wg.Wait()
	require.EqualValues(t, 2, j.Stats().Syncs)
	fs.mu.Lock()
	require.Equal(t, 2, fs.counts["syncdata"])
	fs.mu.Unlock()
	requireHeld(t, j, blocks...)
}

func TestSegmentsSealBySize(t *testing.T) {
	o := options(newFS())
	o.SegmentBytes = 10_000
	j := open(t, o)
	var blocks []pack.Block
	for i := range 50 {
		blocks = append(blocks, numbered(t, i, 1000))
	}
	blocks = append(blocks, numbered(t, 50, 30_000)) // larger than a segment
	put(t, j, blocks...)
	require.NoError(t, j.Seal(t.Context()))
	var order, want []string
	for _, b := range blocks {
		want = append(want, b.Multihash.HexString())
	}
	var last pack.ID
	for j.Stats().Segments > 0 {
		s := next(t, j)
		require.Greater(t, s.ID(), last)
		require.Equal(t, s.ID(), s.Name().ID)
		require.Equal(t, "n3k7q", s.Name().Writer)
		last = s.ID()
		require.NoError(t, s.Verify())
		require.True(t, s.Blocks() == 1 || s.Name().IndexOffset <= o.SegmentBytes)
		for sec, err := range pack.Sections(io.NewSectionReader(s, 0, s.Size())) {
			require.NoError(t, err)
			order = append(order, sec.Multihash.HexString())
		}
		require.NoError(t, j.Remove(s.ID()))
		require.ErrorIs(t, j.Remove(s.ID()), journal.ErrNoSegment)
		_, err := s.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, journal.ErrNoSegment)
	}
	require.Equal(t, want, order, "segments keep the order of arrival")
	require.Zero(t, j.Stats().Bytes, "all room is given back")
	require.Zero(t, j.Stats().Oldest)
}

func TestSegmentsSealByBlocks(t *testing.T) {
	o := options(newFS())
	o.SegmentBlocks = 10
	j := open(t, o)
	for i := range 25 {
		put(t, j, numbered(t, i, 10))
	}
	require.Equal(t, 10, next(t, j).Blocks())
	require.Equal(t, 10, next(t, j).Blocks())
	require.NoError(t, j.Seal(t.Context()))
	require.Equal(t, 5, next(t, j).Blocks())
}

func TestSegmentsSealByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(newFS())
		o.SealAge = time.Minute
		j, _, err := journal.Open(dir, o)
		require.NoError(t, err)
		defer j.Close()
		put(t, j, numbered(t, 0, 10))
		time.Sleep(59 * time.Second) // of the bubble's clock
		put(t, j, numbered(t, 1, 10))
		synctest.Wait()
		require.Zero(t, j.Stats().Ready)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, j.Stats().Ready, "the oldest block counts, not the youngest")

		put(t, j, numbered(t, 2, 10))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 1, j.Stats().Ready, "nobody fetches segments: they grow, they do not multiply")
		require.Equal(t, 2, next(t, j).Blocks())
		synctest.Wait()
		require.Equal(t, 1, j.Stats().Ready, "as soon as somebody does, the next is sealed")
		require.Equal(t, 1, next(t, j).Blocks())
	})
}

func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(newFS())
		o.SegmentBytes, o.MaxBytes = 10_000, 30_000
		j, _, err := journal.Open(dir, o)
		require.NoError(t, err)
		defer j.Close()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				_, err := j.Append(t.Context(), []pack.Block{numbered(t, i, 1000)})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		require.LessOrEqual(t, j.Stats().Bytes, o.MaxBytes)
		require.Greater(t, j.Stats().Waiting, 50, "writers wait")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = j.Append(ctx, []pack.Block{numbered(t, 1000, 1000)})
		require.ErrorIs(t, err, context.DeadlineExceeded, "and leave when they are told to")

		blocks := 0
		for blocks < 100 {
			if j.Stats().Ready == 0 {
				require.NoError(t, j.Seal(t.Context()))
			}
			s := next(t, j)
			require.LessOrEqual(t, j.Stats().Bytes, o.MaxBytes)
			blocks += s.Blocks()
			require.NoError(t, j.Remove(s.ID()))
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, 100, blocks)
		require.Zero(t, j.Stats().Bytes)

		_, err = j.Append(t.Context(), []pack.Block{numbered(t, 0, 40_000)})
		require.ErrorIs(t, err, pack.ErrTooLarge, "what never fits does not wait for ever")
	})
}

// A segment that grows is sealed early when it is what others wait for.
func TestBoundSealsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(newFS())
		o.SegmentBytes, o.MaxBytes = 10_000, 20_000
		j, _, err := journal.Open(dir, o)
		require.NoError(t, err)
		defer j.Close()
		put(t, j, numbered(t, 0, 9000))
		done := make(chan error, 1)
		go func() {
			_, err := j.Append(t.Context(), []pack.Block{numbered(t, 1, 15_000)})
			done <- err
		}()
		require.NoError(t, j.Remove(next(t, j).ID()))
		require.NoError(t, <-done)
	})
}

// A huge batch takes its turns instead of waiting for an empty journal.
func TestBatchLargerThanJournal(t *testing.T) {
	o := options(newFS())
	o.SegmentBytes, o.MaxBytes = 10_000, 20_000
	j := open(t, o)
	var blocks []pack.Block
	for i := range 100 {
		blocks = append(blocks, numbered(t, i, 1000))
	}
	done := make(chan error, 1)
	go func() {
		_, err := j.Append(t.Context(), blocks)
		done <- err
	}()
	got := 0
	for got < 90 {
		s := next(t, j)
		got += s.Blocks()
		require.NoError(t, j.Remove(s.ID()))
	}
	require.NoError(t, <-done)
}

func TestCancelWhileWaiting(t *testing.T) {
	fs := newFS()
	j := open(t, options(fs))
	entered, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.setHook(func(op, _ string) error {
		if op == "syncdata" {
			once.Do(func() { close(entered); <-gate })
		}
		return nil
	})
	first := make(chan error, 1)
	ctx1, cancel1 := context.WithCancel(t.Context())
	go func() {
		_, err := j.Append(ctx1, []pack.Block{numbered(t, 0, 100)})
		first <- err
	}()
	<-entered
	second := make(chan error, 1)
	ctx2, cancel2 := context.WithCancel(t.Context())
	go func() {
		_, err := j.Append(ctx2, []pack.Block{numbered(t, 1, 100)})
		second <- err
	}()
	require.Eventually(t, func() bool { return j.Queued() == 1 }, time.Minute, time.Millisecond)
	cancel2()
	require.ErrorIs(t, <-second, context.Canceled, "in the queue")
	cancel1()
	require.ErrorIs(t, <-first, context.Canceled, "during the sync")
	close(gate)
	put(t, j, numbered(t, 2, 100))
	got := held(t, j)
	require.NotContains(t, got, string(numbered(t, 1, 100).Multihash), "a withdrawn block is not written")
	require.Len(t, got, 2)
	used := j.Stats().Bytes
	put(t, j, numbered(t, 3, 100))
	require.Equal(t, used/2*3, j.Stats().Bytes, "room of the withdrawn block was given back")
}

func TestClose(t *testing.T) {
	fs := newFS()
	o := options(fs)
	j := open(t, o)
	b := numbered(t, 1, 1000)
	loc := put(t, j, b)[0]
	_, _, err := journal.Open(dir, o)
	require.ErrorContains(t, err, "another process uses it")
	waiting := make(chan error, 1)
	go func() {
		_, err := j.Next(t.Context())
		waiting <- err
	}()
	require.NoError(t, j.Close())
	require.NoError(t, j.Close(), "twice is fine")
	if err := <-waiting; err != nil { // or it was handed the segment that Close sealed
		require.ErrorIs(t, err, journal.ErrClosed)
	}
	_, err = j.Append(t.Context(), []pack.Block{b})
	require.ErrorIs(t, err, journal.ErrClosed)
	_, err = j.Get(loc, b.Multihash)
	require.ErrorIs(t, err, journal.ErrClosed)
	require.ErrorIs(t, j.Seal(t.Context()), journal.ErrClosed)

	again, rec := reopen(t, o)
	require.Equal(t, 1, rec.Blocks)
	require.Empty(t, rec.Cut)
	data, err := again.Get(loc, b.Multihash)
	require.NoError(t, err, "locations hold across a restart")
	require.Equal(t, b.Data, data)
	require.NoError(t, next(t, again).Verify())
}

// Without a clean end, blocks keep their locations.
func TestKilled(t *testing.T) {
	for _, percent := range []int{0, 50, 100} {
		fs := newFS()
		fs.crash = crashCfg(percent, 1)
		o := options(fs)
		o.SegmentBytes = 20_000
		j := open(t, o)
		var blocks []pack.Block
		var locs []journal.Location
		for i := range 50 {
			blocks = append(blocks, numbered(t, i, 1000))
			locs = append(locs, put(t, j, blocks[i])...)
		}
		o.FS = wrapFS(fs.crashNow())
		again, rec := reopen(t, o)
		require.Equal(t, 50, rec.Blocks)
		require.Empty(t, rec.Damaged)
		for i, loc := range locs {
			data, err := again.Get(loc, blocks[i].Multihash)
			require.NoError(t, err)
			require.Equal(t, blocks[i].Data, data)
		}
		locs2 := put(t, again, numbered(t, 50, 10))
		require.Greater(t, locs2[0].Segment, locs[49].Segment, "old segments are never written to again")
	}
}

var errIO = &os.PathError{Op: "sync", Path: "x", Err: syscall.EIO}

// After a failed sync nothing of it is believed, and nothing from before lost.
func TestFailedSync(t *testing.T) {
	fs := newFS()
	o := options(fs)
	j := open(t, o)
	before := numbered(t, 0, 1000)
	loc := put(t, j, before)[0]
	failed := ""
	fs.setHook(func(op, path string) error {
		switch {
		case op == "syncdata" && failed == "":
			failed = path
			return errIO
		case (op == "syncdata" || op == "sync") && path == failed:
			panic("a file whose sync failed was synced again")
		}
		return nil
	})
	_, err := j.Append(t.Context(), []pack.Block{numbered(t, 1, 1000)})
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorContains(t, err, "journalPath")
	after := numbered(t, 2, 1000)
	locAfter := put(t, j, after)[0]
	require.NotEqual(t, loc.Segment, locAfter.Segment)
	require.NoError(t, j.Seal(t.Context()))
	require.Len(t, held(t, j), 2, "what failed is not there")
	data, err := j.Get(loc, before.Multihash)
	require.NoError(t, err, "what was there keeps its place")
	require.Equal(t, before.Data, data)
	s := next(t, j)
	require.Equal(t, loc.Segment, s.ID(), "the order of arrival holds")
	require.NoError(t, s.Verify())
	require.NoError(t, j.Remove(s.ID()))
	require.NoError(t, j.Remove(next(t, j).ID()))
	require.Zero(t, j.Stats().Bytes)
	names, err := fs.mem.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"LOCK"}, names, "no litter")
}

// Every operation of sealing may fail; it is tried again, elsewhere.
func TestFailedSealing(t *testing.T) {
	for nth := range 12 {
		synctest.Test(t, func(t *testing.T) {
			fs := newFS()
			j, _, err := journal.Open(dir, options(fs))
			require.NoError(t, err)
			defer j.Close()
			b := numbered(t, 0, 1000)
			loc := put(t, j, b)[0]
			n := 0
			fs.setHook(func(op, path string) error {
				// The nth operation, and all of the first attempt to copy.
				if n++; n == nth+1 || (n > nth && n < nth+3) {
					return errIO
				}
				return nil
			})
			sealErr := j.Seal(t.Context())
			s := next(t, j)
			if n > nth+2 && nth < 6 {
				require.True(t, sealErr == nil || errors.Is(sealErr, syscall.EIO))
			}
			require.NoError(t, s.Verify())
			require.Equal(t, loc.Segment, s.ID())
			data, err := j.Get(loc, b.Multihash)
			require.NoError(t, err)
			require.Equal(t, b.Data, data)
			require.NoError(t, j.Seal(t.Context()))
			require.NoError(t, j.Stats().SealErr)
			names, err := fs.mem.List(dir)
			require.NoError(t, err)
			slices.Sort(names)
			require.Equal(t, []string{s.Name().String(), "LOCK"}, names)
		})
	}
}

func TestFullDisk(t *testing.T) {
	for _, free := range []int64{0, 1, 500, 1500} { // what the failing write still gets in
		synctest.Test(t, func(t *testing.T) {
			fs := newFS()
			o := options(fs)
			j, _, err := journal.Open(dir, o)
			require.NoError(t, err)
			before := numbered(t, 0, 1000)
			loc := put(t, j, before)[0]
			fs.setFree(free)
			for i := range 3 {
				_, err := j.Append(t.Context(), []pack.Block{numbered(t, 1+i, 2000)})
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.ErrorContains(t, err, "free space under "+dir)
				require.ErrorContains(t, err, "journalPath")
				require.ErrorContains(t, err, ".open", "the file is named")
			}
			data, err := j.Get(loc, before.Multihash)
			require.NoError(t, err)
			require.Equal(t, before.Data, data)
			require.ErrorIs(t, j.Seal(t.Context()), syscall.ENOSPC)
			require.ErrorIs(t, j.Stats().SealErr, syscall.ENOSPC)

			// A restart in the middle of it: served, though not sealed.
			require.ErrorIs(t, j.Close(), syscall.ENOSPC)
			j, rec, err := journal.Open(dir, o)
			require.NoError(t, err)
			defer j.Close()
			require.Equal(t, 1, rec.Blocks)
			require.Empty(t, rec.Damaged)
			data, err = j.Get(loc, before.Multihash)
			require.NoError(t, err)
			require.Equal(t, before.Data, data)
			require.Equal(t, 1, j.Stats().Unsealed)

			fs.setFree(1 << 20)
			after := numbered(t, 9, 2000)
			put(t, j, after)
			s := next(t, j) // comes by itself
			require.Equal(t, loc.Segment, s.ID())
			require.NoError(t, s.Verify())
			require.NoError(t, j.Stats().SealErr)
			requireHeld(t, j, before, after)
			require.Len(t, held(t, j), 2)
		})
	}
}

func TestRemoveFails(t *testing.T) {
	fs := newFS()
	j := open(t, options(fs))
	b := numbered(t, 0, 10)
	put(t, j, b)
	require.NoError(t, j.Seal(t.Context()))
	s := next(t, j)
	fs.setHook(func(op, _ string) error {
		if op == "remove" {
			return errIO
		}
		return nil
	})
	require.ErrorIs(t, j.Remove(s.ID()), syscall.EIO)
	requireHeld(t, j, b)
	fs.setHook(nil)
	require.NoError(t, j.Remove(s.ID()))
}

func TestConcurrentUse(t *testing.T) {
	o := options(newFS())
	o.SegmentBytes, o.MaxBytes = 50_000, 200_000
	j := open(t, o)
	var wg, uploads sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	bucket := make(map[string]bool)
	for range 2 {
		uploads.Go(func() {
			for {
				s, err := j.Next(ctx)
				if err != nil {
					return
				}
				entries, err := s.Entries()
				require.NoError(t, err)
				mu.Lock()
				for _, e := range entries {
					bucket[string(e.Multihash)] = true
				}
				mu.Unlock()
				require.NoError(t, j.Remove(s.ID()))
			}
		})
	}
	const writers, each = 16, 40
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := numbered(t, w*each+i, 500+100*w)
				locs, err := j.Append(ctx, []pack.Block{b})
				require.NoError(t, err)
				data, err := j.Get(locs[0], b.Multihash)
				if errors.Is(err, journal.ErrNoSegment) {
					mu.Lock()
					require.True(t, bucket[string(b.Multihash)], "gone from the journal before it was in the bucket")
					mu.Unlock()
					continue
				}
				require.NoError(t, err)
				require.Equal(t, b.Data, data)
				j.Stats()
			}
		})
	}
	wg.Wait()
	require.NoError(t, j.Seal(ctx))
	require.Eventually(t, func() bool { return j.Stats().Segments == 0 }, time.Minute, time.Millisecond)
	cancel()
	uploads.Wait()
	require.Len(t, bucket, writers*each)
	require.Zero(t, j.Stats().Bytes)
}

// The same on a real file system, across restarts.
func TestRealDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	o := journal.Options{Writer: "w", SegmentBytes: 100_000}
	var blocks []pack.Block
	for round := range 3 {
		j, rec, err := journal.Open(dir, o)
		require.NoError(t, err)
		require.Equal(t, len(blocks), rec.Blocks)
		requireHeld(t, j, blocks...)
		for i := range 30 {
			b := numbered(t, round*30+i, 10_000)
			put(t, j, b)
			blocks = append(blocks, b)
		}
		require.NoError(t, j.Close())
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if f.Name() != "LOCK" {
			_, err := pack.ParseName(f.Name())
			require.NoError(t, err)
		}
	}
	require.Greater(t, len(files), 9)
}

func TestOptions(t *testing.T) {
	_, _, err := journal.Open(dir, journal.Options{
		Writer: "No", FS: newFS(), SegmentBytes: 100, SegmentBlocks: -1, SealAge: -1, MaxBytes: 150,
	})
	require.Error(t, err)
	for _, all := range []string{"writer id", "blocks per segment", "seal age", "journal bound"} {
		require.ErrorContains(t, err, all, "all problems at once")
	}
	require.Equal(t, 4, strings.Count(err.Error(), "use "), "each with what would be accepted")
}
