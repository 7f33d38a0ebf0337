package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func newBatch(t testing.TB, d *Datastore) ds.Batch {
	t.Helper()
	b, err := d.Batch(t.Context())
	require.NoError(t, err)
	return b
}

// TestBatchesOfAllShapes: go-ds-s3 hung on a batch of 1 to 999 deletes, deleted other names than it wrote, and lost results.
func TestBatchesOfAllShapes(t *testing.T) {
	gate.NotQuick(t, "thousands of requests at the server")
	server := s3test.Start(t)
	for _, root := range []string{"", "root"} {
		t.Run("root "+root, func(t *testing.T) {
			c := config(server.URL, server.NewBucket(t))
			c.RootDirectory = root
			d := open(t, c)
			s3test.Within(t, func() {
				require.NoError(t, newBatch(t, d).Commit(t.Context()), "no operation at all")

				b := newBatch(t, d)
				for i := range 2500 {
					require.NoError(t, b.Put(t.Context(), ds.NewKey(fmt.Sprint("k", i)), []byte("v")))
				}
				for i := range 2500 {
					require.NoError(t, b.Delete(t.Context(), ds.NewKey(fmt.Sprint("absent", i))))
				}
				require.NoError(t, b.Commit(t.Context()), "5,000 operations")
				require.Len(t, queryKeys(t, d, all), 2500)

				for _, n := range []int{1, 999, 1500} { // 1,000 is the most in one request
					b := newBatch(t, d)
					left := queryKeys(t, d, all)
					for _, k := range left[:n] {
						require.NoError(t, b.Delete(t.Context(), ds.NewKey(k)))
					}
					require.NoError(t, b.Commit(t.Context()), "only deletes: %d", n)
					require.Equal(t, left[n:], queryKeys(t, d, all))
				}
			})
		})
	}
}

func TestLastOperationOnAKeyWins(t *testing.T) {
	d := New(mem.New(), Config{})
	put, del := ds.NewKey("put last"), ds.NewKey("deleted last")
	require.NoError(t, d.Put(t.Context(), del, []byte("old")))
	b := newBatch(t, d)
	for _, v := range []string{"1", "2"} {
		require.NoError(t, b.Delete(t.Context(), put))
		require.NoError(t, b.Put(t.Context(), put, []byte(v)))
		require.NoError(t, b.Put(t.Context(), del, []byte(v)))
		require.NoError(t, b.Delete(t.Context(), del))
	}
	require.NoError(t, b.Commit(t.Context()))
	got, err := d.Get(t.Context(), put)
	require.NoError(t, err)
	require.Equal(t, "2", string(got))
	_, err = d.Get(t.Context(), del)
	require.ErrorIs(t, err, ds.ErrNotFound)
}

// TestBatchKeepsNoMoreThanItsLimit: go-ds-s3 kept every value until Commit.
func TestBatchKeepsNoMoreThanItsLimit(t *testing.T) {
	d := New(mem.New(), Config{})
	b := newBatch(t, d).(*batch)
	value := make([]byte, 1<<20)
	for i := range 20 {
		require.NoError(t, b.Put(t.Context(), ds.NewKey(fmt.Sprint(i)), value))
		require.LessOrEqual(t, b.bytes, batchLimit)
	}
	require.NoError(t, b.Put(t.Context(), ds.NewKey("19"), value), "replaced")
	require.NoError(t, b.Put(t.Context(), ds.NewKey("huge"), make([]byte, batchLimit+1)), "larger than the limit on its own")
	require.NoError(t, b.Commit(t.Context()))
	require.Zero(t, b.bytes)
	require.Empty(t, b.ops)
	require.Len(t, queryKeys(t, d, all), 21)

	for i := range batchOps + 1 {
		require.NoError(t, b.Delete(t.Context(), ds.NewKey(fmt.Sprint(i))))
		require.LessOrEqual(t, len(b.ops), batchOps)
	}
}

// TestBatchIsSafeForConcurrentUse: go-ds-s3's was not.
func TestBatchIsSafeForConcurrentUse(t *testing.T) {
	d := New(mem.New(), Config{})
	b := newBatch(t, d)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 100 {
				if err := b.Put(t.Context(), ds.NewKey(fmt.Sprintf("%d-%d", w, i)), make([]byte, 10_000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		if err := b.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	require.NoError(t, b.Commit(t.Context()))
	require.Len(t, queryKeys(t, d, all), 1600)
}

func TestCommitReportsEveryFailureAndCanBeRepeated(t *testing.T) {
	f := faulty.Wrap(mem.New())
	d := New(f, Config{})
	require.NoError(t, d.Put(t.Context(), ds.NewKey("old"), nil))
	b := newBatch(t, d)
	for i := range 10 {
		require.NoError(t, b.Put(t.Context(), ds.NewKey(fmt.Sprint("k", i)), []byte("v")))
	}
	require.NoError(t, b.Delete(t.Context(), ds.NewKey("old")))

	f.Set(faulty.Rule{Op: bucket.OpPut, Key: "k3", Err: bucket.ErrThrottled}, faulty.Rule{Op: bucket.OpPut, Key: "k7", Err: bucket.ErrServer},
		faulty.Rule{Op: bucket.OpDelete, Err: &bucket.DeleteError{Failed: map[string]error{"old": bucket.ErrAccessDenied}}})
	err := b.Commit(t.Context())
	for _, kind := range []error{bucket.ErrThrottled, bucket.ErrServer, bucket.ErrAccessDenied} {
		require.ErrorIs(t, err, kind)
	}
	require.Contains(t, err.Error(), "3 operations of a batch failed")
	require.Len(t, queryKeys(t, d, all), 9)

	f.Set()
	require.NoError(t, b.Commit(t.Context()))
	require.Len(t, queryKeys(t, d, all), 10)
}

func TestFailureOfAnEarlySendIsReported(t *testing.T) {
	f := faulty.Wrap(mem.New())
	d := New(f, Config{})
	b := newBatch(t, d)
	value := bytes.Repeat([]byte("v"), batchLimit)
	require.NoError(t, b.Put(t.Context(), ds.NewKey("first"), value))
	f.Set(faulty.Rule{Err: bucket.ErrUnreachable})
	require.ErrorIs(t, b.Put(t.Context(), ds.NewKey("second"), value), bucket.ErrUnreachable)
	require.ErrorIs(t, b.Commit(t.Context()), bucket.ErrUnreachable)
	f.Set()
	require.NoError(t, b.Commit(t.Context()))
	require.Equal(t, []string{"/first"}, queryKeys(t, d, all), "what was refused was not taken")
}

// blocked is a bucket whose puts wait for their context.
type blocked struct{ *mem.Bucket }

func (b blocked) Put(ctx context.Context, _ string, _ io.ReadSeeker) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestCommitObeysItsContext(t *testing.T) {
	d := New(blocked{mem.New()}, Config{})
	b := newBatch(t, d)
	for i := range 500 {
		require.NoError(t, b.Put(t.Context(), ds.NewKey(fmt.Sprint(i)), []byte("v")))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Commit(ctx) }()
	for len(d.slots) < cap(d.slots) { // until all workers are waiting
		select {
		case err := <-done:
			require.NoError(t, err)
		default:
		}
	}
	waiting, cancelWaiting := context.WithCancel(t.Context())
	cancelWaiting()
	require.ErrorIs(t, b.Put(waiting, ds.NewKey("x"), nil), context.Canceled, "a batch that is being sent does not hold up others")
	cancel()
	s3test.Within(t, func() {
		err := <-done
		require.True(t, errors.Is(err, context.Canceled))
	})
}
