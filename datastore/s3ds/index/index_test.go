package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

var testIdentity = Identity{Bucket: "bucket", Prefix: "ipfs", Writer: "writer-1"}

func openAt(t testing.TB, fs vfs.FS) *Index {
	t.Helper()
	x, err := Open("ix", Options{Identity: testIdentity, FS: fs, CacheBytes: 1 << 20, retrySpace: 1e6})
	require.NoError(t, err)
	return x
}

func key(i int) []byte {
	h, err := mh.Sum(binary.BigEndian.AppendUint64(nil, uint64(i)), mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return h
}

func inJournal(i int, segment uint64) Entry {
	return Entry{key(i), Location{Kind: Journal, Segment: segment, Offset: int64(i) * 100, Length: 100}}
}

// entriesOf returns the entries from…to of a pack, as its own index has them.
func entriesOf(from, to int) []Entry {
	var all []Entry
	for i := from; i < to; i++ {
		all = append(all, Entry{key(i), Location{Offset: int64(i-from) * 100, Length: 100}})
	}
	return all
}

func info(name string, entries []Entry) PackInfo {
	n := int64(len(entries)) * 100
	return PackInfo{Name: name, Size: n + 500, IndexOffset: n}
}

var bg = context.Background()

// A block that is deleted while another goroutine moves it stays deleted.
func TestReplaceChangesWhatIsStillThere(t *testing.T) {
	x := openAt(t, vfs.NewMem())
	_, err := x.PutJournal(bg, inJournal(1, 1))
	require.NoError(t, err)
	move := func(from, to Entry) bool {
		done, err := x.Replace(bg, from.Location, to)
		require.NoError(t, err)
		return done
	}
	require.True(t, move(inJournal(1, 1), inJournal(1, 2)))
	require.False(t, move(inJournal(1, 1), inJournal(1, 3)), "it is elsewhere")
	l, err := x.Get(key(1))
	require.NoError(t, err)
	require.Equal(t, inJournal(1, 2).Location, l)
	_, err = x.Delete(bg, key(1))
	require.NoError(t, err)
	require.False(t, move(inJournal(1, 2), inJournal(1, 3)), "it was deleted")
	require.False(t, move(inJournal(2, 2), inJournal(2, 3)), "it was never there")
	require.Equal(t, Stats{}, x.Stats())
}

func TestPutUploadCompactDelete(t *testing.T) {
	fs := vfs.NewMem()
	x := openAt(t, fs)
	require.False(t, x.Complete(), "a new index knows nothing about the bucket")

	var put []Entry
	for i := range 10 {
		put = append(put, inJournal(i, 1))
	}
	n, err := x.PutJournal(bg, put...)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	n, err = x.PutJournal(bg, inJournal(3, 9), inJournal(10, 9), inJournal(10, 9))
	require.NoError(t, err)
	require.Equal(t, 1, n, "present blocks keep their place")
	l, err := x.Get(key(3))
	require.NoError(t, err)
	require.Equal(t, inJournal(3, 1).Location, l)
	require.Equal(t, Stats{Blocks: 11, Bytes: 1100, JournalBlocks: 11, JournalBytes: 1100}, x.Stats())

	// Block 5 is deleted while its segment is uploaded: dead on arrival.
	removed, err := x.Delete(bg, key(5), key(5), key(77))
	require.NoError(t, err)
	require.Equal(t, 1, removed)
	a := entriesOf(0, 10)
	idA, err := x.AddPack(bg, info("a", a), a, Take{Journal: true})
	require.NoError(t, err)
	p, err := x.Pack(idA)
	require.NoError(t, err)
	require.Equal(t, Pack{ID: idA, Name: "a", Size: 1500, IndexOffset: 1000, Blocks: 10, Bytes: 1000, LiveBlocks: 9, LiveBytes: 900}, p)
	ok, err := x.Has(key(5))
	require.NoError(t, err)
	require.False(t, ok)

	// Put again after the delete: the copy in the pack stays dead.
	_, err = x.PutJournal(bg, inJournal(5, 2))
	require.NoError(t, err)
	again, err := x.AddPack(bg, info("a", a), a, Take{Journal: true})
	require.NoError(t, err)
	require.Equal(t, idA, again, "adding a complete pack again does nothing")
	l, err = x.Get(key(5))
	require.NoError(t, err)
	require.Equal(t, Journal, l.Kind)

	// A second pack with copies of 8 and 9: one copy of each is live.
	b := entriesOf(5, 12)
	idB, err := x.AddPack(bg, info("b", b), b, Take{Journal: true})
	require.NoError(t, err)
	p, err = x.PackNamed("b")
	require.NoError(t, err)
	require.EqualValues(t, 2, p.LiveBlocks, "5 and 10 come from the journal; 6 to 9 live in a; 11 was never put")
	require.ErrorIs(t, x.RemovePack(bg, idA), ErrPackInUse)

	// Compaction of a and b into c, of which 0 was deleted meanwhile.
	_, err = x.Delete(bg, key(0))
	require.NoError(t, err)
	c := entriesOf(0, 11)
	idC, err := x.AddPack(bg, info("c", c), c, Take{Packs: []PackID{idA, idB}})
	require.NoError(t, err)
	require.NoError(t, x.RemovePack(bg, idA))
	require.NoError(t, x.RemovePack(bg, idB))
	require.NoError(t, x.RemovePack(bg, idB), "an unknown pack is no error")
	require.Equal(t, Stats{Blocks: 10, Bytes: 1000, LiveBlocks: 10, LiveBytes: 1000, Packs: 1, PackBytes: 1600, DeadBytes: 100}, x.Stats())

	_, err = x.PutLoose(bg, Entry{[]byte("name"), Location{Kind: Loose, Length: 7}}, Entry{key(1), Location{Kind: Loose, Length: 100}})
	require.NoError(t, err)
	_, err = x.PutLoose(bg, Entry{[]byte("name"), Location{Kind: Loose, Length: 9}})
	require.NoError(t, err)
	require.NoError(t, x.SetComplete(bg, true))
	want := x.Stats()
	require.EqualValues(t, 1, want.LooseBlocks)
	require.EqualValues(t, 9, want.LooseBytes)
	require.NoError(t, x.Close())
	require.NoError(t, x.Close())
	_, err = x.Get(key(1))
	require.ErrorIs(t, err, ErrClosed)

	x = openAt(t, fs)
	require.True(t, x.Complete())
	require.Equal(t, want, x.Stats())
	require.Len(t, x.Packs(), 1)
	l, err = x.Get(key(1))
	require.NoError(t, err)
	require.Equal(t, Location{Kind: InPack, Pack: idC, Offset: 100, Length: 100}, l)
	_, err = x.Get(key(0))
	require.ErrorIs(t, err, ErrNotFound)
	loose := []Entry{{[]byte("name"), Location{Length: 9}}}
	_, err = x.AddPack(bg, info("d", loose), loose, Take{Loose: true})
	require.NoError(t, err)
	require.Zero(t, x.Stats().LooseBlocks)
	require.NoError(t, x.Close())
}

// Packs come in any order when the index is made anew; a block that several of them have is in the newest.
func TestTheNewestCopyWinsInARebuild(t *testing.T) {
	older, newer := entriesOf(0, 3), entriesOf(2, 5)
	take := Take{Absent: true, Older: true}
	for name, order := range map[string][]string{"older first": {"pack-1", "pack-2"}, "newer first": {"pack-2", "pack-1"}} {
		t.Run(name, func(t *testing.T) {
			x := openAt(t, vfs.NewMem())
			for _, pack := range order {
				entries := older
				if pack == "pack-2" {
					entries = newer
				}
				_, err := x.AddPack(bg, info(pack, entries), entries, take)
				require.NoError(t, err)
			}
			for i, want := range []string{"pack-1", "pack-1", "pack-2", "pack-2", "pack-2"} {
				l, err := x.Get(key(i))
				require.NoError(t, err)
				k, err := x.Pack(l.Pack)
				require.NoError(t, err)
				require.Equal(t, want, k.Name, i)
			}
			k, err := x.PackNamed("pack-1")
			require.NoError(t, err)
			require.EqualValues(t, 2, k.LiveBlocks)
			require.NoError(t, x.Close())
		})
	}
}

func TestRefusedArguments(t *testing.T) {
	x := openAt(t, vfs.NewMem())
	for name, do := range map[string]func() error{
		"empty key":        func() error { _, err := x.Has(nil); return err },
		"long key":         func() error { _, err := x.Delete(bg, make([]byte, MaxKey+1)); return err },
		"loose as journal": func() error { _, err := x.PutJournal(bg, Entry{key(1), Location{Kind: Loose}}); return err },
		"journal as loose": func() error { _, err := x.PutLoose(bg, inJournal(1, 1)); return err },
		"negative length":  func() error { _, err := x.PutLoose(bg, Entry{key(1), Location{Kind: Loose, Length: -1}}); return err },
		"nameless pack":    func() error { _, err := x.AddPack(bg, PackInfo{Size: 1}, nil, Take{}); return err },
		"block out of pack": func() error {
			_, err := x.AddPack(bg, PackInfo{Name: "p", Size: 99}, entriesOf(0, 1), Take{})
			return err
		},
		"cancelled": func() error { c, cancel := context.WithCancel(bg); cancel(); return x.Commit(c) },
	} {
		t.Run(name, func(t *testing.T) { require.Error(t, do()) })
	}
	require.Zero(t, x.Stats())
	e := entriesOf(0, 2)
	_, err := x.AddPack(bg, info("p", e), e, Take{Absent: true})
	require.NoError(t, err)
	_, err = x.AddPack(bg, info("p", e[:1]), e[:1], Take{Absent: true})
	require.ErrorContains(t, err, "other content")
	require.NoError(t, x.Close())
}

func TestPacksInNameOrder(t *testing.T) {
	x := openAt(t, vfs.NewMem())
	for _, name := range []string{"m", "a", "z", "b"} {
		_, err := x.AddPack(bg, PackInfo{Name: name, Size: 1}, nil, Take{})
		require.NoError(t, err)
	}
	var names []string
	for p, err := x.PackAfter(""); err == nil; p, err = x.PackAfter(p.Name) {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"a", "b", "m", "z"}, names)
	p, err := x.PackNamed("b")
	require.NoError(t, err)
	require.NoError(t, x.RemovePack(bg, p.ID))
	p, err = x.PackAfter("b")
	require.NoError(t, err, "the name need not exist any more")
	require.Equal(t, "m", p.Name)
	_, err = x.PackNamed("b")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, x.Close())
}

