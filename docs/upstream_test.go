package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	marker = regexp.MustCompile(`(?m)^\s*// upstream: ([a-z-]+)$`)
	row    = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|.*\\| ([^|]*) \\|$")
	proof  = regexp.MustCompile("`([a-z0-9/-]+) (Test[A-Za-z0-9_]+)`")
)

// upstream.md names every place that is marked in the code, and no other, each with
// tests that exist.
func TestUpstreamIsWhatTheCodeReachesInto(t *testing.T) {
	text, err := os.ReadFile("upstream.md")
	require.NoError(t, err)
	written := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		name, tests := m[1], proof.FindAllStringSubmatch(m[2], -1)
		require.False(t, written[name], "%s is there twice", name)
		written[name] = true
		require.NotEmpty(t, tests, "%s has no test", name)
		for _, test := range tests {
			require.Contains(t, testsIn(t, test[1]), test[2], "%s: no such test in %s", name, test[1])
		}
	}
	require.Greater(t, len(written), 20)
	marked := map[string]string{}
	for _, root := range []string{"cmd", "plugin", "datastore", "cluster", "internal"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", root), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			code, err := os.ReadFile(path)
			for _, m := range marker.FindAllStringSubmatch(string(code), -1) {
				marked[m[1]] = path
			}
			return err
		}))
	}
	for name, path := range marked {
		require.True(t, written[name], "%s: upstream.md says nothing of %s", path, name)
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(written)), slices.Collect(maps.Keys(marked)), "no code is marked with a name of upstream.md")
}

// testsIn are the names of the tests in a folder of the repository.
func testsIn(t *testing.T, dir string) []string {
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*_test.go"))
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
