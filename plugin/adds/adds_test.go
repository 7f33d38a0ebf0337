package adds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	cmds "github.com/ipfs/go-ipfs-cmds"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/repo"
	"github.com/stretchr/testify/require"
)

// gated is a blockstore each of whose writes takes its outcome from a channel.
type gated struct {
	blockstore.Blockstore
	outcomes chan error
}

func newGated() *gated {
	return &gated{blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore())), make(chan error)}
}

func (g *gated) outcome(ctx context.Context) error {
	select {
	case err := <-g.outcomes:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gated) Put(ctx context.Context, b blocks.Block) error {
	if err := g.outcome(ctx); err != nil {
		return err
	}
	return g.Blockstore.Put(ctx, b)
}

func (g *gated) PutMany(ctx context.Context, bs []blocks.Block) error {
	if err := g.outcome(ctx); err != nil {
		return err
	}
	return g.Blockstore.PutMany(ctx, bs)
}

func (g *gated) holds(t *testing.T, b blocks.Block) bool {
	t.Helper()
	has, err := g.Blockstore.Has(t.Context(), b.Cid())
	require.NoError(t, err)
	return has
}

func block(n int) blocks.Block { return blocks.NewBlock([]byte(fmt.Sprint("block ", n))) }

var errDisk = errors.New("write blocks/AB/CD.data: no space left on device")

// later runs f in the background and returns its result when asked for.
func later[T any](f func() T) (ended func() bool, result func() T) {
	ch := make(chan T, 1)
	go func() { ch <- f() }()
	return func() bool { synctest.Wait(); return len(ch) == 1 }, func() T { return <-ch }
}

func TestOutsideASessionAPutIsDurableWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		for i, put := range []func() error{
			func() error { return s.Put(t.Context(), block(0)) },
			func() error { return s.PutMany(t.Context(), []blocks.Block{block(1), block(2)}) },
		} {
			ended, result := later(put)
			require.False(t, ended())
			base.outcomes <- nil
			require.NoError(t, result())
			require.True(t, base.holds(t, block(i)))
		}
	})
}

func TestInASessionAPutIsWrittenBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		ctx, ses := begin(t.Context())
		require.NoError(t, s.Put(ctx, block(1)))
		require.NoError(t, s.PutMany(ctx, []blocks.Block{block(2), block(3)}))
		require.False(t, base.holds(t, block(1)))

		// The session sees them, under whatever codec it asks for.
		for n := 1; n <= 3; n++ {
			c := cid.NewCidV1(cid.DagProtobuf, block(n).Cid().Hash())
			has, err := s.Has(ctx, c)
			require.NoError(t, err)
			require.True(t, has)
			size, err := s.GetSize(ctx, c)
			require.NoError(t, err)
			require.Equal(t, len(block(n).RawData()), size)
			got, err := s.Get(ctx, c)
			require.NoError(t, err)
			require.Equal(t, block(n).RawData(), got.RawData())
			require.Equal(t, c, got.Cid())
		}

		base.outcomes <- nil
		base.outcomes <- nil
		require.NoError(t, ses.end())
		for n := 1; n <= 3; n++ {
			require.True(t, base.holds(t, block(n)))
		}
	})
}

// kubo's adder puts a directory's node, and then adds files to the same node.
func TestWhatIsWrittenIsWhatWasPut(t *testing.T) {
	for name, put := range map[string]func(blockstore.Blockstore, context.Context, blocks.Block) error{
		"Put": func(s blockstore.Blockstore, ctx context.Context, b blocks.Block) error { return s.Put(ctx, b) },
		"PutMany": func(s blockstore.Blockstore, ctx context.Context, b blocks.Block) error {
			return s.PutMany(ctx, []blocks.Block{b, block(1)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := newGated()
				s := Blocks(base)
				ctx, ses := begin(t.Context())
				dir := unixfs.EmptyDirNode()
				empty, bytes := dir.Cid(), dir.RawData()
				require.NoError(t, put(s, ctx, dir))
				require.NoError(t, dir.AddNodeLink("file", merkledag.NewRawNode([]byte("new"))))
				require.NotEqual(t, empty, dir.Cid())

				got, err := s.Get(ctx, empty)
				require.NoError(t, err)
				require.Equal(t, bytes, got.RawData())
				has, err := s.Has(ctx, dir.Cid())
				require.NoError(t, err)
				require.False(t, has)

				base.outcomes <- nil
				require.NoError(t, ses.end())
				got, err = base.Get(t.Context(), empty)
				require.NoError(t, err)
				require.Equal(t, bytes, got.RawData())
				require.Empty(t, s.(*store).flights)
			})
		})
	}
}

