package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

// world is a source and a target in memory.
type world struct {
	t        *testing.T
	src, dst *watched
	dir      string
}

// watched is a store that notes what is put there and read from there, and that can be made to fail.
type watched struct {
	Datastore
	mu    sync.Mutex
	put   []string // multihashes, in order
	read  []string
	fault func(op string, h mh.Multihash) error
}

func newWatched() *watched {
	return &watched{Datastore: Datastore{Store: dssync.MutexWrap(ds.NewMapDatastore())}}
}

func (w *watched) check(op string, h mh.Multihash) error {
	if w.fault == nil {
		return nil
	}
	return w.fault(op, h)
}

func (w *watched) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	w.mu.Lock()
	w.read = append(w.read, string(h))
	err := w.check("get", h)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return w.Datastore.Get(ctx, h)
}

func (w *watched) Put(ctx context.Context, blocks []Block) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blocks {
		if err := w.check("put", b.Hash); err != nil {
			return err
		}
		w.put = append(w.put, string(b.Hash))
		if err := w.Datastore.Put(ctx, []Block{b}); err != nil {
			return err
		}
	}
	return nil
}

func newWorld(t *testing.T) *world {
	return &world{t: t, src: newWatched(), dst: newWatched(), dir: t.TempDir()}
}

func (w *world) run(o Options) (Report, error) {
	o.Dir = w.dir
	return Run(w.t.Context(), w.src, w.dst, o)
}

func (w *world) mustRun(o Options) Report {
	w.t.Helper()
	rep, err := w.run(o)
	require.NoError(w.t, err)
	return rep
}

func (w *watched) add(t *testing.T, nodes ...ipld.Node) {
	t.Helper()
	for _, n := range nodes {
		require.NoError(t, w.Store.Put(t.Context(), Key(n.Cid().Hash()), n.RawData()))
	}
}

func (w *watched) all(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for b, err := range w.Blocks(t.Context()) {
		require.NoError(t, err)
		data, err := w.Datastore.Get(t.Context(), b.Hash)
		require.NoError(t, err)
		out[string(b.Hash)] = string(data)
	}
	return out
}

func raw(text string) ipld.Node { return merkledag.NewRawNode([]byte(text)) }

// node links to children, in their order.
func node(text string, children ...ipld.Node) *merkledag.ProtoNode {
	n := merkledag.NodeWithData([]byte(text))
	for i, c := range children {
		if err := n.AddNodeLink(fmt.Sprintf("%04d", i), c); err != nil {
			panic(err)
		}
	}
	return n
}

func roots(nodes ...ipld.Node) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for _, n := range nodes {
			if !yield(n.Cid(), nil) {
				return
			}
		}
	}
}

// dag is a tree with leaves of a size, all of it in order of a walk.
func dag(seed uint64, depth, width, leaf int) (root ipld.Node, all []ipld.Node) {
	r := rand.New(rand.NewPCG(seed, 1))
	var build func(depth int) (ipld.Node, []ipld.Node)
	build = func(depth int) (ipld.Node, []ipld.Node) {
		if depth == 0 {
			b := make([]byte, leaf)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			n := merkledag.NewRawNode(b)
			return n, []ipld.Node{n}
		}
		var children, below []ipld.Node
		for range width {
			c, under := build(depth - 1)
			children = append(children, c)
			below = append(below, under...)
		}
		n := node(fmt.Sprint(seed, depth, r.Uint64()), children...)
		return n, append([]ipld.Node{n}, below...)
	}
	return build(depth)
}

func hashes(nodes ...ipld.Node) (out []string) {
	for _, n := range nodes {
		out = append(out, string(n.Cid().Hash()))
	}
	return out
}

