package index

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// state is everything that an index can be asked for.
type state struct {
	entries  map[string]Location
	packs    map[PackID]Pack
	next     PackID
	complete bool
}

func (s state) clone() state {
	s.entries, s.packs = maps.Clone(s.entries), maps.Clone(s.packs)
	return s
}

// recount derives the live counts from the entries, as a full scan would.
func (s state) recount() {
	for id, p := range s.packs {
		p.LiveBlocks, p.LiveBytes = 0, 0
		s.packs[id] = p
	}
	for _, l := range s.entries {
		if l.Kind == InPack {
			p := s.packs[l.Pack]
			p.LiveBlocks++
			p.LiveBytes += l.Length
			s.packs[l.Pack] = p
		}
	}
}

func (s state) stats() (st Stats) {
	for _, l := range s.entries {
		st.Blocks++
		st.Bytes += l.Length
		switch l.Kind {
		case Journal:
			st.JournalBlocks++
			st.JournalBytes += l.Length
		case Loose:
			st.LooseBlocks++
			st.LooseBytes += l.Length
		case InPack:
			st.LiveBlocks++
			st.LiveBytes += l.Length
		}
	}
	for _, p := range s.packs {
		st.Packs++
		st.PackBytes += p.Size
		st.DeadBytes += p.Bytes - p.LiveBytes
	}
	return st
}

// read asks an index for everything.
func read(x *Index) (state, error) {
	s := state{entries: map[string]Location{}, packs: map[PackID]Pack{}, complete: x.Complete(), next: x.totals.nextPack}
	for e, err := range x.Entries(nil) {
		if err != nil {
			return s, err
		}
		s.entries[string(e.Key)] = e.Location
		if l, err := x.Get(e.Key); err != nil || l != e.Location {
			return s, fmt.Errorf("get %x: %v, %w; listed %v", e.Key, l, err, e.Location)
		}
	}
	for _, p := range x.Packs() {
		s.packs[p.ID] = p
	}
	if got, want := x.Stats(), s.stats(); got != want {
		return s, fmt.Errorf("stats %+v, counted %+v", got, want)
	}
	return s, nil
}

// history drives an index and a model of it. possible are the states that a crash may leave: the last committed one,
// and the one behind each atomic update since.
type history struct {
	fs       *vfs.MemFS
	x        *Index
	now      state
	possible []state
	segment  uint64
	packs    int
}

func (h *history) step(change func(*state)) {
	change(&h.now)
	h.now.recount()
	h.possible = append(h.possible, h.now.clone())
}

func (h *history) committed() { h.possible = []state{h.now.clone()} }

const keys = 40

func (h *history) some(t *rapid.T) []int {
	return rapid.SliceOfN(rapid.IntRange(0, keys-1), 1, 12).Draw(t, "keys")
}

func (h *history) put(t *rapid.T) {
	h.segment++
	var entries []Entry
	for n, i := range h.some(t) {
		entries = append(entries, Entry{key(i), Location{Kind: Journal, Segment: h.segment, Offset: int64(n) * 100, Length: int64(i + 1)}})
	}
	_, err := h.x.PutJournal(bg, entries...)
	require.NoError(t, err)
	h.step(func(s *state) {
		for _, e := range entries {
			if _, ok := s.entries[string(e.Key)]; !ok {
				s.entries[string(e.Key)] = e.Location
			}
		}
	})
}

func (h *history) putLoose(t *rapid.T) {
	var entries []Entry
	for _, i := range h.some(t) {
		entries = append(entries, Entry{key(i), Location{Kind: Loose, Length: int64(i + 1)}})
	}
	_, err := h.x.PutLoose(bg, entries...)
	require.NoError(t, err)
	h.step(func(s *state) {
		for _, e := range entries {
			if old, ok := s.entries[string(e.Key)]; !ok || old.Kind == Loose {
				s.entries[string(e.Key)] = e.Location
			}
		}
	})
}

func (h *history) remove(t *rapid.T) {
	var gone [][]byte
	for _, i := range h.some(t) {
		gone = append(gone, key(i))
	}
	_, err := h.x.Delete(bg, gone...)
	require.NoError(t, err)
	h.step(func(s *state) {
		for _, k := range gone {
			delete(s.entries, string(k))
		}
	})
}

