package span

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// held lets bodies pass up to a number of bytes; the rest waits for more to be allowed, or for the request to be cancelled.
type held struct {
	mu      sync.Mutex
	more    *sync.Cond
	allowed int64
	started chan bucket.Range
	ended   chan error // cancelled requests
}

func hold(g *source, allowed int64) *held {
	h := &held{allowed: allowed, started: make(chan bucket.Range, 1000), ended: make(chan error, 1000)}
	h.more = sync.NewCond(&h.mu)
	g.set(func(ctx context.Context, r bucket.Range, body io.Reader) (io.Reader, error) {
		h.started <- r
		stop := context.AfterFunc(ctx, h.more.Broadcast)
		return &heldBody{h, ctx, stop, body, r.Offset}, nil
	})
	return h
}

func (h *held) allow(upTo int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allowed = upTo
	h.more.Broadcast()
}

type heldBody struct {
	h    *held
	ctx  context.Context
	stop func() bool
	body io.Reader
	at   int64
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.h.mu.Lock()
	for b.at >= b.h.allowed && b.ctx.Err() == nil {
		b.h.more.Wait()
	}
	n := min(int64(len(p)), b.h.allowed-b.at)
	b.h.mu.Unlock()
	if err := b.ctx.Err(); err != nil {
		b.h.ended <- err
		return 0, err
	}
	got, err := b.body.Read(p[:n])
	b.at += int64(got)
	return got, err
}

type answer struct {
	data []byte
	err  error
}

func (w *world) async(ctx context.Context, r *Reader, b Block) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		data, err := r.Get(ctx, b)
		c <- answer{data, err}
	}()
	return c
}

// waiters waits until so many reads wait for requests.
func waiters(r *Reader, n int) {
	for {
		r.mu.Lock()
		got := 0
		for f := range r.fetches {
			got += f.waiters
		}
		r.mu.Unlock()
		if got == n {
			return
		}
	}
}

func even(n int, size int64) (sizes []int64) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// Waiters get their block as soon as its bytes are here, not when the window is.
func TestBlocksStreamIn(t *testing.T) {
	w := newWorld(t, packBytes, even(40, 100<<10)...)
	r := w.reader(t)
	w.get(t, r, w.blocks[0])
	h := hold(w.source, w.blocks[1].Offset+w.blocks[1].Length)
	w.get(t, r, w.blocks[1]) // begins a window of four
	second := w.async(bg, r, w.blocks[2])
	waiters(r, 1)
	require.Empty(t, second)
	h.allow(w.blocks[2].Offset + w.blocks[2].Length)
	require.NoError(t, (<-second).err)
	h.allow(1 << 40)
	w.get(t, r, w.blocks[4])
	require.EqualValues(t, 2, w.gets.Load())
}

func TestReadersShareARequest(t *testing.T) {
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t)
	h := hold(w.source, 0)
	var all []<-chan answer
	for range 20 {
		all = append(all, w.async(bg, r, w.blocks[1]))
	}
	waiters(r, 20)
	h.allow(1 << 40)
	for _, c := range all {
		a := <-c
		require.NoError(t, a.err)
		require.True(t, bytes.Equal(w.want(w.blocks[1]), a.data))
	}
	require.EqualValues(t, 1, w.gets.Load())
}

func TestCancelledWaiters(t *testing.T) {
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t)
	h := hold(w.source, 0)
	ctx1, cancel1 := context.WithCancel(bg)
	ctx2, cancel2 := context.WithCancel(bg)
	first, second := w.async(ctx1, r, w.blocks[0]), w.async(ctx2, r, w.blocks[0])
	waiters(r, 2)
	cancel1()
	require.ErrorIs(t, (<-first).err, context.Canceled)
	h.allow(1 << 40)
	require.NoError(t, (<-second).err, "the request goes on for the other one")
	require.EqualValues(t, 1, w.gets.Load())
	cancel2()

	// When the last one leaves, the request ends; who comes then sends a new one.
	h = hold(w.source, 0)
	ctx, cancel := context.WithCancel(bg)
	third := w.async(ctx, r, w.blocks[2])
	waiters(r, 1)
	<-h.started
	cancel()
	require.ErrorIs(t, (<-third).err, context.Canceled)
	require.ErrorIs(t, <-h.ended, context.Canceled)
	h.allow(1 << 40)
	w.get(t, r, w.blocks[2])
}

