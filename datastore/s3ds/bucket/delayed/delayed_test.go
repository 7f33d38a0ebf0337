package delayed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/delayed"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

func TestTransparentAtNoScale(t *testing.T) {
	m := delayed.S3()
	m.Scale = 0
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return delayed.Wrap(mem.New(), m) })
}

// took returns how long f takes on the clock of the bubble.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		b := delayed.Wrap(inner, delayed.S3())
		require.NoError(t, inner.Put(t.Context(), "k", strings.NewReader("")))
		calls := map[bucket.Op]func() error{
			bucket.OpHead: func() error { _, err := b.Head(t.Context(), "k"); return err },
			bucket.OpPut:  func() error { return b.Put(t.Context(), "k", strings.NewReader("")) },
			bucket.OpList: func() error {
				for range b.List(t.Context(), "", "") {
				}
				return nil
			},
		}
		for op, call := range calls {
			var times []time.Duration
			for range 1001 {
				times = append(times, took(func() { require.NoError(t, call()) }))
			}
			slices.Sort(times)
			median := delayed.S3().FirstByte[op]
			require.InEpsilon(t, median, times[500], 0.1, "%s: the median of 1,001 draws is off by 4 %% at most, 99 times in 100", op)
			require.Greater(t, times[990], 3*median/2, "%s has a tail", op)
		}
	})
}

func TestThroughputAndScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := delayed.S3()
		m.Sigma, m.Scale = 0, 0.5
		b := delayed.Wrap(mem.New(), m)
		require.Equal(t, 520*time.Millisecond, took(func() {
			require.NoError(t, b.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", 90_000_000))))
		}).Round(time.Millisecond))
		require.Equal(t, 512*time.Millisecond, took(func() { buckettest.Read(t, b, "k", bucket.Range{}) }).Truncate(time.Millisecond))
	})
}

func TestEveryPageWaitsAndContextWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		for i := range 2500 {
			require.NoError(t, inner.Put(t.Context(), fmt.Sprint(i), strings.NewReader("")))
		}
		m := delayed.S3()
		m.Sigma = 0
		b := delayed.Wrap(inner, m)
		require.Equal(t, 150*time.Millisecond, took(func() {
			for _, err := range b.List(t.Context(), "", "") {
				require.NoError(t, err)
			}
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.Equal(t, time.Millisecond, took(func() {
			_, err := b.Head(ctx, "1")
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}))
	})
}
