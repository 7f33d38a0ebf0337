package settings

import (
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	efsplugin "github.com/ipfs-aws/ipfs-aws/plugin/efs"
)

var update = flag.Bool("update", false, "write docs/settings.md")

func TestTheReferenceIsWhatTheCodeSays(t *testing.T) {
	const page = "../../../docs/settings.md"
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(Reference()), 0o644))
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, Reference(), string(text), "go test ./cmd/ipfs-aws/settings -update")
	for _, name := range Names() {
		require.Contains(t, string(text), "`"+trimFile(name)+"`")
	}
}

func trimFile(name string) string {
	if n := len(name) - len("_FILE"); n > 0 && name[n:] == "_FILE" {
		return name[:n]
	}
	return name
}

// Whatever a datastore can be told has a variable, and every variable tells a
// datastore something that it takes.
func TestEveryKeyOfADatastoreHasASetting(t *testing.T) {
	kubos := []string{"type", "mountpoint", "prefix", "sync"}
	for store, keys := range map[string][]string{S3: s3ds.Settings(), EFS: efsplugin.Settings(), Flatfs: {"path", "shardFunc"}} {
		var known []string
		for _, s := range table {
			if s.Store == store {
				require.NotContains(t, known, s.Key, "twice")
				known = append(known, s.Key)
				require.NotEmpty(t, s.Meaning, s.Variable)
				require.True(t, s.Secret || s.Flag != "", "%s has no flag", s.Variable)
				require.False(t, s.Secret && s.Flag != "", "%s is a secret with a flag", s.Variable)
			}
		}
		want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(kubos, k) })
		require.ElementsMatch(t, want, known, store)
	}
}

func TestNamesAreUnique(t *testing.T) {
	names := Names()
	require.Len(t, slices.Compact(slices.Clone(names)), len(names))
	flags := map[string]bool{}
	for _, f := range Flags() {
		require.False(t, flags[f.Name], f.Name)
		flags[f.Name] = true
		require.NotContains(t, f.Help, "`")
	}
}
