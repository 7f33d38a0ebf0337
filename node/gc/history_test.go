package gc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/node/pins"
	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

const (
	historyAge   = 100 * time.Millisecond
	historySlice = 10 * time.Millisecond
)

// fault is a part of the protection that is taken out.
type fault string

const (
	none            fault = ""
	noTouch         fault = "blocks are not touched"
	touchAfter      fault = "blocks are touched after they were put"
	noOperations    fault = "the horizon does not know operations"
	lostTouches     fault = "touches are lost at a restart"
	noAdoption      fault = "copied content is not adopted"
	lookBeforeTouch fault = "a pin looks for blocks before it touches them"
	noWait          fault = "a touch does not wait for a deletion"
)

// TestHistories runs adders, imports, pins, unpins, copies into MFS, kills and restarts next to collections, under a virtual
// clock: nothing acknowledged is ever incomplete, and in the end nothing is left that is not needed.
func TestHistories(t *testing.T) {
	seeds := gate.Rounds(10, 40, 1000)
	var total tally
	for seed := range uint64(seeds) {
		h, lost := history(t, seed, none)
		require.Empty(t, lost, "seed %d", seed)
		total.acks += h.acks
		total.collections += h.collections
		total.removed += h.removed
	}
	t.Logf("%d histories: %d acknowledged, %d collections, %d blocks removed", seeds, total.acks, total.collections, total.removed)
	require.Positive(t, total.removed)
	require.Greater(t, total.acks, seeds)
}

// TestHistoriesWithout shows that each part of the protection is needed, and that the histories would notice.
func TestHistoriesWithout(t *testing.T) {
	for _, f := range []fault{noTouch, touchAfter, noOperations, lostTouches, noAdoption, lookBeforeTouch, noWait} {
		t.Run(string(f), func(t *testing.T) {
			for seed := range uint64(150) {
				if _, lost := history(t, seed, f); len(lost) > 0 {
					t.Logf("seed %d: %s", seed, lost[0])
					return
				}
			}
			t.Fatal("no history has lost anything")
		})
	}
}

type tally struct{ acks, collections, removed int }

func history(t *testing.T, seed uint64, f fault) (n tally, lost []string) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, f: f, seed: seed, dir: dir, store: &memory{data: map[string][]byte{}, put: map[string]time.Time{}}, pinned: &pinset{}}
		r := rand.New(rand.NewPCG(seed, 1))
		for range 3 {
			w.live(r.Uint64(), time.Duration(100+r.IntN(500))*time.Millisecond)
		}
		lost = w.lost()
		n = w.tally
		if f != none {
			return
		}
		// Nothing that is not needed outlives the age and one more collection.
		g, done := w.open()
		time.Sleep(historyAge + 2*historySlice)
		_, err := g.Collect(t.Context(), w.toCollect(), Options{Age: -1})
		require.NoError(t, err)
		done()
		require.Equal(t, len(w.reachable()), len(w.store.data), "blocks that nothing needs are left")
	})
	return n, lost
}

type world struct {
	t      *testing.T
	f      fault
	seed   uint64
	dir    string
	store  *memory
	pinned *pinset

	mu    sync.Mutex
	mfs   []cid.Cid // children of the root of MFS
	roots []cid.Cid // that were ever made
	tally tally
}

// open is a start of the process.
func (w *world) open() (*Guard, func()) {
	g := NewGuard(historyAge, nil)
	now := func() touched.Time { return touched.Time(time.Now().UnixNano()) }
	var log *touched.Log
	log, err := touched.Open(filepath.Join(w.dir, "touched"), touched.Options{
		Now: now, Boot: func() string { return "boot" }, Slice: historySlice,
		Floor: func() touched.Time {
			if log == nil {
				return 0
			}
			return g.Floor(now())
		},
	})
	require.NoError(w.t, err)
	g.Use(log)
	if w.f == lostTouches {
		g.Use(&forgetful{History: log, since: now()})
	}
	return g, func() { require.NoError(w.t, log.Close()) }
}

