package folder

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// TestMain lets the test binary play the other process that holds a lock.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FOLDER_TEST_HOLDER"); dir != "" {
		if _, err := Folder(dir).Lock(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the parent is done
		return
	}
	os.Exit(m.Run())
}

func newID(t *testing.T) peer.ID {
	id, err := test.RandPeerID()
	require.NoError(t, err)
	return id
}

func TestLockExcludesAndNamesAnotherProcess(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "new", "folder"))
	cmd := proc.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FOLDER_TEST_HOLDER="+string(f))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	_, err = f.Lock()
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", cmd.Process.Pid))

	// Killed, not asked to end: the kernel drops the lock.
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_ = in.Close() // Wait may have closed it
	l, err := f.Lock()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	l, err = f.Lock()
	require.NoError(t, err, "and again after Close")
	require.NoError(t, l.Close())

	st, err := os.Stat(string(f))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
	_, err = os.Stat(filepath.Join(string(f), "cluster.lock"))
	require.NoError(t, err, "the lock file stays")
}

func TestAFolderBelongsToOnePeer(t *testing.T) {
	f := Folder(t.TempDir())
	a, b := newID(t), newID(t)
	require.NoError(t, f.Check("a", a), "nobody's yet")
	isNew, err := f.Adopt("a", a)
	require.NoError(t, err)
	require.True(t, isNew)
	require.NoError(t, f.Check("a", a))
	require.NoError(t, f.Check("renamed", a), "the ID decides")
	isNew, err = f.Adopt("a", a)
	require.NoError(t, err)
	require.False(t, isNew)

	err = f.Check("b", b)
	for _, want := range []string{`"a"`, a.String(), `"b"`, b.String(), "IPFS_CLUSTER_PATH", "cluster-aws.json"} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, os.Remove(f.MarkerPath()))
	require.NoError(t, f.Check("b", b), "as the message says")
}

func TestCheckLeavesNoTrace(t *testing.T) {
	f := Folder(filepath.Join(t.TempDir(), "missing"))
	require.NoError(t, f.Check("a", newID(t)))
	_, err := os.Stat(string(f))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestGeneratedIdentityIsKeptAndPrivate(t *testing.T) {
	f := Folder(t.TempDir())
	_, err := f.Identity()
	require.ErrorIs(t, err, os.ErrNotExist)
	made, err := f.GenerateIdentity()
	require.NoError(t, err)
	read, err := f.Identity()
	require.NoError(t, err)
	require.Equal(t, made.ID, read.ID)
	require.True(t, made.Key.Equals(read.Key))
	_, err = f.GenerateIdentity()
	require.ErrorContains(t, err, "exists already")
	st, err := os.Stat(f.IdentityPath())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	require.ErrorContains(t, f.Check("b", newID(t)), "identity.json", "another identity, no marker")
	require.NoError(t, f.Check("a", made.ID))
}

func TestBrokenMarkers(t *testing.T) {
	for content, want := range map[string]string{
		`{`:             "read ",
		`{"version":2}`: "newer cluster-aws",
	} {
		f := Folder(t.TempDir())
		require.NoError(t, os.WriteFile(f.MarkerPath(), []byte(content), 0o600))
		id := newID(t)
		require.ErrorContains(t, f.Check("a", id), want)
		_, err := f.Adopt("a", id)
		require.ErrorContains(t, err, want)
	}
}