func TestFailedRequestIsAnErrorForAllWhoWait(t *testing.T) {
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t)
	release := make(chan struct{})
	w.set(func(context.Context, bucket.Range, io.Reader) (io.Reader, error) {
		<-release
		return nil, bucket.ErrThrottled
	})
	a, b := w.async(bg, r, w.blocks[0]), w.async(bg, r, w.blocks[0])
	waiters(r, 2)
	close(release)
	for _, c := range []<-chan answer{a, b} {
		err := (<-c).err
		require.ErrorIs(t, err, bucket.ErrThrottled)
		require.ErrorContains(t, err, `"packs/000"`)
		require.ErrorContains(t, err, "at 109")
	}
	require.EqualValues(t, 1, w.gets.Load())
	w.set(nil)
	w.get(t, r, w.blocks[0])
}

func TestShortBodyIsAnError(t *testing.T) {
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t)
	w.set(func(_ context.Context, _ bucket.Range, body io.Reader) (io.Reader, error) {
		return io.LimitReader(body, 5000), nil
	})
	_, err := r.Get(bg, w.blocks[0])
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	w.set(nil)
	w.get(t, r, w.blocks[0])
}

// What was fetched ahead and failed is no error: the reader fetches what it needs itself.
func TestFailedPrefetch(t *testing.T) {
	w := newWorld(t, packBytes, even(200, 128<<10)...)
	r := w.reader(t)
	var failed atomic.Int64
	w.set(func(ctx context.Context, rg bucket.Range, body io.Reader) (io.Reader, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for f := range r.fetches {
			if f.prefetch && f.lo == rg.Offset {
				failed.Add(1)
				return io.MultiReader(io.LimitReader(body, 1000), broken{}), nil
			}
		}
		return body, nil
	})
	for _, b := range w.blocks {
		w.get(t, r, b)
	}
	require.Positive(t, failed.Load())
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, bucket.ErrUnreachable }

func TestFlippedBitInTheBucket(t *testing.T) {
	fs := vfs.NewMem()
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t, cached(fs, 64*mib))
	spoil := atomic.Int64{}
	w.set(func(_ context.Context, rg bucket.Range, body io.Reader) (io.Reader, error) {
		b, err := io.ReadAll(body)
		if spoil.Add(-1) >= 0 {
			b[len(b)/2] ^= 4
		}
		return bytes.NewReader(b), err
	})
	spoil.Store(1)
	w.get(t, r, w.blocks[0]) // on the way: the second attempt is right
	require.EqualValues(t, 1, r.Stats().VerificationFailures)
	require.EqualValues(t, 2, w.gets.Load())

	spoil.Store(2)
	_, err := r.Get(bg, w.blocks[2])
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Equal(t, "packs/000", corrupt.Object)
	require.Equal(t, w.blocks[2].Offset, corrupt.Offset)
	require.EqualValues(t, 3, r.Stats().VerificationFailures)
	require.EqualValues(t, 4, w.gets.Load())
	w.get(t, r, w.blocks[2]) // nothing of it was kept
	require.NoError(t, r.Close())
	r = w.reader(t, cached(fs, 64*mib))
	w.reset()
	w.get(t, r, w.blocks[2])
	require.Zero(t, w.gets.Load())
}

func cacheFiles(t *testing.T, fs vfs.FS) (all []string) {
	folders, err := fs.List("cache/" + cacheVersion)
	require.NoError(t, err)
	for _, folder := range folders {
		names, err := fs.List("cache/" + cacheVersion + "/" + folder)
		require.NoError(t, err)
		for _, name := range names {
			all = append(all, "cache/"+cacheVersion+"/"+folder+"/"+name)
		}
	}
	return all
}

