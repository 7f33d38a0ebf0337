package container

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// An orphan is given to this process, which says that it takes them, as the
// first process of a container does.
func TestOrphansAreCollectedAndOwnChildrenAreNot(t *testing.T) {
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ReapOrphans(ctx)

	gate := filepath.Join(t.TempDir(), "gate")
	require.NoError(t, unix.Mkfifo(gate, 0o600))
	out, err := proc.Command("sh", "-c", "sh -c 'read x <"+gate+"; exit 3' >/dev/null 2>&1 & echo $!").Output()
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	status := func() string {
		b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		return string(b)
	}
	require.Contains(t, status(), "PPid:\t"+strconv.Itoa(os.Getpid())+"\n", "the orphan is ours")

	require.NoError(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	require.Eventually(t, func() bool { return status() == "" }, time.Minute, 10*time.Millisecond, "the orphan has left the process table")
	for range 20 {
		require.NoError(t, proc.Command("true").Run(), "what is waited for is not taken away")
	}
}