func (h *history) addPack(t *rapid.T) {
	take := Take{
		Absent:  rapid.Bool().Draw(t, "absent"),
		Journal: rapid.Bool().Draw(t, "journal"),
		Loose:   rapid.Bool().Draw(t, "loose"),
	}
	ids := slices.Sorted(maps.Keys(h.now.packs))
	if len(ids) > 0 {
		take.Packs = rapid.SliceOf(rapid.SampledFrom(ids)).Draw(t, "from")
	}
	h.packs++
	p := Pack{ID: h.now.next, Name: fmt.Sprintf("pack-%02d", h.packs), Size: 10_000, IndexOffset: 9_000, Incomplete: true}
	var entries []Entry
	for n, i := range h.some(t) {
		entries = append(entries, Entry{key(i), Location{Offset: int64(n) * 100, Length: int64(i + 1)}})
		p.Blocks++
		p.Bytes += int64(i + 1)
	}
	id, err := h.x.AddPack(bg, PackInfo{Name: p.Name, Size: p.Size, IndexOffset: p.IndexOffset}, entries, take)
	require.NoError(t, err)
	require.Equal(t, p.ID, id)
	h.step(func(s *state) { s.packs[id] = p; s.next++ })
	h.step(func(s *state) {
		p.Incomplete = false
		s.packs[id] = p
		for _, e := range entries {
			old, had := s.entries[string(e.Key)]
			if take.takes(old, had) {
				s.entries[string(e.Key)] = Location{Kind: InPack, Pack: id, Offset: e.Offset, Length: e.Length}
			}
		}
	})
}

func (h *history) removePack(t *rapid.T) {
	for _, id := range slices.Sorted(maps.Keys(h.now.packs)) {
		err := h.x.RemovePack(bg, id)
		if h.now.packs[id].LiveBlocks > 0 {
			require.ErrorIs(t, err, ErrPackInUse)
			continue
		}
		require.NoError(t, err)
		h.step(func(s *state) { delete(s.packs, id) })
	}
}

func (h *history) commit(t *rapid.T) {
	require.NoError(t, h.x.Commit(bg))
	h.committed()
}

func (h *history) complete(t *rapid.T) {
	v := rapid.Bool().Draw(t, "complete")
	require.NoError(t, h.x.SetComplete(bg, v))
	h.step(func(s *state) { s.complete = v })
	h.committed()
}

// flush makes tables of what is in memory, so that not everything lies in the log.
func (h *history) flush(t *rapid.T) { require.NoError(t, h.x.db.Flush()) }

func (h *history) reopen(t *rapid.T) {
	require.NoError(t, h.x.Close())
	h.open(t)
	h.committed()
}

func (h *history) crash(t *rapid.T) {
	cfg := vfs.CrashCloneCfg{
		UnsyncedDataPercent: rapid.SampledFrom([]int{0, 30, 90, 100}).Draw(t, "unsynced"),
		RNG:                 rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)),
	}
	clone := h.fs.CrashClone(cfg)
	require.NoError(t, h.x.Close())
	h.fs = clone
	h.open(t)
	got, err := read(h.x)
	require.NoError(t, err)
	at := slices.IndexFunc(h.possible, func(s state) bool { return equal(s, got) })
	require.GreaterOrEqual(t, at, 0, "%+v is none of the %d states that a crash may leave", got, len(h.possible))
	h.now = got
	require.NoError(t, h.x.Commit(bg))
	h.committed()
}

func equal(a, b state) bool {
	return a.complete == b.complete && a.next == b.next && maps.Equal(a.entries, b.entries) && maps.Equal(a.packs, b.packs)
}

func (h *history) open(t *rapid.T) {
	x, err := Open("ix", Options{Identity: testIdentity, FS: h.fs, CacheBytes: 1 << 20})
	require.NoError(t, err)
	h.x = x
}

func (h *history) check(t *rapid.T) {
	got, err := read(h.x)
	require.NoError(t, err)
	require.True(t, equal(h.now, got), "index %+v\nmodel %+v", got, h.now)
}