func TestEntriesAreASnapshotInKeyOrder(t *testing.T) {
	x := openAt(t, vfs.NewMem())
	for i := range 300 {
		_, err := x.PutJournal(bg, inJournal(i, 1))
		require.NoError(t, err)
	}
	_, err := x.PutLoose(bg, Entry{[]byte{0xff, 0xff}, Location{Kind: Loose}}, Entry{[]byte{0xff, 0xff, 1}, Location{Kind: Loose}})
	require.NoError(t, err)
	n, last := 0, ""
	for e, err := range x.Entries(nil) {
		require.NoError(t, err)
		require.Less(t, last, string(e.Key))
		last = string(e.Key)
		if n++; n == 1 {
			_, err := x.Delete(bg, []byte{0xff, 0xff})
			require.NoError(t, err)
		}
	}
	require.Equal(t, 302, n, "a delete meanwhile is not seen")
	n = 0
	for _, err := range x.Entries([]byte{0xff}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 1, n)
	for range x.Entries(nil) {
		break // leaves nothing open: Close would wait
	}
	require.NoError(t, x.Close())
}

// A load that is interrupted between its atomic steps is seen as such, has exact counters, and is ended by the same call.
func TestAddPackInterrupted(t *testing.T) {
	fs := vfs.NewCrashableMem()
	x := openAt(t, fs)
	e := entriesOf(0, 3*chunk)
	require.NoError(t, x.Commit(bg))
	ctx, cancel := context.WithCancel(bg)
	stopAfter := int32(3) // the record, then two of three chunks
	id, err := x.AddPack(&countdown{ctx, cancel, &stopAfter}, info("p", e), e, Take{Absent: true})
	require.ErrorIs(t, err, context.Canceled)
	p, err := x.Pack(id)
	require.NoError(t, err)
	require.True(t, p.Incomplete)
	require.EqualValues(t, 2*chunk, p.LiveBlocks)
	require.NoError(t, x.Commit(bg))

	x = openAt(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	p, err = x.PackNamed("p")
	require.NoError(t, err)
	require.True(t, p.Incomplete)
	require.ErrorIs(t, x.RemovePack(bg, id), ErrPackInUse)
	_, err = x.AddPack(bg, info("p", e), e, Take{Absent: true})
	require.NoError(t, err)
	p, err = x.PackNamed("p")
	require.NoError(t, err)
	require.False(t, p.Incomplete)
	require.EqualValues(t, 3*chunk, p.LiveBlocks)
	require.Equal(t, id, p.ID)
	require.NoError(t, x.Close())
}

// countdown is cancelled when it has been asked n times.
type countdown struct {
	context.Context
	cancel context.CancelFunc
	left   *int32
}

func (c *countdown) Err() error {
	if atomic.AddInt32(c.left, -1) < 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// Puts, deletes and pack moves sync no log; a commit syncs it once. (Flushes and compactions sync other files, in the background.)
func TestNoSyncOnThePutPath(t *testing.T) {
	var syncs, creates atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.HasSuffix(op.Path, ".log") {
			return nil
		}
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			syncs.Add(1)
		case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite:
			creates.Add(1)
		}
		return nil
	}))
	x := openAt(t, fs)
	e := entriesOf(0, 128)
	// Memtables start at 256 KiB and grow: fill the first one, so that what follows is the steady state.
	for i := range 10_000 {
		_, err := x.PutJournal(bg, inJournal(1_000_000+i, 1))
		require.NoError(t, err)
	}
	require.NoError(t, x.db.Flush())
	require.NoError(t, x.Commit(bg))
	syncs.Store(0)
	creates.Store(0)
	for i := range 1_000 {
		_, err := x.PutJournal(bg, inJournal(i, 1))
		require.NoError(t, err)
	}
	_, err := x.Delete(bg, key(1), key(2))
	require.NoError(t, err)
	_, err = x.AddPack(bg, info("a", e), e, Take{Journal: true})
	require.NoError(t, err)
	require.Zero(t, syncs.Load())
	require.Zero(t, creates.Load())
	require.NoError(t, x.Commit(bg))
	require.EqualValues(t, 1, syncs.Load())
	require.NoError(t, x.Close())
}

