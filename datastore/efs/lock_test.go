package efs

import (
	"bufio"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// holdForParent is, in the process that TestAFolderHasOneProcess starts, another holder of the folder.
func holdForParent(t *testing.T) {
	l, err := lockFolder(os.Getenv("EFS_TEST_HOLD"))
	if err != nil {
		_, _ = os.Stdout.WriteString("refused\n")
		return
	}
	_, _ = os.Stdout.WriteString("holds\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent ends it
	require.NoError(t, l.Close())
}

func TestAFolderHasOneProcess(t *testing.T) {
	if os.Getenv("EFS_TEST_HOLD") != "" {
		holdForParent(t)
		return
	}
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	other := func() (said string, kill func()) {
		cmd := exec.Command(self, "-test.run=^TestAFolderHasOneProcess$")
		cmd.Env = append(os.Environ(), "EFS_TEST_HOLD="+dir)
		_, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		said, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		return said, func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	cfg := Config{Path: dir, ShardFunc: "/repo/flatfs/shard/v1/next-to-last/2"}
	said, kill := other()
	require.Equal(t, "holds\n", said)
	_, err = Open(cfg)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "process ")
	kill()

	first, err := Open(cfg)
	require.NoError(t, err, "a holder that was killed holds nothing")
	second, err := Open(cfg)
	require.NoError(t, err, "within a process a folder may be open twice")
	require.NoError(t, first.Close())
	said, kill = other()
	require.Equal(t, "refused\n", said, "the second still has it open")
	kill()
	require.NoError(t, second.Close())
	said, kill = other()
	require.Equal(t, "holds\n", said)
	kill()
}
