package proc

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const parentVariable = "PROC_TEST_PARENT"

// TestMain lets the test binary play a test binary that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		os.Exit(m.Run())
	}
	cmds := []*exec.Cmd{Command("sleep", "600")}
	if os.Getuid() == 0 {
		first := exec.Command("sleep", "600") // the first process of a namespace gets few signals
		first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		cmds = append(cmds, Tie(first))
	}
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(cmd.Process.Pid)
	}
	fmt.Println("all")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the test is gone
}

func TestChildrenEndWithATestBinaryThatIsKilled(t *testing.T) {
	cmd := Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = in.Close() }() // Wait has closed it
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pids []int
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "all"; {
		pid, err := strconv.Atoi(lines.Text())
		require.NoError(t, err, lines.Text())
		require.True(t, runs(pid))
		pids = append(pids, pid)
	}
	require.NotEmpty(t, pids)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !runs(pid) }, time.Minute, 5*time.Millisecond, "child %d outlived its parent", pid)
	}
}

// runs reports whether a process is there and does not only wait to be reaped.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestAStoppedProcessDoesNothing(t *testing.T) {
	cmd := Command("sh", "-c", "while :; do echo x; done")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	// Read all the time, so that it never waits for the pipe.
	read := make(chan int, 1<<20)
	go func() {
		defer close(read)
		b := make([]byte, 1<<16)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			read <- n
		}
	}()
	<-read
	require.NoError(t, Stop(cmd.Process.Pid))
	require.NoError(t, Stop(cmd.Process.Pid), "twice")
	ticks := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		require.NoError(t, err)
		f := strings.Fields(string(b))
		require.Equal(t, "T", f[2])
		return f[13] + " " + f[14]
	}
	before := ticks()
	for range 50 {
		require.Equal(t, before, ticks())
	}
	require.Error(t, Stop(1<<30))
}
