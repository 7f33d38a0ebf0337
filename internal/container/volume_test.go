package container

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// probe is the variable that makes this test binary a process that only looks,
// as a user who is not root.
const probe = "VOLUME_TEST_PROBE"

func TestMain(m *testing.M) {
	if root := os.Getenv(probe); root != "" {
		if err := UsableVolume(root, "data"); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// look is what the check says to somebody who is not root.
func look(t *testing.T, root string) string {
	t.Helper()
	if os.Getuid() != 0 {
		if err := UsableVolume(root, "data"); err != nil {
			return err.Error()
		}
		return ""
	}
	self, err := os.ReadFile(os.Args[0]) // where it was built nobody else may look
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "volume-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "probe")
	require.NoError(t, os.WriteFile(binary, self, 0o755))
	cmd := exec.Command(binary)
	cmd.Env = []string{probe + "=" + root}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return out.String()
}

// open makes a folder that everybody may enter.
func open(t *testing.T) string {
	dir, err := os.MkdirTemp("", "volume-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	return dir
}

func TestUsable(t *testing.T) {
	root := open(t)
	require.Empty(t, look(t, root))
	require.Empty(t, look(t, filepath.Join(root, "a", "b")), "it can be made")

	locked := filepath.Join(root, "locked")
	require.NoError(t, os.Mkdir(locked, 0o555))
	line := look(t, locked)
	require.Contains(t, line, locked+" belongs to user ")
	require.Contains(t, line, "(mode 0555), and this process is user ")
	require.Contains(t, line, "`chown -R ")
	require.NotContains(t, line, "\n")
	require.Contains(t, look(t, filepath.Join(locked, "a")), "`mkdir -p "+locked+"/a && chown -R ")

	inner := open(t)
	require.NoError(t, os.WriteFile(filepath.Join(inner, "data"), nil, 0o400))
	require.Contains(t, look(t, inner), filepath.Join(inner, "data")+" belongs to user ")

	file := filepath.Join(open(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	require.Contains(t, look(t, file), "is a file, and must be a folder")
	require.Contains(t, look(t, filepath.Join(file, "x")), "something above it is a file")
}
