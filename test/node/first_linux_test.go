package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// As the first process of a container: signals end it in order, although the
// kernel gives that process none that it does not handle, and orphans of
// commands that were run beside it do not pile up.
func TestContainerIsTheFirstProcess(t *testing.T) {
	if os.Getuid() != 0 {
		gate.Missing(t, gate.Root, "only root makes namespaces")
	}
	enter, err := exec.LookPath("nsenter")
	if err != nil {
		gate.Missing(t, gate.Nsenter, err.Error()+" (Debian: apt-get install util-linux)")
	}
	n := newContainer(t)
	d := n.begin(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, "container")
	d.ready()
	first := strconv.Itoa(d.cmd.Process.Pid)
	require.Contains(t, status(first), "\nNSpid:\t"+first+"\t1\n")

	out, err := proc.Command(enter, "--target", first, "--pid", "--", "sh", "-c", "sleep 0.01 >/dev/null 2>&1 & echo started").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Eventually(t, func() bool { return len(children(t, first)) == 0 }, time.Minute, 20*time.Millisecond, "the orphan is gone from the process table")
	n.addText("still at work")
	require.NoError(t, d.stop(syscall.SIGTERM))
}

func status(pid string) string {
	b, _ := os.ReadFile(filepath.Join("/proc", pid, "status"))
	return string(b)
}

// children are the processes that have another for their parent.
func children(t *testing.T, pid string) []string {
	t.Helper()
	all, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var found []string
	for _, e := range all {
		if strings.Contains(status(e.Name()), "\nPPid:\t"+pid+"\n") {
			found = append(found, e.Name())
		}
	}
	return found
}
