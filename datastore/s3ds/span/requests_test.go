package span

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

const mib = 1 << 20

// The bill of `ipfs cat` of 256 MiB: at most 24 GETs cold, none from the cache, also after a restart.
func TestCat(t *testing.T) {
	gate.Plain(t, "reads gigabytes")
	for name, before := range map[string]int64{"from the start of a pack": 0, "from the middle of a pack": 20 * mib} {
		t.Run(name, func(t *testing.T) {
			sizes, order := unixfs(1024, 256<<10)
			var head []int64
			for n := int64(0); n < before; n += 256 << 10 {
				head = append(head, 256<<10)
			}
			w := newWorld(t, packBytes, append(head, sizes...)...)
			fs := vfs.NewMem()
			r := w.reader(t, cached(fs, 1<<30))
			for _, i := range order {
				w.get(t, r, w.blocks[len(head)+i])
			}
			t.Logf("%d GETs, %.1f MiB\n%v", w.gets.Load(), float64(w.bytes.Load())/mib, w.requests())
			require.LessOrEqual(t, w.gets.Load(), int64(24))
			require.LessOrEqual(t, w.bytes.Load(), int64(290*mib))
			require.NoError(t, r.Close())

			r = w.reader(t, cached(fs, 1<<30))
			w.reset()
			for _, i := range order {
				w.get(t, r, w.blocks[len(head)+i])
			}
			require.Zero(t, w.gets.Load(), "%v", w.requests())
		})
	}
}

// A Range of 1 MiB in the middle: two GETs if the nodes are in a pack of their own and the caller says what it expects; four, if not.
func TestRange(t *testing.T) {
	sizes, _ := unixfs(1024, 256<<10)
	t.Run("nodes among the leaves, nothing expected", func(t *testing.T) {
		w := newWorld(t, packBytes, sizes...)
		r := w.reader(t)
		w.get(t, r, w.blocks[len(w.blocks)-1])
		w.get(t, r, w.blocks[3*175-1]) // the node of leaves 348 to 521, which stand in front of it
		for leaf := 512; leaf <= 516; leaf++ {
			w.get(t, r, w.blocks[leaf+2])
		}
		require.LessOrEqual(t, w.gets.Load(), int64(4), "%v", w.requests())
	})
	t.Run("nodes apart, the rest expected", func(t *testing.T) {
		var leaves, nodes []int64
		for _, n := range sizes {
			if n == 256<<10 {
				leaves = append(leaves, n)
			} else {
				nodes = append(nodes, n)
			}
		}
		w := newWorld(t, packBytes, append(leaves, packBytes)...) // what ends the last pack of leaves
		n := w.nodes(t, nodes...)
		r := w.reader(t)
		w.get(t, r, n[len(n)-1])
		w.get(t, r, n[2])
		for leaf := 400; leaf < 410; leaf++ { // 5 that the Range touches, and 5 that kubo asks for besides
			b := w.blocks[leaf]
			b.Near = func() Expected { return Expected{After: 40 * mib, Window: 8 * mib, Whole: true} }
			w.get(t, r, b)
		}
		require.LessOrEqual(t, w.gets.Load(), int64(2), "%v", w.requests())
	})
}

// A file is read to its end, and what comes behind it is let be; how much that is worth shows without the caller's word.
func TestEndOfFile(t *testing.T) {
	var sizes []int64
	for range 1024 {
		sizes = append(sizes, 256<<10)
	}
	w := newWorld(t, packBytes, sizes...)
	const file = 400 // blocks: 100 MiB of 256
	read := func(known bool) (gets, moved int64) {
		w.reset()
		r := w.reader(t)
		for i, b := range w.blocks[:file] {
			if known {
				b.Left = int64(file-i) * (256 << 10)
			}
			w.get(t, r, b)
		}
		require.NoError(t, r.Close())
		return w.gets.Load(), w.bytes.Load()
	}
	gets, moved := read(true)
	_, blind := read(false)
	t.Logf("%d GETs; %.1f MiB moved, %.1f without knowing the end", gets, float64(moved)/mib, float64(blind)/mib)
	require.LessOrEqual(t, gets, int64(12))
	require.LessOrEqual(t, moved, int64(105*mib))
}

