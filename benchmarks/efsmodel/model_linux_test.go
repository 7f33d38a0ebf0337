package efsmodel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What an NFS client would send for each system call.
func TestRequests(t *testing.T) {
	m, dir := mountForTest(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	sub := filepath.Join(dir, "sub")
	var f *os.File
	for _, step := range []struct {
		name string
		do   func() error
		want map[Kind]int64
	}{
		{"create", func() (err error) {
			f, err = os.OpenFile(a, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			return err
		}, map[Kind]int64{Create: 1}},
		{"write", func() error { _, err := f.Write(make([]byte, 5000)); return err }, map[Kind]int64{}},
		{"fsync", func() error { return f.Sync() }, map[Kind]int64{Write: 1}},
		{"fsync with nothing to write", func() error { return f.Sync() }, map[Kind]int64{}},
		{"large write", func() error { _, err := f.Write(make([]byte, 2*MaxTransfer+1)); return err }, map[Kind]int64{}},
		{"close", func() error { return f.Close() }, map[Kind]int64{Write: 3, Close: 1}},
		{"rename", func() error { return unix.Rename(a, b) }, map[Kind]int64{Rename: 1}},
		{"stat of nothing", func() error {
			_, err := os.Stat(a)
			require.ErrorIs(t, err, os.ErrNotExist)
			return nil
		}, map[Kind]int64{Lookup: 1}},
		{"stat past the cache", func() error {
			var st unix.Statx_t
			return unix.Statx(unix.AT_FDCWD, b, unix.AT_STATX_FORCE_SYNC, unix.STATX_MTIME, &st)
		}, map[Kind]int64{Getattr: 1}},
		{"stat from the cache", func() error { _, err := os.Stat(b); return err }, map[Kind]int64{}},
		{"open and close", func() (err error) {
			if f, err = os.Open(b); err != nil {
				return err
			}
			return f.Close()
		}, map[Kind]int64{Open: 1, Close: 1}},
		{"mkdir", func() error { return os.Mkdir(sub, 0o755) }, map[Kind]int64{Create: 1}},
		{"mkdir of what is there", func() error {
			require.ErrorIs(t, os.Mkdir(sub, 0o755), os.ErrExist)
			return nil
		}, map[Kind]int64{}},
		{"fsync of a directory", func() error {
			d, err := os.Open(sub)
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Sync()
		}, map[Kind]int64{Getattr: 1}},
		{"list", func() error { _, err := os.ReadDir(dir); return err }, map[Kind]int64{Getattr: 1, Readdir: 1}},
		{"remove", func() error { return os.Remove(b) }, map[Kind]int64{Remove: 1}},
		{"rmdir", func() error { return unix.Rmdir(sub) }, map[Kind]int64{Remove: 1}},
	} {
		got := requests(t, m, func() { require.NoError(t, step.do(), step.name) })
		require.Equal(t, step.want, got, step.name)
	}
}

func TestFoldersAreCountedApart(t *testing.T) {
	m, dir := mountForTest(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "blocks", "AA"), 0o755))
	require.NoError(t, m.Reset())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blocks", "AA", "x"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config"), []byte("x"), 0o600))
	st, err := m.Stats()
	require.NoError(t, err)
	require.Equal(t, map[Kind]int64{Create: 1, Write: 1, Close: 1}, st.Folders["blocks"])
	require.Equal(t, map[Kind]int64{Create: 1, Write: 1, Close: 1}, st.Folders[""])
	require.EqualValues(t, 6, st.Total())
}
