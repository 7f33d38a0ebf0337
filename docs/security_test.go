package docs

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The versions in SECURITY.md are those of the two modules.
func TestSecurityNamesTheVersionsOfBothModules(t *testing.T) {
	text, err := os.ReadFile("../SECURITY.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+/[^`]+)` \\| (\\S+) \\| (\\S+) \\|$").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(rows), 10)
	node, sidecar := required(t, "../go.mod"), required(t, "../cluster/go.mod")
	for _, r := range rows {
		require.Equal(t, r[2], orNone(node[r[1]]), "%s in go.mod", r[1])
		require.Equal(t, r[3], orNone(sidecar[r[1]]), "%s in cluster/go.mod", r[1])
	}
}

func orNone(version string) string {
	if version == "" {
		return "–"
	}
	return version
}

// required are the versions that a go.mod requires.
func required(t *testing.T, file string) map[string]string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	versions := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\s+(\S+) (v\S+)`).FindAllStringSubmatch(string(text), -1) {
		versions[m[1]] = m[2]
	}
	require.NotEmpty(t, versions)
	return versions
}
