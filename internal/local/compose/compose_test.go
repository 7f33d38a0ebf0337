package compose

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// contents are all files below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

func TestPrepareMakesWhatIsMissingAndReplacesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, Prepare(dir))
	first := contents(t, dir)
	require.Len(t, first, 6+1+4)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "closed to others, as what is in it is not")
	for path := range first {
		info, err := os.Stat(path)
		require.NoError(t, err)
		if filepath.Base(path) == "ca.key" {
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			continue
		}
		require.Equal(t, os.FileMode(0o444), info.Mode().Perm()&0o444, "the container's user reads %s", path)
	}
	require.NoError(t, Prepare(dir))
	require.Equal(t, first, contents(t, dir))

	lost := filepath.Join(dir, secretsDir, "swarm_key")
	require.NoError(t, os.Remove(lost))
	require.NoError(t, Prepare(dir))
	again := contents(t, dir)
	require.NotEqual(t, first[lost], again[lost])
	delete(first, lost)
	delete(again, lost)
	require.Equal(t, first, again)
}

func TestDoorsAndCommand(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Prepare(dir))
	d := &Deployment{Files: "docker", Dir: dir, Project: "p", Version: "1", Blockstore: "s3", GatewayPort: 8443, APIPort: 9443}
	doors, err := d.Doors()
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:8443", doors.Gateway)
	require.Equal(t, "admin", doors.User)
	require.Len(t, doors.Password, 20)
	_, err = doors.Client()
	require.NoError(t, err)
	d.Blockstore = "flatfs"
	_, err = d.Command(t.Context(), "up")
	require.ErrorContains(t, err, `"flatfs" is none of s3, efs`)
}