func TestCopiesEverythingPinnedFirstInTheOrderOfTheDAG(t *testing.T) {
	w := newWorld(t)
	first, firstAll := dag(1, 2, 20, 100)
	second, secondAll := dag(2, 3, 4, 3000)
	loose, looseAll := dag(3, 2, 5, 10)
	alone := raw("nobody links to it")
	w.src.add(t, slices.Concat(firstAll, secondAll, looseAll, []ipld.Node{alone})...)

	rep := w.mustRun(Options{Roots: roots(second, first), Reread: true})
	require.Equal(t, w.src.all(t), w.dst.all(t))
	require.EqualValues(t, len(w.src.all(t)), rep.Blocks)
	require.EqualValues(t, rep.Blocks, rep.Copied)
	pinned := slices.Concat(hashes(secondAll...), hashes(firstAll...))
	require.Equal(t, pinned, w.dst.put[:len(pinned)], "a block before those below it, from left to right")
	rest := w.dst.put[len(pinned):]
	at := slices.Index(rest, string(loose.Cid().Hash()))
	require.GreaterOrEqual(t, at, 0)
	// A node of the rest may come before its parent does, but what is below it comes with it.
	for i, h := range rest {
		for _, n := range looseAll {
			if n, ok := n.(*merkledag.ProtoNode); ok && string(n.Cid().Hash()) == h && len(n.Links()) > 0 && n.Cid() != loose.Cid() {
				require.Equal(t, string(n.Links()[0].Cid.Hash()), rest[i+1])
			}
		}
	}
}

func TestASecondRunCopiesNothing(t *testing.T) {
	w := newWorld(t)
	root, all := dag(1, 2, 10, 1000)
	w.src.add(t, all...)
	w.mustRun(Options{Roots: roots(root)})
	w.dst.put, w.src.read = nil, nil
	rep := w.mustRun(Options{Roots: roots(root)})
	require.Empty(t, w.dst.put)
	require.Zero(t, rep.Copied)
	require.EqualValues(t, len(all), rep.Before)
	require.Empty(t, w.src.read, "what was walked is not read again")
}

var errBroken = errors.New("the plug was pulled")

