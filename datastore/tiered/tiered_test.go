package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	dstest "github.com/ipfs/go-datastore/test"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// faulty is a store in memory that fails, or waits, when it is told to.
type faulty struct {
	ds.Batching
	mu   sync.Mutex
	hook func(op string, key ds.Key) error
	log  []string
}

func memory() *faulty { return &faulty{Batching: dssync.MutexWrap(ds.NewMapDatastore())} }

func (f *faulty) call(op string, key ds.Key) error {
	f.mu.Lock()
	hook := f.hook
	f.log = append(f.log, op+" "+key.String())
	f.mu.Unlock()
	if hook != nil {
		return hook(op, key)
	}
	return nil
}

func (f *faulty) on(hook func(op string, key ds.Key) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *faulty) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := f.call("put", key); err != nil {
		return err
	}
	return f.Batching.Put(ctx, key, value)
}

func (f *faulty) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := f.call("get", key); err != nil {
		return nil, err
	}
	return f.Batching.Get(ctx, key)
}

func (f *faulty) Has(ctx context.Context, key ds.Key) (bool, error) {
	if err := f.call("has", key); err != nil {
		return false, err
	}
	return f.Batching.Has(ctx, key)
}

func (f *faulty) Delete(ctx context.Context, key ds.Key) error {
	if err := f.call("delete", key); err != nil {
		return err
	}
	return f.Batching.Delete(ctx, key)
}

func (f *faulty) Batch(ctx context.Context) (ds.Batch, error) {
	return ds.NewBasicBatch(f), nil
}

func TestConformance(t *testing.T) {
	count := dstest.ElemCount
	t.Cleanup(func() { dstest.ElemCount = count })
	if !gate.Full() {
		dstest.ElemCount = 20 // the suite's own minimum
	}
	for name, open := range map[string]func() ds.Batching{
		"tiered":  func() ds.Batching { return New(memory(), memory(), Options{}) },
		"promote": func() ds.Batching { return New(memory(), memory(), Options{Promote: true}) },
		"switch":  func() ds.Batching { return NewSwitch(memory()) },
		"switch to tiered": func() ds.Batching {
			s := NewSwitch(memory())
			require.NoError(t, s.To(context.Background(), New(memory(), memory(), Options{})))
			return s
		},
		"filled cold": func() ds.Batching { return &halves{Store: New(memory(), memory(), Options{})} },
	} {
		t.Run(name, func(t *testing.T) { dstest.SubtestAll(t, open()) })
	}
}

// halves puts every other value into the cold store, and some into both, so that the suite sees a mixture.
type halves struct {
	*Store
	mu sync.Mutex
	n  int
}

func (h *halves) Put(ctx context.Context, key ds.Key, value []byte) error {
	h.mu.Lock()
	h.n++
	n := h.n
	h.mu.Unlock()
	if n%3 != 0 {
		if err := h.cold.Put(ctx, key, value); err != nil {
			return err
		}
	}
	if n%3 != 1 {
		return h.hot.Put(ctx, key, value)
	}
	return h.hot.Delete(ctx, key) // an old value would hide the new one: blocks have no old values
}

func (h *halves) Batch(ctx context.Context) (ds.Batch, error) { return ds.NewBasicBatch(h), nil }

func key(i int) ds.Key { return ds.NewKey(fmt.Sprintf("/k%d", i)) }

func value(i int) []byte { return []byte(fmt.Sprintf("value %d", i)) }

func keysOf(t require.TestingT, d ds.Datastore) []string {
	r, err := d.Query(context.Background(), query.Query{KeysOnly: true})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Key)
	}
	slices.Sort(out)
	return out
}