// Nobody else takes a block for stored before it is: they wait, and then see
// what the store has.
func TestOthersWaitForABlockInFlight(t *testing.T) {
	asks := map[string]func(blockstore.Blockstore, context.Context) error{
		"Has": func(s blockstore.Blockstore, ctx context.Context) error {
			has, err := s.Has(ctx, block(1).Cid())
			if err == nil && !has {
				err = ipld.ErrNotFound{Cid: block(1).Cid()}
			}
			return err
		},
		"GetSize": func(s blockstore.Blockstore, ctx context.Context) error {
			_, err := s.GetSize(ctx, block(1).Cid())
			return err
		},
		"Get": func(s blockstore.Blockstore, ctx context.Context) error {
			_, err := s.Get(ctx, block(1).Cid())
			return err
		},
	}
	for name, ask := range asks {
		for _, outcome := range []error{nil, errDisk} {
			t.Run(fmt.Sprint(name, " ", outcome), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := newGated()
					s := Blocks(base)
					ctx, ses := begin(t.Context())
					require.NoError(t, s.Put(ctx, block(1)))
					other, otherSession := begin(t.Context())
					endedA, resultA := later(func() error { return ask(s, t.Context()) })
					endedB, resultB := later(func() error { return ask(s, other) })
					require.False(t, endedA())
					require.False(t, endedB())

					// Who gives up waiting gets that as an error, not "not found".
					impatient, cancel := context.WithCancel(t.Context())
					cancel()
					require.ErrorIs(t, ask(s, impatient), context.Canceled)

					base.outcomes <- outcome
					for _, err := range []error{resultA(), resultB()} {
						if outcome == nil {
							require.NoError(t, err)
						} else {
							require.True(t, ipld.IsNotFound(err), "%v", err)
						}
					}
					require.Equal(t, outcome, ses.end())
					require.NoError(t, otherSession.end())
				})
			})
		}
	}
}

func TestDeleteIsNotUndoneByAWriteInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		ctx, ses := begin(t.Context())
		require.NoError(t, s.Put(ctx, block(1)))
		ended, result := later(func() error { return s.DeleteBlock(t.Context(), block(1).Cid()) })
		require.False(t, ended())
		base.outcomes <- nil
		require.NoError(t, result())
		require.NoError(t, ses.end())
		require.False(t, base.holds(t, block(1)))
	})
}

// What is put twice while it is under way is written once; but each session
// writes for itself, since another's write may be cancelled.
func TestABlockIsWrittenOncePerSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		ctx, ses := begin(t.Context())
		for range 3 {
			require.NoError(t, s.Put(ctx, block(1)))
		}
		other, otherSession := begin(t.Context())
		require.NoError(t, s.Put(other, block(1)))
		base.outcomes <- nil
		base.outcomes <- nil // and nobody takes a third
		require.NoError(t, ses.end())
		require.NoError(t, otherSession.end())
	})
}

func TestRoomIsBounded(t *testing.T) {
	large := func(n, size int) blocks.Block {
		data := make([]byte, size)
		data[0] = byte(n)
		return blocks.NewBlock(data)
	}
	for _, c := range []struct{ size, fit int }{{1, 64}, {512 << 10, 64}, {2 << 20, 16}, {40 << 20, 1}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := newGated()
				s := Blocks(base)
				// Of all sessions together.
				ctx, ses := begin(t.Context())
				other, otherSession := begin(t.Context())
				for n := range c.fit {
					require.NoError(t, s.Put(ctx, large(n, c.size)))
				}
				ended, result := later(func() error { return s.Put(other, large(c.fit, c.size)) })
				require.False(t, ended())
				impatient, cancel := context.WithCancel(other)
				cancel()
				require.ErrorIs(t, s.Put(impatient, large(c.fit+1, c.size)), context.Canceled)

				base.outcomes <- nil
				require.NoError(t, result())
				for range c.fit {
					base.outcomes <- nil
				}
				require.NoError(t, ses.end())
				require.NoError(t, otherSession.end())
			})
		})
	}
}