// A flipped bit, a cut or a missing file in the cache is found, dropped, and healed from the bucket; also one that checksums cannot see.
func TestDamagedCache(t *testing.T) {
	w := newWorld(t, packBytes, even(3, 150<<10)...)
	fs := vfs.NewMem()
	r := w.reader(t, cached(fs, 64*mib))
	w.get(t, r, w.blocks[1])
	require.NoError(t, r.Close())
	names := cacheFiles(t, fs)
	require.Len(t, names, 1)
	f, err := fs.Open(names[0])
	require.NoError(t, err)
	whole, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	replace := func(b []byte) {
		f, err := fs.Create(names[0], diskCategory)
		require.NoError(t, err)
		_, err = f.Write(b)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	damaged := map[string][]byte{"cut by one": whole[:len(whole)-1], "empty": nil, "other block": fileOf("packs/000", w.blocks[1].Offset, make([]byte, 150<<10))}
	for at := 0; at < len(whole); at += 1 + at/3 {
		b := slices.Clone(whole)
		b[at] ^= 0x10
		damaged[fmt.Sprintf("bit in byte %d", at)] = b
	}
	for name, b := range damaged {
		replace(b)
		w.reset()
		r := w.reader(t, cached(fs, 64*mib))
		w.get(t, r, w.blocks[1])
		require.EqualValues(t, 1, w.gets.Load(), name)
		if len(b) == len(whole) {
			s := r.Stats()
			require.EqualValues(t, 1, s.CacheDamaged+s.VerificationFailures, name)
		}
		require.NoError(t, r.Close())
		r = w.reader(t, cached(fs, 64*mib))
		w.get(t, r, w.blocks[1])
		require.EqualValues(t, 1, w.gets.Load(), "healed: %s", name)
		require.NoError(t, r.Close())
	}
	r = w.reader(t, cached(fs, 64*mib))
	require.NoError(t, fs.Remove(names[0]))
	w.get(t, r, w.blocks[1])
	require.Zero(t, r.Stats().CacheDamaged, "a file that is gone is no damage")
}

// A cache that cannot be written is reported once, done without, and used again when it can.
func TestUnwritableCache(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{"full": errorfs.OpFileWrite, "read-only": errorfs.OpCreate, "no rename": errorfs.OpRename, "no folder": errorfs.OpMkdirAll} {
		t.Run(name, func(t *testing.T) {
			var bad atomic.Bool
			bad.Store(true)
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if bad.Load() && op.Kind == kind {
					return syscall.ENOSPC
				}
				return nil
			}))
			states := make(chan error, 100)
			w := newWorld(t, packBytes, even(20, 100<<10)...)
			r := w.reader(t, cached(fs, 64*mib), func(o *Options) { o.CacheState = func(err error) { states <- err } })
			for i := range 5 {
				w.get(t, r, w.blocks[3*i])
			}
			require.ErrorIs(t, <-states, syscall.ENOSPC)
			for r.Stats().CacheWriteFailures < 5 {
				// the writer comes by them one after the other
				w.get(t, r, w.blocks[0])
			}
			require.Empty(t, states, "told once")
			bad.Store(false)
			w.get(t, r, w.blocks[17])
			require.NoError(t, <-states)
			require.NoError(t, r.Close())
			require.Len(t, cacheFiles(t, fs), 1)
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t, 8*mib, even(300, 100<<10)...)
	fs := vfs.NewMem()
	const limit = 5 * mib
	r := w.reader(t, cached(fs, limit))
	for i := range w.blocks {
		w.get(t, r, w.blocks[i*7%300])
		require.LessOrEqual(t, r.Stats().CacheBytes, int64(limit))
	}
	require.NoError(t, r.Close())
	total := int64(0)
	for _, name := range cacheFiles(t, fs) {
		st, err := fs.Stat(name)
		require.NoError(t, err)
		total += st.Size()
	}
	require.LessOrEqual(t, total, int64(limit))
	require.Greater(t, total, int64(limit-2*mib))
	require.Equal(t, total, r.Stats().CacheBytes)

	// A smaller limit after a restart is kept to, too.
	r = w.reader(t, cached(fs, 4*mib))
	w.get(t, r, w.blocks[299])
	w.get(t, r, w.blocks[150])
	require.NoError(t, r.Close())
	require.LessOrEqual(t, r.Stats().CacheBytes, int64(4*mib))
	r = w.reader(t, cached(fs, 4*mib))
	for _, p := range w.packs {
		r.Drop(p.Key)
	}
	require.NoError(t, r.Close())
	require.Empty(t, cacheFiles(t, fs))
}