// TestHistories runs random operations, moves among them, and compares what the store shows with a model of one store.
func TestHistories(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		hot, cold := memory(), memory()
		model := map[string]string{}
		for i := range rapid.IntRange(0, 20).Draw(t, "before") {
			require.NoError(t, cold.Put(ctx, key(i), value(i)))
			model[key(i).String()] = string(value(i))
		}
		s := New(hot, cold, Options{Promote: rapid.Bool().Draw(t, "promote")})
		mover := s.Mover()
		read := map[int][]byte{}
		which := rapid.IntRange(0, 25)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i := which.Draw(t, "key")
				require.NoError(t, s.Put(ctx, key(i), value(i)))
				model[key(i).String()] = string(value(i))
			},
			"delete": func(t *rapid.T) {
				i := which.Draw(t, "key")
				require.NoError(t, s.Delete(ctx, key(i)))
				delete(model, key(i).String())
			},
			"batch": func(t *rapid.T) {
				b, err := s.Batch(ctx)
				require.NoError(t, err)
				next := maps.Clone(model)
				for range rapid.IntRange(0, 8).Draw(t, "operations") {
					i := which.Draw(t, "key")
					if rapid.Bool().Draw(t, "remove") {
						require.NoError(t, b.Delete(ctx, key(i)))
						delete(next, key(i).String())
					} else {
						require.NoError(t, b.Put(ctx, key(i), value(i)))
						next[key(i).String()] = string(value(i))
					}
				}
				if rapid.Bool().Draw(t, "commit") {
					require.NoError(t, b.Commit(ctx))
					model = next
				}
			},
			"get": func(t *rapid.T) {
				i := which.Draw(t, "key")
				want, there := model[key(i).String()]
				got, err := s.Get(ctx, key(i))
				if there {
					require.NoError(t, err)
					require.Equal(t, want, string(got))
				} else {
					require.Equal(t, ds.ErrNotFound, err)
				}
				has, err := s.Has(ctx, key(i))
				require.NoError(t, err)
				require.Equal(t, there, has)
				size, err := s.GetSize(ctx, key(i))
				if there {
					require.NoError(t, err)
					require.Equal(t, len(want), size)
				} else {
					require.Equal(t, ds.ErrNotFound, err)
				}
			},
			"mover reads": func(t *rapid.T) {
				i := which.Draw(t, "key")
				v, err := mover.Get(ctx, key(i))
				if err == nil {
					read[i] = v
				} else {
					require.Equal(t, ds.ErrNotFound, err)
					delete(read, i)
				}
			},
			"mover drops": func(t *rapid.T) {
				i := which.Draw(t, "key")
				mover.Drop(key(i))
				delete(read, i)
			},
			"mover puts": func(t *rapid.T) {
				var entries []Entry
				for i, v := range read {
					entries = append(entries, Entry{key(i), v})
				}
				_, err := mover.Put(ctx, entries)
				require.NoError(t, err)
				clear(read)
			},
			"": func(t *rapid.T) {
				require.Equal(t, slices.Sorted(maps.Keys(model)), keysOf(t, s))
			},
		})
		mover.Close()
		require.Empty(t, s.moves.keys, "nothing is kept in mind")
	})
}

func TestWhatIsWrittenGoesToTheHotStoreOnly(t *testing.T) {
	ctx := t.Context()
	hot, cold := memory(), memory()
	s := New(hot, cold, Options{})
	require.NoError(t, s.Put(ctx, key(1), value(1)))
	b, err := s.Batch(ctx)
	require.NoError(t, err)
	require.NoError(t, b.Put(ctx, key(2), value(2)))
	require.NoError(t, b.Commit(ctx))
	require.Empty(t, keysOf(t, cold))
	require.Equal(t, []string{"/k1", "/k2"}, keysOf(t, hot))
}

func TestReadThrough(t *testing.T) {
	ctx := t.Context()
	for _, promote := range []bool{false, true} {
		hot, cold := memory(), memory()
		require.NoError(t, cold.Put(ctx, key(1), value(1)))
		s := New(hot, cold, Options{Promote: promote})
		for range 2 {
			got, err := s.Get(ctx, key(1))
			require.NoError(t, err)
			require.Equal(t, value(1), got)
		}
		if promote {
			require.Equal(t, []string{"/k1"}, keysOf(t, hot))
			require.Equal(t, Stats{ColdReads: 1, Promoted: 1}, s.Stats())
		} else {
			require.Empty(t, keysOf(t, hot))
			require.Equal(t, Stats{ColdReads: 2}, s.Stats())
		}
	}
	// A hot store that is full does not keep anybody from reading.
	hot, cold := memory(), memory()
	require.NoError(t, cold.Put(ctx, key(1), value(1)))
	hot.on(func(op string, _ ds.Key) error {
		if op == "put" {
			return errors.New("no space left on device")
		}
		return nil
	})
	s := New(hot, cold, Options{Promote: true})
	got, err := s.Get(ctx, key(1))
	require.NoError(t, err)
	require.Equal(t, value(1), got)
	require.Equal(t, Stats{ColdReads: 1, PromoteFailures: 1}, s.Stats())
}