// A failed write fails what the session does next, and nobody else.
func TestAFailedWriteFailsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		ctx, ses := begin(t.Context())
		r := Repo(&mapRepo{datastore: dssync.MutexWrap(datastore.NewMapDatastore())})
		require.NoError(t, s.Put(ctx, block(1)))
		base.outcomes <- errDisk
		synctest.Wait()
		require.ErrorIs(t, s.Put(ctx, block(2)), errDisk)
		require.ErrorIs(t, s.PutMany(ctx, []blocks.Block{block(3), block(4)}), errDisk)
		_, err := s.Get(ctx, block(1).Cid())
		require.ErrorIs(t, err, errDisk, "and not: not found")
		require.ErrorIs(t, r.Datastore().Sync(ctx, datastore.NewKey("/blocks")), errDisk)
		require.ErrorIs(t, ses.end(), errDisk)

		ended, result := later(func() error { return s.Put(t.Context(), block(1)) })
		require.False(t, ended())
		base.outcomes <- nil
		require.NoError(t, result())
	})
}

func TestACancelledCommandCancelsItsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		cancelled, cancel := context.WithCancel(t.Context())
		ctx, ses := begin(cancelled)
		// The context of one Put may end before its write: the adder's batches do.
		batch, endOfBatch := context.WithCancel(ctx)
		require.NoError(t, s.Put(batch, block(1)))
		endOfBatch()
		base.outcomes <- nil
		synctest.Wait()
		require.True(t, base.holds(t, block(1)))

		require.NoError(t, s.Put(ctx, block(2)))
		cancel()
		require.ErrorIs(t, ses.end(), context.Canceled)
		require.False(t, base.holds(t, block(2)))
	})
}

// The context may outlive the command.
func TestAfterTheEndOfTheSessionAPutWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		ctx, ses := begin(t.Context())
		require.NoError(t, ses.end())
		ended, result := later(func() error { return s.Put(ctx, block(1)) })
		require.False(t, ended())
		base.outcomes <- nil
		require.NoError(t, result())
		require.True(t, base.holds(t, block(1)))
	})
}

// mapRepo is a repo of which only the datastore is used.
type mapRepo struct {
	repo.Repo
	datastore repo.Datastore
}

func (r *mapRepo) Datastore() repo.Datastore { return r.datastore }

// A pin is not recorded before the blocks are durable, nor is anything else.
func TestTheRepoIsWrittenToAfterTheBlocks(t *testing.T) {
	pin := datastore.NewKey("/pins/pin/1")
	writes := map[string]func(context.Context, repo.Datastore) error{
		"Sync":   func(ctx context.Context, d repo.Datastore) error { return d.Sync(ctx, datastore.NewKey("/blocks")) },
		"Put":    func(ctx context.Context, d repo.Datastore) error { return d.Put(ctx, pin, []byte("new")) },
		"Delete": func(ctx context.Context, d repo.Datastore) error { return d.Delete(ctx, pin) },
		"Commit": func(ctx context.Context, d repo.Datastore) error {
			b, err := d.Batch(ctx)
			if err != nil {
				return err
			}
			if err := b.Put(ctx, pin, []byte("new")); err != nil {
				return err
			}
			return b.Commit(ctx)
		},
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				below := dssync.MutexWrap(datastore.NewMapDatastore())
				require.NoError(t, below.Put(t.Context(), pin, []byte("old")))
				d := Repo(&mapRepo{datastore: below}).Datastore()
				base := newGated()
				s := Blocks(base)

				ctx, ses := begin(t.Context())
				require.NoError(t, s.Put(ctx, block(1)))
				require.NoError(t, s.Put(ctx, block(2)))
				ended, result := later(func() error { return write(ctx, d) })
				require.False(t, ended())
				require.NoError(t, write(t.Context(), d), "others do not wait")
				require.NoError(t, below.Put(t.Context(), pin, []byte("old")))
				base.outcomes <- nil
				require.False(t, ended())
				base.outcomes <- errDisk
				require.ErrorIs(t, result(), errDisk)
				value, err := below.Get(t.Context(), pin)
				require.NoError(t, err)
				require.Equal(t, "old", string(value))
				require.ErrorIs(t, ses.end(), errDisk)

				ctx, ses = begin(t.Context())
				require.NoError(t, s.Put(ctx, block(3)))
				ended, result = later(func() error { return write(ctx, d) })
				require.False(t, ended())
				base.outcomes <- nil
				require.NoError(t, result())
				require.NoError(t, ses.end())
			})
		})
	}
}

