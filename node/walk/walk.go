// Package walk visits DAGs concurrently: a stack of what is to be visited, and workers that take from its top, so
// that its size is bounded by depth × links × workers, not by the size of the DAG.
package walk

import (
	"context"
	"sync"
)

// All calls visit for each item and for what visit returns, until nothing is left, with so many workers. It returns the first
// error of a visit, whose context is then cancelled, or that of ctx. Items are visited once for each time they are named: visit
// decides what was there before.
func All[T any](ctx context.Context, workers int, items []T, visit func(context.Context, T) ([]T, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu     sync.Mutex
		wake   = sync.NewCond(&mu)
		stack  = append([]T(nil), items...)
		active int
		first  error
		done   sync.WaitGroup
	)
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = context.Cause(ctx)
		}
		wake.Broadcast()
	})
	defer stop()
	work := func() {
		defer done.Done()
		mu.Lock()
		defer mu.Unlock()
		for {
			for len(stack) == 0 && active > 0 && first == nil {
				wake.Wait()
			}
			if first != nil || len(stack) == 0 {
				wake.Broadcast()
				return
			}
			item := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			active++
			mu.Unlock()
			more, err := visit(ctx, item)
			mu.Lock()
			active--
			if err != nil && first == nil {
				first = err
				cancel()
			}
			stack = append(stack, more...)
			wake.Broadcast()
		}
	}
	for range workers {
		done.Add(1)
		go work()
	}
	done.Wait()
	mu.Lock() // ctx may end now
	defer mu.Unlock()
	return first
}