// An add that writes many blocks at once leaves the last ones of a file in some order. Who reads the one that lies last, and has others to come,
// does not need the pack behind it, where another file begins.
func TestEndOfFileInAnyOrder(t *testing.T) {
	var sizes []int64
	for range 256 {
		sizes = append(sizes, 256<<10)
	}
	w := newWorld(t, packBytes, sizes...)
	file := w.blocks[:slices.IndexFunc(w.blocks, func(b Block) bool { return b.Pack.Key != w.packs[0].Key })]
	order := slices.Clone(file)
	end := order[len(order)-16:]
	end[0], end[15] = end[15], end[0]
	r := w.reader(t, cached(vfs.NewMem(), 512*mib))
	for range 2 {
		for i, b := range order {
			b.Left = int64(len(order)-i) * (256 << 10)
			w.get(t, r, b)
		}
	}
	require.NoError(t, r.Close())
	for _, request := range w.requests() {
		require.Contains(t, request, w.packs[0].Key)
	}
}

// A reader of a long file has two windows on their way besides the one that it reads, but not before it has read for a while.
func TestTwoWindowsAhead(t *testing.T) {
	var sizes []int64
	for range 1024 {
		sizes = append(sizes, 256<<10)
	}
	w := newWorld(t, packBytes, sizes...)
	r := w.reader(t)
	fetched := func(upTo int) (ahead int64) { // bytes behind the last block that was read
		for i, b := range w.blocks[:upTo] {
			b.Left = int64(len(w.blocks)-i) * (256 << 10)
			w.get(t, r, b)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		last := w.blocks[upTo-1]
		_, d, ok := r.front(place{last.Pack, last.Offset + last.Length}, 1<<40)
		require.True(t, ok)
		return d
	}
	require.LessOrEqual(t, fetched(8*4), int64(25*mib), "8 MiB were read")
	ahead := fetched(128 * 4)
	require.Greater(t, ahead, int64(32*mib), "128 MiB were read")
	require.LessOrEqual(t, ahead, int64(50*mib))
}

// A walk over all nodes of a large store costs a few requests, in whatever order; one that stops early does not move all of it.
func TestNodes(t *testing.T) {
	var sizes []int64
	for range 2_000 {
		sizes = append(sizes, 9<<10)
	}
	w := newWorld(t, packBytes, 1)
	n := w.nodes(t, sizes...)
	r := w.reader(t, cached(vfs.NewMem(), 1<<30))
	w.get(t, r, n[len(n)-1])
	require.EqualValues(t, 1, w.gets.Load())
	require.LessOrEqual(t, w.bytes.Load(), int64(256<<10))
	for _, i := range rand.New(rand.NewPCG(5, 6)).Perm(len(n)) {
		w.get(t, r, n[i])
	}
	t.Logf("%v", w.requests())
	require.LessOrEqual(t, w.gets.Load(), int64(9))
	require.LessOrEqual(t, w.bytes.Load(), int64(24*mib))
}

// Uniformly random reads of a store much larger than the cache: one GET each, and no byte more than asked for.
func TestRandomReads(t *testing.T) {
	var sizes []int64
	for i := range 2_000 {
		sizes = append(sizes, int64(1+i*7919%100_000))
	}
	w := newWorld(t, 8*mib, sizes...)
	r := w.reader(t, cached(vfs.NewMem(), 4*mib), func(o *Options) { o.MemoryBytes = MinMemoryBytes })
	rng := rand.New(rand.NewPCG(3, 4))
	asked, last := int64(0), -2
	for n, i := range rng.Perm(len(w.blocks)) {
		if i == last+1 || i == last-1 {
			continue
		}
		last = i
		before := w.gets.Load()
		w.get(t, r, w.blocks[i])
		asked += w.blocks[i].Length
		require.LessOrEqual(t, w.gets.Load()-before, int64(1))
		if n == 600 {
			break
		}
	}
	require.LessOrEqual(t, w.bytes.Load(), 2*asked)
	require.LessOrEqual(t, w.gets.Load(), int64(601))
}

// Two readers of one file, at two places, and a third in another pack, each have a window of their own, and gain from each other.
func TestSeveralReaders(t *testing.T) {
	sizes, order := unixfs(512, 256<<10)
	w := newWorld(t, packBytes, sizes...)
	r := w.reader(t, cached(vfs.NewMem(), 1<<30))
	half := len(order) / 2
	for i := range half {
		w.get(t, r, w.blocks[order[i]])
		w.get(t, r, w.blocks[order[half+i]])
	}
	require.LessOrEqual(t, w.gets.Load(), int64(24), "%v", w.requests())
	require.LessOrEqual(t, w.bytes.Load(), int64(160*mib))
	w.reset()
	for _, i := range order {
		w.get(t, r, w.blocks[i])
	}
	require.Zero(t, w.gets.Load())
}

// Many small files, each one block, read in the order in which they arrived, here and there with one left out.
func TestOneBlockFiles(t *testing.T) {
	var sizes []int64
	for i := range 2_000 {
		sizes = append(sizes, int64(1024+i*7919%50_000))
	}
	w := newWorld(t, packBytes, sizes...)
	r := w.reader(t, cached(vfs.NewMem(), 1<<30))
	for i, b := range w.blocks {
		if i%17 != 3 {
			w.get(t, r, b)
		}
	}
	require.LessOrEqual(t, w.gets.Load(), int64(16), "%v", w.requests())
}

// Small files whose root stands behind their leaves cost what they are, not a window each.
func TestSmallFilesAtRandom(t *testing.T) {
	var sizes []int64
	for range 64 {
		sizes = append(sizes, 256<<10, 256<<10, 110)
		sizes = append(sizes, 200<<10, 150<<10, 50<<10) // something else
	}
	w := newWorld(t, 8*mib, sizes...)
	r := w.reader(t)
	asked := int64(0)
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(64) {
		for _, b := range []int{6*i + 2, 6 * i, 6*i + 1} {
			w.get(t, r, w.blocks[b])
			asked += w.blocks[b].Length
		}
	}
	require.LessOrEqual(t, w.bytes.Load(), 3*asked)
	require.LessOrEqual(t, w.gets.Load(), int64(64*3))
}

// Bitswap: 128 wants at once for the blocks of one file.
func TestManyWantsAtOnce(t *testing.T) {
	sizes, order := unixfs(1024, 256<<10)
	w := newWorld(t, packBytes, sizes...)
	r := w.reader(t, cached(vfs.NewMem(), 1<<30))
	work := make(chan int)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range work {
				got, err := r.Get(bg, w.blocks[i])
				if err != nil || !bytes.Equal(got, w.want(w.blocks[i])) {
					t.Error(i, err)
				}
			}
		})
	}
	for _, i := range order {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d GETs", w.gets.Load())
	require.LessOrEqual(t, w.gets.Load(), int64(26), "%v", w.requests())
}

func TestOptions(t *testing.T) {
	_, err := New(nil, Options{MaxWindow: 1, MemoryBytes: 1, Concurrency: -1, CacheDir: "x"})
	for _, part := range []string{"read window", "read memory", "download concurrency", "cache size"} {
		require.ErrorContains(t, err, part)
	}
	w := newWorld(t, mib, 10, 0)
	r := w.reader(t)
	w.get(t, r, w.blocks[1])
	require.Zero(t, w.gets.Load(), "an empty block needs no request")
	b := w.blocks[0]
	b.Length = b.Pack.End
	_, err = r.Get(bg, b)
	require.ErrorContains(t, err, "outside of its pack")
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = r.Get(ctx, w.blocks[0])
	require.ErrorIs(t, err, context.Canceled)
}

// What is expected behind a block is a guess, and may be more than the pack has.
func TestMoreIsExpectedThanThereIs(t *testing.T) {
	w := newWorld(t, packBytes, 256<<10, 100<<10)
	r := w.reader(t)
	b := w.blocks[0]
	b.Near = func() Expected { return Expected{After: 300 << 10, Window: 512 << 10} }
	w.get(t, r, b)
	w.get(t, r, w.blocks[1])
	require.Len(t, w.requests(), 1)
}
