package s3ds

import (
	"errors"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// fullDisk is a file system that has no room under a folder while it is full.
type fullDisk struct {
	folder string
	full   atomic.Bool
	met    atomic.Int64 // writes that found no room
}

func (d *fullDisk) wrap(fs vfs.FS) vfs.FS {
	grows := []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpMkdirAll, errorfs.OpReuseForWrite}
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if d.full.Load() && strings.Contains(op.Path, d.folder) && slices.Contains(grows, op.Kind) {
			d.met.Add(1)
			return syscall.ENOSPC
		}
		return nil
	}))
}

// TestFullDisk: whichever folder is on the disk that is full, what was acknowledged is served, writes fail with an error that says so or go on, and
// when there is room again everything works, without help. Nothing acknowledged is lost, also when the process is started anew on the full disk.
func TestFullDisk(t *testing.T) {
	for folder, says := range map[string]string{"s3ds/journal": "journalPath", "s3ds/index": "no space left", "s3ds/cache": "", "s3ds": "no space left"} {
		t.Run(path.Base(folder), func(t *testing.T) {
			disk := &fullDisk{folder: folder}
			b := mem.New()
			s := newSite(b)
			below := vfs.NewCrashableMem()
			s.fs = disk.wrap(below)
			// A process that was killed leaves all that it wrote, and no locks: a full disk keeps the index from letting go of its own.
			kill := func() {
				below = below.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
				s.fs = disk.wrap(below)
			}
			s.c.PackSize = 1 << 20
			p, err := s.tryOpen(t)
			require.NoError(t, err)
			all := dag(t, 1, 400, 10_000)
			stored := slices.Clone(all[:120])
			putAll(t, p, stored)
			flush(t, p)
			putAll(t, p, all[120:130])
			stored = append(stored, all[120:130]...)
			requireAll(t, p, stored[:60])

			disk.full.Store(true)
			var failed error
			rest := all[130:]
			for len(rest) > 0 && failed == nil {
				if failed = p.Put(t.Context(), rest[0].key, rest[0].value); failed == nil {
					stored = append(stored, rest[0])
					rest = rest[1:]
				}
			}
			switch {
			case says == "":
				require.NoError(t, failed, "the cache can be done without")
			case failed != nil: // an index may have room in memory for all of this
				require.ErrorContains(t, failed, says)
				require.False(t, errors.Is(failed, ds.ErrNotFound))
			default:
				require.Equal(t, "s3ds/index", folder)
			}
			requireAll(t, p, stored) // from pack, journal and cache
			disk.full.Store(false)
			if failed != nil {
				require.Eventually(t, func() bool { return p.Put(t.Context(), rest[0].key, rest[0].value) == nil }, time.Minute, time.Millisecond)
				stored = append(stored, rest[0])
			}
			for _, one := range rest {
				require.NoError(t, p.Put(t.Context(), one.key, one.value))
				stored = append(stored, one)
			}
			flush(t, p)
			requireAll(t, p, stored)
			require.NoError(t, p.Check(t.Context()))

			// Full again when it ends, and when it starts.
			more := dag(t, 2, 30, 10_000)
			putAll(t, p, more)
			stored = append(stored, more...)
			disk.full.Store(true)
			_ = p.Close() // tells so
			kill()
			if again, err := s.tryOpen(t); err == nil {
				requireAll(t, again, stored)
				_ = again.Close()
			} else {
				require.ErrorContains(t, err, "no space left")
			}
			require.Positive(t, disk.met.Load())
			disk.full.Store(false)
			kill()
			p = s.open(t)
			requireAll(t, p, stored)
			flush(t, p)
			requireAll(t, p, stored)
		})
	}
}