// A disk that is slower than the network for two seconds is waited for, and has all; one that is always slower does not hold up
// readers for more than a tenth of the time.
func TestSlowDisk(t *testing.T) {
	read := func(t *testing.T, write time.Duration) (again int64, skipped int64, took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileWrite {
					time.Sleep(write)
				}
				return nil
			}))
			w := newWorld(t, packBytes, even(512, 256<<10)...)
			r := w.reader(t, cached(fs, 512*mib), func(o *Options) { o.MemoryBytes = MinMemoryBytes })
			began := time.Now()
			for _, b := range w.blocks {
				w.get(t, r, b)
			}
			took = time.Since(began)
			time.Sleep(time.Hour) // the disk catches up
			w.reset()
			skipped = r.Stats().CacheSkipped
			for _, b := range w.blocks {
				w.get(t, r, b)
			}
			again = int64(len(w.requests()))
			require.NoError(t, r.Close())
		})
		return again, skipped, took
	}
	again, skipped, _ := read(t, 15*time.Millisecond) // 1.9 s for all
	require.Zero(t, again)
	require.Zero(t, skipped)

	again, skipped, took := read(t, time.Minute)
	require.Positive(t, again)
	require.Positive(t, skipped)
	require.Less(t, took, mostPatience*6/5)
}

// However many read from however slow a bucket: memory stays in its bound, with and without a disk that takes the data.
func TestMemoryIsBounded(t *testing.T) {
	sizes, order := unixfs(240, 256<<10)
	w := newWorld(t, packBytes, sizes...)
	r := w.reader(t, func(o *Options) { o.MemoryBytes = MinMemoryBytes })
	h := hold(w.source, 0)
	var wg sync.WaitGroup
	for n := range 32 {
		wg.Go(func() {
			for i := range 12 {
				b := w.blocks[order[(n*7+i)%len(order)]]
				if got, err := r.Get(bg, b); err != nil || !bytes.Equal(got, w.want(b)) {
					t.Error(err)
				}
				if used := r.Stats().MemoryBytes; used > MinMemoryBytes/2 {
					t.Errorf("%d bytes of fetched data in memory", used)
				}
			}
		})
	}
	for len(h.started) < 8 {
		require.LessOrEqual(t, r.Stats().MemoryBytes, int64(MinMemoryBytes/2))
	}
	h.allow(1 << 40)
	wg.Wait()
}

func TestClose(t *testing.T) {
	w := newWorld(t, packBytes, even(4, 100<<10)...)
	r := w.reader(t)
	hold(w.source, 0)
	c := w.async(bg, r, w.blocks[0])
	waiters(r, 1)
	require.NoError(t, r.Close())
	require.ErrorIs(t, (<-c).err, ErrClosed)
	_, err := r.Get(bg, w.blocks[1])
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, r.Close())
}

// Readers at random and in sequence, in parallel, with requests that fail, break and lie, a cache that is small and sometimes
// full, contexts that end, packs dropped, restarts: a read gives the right bytes, or an error that was injected.
func TestRandomHistories(t *testing.T) {
	gate.Checks(t, 10, 30, 200)
	var sizes []int64
	for i := range 150 {
		sizes = append(sizes, int64(i*i*37%80_000))
	}
	w := newWorld(t, 2*mib, sizes...)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		faults := rapid.IntRange(0, 30).Draw(t, "percent of requests that fail")
		var rngMu sync.Mutex
		rng := rand.New(rand.NewPCG(seed, 0))
		dice := func(n int) int { rngMu.Lock(); defer rngMu.Unlock(); return rng.IntN(n) }
		w.set(func(_ context.Context, r bucket.Range, body io.Reader) (io.Reader, error) {
			if dice(100) >= faults {
				return body, nil
			}
			switch dice(4) {
			case 0:
				return nil, bucket.ErrThrottled
			case 1:
				return io.LimitReader(body, r.Length/2), nil
			case 2:
				return io.MultiReader(io.LimitReader(body, r.Length/2), broken{}), nil
			}
			b, err := io.ReadAll(body)
			b[dice(len(b))] ^= 1
			return bytes.NewReader(b), err
		})
		var full atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && op.Kind == errorfs.OpFileWrite {
				return syscall.ENOSPC
			}
			return nil
		}))
		open := func() *Reader {
			r, err := New(w.source, Options{Next: w.next, MaxWindow: mib, MemoryBytes: MinMemoryBytes, Concurrency: 4, CacheDir: "cache", CacheBytes: 4 * mib, FS: fs})
			require.NoError(t, err)
			return r
		}
		r := open()
		for range 2 {
			full.Store(dice(3) == 0)
			var wg sync.WaitGroup
			errs := make(chan error, 8)
			for range 6 {
				start, step, dropped := dice(len(w.blocks)), dice(3)-1, dice(50)
				wg.Go(func() {
					for i := range 16 {
						at := (start + i*step + len(w.blocks)) % len(w.blocks)
						if step == 0 {
							at = dice(len(w.blocks))
						}
						ctx, cancel := context.WithCancel(bg)
						if dice(10) == 0 {
							go cancel()
						}
						got, err := r.Get(ctx, w.blocks[at])
						cancel()
						switch {
						case err == nil && !bytes.Equal(got, w.want(w.blocks[at])):
							errs <- errors.New("wrong bytes")
							return
						case err == nil, errors.Is(err, context.Canceled), faults > 0 && injected(err):
						default:
							errs <- err
							return
						}
						if i == dropped {
							r.Drop(w.blocks[at].Pack.Key)
						}
					}
				})
			}
			wg.Wait()
			close(errs)
			require.NoError(t, <-errs)
			s := r.Stats()
			require.LessOrEqual(t, s.MemoryBytes, int64(MinMemoryBytes/2))
			require.LessOrEqual(t, s.CacheBytes, int64(4*mib))
			require.NoError(t, r.Close())
			r = open()
		}
		// Nothing is left over: counters are those of what is kept.
		require.NoError(t, r.Close())
		require.Empty(t, r.fetches)
		require.Zero(t, r.Stats().MemoryBytes-inMemory(r))
		w.set(nil)
		full.Store(false)
		r = open()
		for _, b := range w.blocks {
			got, err := r.Get(bg, b)
			require.NoError(t, err)
			require.True(t, bytes.Equal(got, w.want(b)))
		}
		require.NoError(t, r.Close())
	})
}

