package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// The store and the workload of benchmarks/README.md work as they are printed, with nothing else touched.
func TestExamples(t *testing.T) {
	gate.NotQuick(t, "builds the suite once more")
	dir, err := os.Getwd()
	require.NoError(t, err)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, m := range regexp.MustCompile("(?s)```go\n(package (stores|workloads)\n.*?)```").FindAllStringSubmatch(string(readme), -1) {
		require.Less(t, strings.Count(m[1], "\n"), 100)
		file := filepath.Join(t.TempDir(), "example.go")
		require.NoError(t, os.WriteFile(file, []byte(m[1]), 0o600))
		overlay.Replace[filepath.Join(dir, "internal", m[2], []string{"badger.go", "stat.go"}[i])] = file
	}
	require.Len(t, overlay.Replace, 2)
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))

	bin, out := filepath.Join(t.TempDir(), "benchmarks"), filepath.Join(t.TempDir(), "results")
	said, err := proc.CommandContext(t.Context(), "go", "build", "-overlay", file, "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(said))
	said, err = proc.CommandContext(t.Context(), bin, "list").CombinedOutput()
	require.NoError(t, err, string(said))
	require.Contains(t, string(said), "badger")
	require.Contains(t, string(said), "`ipfs repo stat`, from cold")
	said, err = proc.CommandContext(t.Context(), bin, "run", "--profile", "smoke", "--stores", "badger", "--workloads", "add-file,cat-cold,stat", "--out", out).CombinedOutput()
	require.NoError(t, err, string(said))
	res, err := record.Read(out)
	require.NoError(t, err)
	require.Len(t, res.Samples, 2+3, "two at level datastore, three inside kubo")
	report, err := os.ReadFile(filepath.Join(out, "report.md"))
	require.NoError(t, err)
	require.Contains(t, string(report), "Badger, local disk")
	require.Contains(t, string(report), "## repo stat, inside real kubo")
}
