package efsmodel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

func TestMain(m *testing.M) {
	Init()
	Isolate()
	os.Exit(m.Run())
}

// mountForTest mounts an empty directory, without waiting times, and returns
// the mount and where it is.
func mountForTest(t testing.TB) (*Mounted, string) {
	t.Helper()
	if err := Available(); err != nil {
		gate.Missing(t, gate.FUSE, err.Error())
	}
	base, remove, err := Scratch()
	require.NoError(t, err)
	backing, mountpoint := filepath.Join(base, "backing"), filepath.Join(base, "mnt")
	require.NoError(t, os.Mkdir(backing, 0o755))
	require.NoError(t, os.Mkdir(mountpoint, 0o755))
	m, err := Mount(Options{
		Backing: backing, Mountpoint: mountpoint,
		Profile: OneZone, Throughput: Throughput{Mode: "elastic"},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, m.Unmount())
		require.NoError(t, remove())
	})
	return m, mountpoint
}

// requests resets the counters, runs f and returns what it took.
func requests(t testing.TB, m *Mounted, f func()) map[Kind]int64 {
	t.Helper()
	require.NoError(t, m.Reset())
	f()
	st, err := m.Stats()
	require.NoError(t, err)
	return st.Requests
}