// flipIn flips a bit of a file on a disk.
func flipIn(t testing.TB, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// filesUnder lists the files below a folder.
func filesUnder(t testing.TB, fs vfs.FS, dir string) (all []string) {
	t.Helper()
	names, err := fs.List(dir)
	require.NoError(t, err)
	for _, n := range names {
		n = fs.PathJoin(dir, n)
		if info, err := fs.Stat(n); err == nil && info.IsDir() {
			all = append(all, filesUnder(t, fs, n)...)
		} else {
			all = append(all, n)
		}
	}
	return all
}

// TestFlippedBitInTheCacheIsHealedFromTheBucket; TestDamageInTheBucketIsNamedAndHealedByTheNextPut is about the pack itself.
func TestFlippedBitInTheCacheIsHealedFromTheBucket(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	puts := dag(t, 1, 20, 10_000)
	putAll(t, p, puts)
	flush(t, p)
	requireAll(t, p, puts)
	require.NoError(t, p.Close())
	flipped := 0
	for _, name := range filesUnder(t, s.fs, "/repo/s3ds/cache") {
		if info, err := s.fs.Stat(name); err == nil && info.Size() > 1000 {
			flipIn(t, s.fs, name, info.Size()/2)
			flipped++
		}
	}
	require.Positive(t, flipped)
	p = s.open(t)
	requireAll(t, p, puts)
	st := p.stat()
	require.Positive(t, st.Reads.CacheDamaged+st.Reads.VerificationFailures, "it is counted")
	require.Zero(t, st.DamagedBlocks)
}

// TestFlippedBitInTheJournal, found by the reader, by the upload, or by recovery: the block is named and not served, the others are; the next put heals it.
func TestFlippedBitInTheJournal(t *testing.T) {
	segment := func(t *testing.T, s *site) string {
		for _, name := range filesUnder(t, s.fs, "/repo/s3ds/journal") {
			if strings.HasSuffix(name, ".open") || strings.HasSuffix(name, pack.Ext) {
				return name
			}
		}
		require.FailNow(t, "no segment")
		return ""
	}
	const inSecond = pack.FirstSection + 10_100 // of blocks of 10,000 bytes
	for name, find := range map[string]func(*testing.T, *site, *Packed) *Packed{
		"by a reader": func(_ *testing.T, _ *site, p *Packed) *Packed { return p },
		"by the upload": func(t *testing.T, _ *site, p *Packed) *Packed {
			require.NoError(t, p.j.Seal(t.Context()))
			require.Eventually(t, func() bool { return p.stat().StuckSegments == 1 }, time.Minute, time.Millisecond)
			return p
		},
		"by recovery": func(t *testing.T, s *site, p *Packed) *Packed {
			// An index that a crash takes the last moments of is told by the journal; of a section that is damaged, too, only Recovery knows then.
			require.NoError(t, p.x.Commit(t.Context()))
			s.fs = s.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}) // killed
			p = s.open(t)
			require.NotEmpty(t, p.stat().Recovery.Damaged)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			s := newSite(b)
			s.fs = vfs.NewCrashableMem()
			p := s.open(t)
			puts := dag(t, 1, 20, 10_000)
			putAll(t, p, puts)
			flipIn(t, s.fs, segment(t, s), inSecond)
			p = find(t, s, p)
			_, err := p.Get(t.Context(), puts[1].key)
			require.Error(t, err)
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrLost), err)
			has, err := p.Has(t.Context(), puts[1].key)
			require.NoError(t, err)
			require.True(t, has, "it was acknowledged: never reported missing")
			var found []Finding
			_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { found = append(found, f) }})
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, string(mustName(puts[1])), string(found[0].Multihash))
			good := slices.Concat(puts[:1], puts[2:])
			requireAll(t, p, good)
			require.NoError(t, p.Put(t.Context(), puts[1].key, puts[1].value))
			requireAll(t, p, puts)
			require.Eventually(t, func() bool { // what the upload salvages goes into the journal once more
				require.NoError(t, p.j.Seal(t.Context()))
				return p.x.Stats().JournalBlocks == 0
			}, time.Minute, time.Millisecond)
			requireAll(t, p, puts)
			require.NoError(t, p.Close())
			requireAll(t, newSite(b).open(t), puts) // the bucket alone is enough
		})
	}
}

// syncs counts what is synced on a file system, by the folder that it is in.
type syncs struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *syncs) wrap(fs vfs.FS) vfs.FS {
	kinds := []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slices.Contains(kinds, op.Kind) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, folder := range []string{"journal", "index", "cache"} {
				if strings.Contains(op.Path, folder) {
					c.n[folder]++
				}
			}
		}
		return nil
	}))
}

// TestSyncedWritesOfAPut: one, in the journal, shared by all who wait for it; the index adds none.
func TestSyncedWritesOfAPut(t *testing.T) {
	c := &syncs{n: map[string]int{}}
	s := newSite(mem.New())
	s.fs = c.wrap(vfs.NewMem())
	s.c.PackSize = 32 << 20
	s.c.Memory = 0
	p := s.open(t)
	puts := dag(t, 1, 500, 2000)
	require.NoError(t, p.Put(t.Context(), puts[0].key, puts[0].value)) // begins a segment: its folder is synced, too
	clear(c.n)
	for _, one := range puts[1:100] {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
	}
	require.Equal(t, map[string]int{"journal": 99}, c.n, "one after the other: one each")
	clear(c.n)
	putAll(t, p, puts[100:200])
	require.Equal(t, map[string]int{"journal": 1}, c.n, "a batch: one")
	clear(c.n)
	var wg sync.WaitGroup
	for _, one := range puts[200:] {
		wg.Go(func() {
			if err := p.Put(t.Context(), one.key, one.value); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, c.n["journal"], 300)
	require.Zero(t, c.n["index"])
	clear(c.n)
	for _, one := range puts {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
	}
	require.Empty(t, c.n, "what is there already costs nothing")
	require.NoError(t, p.Close())
}