// Whatever happens, and wherever power fails: what the index says is what a prefix of its history made, everything up to
// the last commit included, and its counters are those of a full scan.
func TestRandomHistories(t *testing.T) {
	gate.Checks(t, 10, 30, 200)
	rapid.Check(t, func(t *rapid.T) {
		h := &history{fs: vfs.NewCrashableMem(), now: state{entries: map[string]Location{}, packs: map[PackID]Pack{}, next: 1}}
		h.open(t)
		h.committed()
		defer func() { _ = h.x.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"put": h.put, "put again": h.put, "loose": h.putLoose, "delete": h.remove,
			"add pack": h.addPack, "remove packs": h.removePack, "commit": h.commit, "complete": h.complete,
			"flush": h.flush, "reopen": h.reopen, "crash": h.crash, "": h.check,
		})
	})
}

// sample returns an index on disk with tables, a log behind them, and its state.
func sample(t *testing.T) (*vfs.MemFS, state) {
	fs := vfs.NewCrashableMem()
	x := openAt(t, fs)
	for p := range 4 {
		e := entriesOf(p*100, p*100+100)
		_, err := x.AddPack(bg, info(fmt.Sprint("p", p), e), e, Take{Absent: true})
		require.NoError(t, err)
		if p < 3 {
			require.NoError(t, x.db.Flush())
		}
		require.NoError(t, x.Commit(bg))
	}
	s, err := read(x)
	require.NoError(t, err)
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, x.Close())
	return clone, s
}

func copyFS(t *testing.T, from vfs.FS) *vfs.MemFS {
	to := vfs.NewMem()
	ok, err := vfs.Clone(from, to, "ix", "ix")
	require.NoError(t, err)
	require.True(t, ok)
	return to
}

// neverWrong opens a damaged index: it may say that it is corrupt, at open or at use, or be right.
func neverWrong(t *testing.T, fs vfs.FS, want state, what string) (detected bool) {
	x, err := Open("ix", Options{Identity: testIdentity, FS: fs, CacheBytes: 1 << 20})
	if err == nil {
		var got state
		if got, err = read(x); err == nil {
			require.True(t, equal(want, got), "%s: a wrong answer", what)
			for i := 1_000; i < 1_100; i++ {
				ok, err := x.Has(key(i))
				require.True(t, err != nil || !ok, "%s", what)
			}
			require.NoError(t, x.Close())
			return false
		}
		_ = x.Close()
	}
	require.True(t, isRebuild(err), "%s: %v", what, err)
	return true
}

// isRebuild reports whether the error calls for a rebuild.
func isRebuild(err error) bool {
	for _, e := range []error{ErrCorrupt, ErrFormat} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// TestFlippedBits changes one bit at a number of places of each file.
func TestFlippedBits(t *testing.T) {
	gate.Plain(t, "opens the index once for each bit")
	random := gate.Random(t)
	places := int64(gate.Rounds(6, 15, 60))
	fs, want := sample(t)
	found := 0
	for _, name := range files(t, fs) {
		size := fileSize(t, fs, name)
		step := 1 + size/places
		for at := random.Int64N(step); at < size; at += step {
			damaged := copyFS(t, fs)
			f, err := damaged.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
			require.NoError(t, err)
			b := make([]byte, 1)
			_, err = f.ReadAt(b, at)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{b[0] ^ 1<<(at%8)}, at)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			if neverWrong(t, damaged, want, fmt.Sprintf("bit flipped in %s at %d", name, at)) {
				found++
			}
		}
	}
	require.Greater(t, found, int(places)*3/2)
}

func TestMissingAndTornFiles(t *testing.T) {
	fs, want := sample(t)
	for _, name := range files(t, fs) {
		damaged := copyFS(t, fs)
		require.NoError(t, damaged.Remove(name))
		detected := neverWrong(t, damaged, want, name+" removed")
		t.Logf("%s removed: detected %v", name, detected)
		for _, keep := range []int64{0, fileSize(t, fs, name) / 2, fileSize(t, fs, name) - 1} {
			if keep < 0 {
				continue
			}
			damaged := copyFS(t, fs)
			truncate(t, damaged, name, keep)
			neverWrong(t, damaged, want, fmt.Sprintf("%s cut to %d", name, keep))
		}
	}
	damaged := copyFS(t, fs)
	require.NoError(t, damaged.RemoveAll("ix/db"))
	require.True(t, neverWrong(t, damaged, want, "all tables removed"))
	require.NoError(t, Remove("ix", damaged))
	x := openAt(t, damaged)
	require.Zero(t, x.Stats(), "after Remove an empty index is made")
	require.NoError(t, x.Close())
}
