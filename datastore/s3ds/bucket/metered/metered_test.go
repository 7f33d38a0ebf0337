package metered_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
)

func TestTransparent(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return metered.Wrap(mem.New(), metered.NewMeter()) })
}

func TestCallsAreCountedByOutcome(t *testing.T) {
	m := metered.NewMeter()
	f := faulty.Wrap(mem.New())
	b := metered.Wrap(f, m)
	require.NoError(t, b.Put(t.Context(), "k", strings.NewReader("12345")))
	buckettest.Read(t, b, "k", bucket.Range{Length: 3})
	_, err := b.Head(t.Context(), "absent")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.NoError(t, b.Delete(t.Context(), "k"))
	require.NoError(t, b.Check(t.Context()))
	for range b.List(t.Context(), "", "") {
		require.Fail(t, "nothing is left")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Head(ctx, "k")
	require.Error(t, err)
	f.Set(faulty.Rule{Op: bucket.OpHead, Err: bucket.ErrThrottled, Times: 1}, faulty.Rule{Op: bucket.OpHead, Err: errors.New("other")})
	for range 2 {
		_, err = b.Head(t.Context(), "k")
		require.Error(t, err)
	}

	s := m.Snapshot()
	require.Equal(t, map[metered.Outcome]uint64{metered.OK: 1}, s[bucket.OpPut].Calls)
	require.EqualValues(t, 5, s[bucket.OpPut].BytesOut)
	require.EqualValues(t, 3, s[bucket.OpGet].BytesIn)
	require.Equal(t, map[metered.Outcome]uint64{metered.Miss: 1, metered.Cancelled: 1, metered.Throttled: 1, metered.Failed: 1}, s[bucket.OpHead].Calls)
	for _, op := range []bucket.Op{bucket.OpList, bucket.OpDelete, bucket.OpCheck, bucket.OpGet} {
		require.Equal(t, map[metered.Outcome]uint64{metered.OK: 1}, s[op].Calls, op)
	}
}

func TestRequestsArePriced(t *testing.T) {
	m := metered.NewMeter()
	for op, n := range map[bucket.Op]int{bucket.OpPut: 1000, bucket.OpGet: 1000, bucket.OpHead: 1000, bucket.OpList: 1000, bucket.OpDelete: 1000} {
		for range n {
			m.Observe(bucket.Request{Op: op, Sent: 1, Received: 2})
		}
	}
	m.Observe(bucket.Request{Op: bucket.OpPut, Failed: true, Throttle: true})
	s := m.Snapshot()
	require.InDelta(t, 0.005005, s[bucket.OpPut].USD, 1e-9, "a retry is paid for")
	require.InDelta(t, 0.005, s[bucket.OpList].USD, 1e-9)
	require.InDelta(t, 0.0004, s[bucket.OpGet].USD, 1e-9)
	require.InDelta(t, 0.0004, s[bucket.OpHead].USD, 1e-9)
	require.Zero(t, s[bucket.OpDelete].USD)
	require.EqualValues(t, 1001, s[bucket.OpPut].Requests)
	require.EqualValues(t, 1, s[bucket.OpPut].Failures)
	require.EqualValues(t, 1, s[bucket.OpPut].Throttles)
	require.EqualValues(t, 2000, s[bucket.OpGet].BytesReceived)
}

func TestMetrics(t *testing.T) {
	m := metered.NewMeter()
	b := metered.Wrap(mem.New(), m)
	_, _, err := b.Get(t.Context(), "absent", bucket.Range{})
	require.ErrorIs(t, err, bucket.ErrNotFound)
	m.Observe(bucket.Request{Op: bucket.OpGet})
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(m))
	families, err := r.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := f.GetName()
			for _, l := range metric.GetLabel() {
				name += " " + l.GetValue()
			}
			found[name] = metric.GetCounter().GetValue()
		}
	}
	require.EqualValues(t, 1, found["s3ds_bucket_calls_total get miss"])
	require.EqualValues(t, 1, found["s3ds_bucket_requests_total get ok"])
	require.InDelta(t, 0.0004/1000, found["s3ds_bucket_usd_total get ok"], 1e-12)
}

// closing is a bucket that can be closed.
type closing struct {
	bucket.Bucket
	closed bool
}

func (c *closing) Close() error { c.closed = true; return io.ErrClosedPipe }

func TestCloseReachesWhatIsWrapped(t *testing.T) {
	c := &closing{Bucket: mem.New()}
	require.ErrorIs(t, metered.Wrap(c, metered.NewMeter()).Close(), io.ErrClosedPipe)
	require.True(t, c.closed)
	require.NoError(t, metered.Wrap(mem.New(), metered.NewMeter()).Close())
}
