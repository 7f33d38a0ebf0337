package docs

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that uses a store as a library gets internal/ by the version that go.mod
// requires, since a replacement by a folder holds in this repository only. A release
// tags internal/ with its own version.
func TestModulesRequireTheVersionOfTheRelease(t *testing.T) {
	text := func(path string) string {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(b)
	}
	version := regexp.MustCompile(`(?m)^VERSION +\?= (\d+\.\d+\.\d+)(-dev)?$`).FindStringSubmatch(text("../Makefile"))
	require.NotNil(t, version)
	for _, mod := range []string{"../go.mod", "../cluster/go.mod", "../test/kubo/go.mod"} {
		require.Contains(t, text(mod), "github.com/ipfs-aws/ipfs-aws/internal v"+version[1]+"\n", mod)
	}
}