// However often it is broken off, and wherever, it goes on, and no block is put twice that was durable.
func TestBrokenOffAnywhereItGoesOn(t *testing.T) {
	root, all := dag(4, 3, 6, 500)
	for _, op := range []string{"put", "get"} {
		t.Run(op, func(t *testing.T) {
			w := newWorld(t)
			w.src.add(t, all...)
			w.src.add(t, raw("a"), raw("b"))
			left := 0
			breaking := func(seen string, _ mh.Multihash) error {
				if seen != op {
					return nil
				}
				if left--; left < 0 {
					return errBroken
				}
				return nil
			}
			w.src.fault, w.dst.fault = breaking, breaking
			for runs := 1; ; runs++ {
				left = 37
				_, err := w.run(Options{Roots: roots(root), BatchBytes: 2000, InFlight: 4})
				if err == nil {
					require.Greater(t, runs, 3, "it was not broken off")
					break
				}
				require.ErrorIs(t, err, errBroken)
				require.Less(t, runs, 100)
			}
			require.Equal(t, w.src.all(t), w.dst.all(t))
			once := slices.Compact(slices.Sorted(slices.Values(w.dst.put)))
			require.Len(t, w.dst.put, len(once), "no block was put twice")
		})
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	root, all := dag(4, 3, 6, 500)
	w.src.add(t, all...)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	w.dst.fault = func(op string, _ mh.Multihash) error {
		if n++; n == 20 {
			cancel()
		}
		return nil
	}
	_, err := Run(ctx, w.src, w.dst, Options{Dir: w.dir, Roots: roots(root), BatchBytes: 1000})
	require.ErrorIs(t, err, context.Canceled)
	w.mustRun(Options{Roots: roots(root)})
	require.Equal(t, w.src.all(t), w.dst.all(t))
}

func TestDamagedBlocks(t *testing.T) {
	w := newWorld(t)
	root, all := dag(5, 2, 5, 50)
	w.src.add(t, all...)
	bad, lost := all[3], all[7]
	require.NoError(t, w.src.Store.Put(t.Context(), Key(bad.Cid().Hash()), []byte("something else")))
	w.src.fault = func(op string, h mh.Multihash) error {
		if bytes.Equal(h, lost.Cid().Hash()) {
			return fmt.Errorf("%w: the disk says so", ErrDamaged)
		}
		return nil
	}
	var found []string
	o := Options{Roots: roots(root), Reread: true, Found: func(f Finding) { found = append(found, string(f.Hash)) }}
	rep, err := w.run(o)
	require.ErrorIs(t, err, ErrIncomplete)
	require.ErrorContains(t, err, "2 of 31")
	require.ElementsMatch(t, hashes(bad, lost), found)
	require.EqualValues(t, 2, rep.Damaged)
	require.Len(t, rep.Findings, 2)
	require.Len(t, w.dst.all(t), len(all)-2, "all others are copied")

	o.SkipDamaged = true
	rep = w.mustRun(o)
	require.EqualValues(t, 2, rep.Damaged)
	require.Len(t, rep.Findings, 2, "reported again")

	w.src.fault = nil
	w.src.add(t, bad)
	rep = w.mustRun(o)
	require.Zero(t, rep.Damaged)
	require.Equal(t, w.src.all(t), w.dst.all(t))
}

func TestTargetWithOtherContent(t *testing.T) {
	w := newWorld(t)
	root, all := dag(6, 2, 5, 50)
	w.src.add(t, all...)
	other := raw("was here before")
	w.dst.add(t, other, all[1])
	require.NoError(t, w.dst.Store.Put(t.Context(), Key(all[2].Cid().Hash()), []byte("torn")))

	_, err := w.run(Options{Roots: roots(root)})
	require.ErrorIs(t, err, ErrOtherContent)
	require.ErrorContains(t, err, "1 blocks that the source has not")
	require.Empty(t, w.dst.put)

	rep := w.mustRun(Options{Roots: roots(root), Merge: true})
	want := w.src.all(t)
	want[string(other.Cid().Hash())] = "was here before"
	require.Equal(t, want, w.dst.all(t), "a torn block that was there is put right")
	require.NotContains(t, w.dst.put, string(all[1].Cid().Hash()), "a good one is left")
	require.EqualValues(t, 1, rep.Other)
	require.EqualValues(t, len(all)-1, rep.Copied)
}

// What was copied, and then deleted from the source, is deleted from the target. What was there before stays.
func TestDeletesBetweenRuns(t *testing.T) {
	w := newWorld(t)
	root, all := dag(7, 2, 5, 50)
	other := raw("was here before")
	w.src.add(t, all...)
	w.dst.add(t, other)
	w.mustRun(Options{Roots: roots(root), Merge: true})
	require.NoError(t, w.src.Store.Delete(t.Context(), Key(all[4].Cid().Hash())))
	fresh := raw("new")
	w.src.add(t, fresh)

	rep := w.mustRun(Options{Roots: roots(root), Merge: true})
	require.EqualValues(t, 1, rep.Removed)
	require.EqualValues(t, 1, rep.Copied)
	want := w.src.all(t)
	want[string(other.Cid().Hash())] = "was here before"
	require.Equal(t, want, w.dst.all(t))
}

// Losing the ledger costs a reading of the target, no copying.
func TestWithoutTheLedger(t *testing.T) {
	w := newWorld(t)
	root, all := dag(8, 2, 5, 50)
	w.src.add(t, all...)
	w.mustRun(Options{Roots: roots(root)})
	w.dir = t.TempDir()
	w.dst.put = nil
	rep := w.mustRun(Options{Roots: roots(root)})
	require.Empty(t, w.dst.put)
	require.EqualValues(t, len(all), rep.Before)
	require.ElementsMatch(t, hashes(all...), w.dst.read, "each was read once, and hashed")
	w.dst.read = nil
	w.mustRun(Options{Roots: roots(root)})
	require.Empty(t, w.dst.read)
}

// A target that forgets what it was given is found out.
func TestTargetThatLoses(t *testing.T) {
	w := newWorld(t)
	root, all := dag(9, 2, 5, 50)
	w.src.add(t, all...)
	_, err := Run(t.Context(), w.src, &forgetful{w.dst}, Options{Dir: w.dir, Roots: roots(root)})
	require.ErrorIs(t, err, ErrMissing)
	w.mustRun(Options{Roots: roots(root)})
	require.Equal(t, w.src.all(t), w.dst.all(t))
}

type forgetful struct{ *watched }

func (f *forgetful) Put(ctx context.Context, blocks []Block) error {
	return f.watched.Put(ctx, blocks[1:])
}

// syncing is a target whose Put is durable only after Sync.
type syncing struct {
	*watched
	held  []Block
	syncs []int
}

func (s *syncing) Put(_ context.Context, blocks []Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, blocks...)
	return nil
}

