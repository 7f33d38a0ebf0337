package s3ds

import (
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

// calls is how many puts the metrics of the process show.
func calls(t *testing.T) (sum float64) {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "s3ds_bucket_calls_total" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "op" && l.GetValue() == "put" {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// Two stores may be open at once, as when one is in front of the other: what they count is added up, under one name.
func TestMetricsOfTwoStores(t *testing.T) {
	a, b := s3ds.New(mem.New(), s3ds.Config{}), s3ds.New(mem.New(), s3ds.Config{})
	require.NoError(t, register(a))
	require.NoError(t, a.Put(t.Context(), ds.NewKey("/x"), []byte("x")))
	require.EqualValues(t, 1, calls(t))
	require.NoError(t, register(b))
	for range 2 {
		require.NoError(t, b.Put(t.Context(), ds.NewKey("/x"), []byte("x")))
	}
	require.EqualValues(t, 3, calls(t))
	unregister(a)
	require.EqualValues(t, 2, calls(t))
	unregister(b)
	require.Zero(t, calls(t))
	require.NoError(t, register(a), "and again")
	unregister(a)
}