func TestIdentityFormatAndLock(t *testing.T) {
	fs := vfs.NewMem()
	x := openAt(t, fs)
	_, err := Open("ix", Options{Identity: testIdentity, FS: fs})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, x.Close())

	other := testIdentity
	other.Prefix = "ipfs-staging"
	_, err = Open("ix", Options{Identity: other, FS: fs})
	require.ErrorIs(t, err, ErrForeign)
	require.ErrorContains(t, err, `"ipfs-staging"`)
	require.NotErrorIs(t, err, ErrCorrupt)

	f, err := fs.OpenReadWrite("ix/head", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{headVersion + 1}, int64(len(headMagic)))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = Open("ix", Options{Identity: testIdentity, FS: fs})
	require.ErrorIs(t, err, ErrFormat)

	require.NoError(t, Remove("ix", fs))
	require.NoError(t, Remove("ix", fs), "nothing there is no error")
	x, err = Open("ix", Options{Identity: other, FS: fs})
	require.NoError(t, err)
	require.NoError(t, x.Close())
}

// A first Open that is interrupted anywhere leaves something that the next one starts from.
func TestFirstOpenInterrupted(t *testing.T) {
	for failAt := int32(0); ; failAt++ {
		fs := vfs.NewCrashableMem()
		at := errorfs.OnIndex(failAt)
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			return at.MaybeError(op)
		})
		x, err := Open("ix", Options{Identity: testIdentity, FS: errorfs.Wrap(fs, inject)})
		if err == nil {
			require.NoError(t, x.Close())
			require.Greater(t, failAt, int32(10))
			return
		}
		x = openAt(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0}))
		require.Zero(t, x.Stats())
		require.NoError(t, x.Close())
	}
}