// forgetful does not know what was before it, and says that it does.
type forgetful struct {
	History
	since touched.Time
}

func (f *forgetful) Since() touched.Time { return 0 }
func (f *forgetful) Visit(from touched.Time, fn func(touched.Digest)) error {
	return f.History.Visit(max(from, f.since), fn)
}

// live is the life of one process, which ends by a kill.
func (w *world) live(seed uint64, d time.Duration) {
	g, done := w.open()
	defer done()
	ctx, kill := context.WithTimeout(w.t.Context(), d)
	defer kill()
	r := rand.New(rand.NewPCG(seed, 2))
	var wg sync.WaitGroup
	for range 5 {
		a := &actor{world: w, ctx: ctx, g: g, r: rand.New(rand.NewPCG(r.Uint64(), 3))}
		a.blocks = w.around(g, a)
		local := merkledag.NewDAGService(blockservice.New(a.blocks, offline.Exchange(a.blocks)))
		a.pins = pins.New(w.pinned, pins.Options{DAG: local, Local: local, Has: a.has, Touch: a.touch})
		wg.Go(func() {
			for ctx.Err() == nil {
				a.step()
				a.pause(20)
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(seed, 4))
		for ctx.Err() == nil {
			res, err := g.Collect(ctx, w.toCollect(), Options{Age: -1})
			if err != nil && ctx.Err() == nil && w.f == none {
				w.t.Errorf("seed %d: collect: %v", w.seed, err)
			}
			w.mu.Lock()
			w.tally.collections++
			w.tally.removed += res.Removed
			w.mu.Unlock()
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	})
	wg.Wait()
}

func (w *world) toCollect() Store {
	return Store{Blocks: w.store, Pins: w.pinned, Roots: func(context.Context) ([]cid.Cid, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.mfs), nil
	}}
}

// actor is a client of the node.
type actor struct {
	*world
	ctx    context.Context
	g      *Guard
	r      *rand.Rand
	blocks blockstore.Blockstore
	pins   *pins.Pinner
}

func (a *actor) pause(ms int) { time.Sleep(time.Duration(a.r.IntN(ms*1000)) * time.Microsecond) }

func (a *actor) begin() *Operation {
	if a.f == noOperations {
		return &Operation{guard: &Guard{}}
	}
	return a.g.Begin()
}

// has and touch are what the pinner uses.
func (a *actor) has(ctx context.Context, c cid.Cid) (bool, error) { return a.blocks.Has(ctx, c) }

func (a *actor) touch(ctx context.Context, keys ...touched.Digest) error {
	switch a.f {
	case noTouch, lookBeforeTouch:
		return nil
	}
	return a.g.Touch(ctx, keys...)
}

// around is the guard's blockstore, or one with a fault.
func (w *world) around(g *Guard, _ *actor) blockstore.Blockstore {
	switch w.f {
	case noTouch:
		return w.store
	case touchAfter:
		return late{w.store, g}
	case noWait:
		return hasty{w.store, g}
	}
	return g.Blocks(w.store, false)
}

type late struct {
	*memory
	g *Guard
}

func (l late) Put(ctx context.Context, b blocks.Block) error {
	if err := l.memory.Put(ctx, b); err != nil {
		return err
	}
	return l.g.Touch(ctx, touched.Key(b.Cid().Hash()))
}

// hasty touches, and does not wait for a deletion of the very block.
type hasty struct {
	*memory
	g *Guard
}

func (h hasty) Put(ctx context.Context, b blocks.Block) error {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := h.g.Touch(gone, touched.Key(b.Cid().Hash())); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return h.memory.Put(ctx, b)
}

// dag makes a root with leaves of a small alphabet, so that content comes again.
func (a *actor) dag() (root format.Node, all []blocks.Block) {
	n := new(merkledag.ProtoNode)
	for range 1 + a.r.IntN(4) {
		leaf := merkledag.NewRawNode([]byte{byte(a.r.IntN(40))})
		if err := n.AddNodeLink("", leaf); err != nil {
			a.t.Error(err)
		}
		all = append(all, leaf)
	}
	if a.r.IntN(3) == 0 { // a level more
		top := new(merkledag.ProtoNode)
		if err := top.AddNodeLink("", n); err != nil {
			a.t.Error(err)
		}
		return top, append(all, n, top)
	}
	return n, append(all, n)
}

func (a *actor) put(all []blocks.Block, slow int) error {
	for _, b := range all {
		if err := a.blocks.Put(a.ctx, b); err != nil {
			return err
		}
		a.pause(slow)
	}
	return nil
}

func (a *actor) made(c cid.Cid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roots = append(a.roots, c)
}

func (a *actor) acknowledged() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.acks++
}

