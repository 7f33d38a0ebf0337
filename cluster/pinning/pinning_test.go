package pinning

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/stretchr/testify/require"
)

func id(n int) cid.Cid { return dag.NewRawNode([]byte(fmt.Sprint(n))).Cid() }

// try is an attempt whose blocks never come: it ends when it is told to, or after its stall.
func try(ctx context.Context, s *slots) error {
	ctx, a, err := s.enter(ctx, young)
	if err != nil {
		return err
	}
	defer s.leave(a)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(firstStall):
		return errors.New("no new block")
	}
}

// goods makes so many pins of content that is found, each of which takes a while, and
// returns how long all of them took.
func goods(t *testing.T, s *slots, n int, as phase, each time.Duration) time.Duration {
	began := time.Now()
	done := make(chan struct{})
	for range n {
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, a, err := s.enter(t.Context(), as)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.leave(a)
			for range 4 {
				select {
				case <-ctx.Done():
					t.Error("a pin that gets blocks was ended: ", context.Cause(ctx))
					return
				case <-time.After(each / 4):
					s.moved(a)
				}
			}
		}()
	}
	for range n {
		<-done
	}
	return time.Since(began)
}

// TestPinsWithoutBlocksTakeNoSlot runs in virtual time: 50 pins that no peer has, in front of
// 500 that one has, cost those nothing.
func TestPinsWithoutBlocksTakeNoSlot(t *testing.T) {
	for _, as := range []phase{moving, young} {
		var alone, next time.Duration
		for _, bad := range []int{0, 50} {
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(10)
				ctx, cancel := context.WithCancel(t.Context())
				for range bad {
					go func() { _ = try(ctx, s) }() // how it ends does not matter
				}
				synctest.Wait()
				alone, next = next, goods(t, s, 500, as, 2*time.Second)
				cancel()
				synctest.Wait()
			})
		}
		t.Logf("content on the node: %v; 500 pins took %s, next to 50 that are not found %s", as == moving, alone, next)
		require.NotZero(t, alone)
		require.LessOrEqual(t, next, alone+alone/10)
	}
}

// TestManyPinsWithoutBlocksMakeRoom is about more of them than may wait at a time.
func TestManyPinsWithoutBlocksMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(10)
		ctx, cancel := context.WithCancel(t.Context())
		crowded := make(chan error, 1000)
		for range 1000 {
			go func() { crowded <- try(ctx, s) }()
		}
		synctest.Wait()
		require.Equal(t, 20, len(s.all))
		took := goods(t, s, 100, young, 2*time.Second)
		require.Less(t, took, 100*time.Second, "behind 1,000 pins that are not found")
		require.Less(t, goods(t, s, 100, moving, 2*time.Second), 21*time.Second, "what is on the node does not wait for them")
		require.ErrorIs(t, <-crowded, errCrowded)
		cancel()
		synctest.Wait()
	})
}

func TestAPinKeepsItsSlotWhileBlocksCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		_, a, err := s.enter(t.Context(), moving)
		require.NoError(t, err)
		second := make(chan *attempt)
		go func() {
			_, b, err := s.enter(t.Context(), moving)
			if err != nil {
				t.Error(err)
			}
			second <- b
		}()
		for range 5 {
			time.Sleep(pause - time.Millisecond)
			s.moved(a)
			select {
			case <-second:
				t.Fatal("two have the one slot")
			default:
			}
		}
		time.Sleep(3 * pause)
		synctest.Wait()
		b := <-second // the first one got no block for a while
		require.Equal(t, 2, s.stalled())
		s.leave(a)
		s.leave(b)
		require.Empty(t, s.all)
	})
}

func TestOneThatWaitsForItsTurnCanGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		_, a, err := s.enter(t.Context(), moving)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = s.enter(ctx, moving)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, s.waiting)
		s.leave(a)
	})
}

func TestWaitsDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dssync.MutexWrap(ds.NewMapDatastore())
		ctx := t.Context()
		table, err := loadAbsences(ctx, store)
		require.NoError(t, err)
		began := time.Now()
		var waits []time.Duration
		for range 14 {
			require.NoError(t, table.waiting(id(1)))
			err := table.failed(ctx, id(1), "no new block for 10s", id(2), false)
			require.ErrorContains(t, err, "first missing "+id(2).String()+"; not found since "+began.UTC().Format(time.RFC3339))
			require.ErrorContains(t, table.waiting(id(1)), "no new block")
			require.Equal(t, 1, table.count())
			_, next := table.due()
			waits = append(waits, time.Until(next))
			time.Sleep(time.Until(next))
		}
		want := firstWait
		for i, wait := range waits {
			require.GreaterOrEqual(t, wait, want, i)
			require.LessOrEqual(t, wait, min(want+want/5, longestWait), i)
			want = min(2*want, longestWait)
		}
		require.Equal(t, longestWait, waits[13])
		require.Equal(t, 2*time.Minute, table.stall(id(1), 2*time.Minute))
		require.Equal(t, firstStall, table.stall(id(3), 2*time.Minute))

		// Another process knows since when, and tries at once.
		again, err := loadAbsences(ctx, store)
		require.NoError(t, err)
		require.NoError(t, again.waiting(id(1)))
		due, _ := again.due()
		require.Equal(t, []cid.Cid{id(1)}, due)
		require.ErrorContains(t, again.failed(ctx, id(1), "gone", cid.Undef, false), "gone; not found since "+began.UTC().Format(time.RFC3339)+", tried 15 times")

		// Somebody asks for it: as if it were new.
		again.reset(id(1), id(7))
		require.NoError(t, again.waiting(id(1)))
		require.Equal(t, firstStall, again.stall(id(1), 2*time.Minute))
		require.Error(t, again.failed(ctx, id(1), "gone", cid.Undef, false))
		_, next := again.due()
		require.LessOrEqual(t, time.Until(next), firstWait+firstWait/5)
		again.forget(ctx, id(1))
		last, err := loadAbsences(ctx, store)
		require.NoError(t, err)
		require.Empty(t, last.of)
	})
}

func TestWhatANodeHasIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, err := loadAbsences(t.Context(), dssync.MutexWrap(ds.NewMapDatastore()))
		require.NoError(t, err)
		for range 20 { // it waits for a collection of garbage, however long that takes
			require.Error(t, table.failed(t.Context(), id(1), "locked", cid.Undef, true))
			_, next := table.due()
			require.LessOrEqual(t, time.Until(next), lockedWait+lockedWait/5)
		}
	})
}

func TestOtherPeersAreAskedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, err := loadAbsences(t.Context(), dssync.MutexWrap(ds.NewMapDatastore()))
		require.NoError(t, err)
		for range 10 { // its next attempt is far away
			require.Error(t, table.failed(t.Context(), id(1), "gone", id(2), false))
		}
		require.Error(t, table.failed(t.Context(), id(3), "gone", cid.Undef, false))
		require.Empty(t, table.question(10))
		asked := 0
		for range 360 { // an hour
			time.Sleep(askInterval)
			if q := table.question(10); len(q) > 0 {
				require.Equal(t, map[cid.Cid][]cid.Cid{id(2): {id(1)}}, q)
				asked++
			}
		}
		require.Equal(t, 9, asked)
	})
}
