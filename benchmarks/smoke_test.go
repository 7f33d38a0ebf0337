package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

var (
	smoke  = flag.Bool("smoke", false, "run all combinations: what `make bench-smoke` does")
	sample = flag.String("screenshots", "", "keep the screenshots of the report in this folder")
)

// TestSmoke runs every store with every workload at every level, and looks at what comes out: the schema, the counts, and the report
// in a real browser.
func TestSmoke(t *testing.T) {
	if !*smoke {
		t.Skip("runs every combination: `make bench-smoke`, or -smoke")
	}
	if gate.Required(gate.FUSE) {
		require.NoError(t, efsmodel.Available(), "the stores on EFS would be left out")
	}
	out := filepath.Join(t.TempDir(), "results")
	_, stderr, code := bench(t, nil, "run", "--profile", "smoke", "--parallel", "4", "--out", out)
	require.Zero(t, code, stderr)

	res, err := record.Read(out) // strict: a field that the schema does not have is an error
	require.NoError(t, err)
	require.NotNil(t, res.Finished)

	for _, s := range suite.Stores() {
		if s.EFS != nil && efsmodel.Available() != nil {
			require.Contains(t, stderr, "skipped: "+s.Name)
			continue
		}
		for _, w := range suite.Workloads() {
			for level, f := range map[string]func(*suite.Run) error{record.Datastore: w.Datastore, record.Kubo: w.Kubo} {
				k := record.Key{Store: s.Name, Level: level, Workload: w.Name}
				require.Equal(t, f != nil, res.Has(0, k), "%v", k)
			}
		}
	}
	require.Empty(t, res.Mismatch, "the server and a store count differently")
	require.Positive(t, res.Agreed, "nothing was compared")
	t.Logf("%d samples; the stores' own counters agreed with the server's in %d comparisons", len(res.Samples), res.Agreed)

	// What is known of the stores beforehand must be in the counts: a measurement that measures nothing would not show it.
	requests := func(store, level, workload string) s3model.Counts {
		of := res.Of(record.Key{Store: store, Level: level, Workload: workload})
		require.Len(t, of, 1)
		return *of[0].S3
	}
	for _, level := range record.Levels {
		require.EqualValues(t, res.Settings.Sizes.FileBytes/suite.ChunkSize, requests("go-ds-s3", level, "cat-cold").Requests[s3model.Get]-map[string]int64{record.Kubo: 1}[level],
			"one GET a chunk, and inside kubo one for the root")
		require.GreaterOrEqual(t, requests("go-ds-s3", level, "wants").Requests[s3model.Head], int64(100), "one HEAD a want")
		require.Zero(t, requests("s3-packs", level, "wants").Total(), "the index knows what is not there")
		require.Positive(t, requests("s3-packs", level, "cat-cold").Requests[s3model.Get])
		require.Zero(t, requests("s3-packs", level, "cat-warm").Total())
		require.Less(t, requests("s3-packs", level, "add-file").Total(), requests("go-ds-s3", level, "add-file").Total())
	}
	for _, s := range res.Samples {
		if s.Workload == "cat-cold" {
			require.EqualValues(t, res.Settings.Sizes.FileBytes, s.Bytes, s.Key())
		}
		if s.Level == record.Kubo {
			require.Positive(t, s.PeakRSS, s.Key())
		}
	}
	looks(t, filepath.Join(out, report.HTML))

	text, err := os.ReadFile(filepath.Join(out, report.Markdown))
	require.NoError(t, err)
	for _, s := range res.Stores {
		require.Contains(t, string(text), s.Title)
	}
	require.True(t, slices.ContainsFunc(res.Ceilings, func(c record.Ceiling) bool { return c.LimitBytes > 0 && c.ReadBytes > 0 }))
}