func (a *actor) some() (cid.Cid, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.roots) == 0 {
		return cid.Undef, false
	}
	return a.roots[a.r.IntN(len(a.roots))], true
}

func (a *actor) step() {
	switch a.r.IntN(6) {
	case 0: // ipfs add: may take longer than the age
		op := a.begin()
		defer op.End()
		root, all := a.dag()
		if a.put(all, 80) != nil {
			return
		}
		a.made(root.Cid())
		if a.pins.PinWithMode(a.ctx, root.Cid(), pin.Recursive, "") == nil {
			a.acknowledged()
		}
	case 1: // dag import without pins, and then pin add
		root, all := a.dag()
		if a.put(all, 5) != nil {
			return
		}
		a.made(root.Cid())
		a.pause(20)
		if a.pin(root.Cid()) != nil && a.ctx.Err() == nil && a.f == none {
			a.t.Errorf("seed %d: what was imported a moment ago cannot be pinned", a.seed)
		}
	case 2: // pin add of what is here, or was
		if c, ok := a.some(); ok {
			_ = a.pin(c) // what is gone cannot be pinned
		}
	case 3, 4: // pin rm, files rm
		if c, ok := a.some(); ok {
			a.mu.Lock()
			a.mfs = slices.DeleteFunc(a.mfs, c.Equals)
			a.mu.Unlock()
			_ = a.pinned.Unpin(a.ctx, c, true)
		}
	case 5: // files cp of what is here, if it is whole
		c, ok := a.some()
		if !ok {
			return
		}
		op := a.begin()
		defer op.End()
		if a.f != noAdoption {
			if op.Adopt(a.ctx, c) != nil {
				return
			}
		}
		// A client that knows that the content is here; a copy itself is lazy.
		if a.whole(c) {
			a.pause(5)
			if a.ctx.Err() != nil {
				return
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.f != noAdoption {
				a.g.Published(c)
			}
			a.mfs = append(a.mfs, c)
			a.tally.acks++
		}
	}
}

func (a *actor) pin(c cid.Cid) error {
	op := a.begin()
	defer op.End()
	if err := a.pins.Fetch(pins.WithLocal(a.ctx), c); err != nil {
		return err
	}
	a.pause(5)
	if err := a.pins.PinWithMode(a.ctx, c, pin.Recursive, ""); err != nil {
		return err
	}
	a.acknowledged()
	return nil
}

func (w *world) whole(c cid.Cid) bool { return w.missing(c) == "" }

func (w *world) missing(c cid.Cid) string {
	seen := map[string]bool{}
	return w.below(c, seen)
}

func (w *world) below(c cid.Cid, seen map[string]bool) string {
	w.store.mu.Lock()
	data, ok := w.store.data[string(c.Hash())]
	w.store.mu.Unlock()
	if !ok {
		return c.String()
	}
	seen[string(c.Hash())] = true
	if c.Prefix().Codec == cid.Raw {
		return ""
	}
	n, err := merkledag.DecodeProtobuf(data)
	require.NoError(w.t, err)
	for _, l := range n.Links() {
		if m := w.below(l.Cid, seen); m != "" {
			return m
		}
	}
	return ""
}

func (w *world) needed() []cid.Cid { return append(w.pinned.roots(), w.mfs...) }

func (w *world) lost() (lost []string) {
	lost = append(lost, w.store.young...)
	for _, c := range w.needed() {
		if m := w.missing(c); m != "" {
			lost = append(lost, fmt.Sprintf("%s is acknowledged, and %s is gone", c, m))
		}
	}
	return lost
}

func (w *world) reachable() map[string]bool {
	seen := map[string]bool{}
	for _, c := range w.needed() {
		w.below(c, seen)
	}
	return seen
}

// memory is a store whose calls take time. It outlives its process.
type memory struct {
	blockstore.Blockstore // nothing else is called
	mu                    sync.Mutex
	data                  map[string][]byte
	put                   map[string]time.Time // when the last Put that has returned began
	young                 []string             // blocks that were deleted before they were old enough
}

func (m *memory) latency(c cid.Cid) {
	time.Sleep(time.Duration(100+int(c.Hash()[5])*8) * time.Microsecond)
}

// Put, like stores that compare, writes nothing that is there.
func (m *memory) Put(ctx context.Context, b blocks.Block) error {
	began, key := time.Now(), string(b.Cid().Hash())
	m.latency(b.Cid())
	m.mu.Lock()
	_, there := m.data[key]
	m.mu.Unlock()
	m.latency(b.Cid())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !there {
		m.data[key] = b.RawData()
	}
	m.put[key] = began
	return nil
}

func (m *memory) Has(ctx context.Context, c cid.Cid) (bool, error) {
	m.latency(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.data[string(c.Hash())]
	return ok, ctx.Err()
}

func (m *memory) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	b, err := m.Get(ctx, c)
	if err != nil {
		return -1, err
	}
	return len(b.RawData()), nil
}

func (m *memory) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	m.latency(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.data[string(c.Hash())]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok:
		return nil, format.ErrNotFound{Cid: c}
	}
	return blocks.NewBlockWithCid(data, c)
}