// A failure is never "not found".
func TestFailuresAreErrors(t *testing.T) {
	ctx := t.Context()
	broken := errors.New("the disk is gone")
	for _, which := range []string{"hot", "cold"} {
		for _, op := range []string{"get", "has", "delete", "put"} {
			hot, cold := memory(), memory()
			require.NoError(t, cold.Put(ctx, key(1), value(1)))
			s := New(hot, cold, Options{})
			map[string]*faulty{"hot": hot, "cold": cold}[which].on(func(seen string, _ ds.Key) error {
				if seen == op {
					return broken
				}
				return nil
			})
			var err error
			switch op {
			case "get":
				_, err = s.Get(ctx, key(1))
			case "has":
				_, err = s.Has(ctx, key(1))
			case "delete":
				err = s.Delete(ctx, key(1))
				if which == "cold" {
					_, gone := s.Get(ctx, key(1))
					require.NoError(t, gone, "the value is still there")
				}
			case "put":
				if err = s.Put(ctx, key(2), value(2)); which == "cold" {
					require.NoError(t, err, "the cold store is not written to")
					continue
				}
			}
			require.ErrorIs(t, err, broken, "%s %s", which, op)
		}
	}
}

// A value that is deleted while it is on its way does not come back, wherever on its way it is.
func TestADeleteBeatsAMove(t *testing.T) {
	ctx := t.Context()
	t.Run("read before, written after", func(t *testing.T) {
		s := New(memory(), memory(), Options{})
		require.NoError(t, s.cold.Put(ctx, key(1), value(1)))
		m := s.Mover()
		defer m.Close()
		v, err := m.Get(ctx, key(1))
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, key(1)))
		n, err := m.Put(ctx, []Entry{{key(1), v}})
		require.NoError(t, err)
		require.Zero(t, n)
		require.Empty(t, keysOf(t, s))
	})
	t.Run("while it is written", func(t *testing.T) {
		hot := memory()
		s := New(hot, memory(), Options{})
		require.NoError(t, s.cold.Put(ctx, key(1), value(1)))
		m := s.Mover()
		defer m.Close()
		v, err := m.Get(ctx, key(1))
		require.NoError(t, err)
		writing, goOn := make(chan struct{}), make(chan struct{})
		hot.on(func(op string, _ ds.Key) error {
			if op == "put" {
				close(writing)
				<-goOn
			}
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { _, err = m.Put(ctx, []Entry{{key(1), v}}) })
		<-writing
		short, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, s.Delete(short, key(1)), context.Canceled, "it waits")
		deleted := make(chan error)
		go func() { deleted <- s.Delete(ctx, key(1)) }()
		close(goOn)
		require.NoError(t, <-deleted)
		wg.Wait()
		require.NoError(t, err)
		require.Empty(t, keysOf(t, s))
		require.Empty(t, s.moves.keys)
	})
	t.Run("put again meanwhile", func(t *testing.T) {
		s := New(memory(), memory(), Options{})
		require.NoError(t, s.cold.Put(ctx, key(1), value(1)))
		m := s.Mover()
		defer m.Close()
		v, err := m.Get(ctx, key(1))
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, key(1)))
		require.NoError(t, s.Put(ctx, key(1), value(1)))
		_, err = m.Put(ctx, []Entry{{key(1), v}})
		require.NoError(t, err)
		require.Equal(t, []string{"/k1"}, keysOf(t, s), "what was put after the delete stays")
	})
}

