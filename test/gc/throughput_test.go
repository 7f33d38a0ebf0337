package gc

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// TestAddsNextToCollections measures what collections without a pause cost adds: the same adds with
// and without them, in turns, on one node. It only reports the ratio.
func TestAddsNextToCollections(t *testing.T) {
	gate.Long(t, "it measures, and proves nothing")
	const size = 32 << 20
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			n := fresh(t, stormProgram(t), store(t), "IPFS_GC_MIN_AGE=10s")
			n.Start()
			r := rand.New(rand.NewPCG(1, 2))
			add := func() time.Duration {
				data := make([]byte, size)
				fill(data, r.Uint64())
				c := within(t, n, 5*time.Minute)
				began := time.Now()
				_, err := c.upload("add", [][]byte{data}, nil, "raw-leaves", "true", "cid-version", "1", "progress", "false")
				require.NoError(t, err)
				return time.Since(began)
			}
			add() // the first finds nothing in place
			collections := 0
			beside := func() time.Duration {
				ctx, stop := context.WithCancel(t.Context())
				var loop sync.WaitGroup
				loop.Go(func() {
					for ctx.Err() == nil {
						if _, err := (client{ctx, n.API}).call("repo/gc", "quiet", "true"); err == nil {
							collections++
						}
					}
				})
				d := add()
				stop()
				loop.Wait()
				return d
			}
			const rounds = 15
			var alone, next []time.Duration
			for i := range rounds {
				if i%2 == 0 {
					alone, next = append(alone, add()), append(next, beside())
				} else {
					next, alone = append(next, beside()), append(alone, add())
				}
			}
			middle := func(d []time.Duration) time.Duration {
				slices.Sort(d)
				return d[len(d)/2]
			}
			a, b := middle(alone), middle(next)
			t.Logf("%s: add of %d MiB: median of %d %s alone, %s next to collections without a pause (%d in all): ratio %.2f",
				name, size>>20, rounds, a.Round(time.Millisecond), b.Round(time.Millisecond), collections, b.Seconds()/a.Seconds())
			require.Greater(t, collections, rounds)
		})
	}
}