// recorder is what a client sees of a command.
type recorder struct {
	cmds.ResponseEmitter
	mu   sync.Mutex
	seen []any
	gone error // what Emit fails with
}

func (r *recorder) Emit(v any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return r.gone
	}
	r.seen = append(r.seen, v)
	return nil
}

func (r *recorder) events() []any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]any{}, r.seen...)
}

// command is an extended `add`, run in the background.
func command(t *testing.T, res cmds.ResponseEmitter, run func(context.Context, func(any) error) error) (ended func() bool, result func() error) {
	cmd := &cmds.Command{Run: func(req *cmds.Request, res cmds.ResponseEmitter, _ cmds.Environment) error {
		return run(req.Context, res.Emit)
	}}
	Extend(cmd)
	req := &cmds.Request{Context: t.Context()}
	return later(func() error {
		err := cmd.Run(req, res, nil)
		if sessionOf(req.Context) != nil {
			return errors.New("the caller's request has changed")
		}
		return err
	})
}

func TestEventsWaitForTheBlocksBeforeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		client := &recorder{}
		ended, result := command(t, client, func(ctx context.Context, emit func(any) error) error {
			return errors.Join(
				emit("progress"),
				s.Put(ctx, block(1)), emit("one"),
				emit("one again"),
				s.Put(ctx, block(2)), s.Put(ctx, block(3)), emit("three"),
				s.Put(ctx, block(4)),
			)
		})
		require.False(t, ended())
		require.Equal(t, []any{"progress"}, client.events())
		for i, want := range [][]any{
			// The outcome goes to any of the writes, so that "one" may take up to
			// four; but never is an event there before its blocks.
			0: nil, 1: nil, 2: nil, 3: {"progress", "one", "one again", "three"},
		} {
			base.outcomes <- nil
			synctest.Wait()
			seen := client.events()
			if len(seen) >= 2 {
				require.True(t, base.holds(t, block(1)))
			}
			if len(seen) >= 4 {
				require.True(t, base.holds(t, block(2)) && base.holds(t, block(3)))
			}
			if want != nil {
				require.Equal(t, want, seen, "after %d", i)
			}
		}
		require.NoError(t, result())
	})
}

// The command fails with the write's error, and no event is sent whose block is
// not there, even if the command itself noticed nothing.
func TestTheCommandFailsWithItsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		client := &recorder{}
		_, result := command(t, client, func(ctx context.Context, emit func(any) error) error {
			if err := errors.Join(s.Put(ctx, block(1)), emit("one")); err != nil {
				return err
			}
			base.outcomes <- nil
			if err := errors.Join(s.Put(ctx, block(2)), emit("two"), emit("two again")); err != nil {
				return err
			}
			base.outcomes <- errDisk
			return nil
		})
		require.ErrorIs(t, result(), errDisk)
		require.Equal(t, []any{"one"}, client.events())
	})
}

// A command that fails has sent what it had done before, as it always did.
func TestTheCommandsOwnErrorIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		client := &recorder{}
		own := errors.New("open b: permission denied")
		_, result := command(t, client, func(ctx context.Context, emit func(any) error) error {
			return errors.Join(s.Put(ctx, block(1)), emit("one"), own)
		})
		base.outcomes <- nil
		require.ErrorIs(t, result(), own)
		require.Equal(t, []any{"one"}, client.events())
	})
}

func TestAClientThatIsGoneEndsTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("broken pipe")
		_, result := command(t, &recorder{gone: gone}, func(_ context.Context, emit func(any) error) error {
			for {
				if err := emit("added"); err != nil {
					return err
				}
			}
		})
		require.ErrorIs(t, result(), gone)

		_, result = command(t, &recorder{gone: gone}, func(_ context.Context, emit func(any) error) error { return emit("last") })
		require.ErrorIs(t, result(), gone)
	})
}