// TestTogether has everybody work at the same time: in the end there is what was put last, and nothing that was deleted.
func TestTogether(t *testing.T) {
	ctx := t.Context()
	s := New(memory(), memory(), Options{})
	const n = 400
	for i := range n {
		require.NoError(t, s.cold.Put(ctx, key(i), value(i)))
	}
	var wg sync.WaitGroup
	for w := range 3 { // movers, over all keys
		wg.Go(func() {
			m := s.Mover()
			defer m.Close()
			order := rand.New(rand.NewPCG(uint64(w), 1)).Perm(n)
			for some := range slices.Chunk(order, 16) {
				var entries []Entry
				for _, i := range some {
					v, err := m.Get(ctx, key(i))
					if errors.Is(err, ds.ErrNotFound) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					entries = append(entries, Entry{key(i), v})
				}
				if _, err := m.Put(ctx, entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for w := range 2 { // deletes of the odd ones, by one and in batches
		wg.Go(func() {
			for some := range slices.Chunk(rand.New(rand.NewPCG(9, uint64(w))).Perm(n), 10) {
				b, err := s.Batch(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				for _, i := range some {
					if i%2 == 0 {
						continue
					}
					if w == 0 {
						err = errors.Join(err, s.Delete(ctx, key(i)))
					} else {
						err = errors.Join(err, b.Delete(ctx, key(i)))
					}
				}
				if err := errors.Join(err, b.Commit(ctx)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { // readers: the even ones are always there
		for _, i := range rand.New(rand.NewPCG(5, 5)).Perm(n) {
			if i%2 == 0 {
				if _, err := s.Get(ctx, key(i)); err != nil {
					t.Error(i, err)
				}
			}
		}
	})
	wg.Go(func() {
		for range 20 {
			seen := map[string]bool{}
			r, err := s.Query(ctx, query.Query{KeysOnly: true})
			if err != nil {
				t.Error(err)
				return
			}
			for e := range r.Next() {
				if e.Error != nil {
					t.Error(e.Error)
				}
				seen[e.Key] = true
			}
			for i := 0; i < n; i += 2 {
				if !seen[key(i).String()] {
					t.Errorf("%s is not listed while it is moved", key(i))
				}
			}
		}
	})
	wg.Wait()
	var want []string
	for i := 0; i < n; i += 2 {
		want = append(want, key(i).String())
	}
	slices.Sort(want)
	require.Equal(t, want, keysOf(t, s))
	require.Empty(t, s.moves.keys)
}

func TestQueryFailsWithEitherStore(t *testing.T) {
	ctx := t.Context()
	broken := errors.New("the disk is gone")
	hot, cold := memory(), memory()
	require.NoError(t, hot.Put(ctx, key(1), value(1)))
	cold.on(func(op string, _ ds.Key) error {
		if op == "has" {
			return broken
		}
		return nil
	})
	r, err := New(hot, cold, Options{}).Query(ctx, query.Query{KeysOnly: true})
	require.NoError(t, err)
	_, err = r.Rest()
	require.ErrorIs(t, err, broken)

	short, cancel := context.WithCancel(ctx)
	r, err = New(memory(), memory(), Options{}).Query(short, query.Query{KeysOnly: true})
	require.NoError(t, err)
	cancel()
	_, err = r.Rest()
	require.ErrorIs(t, err, context.Canceled)
}

func TestDiskUsageCountsWhatWasCopiedOnce(t *testing.T) {
	ctx := t.Context()
	hot, cold := &sized{memory()}, &sized{memory()}
	s := New(hot, cold, Options{})
	require.NoError(t, cold.Put(ctx, key(1), make([]byte, 1000)))
	require.NoError(t, s.Put(ctx, key(2), make([]byte, 10)))
	usage := func() uint64 {
		n, err := s.DiskUsage(ctx)
		require.NoError(t, err)
		return n
	}
	require.EqualValues(t, 1010, usage())
	m := s.Mover()
	defer m.Close()
	v, err := m.Get(ctx, key(1))
	require.NoError(t, err)
	_, err = m.Put(ctx, []Entry{{key(1), v}})
	require.NoError(t, err)
	require.EqualValues(t, 1010, usage())
}

// sized knows how large it is.
type sized struct{ *faulty }

func (s *sized) DiskUsage(ctx context.Context) (sum uint64, err error) {
	r, err := s.Query(ctx, query.Query{})
	if err != nil {
		return 0, err
	}
	entries, err := r.Rest()
	for _, e := range entries {
		sum += uint64(len(e.Value))
	}
	return sum, err
}

// A switch goes over at once for new calls, and waits for those that are inside.
func TestSwitchWaitsForWhoIsInside(t *testing.T) {
	ctx := t.Context()
	a, b := memory(), memory()
	s := NewSwitch(a)
	inside, goOn := make(chan struct{}), make(chan struct{})
	a.on(func(op string, k ds.Key) error {
		if op == "put" && k == key(1) {
			close(inside)
			<-goOn
		}
		return nil
	})
	put := make(chan error)
	go func() { put <- s.Put(ctx, key(1), value(1)) }()
	<-inside
	early, err := s.Batch(ctx)
	require.NoError(t, err)
	require.NoError(t, early.Put(ctx, key(3), value(3)))

	short, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.To(short, b), context.Canceled)
	require.NoError(t, s.Put(ctx, key(2), value(2)), "nobody waits for the other one")
	require.NoError(t, early.Commit(ctx))
	close(goOn)
	require.NoError(t, <-put)
	require.Equal(t, []string{"/k1"}, keysOf(t, a))
	require.Equal(t, []string{"/k2", "/k3"}, keysOf(t, b), "a batch goes to the store of its Commit")
	require.NoError(t, s.To(ctx, a), "with nobody inside")
}
