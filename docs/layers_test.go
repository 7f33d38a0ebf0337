package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const repository = "github.com/ipfs-aws/ipfs-aws/"

// layers say what the packages in a folder may import of this repository, and what
// they must not import of others; the first that fits a folder holds. Tests are
// held to it as well, but for those of a whole, which are a layer of their own.
var layers = []struct {
	folder string
	may    []string // folders of this repository
	not    []string // beginnings of import paths
}{
	{"cluster/", []string{"cluster/", "internal/"}, []string{"github.com/ipfs/kubo"}},
	{"internal/", []string{"internal/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs/boxo", "github.com/ipfs-cluster/"}},
	{"docker/", []string{"docker/", "internal/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
	{"infra/", []string{"infra/", "internal/prices/", "internal/bill/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
	{"datastore/", []string{"datastore/", "internal/testkit/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
	{"plugin/", []string{"plugin/", "node/", "datastore/", "internal/"}, []string{"github.com/ipfs-cluster/"}},
	{"cmd/local-cluster/", []string{"cmd/local-cluster/", "internal/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
	{"cmd/", []string{"cmd/", "node/", "plugin/", "datastore/", "internal/"}, []string{"github.com/ipfs-cluster/"}},
	{"node/", []string{"node/", "internal/"}, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
	{"benchmarks/", []string{"benchmarks/", "node/", "plugin/", "datastore/", "internal/"}, []string{"github.com/ipfs-cluster/"}},
	{"test/", []string{"test/", "cmd/", "node/", "plugin/", "datastore/", "internal/", "benchmarks/"}, []string{"github.com/ipfs-cluster/"}},
	{"docs/", nil, []string{"github.com/ipfs/kubo", "github.com/ipfs-cluster/"}},
}

// Imports run one way, and the two programs share nothing but internal.
func TestImportsRunDownwards(t *testing.T) {
	seen := map[string]int{}
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		at, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		at = filepath.ToSlash(at)
		for _, l := range layers {
			if !strings.HasPrefix(at, l.folder) {
				continue
			}
			seen[l.folder]++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, i := range file.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				if own, ok := strings.CutPrefix(name, repository); ok {
					require.True(t, within(own+"/", l.may), "%s imports %s: %s may import %s only", at, name, l.folder, strings.Join(l.may, ", "))
				}
				require.False(t, within(name, l.not), "%s imports %s", at, name)
			}
			return nil
		}
		require.Fail(t, "a folder of no layer", "%s: say in this test what it may import", at)
		return nil
	}))
	for _, l := range layers {
		if l.folder != "node/" {
			require.NotZero(t, seen[l.folder], "there is nothing in %s", l.folder)
		}
	}
}

// The map in architecture.md has every package, by its folder or by that of its group.
func TestTheMapHasEveryPackage(t *testing.T) {
	text, err := os.ReadFile("architecture.md")
	require.NoError(t, err)
	groups := []string{"benchmarks/", "test/", "datastore/efs/internal/", "datastore/s3ds/bucket/"}
	packages := map[string]bool{}
	for _, l := range layers {
		root := filepath.Join("..", l.folder)
		if _, err := os.Stat(root); err != nil || l.folder == "docs/" {
			continue
		}
		require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" {
				at, _ := filepath.Rel("..", filepath.Dir(path)) // both begin with ..
				packages[filepath.ToSlash(at)] = true
			}
			return err
		}))
	}
	for name := range packages {
		if !within(name, groups) {
			require.Contains(t, string(text), "`"+name+"`", "a package that is not in the map of architecture.md")
		}
	}
}

func within(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