// A full disk: writes say so at once, reads go on, and everything works again when there is space.
func TestDiskFull(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var full atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData {
			return &errnoAt{syscall.ENOSPC, op.Path}
		}
		return nil
	})
	x := openAt(t, errorfs.Wrap(fs, inject))
	_, err := x.PutJournal(bg, inJournal(0, 1))
	require.NoError(t, err)
	full.Store(true)
	accepted := 0
	for i := 1; ; i++ {
		require.Less(t, i, 1_000_000)
		if _, err = x.PutJournal(bg, inJournal(i, 1)); err != nil {
			break
		}
		accepted++
	}
	require.ErrorIs(t, err, ErrDiskFull)
	require.ErrorIs(t, x.Commit(bg), ErrDiskFull)
	ok, err := x.Has(key(0))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, x.Err(), "nothing is broken for good")

	full.Store(false)
	for err = ErrDiskFull; err != nil; {
		err = x.Commit(bg)
		if err != nil {
			require.ErrorIs(t, err, ErrDiskFull)
		}
	}
	for i := range accepted + 1 {
		ok, err := x.Has(key(i))
		require.NoError(t, err)
		require.True(t, ok)
	}
	want := x.Stats()
	x = openAt(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	require.Equal(t, want, x.Stats(), "what was committed after the disk was full is durable")
	require.NoError(t, x.Close())
}