func (s *syncing) Sync(ctx context.Context) error {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	size := 0
	for _, b := range held {
		size += len(b.Data)
	}
	s.syncs = append(s.syncs, size)
	return s.watched.Put(ctx, held)
}

func TestSyncedInPiecesOfTheSizeAskedFor(t *testing.T) {
	w := newWorld(t)
	root, all := dag(10, 2, 10, 1000)
	w.src.add(t, all...)
	s := &syncing{watched: w.dst}
	_, err := Run(t.Context(), w.src, s, Options{Dir: w.dir, Roots: roots(root), SyncBytes: 20_000, BatchBytes: 7000, Commits: 3})
	require.NoError(t, err)
	require.Equal(t, w.src.all(t), w.dst.all(t))
	require.Greater(t, len(s.syncs), 5)
	for _, size := range s.syncs[:len(s.syncs)-1] {
		require.LessOrEqual(t, size, 20_000)
		require.Greater(t, size, 15_000)
	}
}

// At least 8 blocks are read at the same time, whatever the shape of what is read.
func TestReadsManyAtOnce(t *testing.T) {
	file, fileAll := dag(11, 2, 40, 2000)
	var leaves []ipld.Node
	for i := range 60 {
		leaves = append(leaves, node(fmt.Sprintf("a small file, %d", i)))
	}
	folder := node("folder", leaves...)
	var loose []ipld.Node
	for i := range 60 {
		loose = append(loose, raw(fmt.Sprintf("loose %d", i)))
	}
	for name, c := range map[string]struct {
		nodes []ipld.Node
		root  ipld.Node
	}{"file": {fileAll, file}, "folder": {append(leaves, folder), folder}, "rest": {loose, nil}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.src.add(t, c.nodes...)
			o := Options{Dir: w.dir}
			if c.root != nil {
				o.Roots = roots(c.root)
			}
			together := &meeting{watched: w.src, want: 8, met: make(chan struct{})}
			_, err := Run(t.Context(), together, w.dst, o)
			require.NoError(t, err)
			require.Equal(t, w.src.all(t), w.dst.all(t))
			select {
			case <-together.met:
			default:
				t.Fatal("8 blocks were never read at the same time")
			}
		})
	}
}

// meeting holds up readers, but for the first two, until as many as wanted have come together, or until the others cannot come.
type meeting struct {
	*watched
	want int
	n    int
	all  int
	met  chan struct{}
	once sync.Once
}

func (m *meeting) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	m.mu.Lock()
	m.all++
	if m.all > 2 { // the root and its first child come alone
		if m.n++; m.n == m.want {
			m.once.Do(func() { close(m.met) })
		}
		m.mu.Unlock()
		<-m.met
	} else {
		m.mu.Unlock()
	}
	return m.watched.Get(ctx, h)
}

func TestOptionsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	for name, o := range map[string]Options{
		"no folder": {}, "InFlight": {Dir: w.dir, InFlight: -1}, "Bandwidth": {Dir: w.dir, Bandwidth: -1},
	} {
		_, err := Run(t.Context(), w.src, w.dst, o)
		require.ErrorContains(t, err, name)
	}
}
