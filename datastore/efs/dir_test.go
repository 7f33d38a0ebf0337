package efs

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// storeDir is a directory for one test, in memory where there is /dev/shm: the
// store syncs every block several times, which a disk that others use too
// may take minutes for.
func storeDir(t testing.TB) string {
	t.Helper()
	const shm = "/dev/shm"
	if _, err := os.Stat(shm); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "efs-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