func (m *memory) DeleteBlock(ctx context.Context, c cid.Cid) error {
	for range 4 { // slower than what may come between
		m.latency(c)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if put, ok := m.put[string(c.Hash())]; ok && time.Since(put) < historyAge {
		m.young = append(m.young, fmt.Sprintf("block %s was put %s ago, and is removed", c, time.Since(put)))
	}
	delete(m.data, string(c.Hash()))
	return nil
}

func (m *memory) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan cid.Cid, len(m.data))
	for k := range m.data {
		ch <- cid.NewCidV1(cid.Raw, []byte(k))
	}
	close(ch)
	return ch, nil
}

// pinset is a pinner without names. It outlives its process.
type pinset struct {
	pin.Pinner // nothing else is called
	mu         sync.Mutex
	set        map[cid.Cid]bool
}

func (p *pinset) roots() (all []cid.Cid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.set {
		all = append(all, c)
	}
	return all
}

func stream(all []cid.Cid) <-chan pin.StreamedPin {
	ch := make(chan pin.StreamedPin, len(all))
	for _, c := range all {
		ch <- pin.StreamedPin{Pin: pin.Pinned{Key: c}}
	}
	close(ch)
	return ch
}

func (p *pinset) RecursiveKeys(context.Context, bool) <-chan pin.StreamedPin {
	return stream(p.roots())
}
func (p *pinset) DirectKeys(context.Context, bool) <-chan pin.StreamedPin   { return stream(nil) }
func (p *pinset) InternalPins(context.Context, bool) <-chan pin.StreamedPin { return stream(nil) }

func (p *pinset) CheckIfPinnedWithType(_ context.Context, mode pin.Mode, _ bool, cids ...cid.Cid) (out []pin.Pinned, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cids {
		m := pin.NotPinned
		if p.set[c] {
			m = mode
		}
		out = append(out, pin.Pinned{Key: c, Mode: m})
	}
	return out, nil
}

func (p *pinset) PinWithMode(ctx context.Context, c cid.Cid, _ pin.Mode, _ string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[cid.Cid]bool{}
	}
	p.set[c] = true
	return nil
}

func (p *pinset) Unpin(_ context.Context, c cid.Cid, _ bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.set, c)
	return nil
}