// An adder that is faster than the store holds at most maxHeld events.
func TestHeldEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newGated()
		s := Blocks(base)
		client := &recorder{}
		emitted := 0
		ended, result := command(t, client, func(ctx context.Context, emit func(any) error) error {
			if err := s.Put(ctx, block(1)); err != nil {
				return err
			}
			for range 2 * maxHeld {
				if err := emit("added"); err != nil {
					return err
				}
				emitted++
			}
			return nil
		})
		require.False(t, ended())
		require.LessOrEqual(t, emitted, maxHeld+1)
		require.Empty(t, client.events())
		base.outcomes <- nil
		require.NoError(t, result())
		require.Len(t, client.events(), 2*maxHeld)
	})
}

// shaky is a store that is slow at random and fails now and then.
type shaky struct {
	blockstore.Blockstore
	mu   sync.Mutex
	rand *rand.Rand
	fail float64
}

func (s *shaky) outcome() error {
	s.mu.Lock()
	fails, yields := s.rand.Float64() < s.fail, s.rand.IntN(20)
	s.mu.Unlock()
	gate := make(chan struct{})
	for range yields { // as long as so many goroutines take
		go func() { gate <- struct{}{} }()
		<-gate
	}
	if fails {
		return errDisk
	}
	return nil
}

func (s *shaky) Put(ctx context.Context, b blocks.Block) error {
	if err := s.outcome(); err != nil {
		return err
	}
	return s.Blockstore.Put(ctx, b)
}

func (s *shaky) PutMany(ctx context.Context, bs []blocks.Block) error {
	if err := s.outcome(); err != nil {
		return err
	}
	return s.Blockstore.PutMany(ctx, bs)
}

// checker checks, when an event arrives, that its blocks are in the store.
type checker struct {
	cmds.ResponseEmitter
	check func(v any) error
}

func (c checker) Emit(v any) error { return c.check(v) }

// Many commands at once, over blocks that they share, on a store that fails now
// and then: whatever was told is so.
func TestWhatIsToldIsSo(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			base := &shaky{Blockstore: newGated().Blockstore, rand: rand.New(rand.NewPCG(seed, 1)), fail: 0.002}
			s := Blocks(base)
			pins := dssync.MutexWrap(datastore.NewMapDatastore())
			r := Repo(&mapRepo{datastore: pins})
			stored := func(put []blocks.Block) error {
				for _, b := range put {
					if has, err := base.Blockstore.Has(t.Context(), b.Cid()); err != nil || !has {
						return fmt.Errorf("%s was told to be there: %v, %w", b.RawData(), has, err)
					}
				}
				return nil
			}
			var wrong [8]error
			var wg sync.WaitGroup
			for c := range 8 {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(c)))
					var put []blocks.Block
					var told error
					pin := datastore.NewKey(fmt.Sprint("/pins/", c))
					add := &cmds.Command{Run: func(req *cmds.Request, res cmds.ResponseEmitter, _ cmds.Environment) error {
						for range 60 {
							many := make([]blocks.Block, 1+random.IntN(3))
							for i := range many {
								many[i] = block(random.IntN(300))
							}
							if err := s.PutMany(req.Context, many); err != nil {
								return err
							}
							put = append(put, many...)
							if got, err := s.Get(req.Context, many[0].Cid()); err != nil || got.Cid() != many[0].Cid() {
								return fmt.Errorf("read back %s: %w", many[0].RawData(), err)
							}
							if err := res.Emit(put[:len(put):len(put)]); err != nil {
								return err
							}
						}
						if err := r.Datastore().Put(req.Context, pin, nil); err != nil {
							return err
						}
						if err := stored(put); err != nil {
							told = err
						}
						return nil
					}}
					Extend(add)
					err := add.Run(&cmds.Request{Context: t.Context()}, checker{check: func(v any) error {
						if err := stored(v.([]blocks.Block)); err != nil {
							told = err
						}
						return nil
					}}, nil)
					pinned, pinErr := pins.Has(t.Context(), pin)
					wrong[c] = errors.Join(told, pinErr)
					switch {
					case err == nil && !pinned:
						wrong[c] = errors.Join(wrong[c], errors.New("succeeded, and there is no pin"))
					case err != nil && !errors.Is(err, errDisk):
						wrong[c] = errors.Join(wrong[c], err)
					}
					if pinned {
						wrong[c] = errors.Join(wrong[c], stored(put))
					}
				})
			}
			wg.Wait()
			require.NoError(t, errors.Join(wrong[:]...))
			require.Empty(t, s.(*store).flights)
		})
	}
}