func inMemory(r *Reader) (n int64) {
	for el := r.memory.lru.Front(); el != nil; el = el.Next() {
		n += el.Value.(*extent).size()
	}
	return n
}

func injected(err error) bool {
	for _, e := range []error{bucket.ErrThrottled, bucket.ErrUnreachable, io.ErrUnexpectedEOF, ErrCorrupt} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func FuzzDecodeHead(f *testing.F) {
	file := fileOf("packs/000", 4096, make([]byte, 100_000))
	f.Add(file[:headSize("packs/000", 100_000)], int64(4096), int64(100_000))
	f.Add([]byte(fileMagic), int64(0), int64(1))
	f.Fuzz(func(t *testing.T, head []byte, lo, length int64) {
		sums, err := decodeHead(head, "packs/000", lo, length)
		if err != nil {
			return
		}
		require.Len(t, sums, int(4*pages(length)))
		require.Error(t, checkPages(make([]byte, length+pageBytes), sums), "more pages than there are checksums for")
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("0000000000001000-00010000")
	f.Add("000000000000-1000-000100")
	f.Fuzz(func(t *testing.T, name string) {
		lo, hi, ok := parseName(name)
		if ok {
			require.Less(t, lo, hi)
			require.LessOrEqual(t, hi-lo, int64(extentBytes))
		}
	})
}

func fileOf(key string, lo int64, data []byte) []byte {
	return append(appendHead(nil, key, lo, data), data...)
}

// Memory of the arena that somebody reads is not given out again before he has ended.
func TestArena(t *testing.T) {
	var mu sync.Mutex
	var m memory
	m.init(&mu, 2*extentBytes)
	filled := func(with byte) *extent {
		e := &extent{hi: extentBytes}
		m.used += e.size()
		e.data, e.slot = m.arena.get(e.size())
		for i := range e.data {
			e.data[i] = with
		}
		m.whole(e)
		return e
	}
	a, b := filled('a'), filled('b')
	if !a.slot {
		t.Log("no memory beside Go's heap on this system")
	}
	held := a.data
	a.pins = 2
	m.remove(a)
	m.remove(b)
	m.unpin(a)
	filled('c') // where b was
	filled('d') // the heap: a is still read
	require.Equal(t, bytes.Repeat([]byte{'a'}, extentBytes), held)
	m.unpin(a)
	e := filled('e')
	require.Equal(t, a.slot, e.slot)
	small, slot := m.arena.get(100)
	require.Len(t, small, 100)
	require.False(t, slot, "a slot would be more than is counted")
}
