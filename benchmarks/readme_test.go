package main

import (
	"flag"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/report"
)

var update = flag.Bool("update", false, "make the README's part, the reference report and the schema anew")

const reference = "results/reference"

// The README's table and picture, and the committed report, say what the committed result says.
func TestReadmeIsInStep(t *testing.T) {
	res, err := record.Read(reference)
	require.NoError(t, err)
	require.NotNil(t, res.Finished, "the reference is a whole run")
	require.GreaterOrEqual(t, res.Settings.Samples, record.Least)
	require.Empty(t, res.Mismatch)
	require.Positive(t, res.Agreed)
	require.NotEmpty(t, res.Machine.CPU, "the machine is described")

	readme := filepath.Join("..", "README.md")
	old, err := os.ReadFile(readme)
	require.NoError(t, err)
	fresh, err := report.Readme(old, res)
	require.NoError(t, err)
	dir := reference
	if *update {
		require.NoError(t, os.WriteFile(readme, fresh, 0o644))
	} else {
		require.Equal(t, string(fresh), string(old), "README.md: `make bench-readme` makes it anew")
		dir = t.TempDir()
	}
	require.NoError(t, report.Write(res, dir))
	for _, name := range []string{report.Markdown, report.HTML, report.Picture} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(reference, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s: `make bench-readme` makes it anew", name)
	}
}

// The committed report, with its spreads and curves, looks right as well.
func TestReferenceLooksRight(t *testing.T) {
	path, err := filepath.Abs(filepath.Join(reference, report.HTML))
	require.NoError(t, err)
	looks(t, path)
}

func TestSchemaIsInStep(t *testing.T) {
	want, err := record.JSONSchema()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("results.schema.json", want, 0o644))
	}
	got, err := os.ReadFile("results.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// A store, and a workload, is one file of less than 100 lines that nothing else has to know of.
func TestStoresAndWorkloadsAreSmall(t *testing.T) {
	for _, dir := range []string{"internal/stores", "internal/workloads"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			if !strings.Contains(string(text), "suite.Register") {
				continue // what several share
			}
			lines := strings.Count(string(text), "\n")
			require.Less(t, lines, 100, f)
			_, err = parser.ParseFile(token.NewFileSet(), f, text, 0)
			require.NoError(t, err)
		}
	}
}
