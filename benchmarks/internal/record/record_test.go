package record

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Published critical values of the rank test: with 5 and 5, U ≤ 2 is significant at 0.05 and 3 is not.
func TestRankTest(t *testing.T) {
	a := []float64{1, 2, 3, 4, 5}
	require.InDelta(t, 2.0/252, rankTest(a, []float64{6, 7, 8, 9, 10}), 1e-9)
	require.InDelta(t, 2.0/252, rankTest([]float64{6, 7, 8, 9, 10}, a), 1e-9)
	require.Less(t, rankTest(a, []float64{3.5, 6, 7, 8, 9}), Significant)    // U = 2
	require.Greater(t, rankTest(a, []float64{2.5, 6, 7, 8, 9}), Significant) // U = 3
	require.InDelta(t, 1, rankTest(a, a), 1e-9)
	require.InDelta(t, 1, rankTest([]float64{3, 3, 3}, []float64{3, 3, 3}), 1e-9)
	many, more := make([]float64, 20), make([]float64, 20)
	for i := range many {
		many[i], more[i] = float64(i), float64(i)+0.5
	}
	require.Greater(t, rankTest(many, more), 0.5)
	for i := range more {
		more[i] += 15
	}
	require.Less(t, rankTest(many, more), 0.001)
}

func TestDecide(t *testing.T) {
	s := func(v ...float64) Stat { return Summarize(v) }
	require.Empty(t, Decide(s(10, 11, 12, 13, 14), s(5, 5.1, 5.2, 5.3, 5.4)).Doubt)
	require.InDelta(t, 5.2/12, Decide(s(10, 11, 12, 13, 14), s(5, 5.1, 5.2, 5.3, 5.4)).Ratio, 1e-9)
	require.Equal(t, "too wide to decide", Decide(s(10, 11, 12, 13, 14), s(9, 10.5, 12.5, 13.5, 15)).Doubt)
	require.Contains(t, Decide(s(1, 2), s(10, 20)).Doubt, "of 5 samples")
	require.Empty(t, Decide(s(8, 8), s(4, 4)).Doubt, "counts that never vary differ without doubt")
	require.Equal(t, "no difference", Decide(s(8, 8), s(8, 8)).Doubt)
	require.Equal(t, "spread too wide to decide", s(1, 2, 3, 4, 5).Doubt())
	require.Empty(t, s(10, 10.1, 10.2, 10.3, 10.4).Doubt())
	require.Equal(t, "only 3 of 5 samples", s(1, 1, 1).Doubt())
	require.Equal(t, 0.0, s(0, 0, 0, 0, 0).Spread())
	require.True(t, math.IsInf(s(0, 0, 0, 1, 2).Spread(), 1))
}

func TestQuantile(t *testing.T) {
	v := []float64{1, 2, 3, 4}
	require.Equal(t, 2.5, Quantile(v, 0.5))
	require.Equal(t, 1.0, Quantile(v, 0))
	require.Equal(t, 4.0, Quantile(v, 1))
	require.True(t, math.IsNaN(Quantile(nil, 0.5)))
}

func small() *Results {
	return &Results{
		Schema: Schema, Settings: Settings{Samples: 1, Dilation: 1}, Stores: []Store{{Name: "s"}}, Workloads: []Workload{{Name: "w", Kind: "add"}},
		Samples: []Sample{{Store: "s", Level: Kubo, Workload: "w", At: time.Unix(1, 0).UTC(), Seconds: 1, Latencies: []float64{1.5, 2, 3}}},
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	r := small()
	require.NoError(t, r.Write(dir))
	again, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, r, again)
	text, err := os.ReadFile(filepath.Join(dir, FileName))
	require.NoError(t, err)
	require.Contains(t, string(text), "[1.5,2,3]", "latencies are on one line")
}

func TestReadRefuses(t *testing.T) {
	for want, change := range map[string]func(*Results){
		"schema is 2":              func(r *Results) { r.Schema = 2 },
		"not among stores":         func(r *Results) { r.Samples[0].Store = "other" },
		"not among workloads":      func(r *Results) { r.Samples[0].Workload = "other" },
		"no such level":            func(r *Results) { r.Samples[0].Level = "kernel" },
		"rounds are 0 to 0":        func(r *Results) { r.Samples[0].Round = 1 },
		"took 0 s":                 func(r *Results) { r.Samples[0].Seconds = 0 },
		"is there twice":           func(r *Results) { r.Samples = append(r.Samples, r.Samples[0]) },
		"kind is":                  func(r *Results) { r.Workloads[0].Kind = "" },
		"dilation 0 and samples 1": func(r *Results) { r.Settings.Dilation = 0 },
		"must not be negative":     func(r *Results) { r.Samples[0].Bytes = -1 },
	} {
		r, dir := small(), t.TempDir()
		change(r)
		require.NoError(t, r.Write(dir))
		_, err := Read(dir)
		require.ErrorContains(t, err, want)
	}
}

func TestWhatWasCountedDifferentlyIsForgotten(t *testing.T) {
	r := &Results{Mismatch: []Difference{{Round: 1, Store: "a", Level: Kubo}}, Samples: []Sample{
		{Round: 0, Store: "a", Level: Kubo},
		{Round: 1, Store: "a", Level: Kubo, Workload: "x"},
		{Round: 1, Store: "a", Level: Kubo, Workload: "y"},
		{Round: 1, Store: "a", Level: Datastore},
		{Round: 1, Store: "b", Level: Kubo},
	}}
	require.Equal(t, 2, r.DropMismatched())
	require.Len(t, r.Samples, 3)
	require.Empty(t, r.Mismatch)
	require.False(t, r.Has(1, Key{Store: "a", Level: Kubo, Workload: "x"}))
	require.Zero(t, r.DropMismatched())
}