func TestCloseOnAFullDisk(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var full atomic.Bool
	x := openAt(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			return &errnoAt{syscall.ENOSPC, op.Path}
		}
		return nil
	})))
	require.NoError(t, x.Commit(bg))
	_, err := x.PutJournal(bg, inJournal(1, 1))
	require.NoError(t, err)
	full.Store(true)
	require.ErrorIs(t, x.Close(), ErrDiskFull)
	_, err = x.Has(key(1))
	require.ErrorIs(t, err, ErrClosed)
	x = openAt(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	require.NoError(t, x.Close())
}

type errnoAt struct {
	errno syscall.Errno
	path  string
}

func (e *errnoAt) Error() string { return e.path + ": " + e.errno.Error() }
func (e *errnoAt) Unwrap() error { return e.errno }

// A write that fails for another reason stops the index, not the process: later writes are refused, a restart finds the last commit.
func TestFailedWriteStops(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileWriteAt} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			var broken atomic.Bool
			x := openAt(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && op.Kind == kind {
					return &errnoAt{syscall.EIO, op.Path}
				}
				return nil
			})))
			_, err := x.PutJournal(bg, inJournal(0, 1))
			require.NoError(t, err)
			require.NoError(t, x.Commit(bg))
			broken.Store(true)
			for i := 1; err == nil; i++ {
				require.Less(t, i, 100_000)
				_, err = x.PutJournal(bg, inJournal(i, 1))
				if err == nil {
					err = x.Commit(bg)
				}
			}
			require.ErrorIs(t, err, ErrStopped)
			require.ErrorIs(t, err, syscall.EIO)
			require.ErrorIs(t, x.Err(), ErrStopped)
			ok, err := x.Has(key(0))
			require.NoError(t, err)
			require.True(t, ok, "reads go on")
			require.ErrorIs(t, x.Close(), ErrStopped)
			x = openAt(t, fs.CrashClone(vfs.CrashCloneCfg{}))
			ok, err = x.Has(key(0))
			require.NoError(t, err)
			require.True(t, ok)
			require.NoError(t, x.Close())
		})
	}
}

// An entry that points to a pack without a record is damage, not an entry.
func TestUnknownRecordsAreCorruption(t *testing.T) {
	for name, spoil := range map[string]func(*Index) error{
		"undecodable location": func(x *Index) error { return x.db.Set(entryKey(key(1)), []byte{9}, pebble.Sync) },
		"entry without pack": func(x *Index) error {
			return x.db.Set(entryKey(key(1)), appendLocation(nil, Location{Kind: InPack, Pack: 4}), pebble.Sync)
		},
		"totals missing":    func(x *Index) error { return x.db.Delete(totalsKey, pebble.Sync) },
		"commit missing":    func(x *Index) error { return x.db.Delete(commitKey, pebble.Sync) },
		"live without pack": func(x *Index) error { return x.db.Set(idKey(liveTag, 5), appendCount(nil, count{1, 1}), pebble.Sync) },
		"pack from the future": func(x *Index) error {
			return x.db.Set(idKey(packTag, 7), appendPack(nil, Pack{Name: "p"}), pebble.Sync)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			x := openAt(t, fs)
			require.NoError(t, spoil(x))
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			require.NoError(t, x.Close())
			x, err := Open("ix", Options{Identity: testIdentity, FS: clone})
			if err == nil {
				_, err = x.Delete(bg, key(1))
				require.ErrorIs(t, x.Err(), ErrCorrupt, "remembered")
				require.True(t, errors.Is(x.Close(), ErrCorrupt))
			}
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}
