package index

import (
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// files lists the files of the index, locks excepted.
func files(t *testing.T, fs vfs.FS) []string {
	var all []string
	for _, dir := range []string{"ix", "ix/db"} {
		names, err := fs.List(dir)
		require.NoError(t, err)
		for _, name := range names {
			st, err := fs.Stat(dir + "/" + name)
			require.NoError(t, err)
			if !st.IsDir() && name != "LOCK" {
				all = append(all, dir+"/"+name)
			}
		}
	}
	return all
}

func fileSize(t *testing.T, fs vfs.FS, name string) int64 {
	st, err := fs.Stat(name)
	require.NoError(t, err)
	return st.Size()
}

func truncate(t *testing.T, fs vfs.FS, name string, keep int64) {
	f, err := fs.Open(name)
	require.NoError(t, err)
	b, err := io.ReadAll(io.LimitReader(f, keep))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	f, err = fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
