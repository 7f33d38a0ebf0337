package walk

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A tree whose nodes are numbers: n has the children 2n and 2n+1.
func tree(limit int, seen func(int)) func(context.Context, int) ([]int, error) {
	return func(_ context.Context, n int) ([]int, error) {
		seen(n)
		if 2*n >= limit {
			return nil, nil
		}
		return []int{2 * n, 2*n + 1}, nil
	}
}

func TestEverythingIsVisitedOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 32} {
		var mu sync.Mutex
		times := map[int]int{}
		require.NoError(t, All(t.Context(), workers, []int{1}, tree(1<<12, func(n int) {
			mu.Lock()
			defer mu.Unlock()
			times[n]++
		})))
		require.Len(t, times, 1<<12-1)
		for n, k := range times {
			require.Equal(t, 1, k, n)
		}
	}
	require.NoError(t, All(t.Context(), 4, nil, tree(8, func(int) { t.Error("there is nothing") })))
}

func TestWorkersWorkAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		began := time.Now()
		require.NoError(t, All(t.Context(), 8, make([]struct{}, 64), func(context.Context, struct{}) ([]struct{}, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil, nil
		}))
		require.EqualValues(t, 8, most.Load())
		require.Equal(t, 8*time.Second, time.Since(began))
	})
}

func TestTheFirstErrorEndsIt(t *testing.T) {
	broken := errors.New("broken")
	var visits atomic.Int64
	err := All(t.Context(), 4, []int{1, 2, 3, 4}, func(ctx context.Context, n int) ([]int, error) {
		if visits.Add(1) == 4 {
			return []int{5, 6, 7}, broken
		}
		<-ctx.Done() // those that are under way are told
		return []int{8}, ctx.Err()
	})
	require.ErrorIs(t, err, broken)
	require.EqualValues(t, 4, visits.Load())
}

func TestAContextThatEndsEndsIt(t *testing.T) {
	gone := errors.New("the client is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := All(ctx, 3, []int{1}, func(ctx context.Context, n int) ([]int, error) {
		if n == 50 {
			cancel(gone)
		}
		return []int{n + 1}, nil // for ever
	})
	require.ErrorIs(t, err, gone)
}
