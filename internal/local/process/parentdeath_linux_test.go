package process

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The main goroutine keeps the main thread, which never ends, to itself.
func init() { runtime.LockOSThread() }

// TestMain lets the test binary play the parent whose death is studied.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PROCESS_TEST_PARENT"); dir != "" {
		parent(dir)
		return
	}
	os.Exit(m.Run())
}

// parent starts three children, each from a thread that is gone before the next
// step, prints their pids, and waits to be killed.
func parent(dir string) {
	for i := range 3 {
		pid, thread := make(chan int), make(chan int, 1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			thread <- syscall.Gettid()
			p, err := Start(Spec{Name: "child", Path: "/bin/sleep", Args: []string{"600"}, Log: filepath.Join(dir, strconv.Itoa(i))})
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			pid <- p.PID()
		}()
		child := <-pid
		gone := fmt.Sprintf("/proc/self/task/%d", <-thread)
		for poll := time.Tick(time.Millisecond); ; <-poll {
			if _, err := os.Stat(gone); os.IsNotExist(err) {
				break
			}
			exitIfAlone()
		}
		fmt.Println(child)
	}
	for range time.Tick(time.Second) {
		exitIfAlone()
	}
}

// exitIfAlone ends the parent when the test that started it was killed.
func exitIfAlone() {
	if os.Getppid() == 1 {
		os.Exit(1)
	}
}

// A child must survive the thread its start was asked from, and must not
// survive the process.
func TestChildrenDieWithTheParentAndNotBefore(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROCESS_TEST_PARENT="+t.TempDir())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	var pids []int
	for len(pids) < 3 && lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 3)
	for _, pid := range pids {
		require.True(t, running(pid), "child %d died with the thread that asked for it", pid)
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !running(pid) }, time.Minute, 5*time.Millisecond, "child %d outlived its parent", pid)
	}
}
