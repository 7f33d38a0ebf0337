package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stoppedWithin is much longer than a kernel takes.
const stoppedWithin = 30 * time.Second

// Stop stops a process with SIGSTOP, and returns when it does nothing any more. The signal alone
// only asks for that: threads that run go on for a moment. On systems without /proc it waits for
// that moment.
func Stop(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	if runtime.GOOS != "linux" {
		time.Sleep(100 * time.Millisecond)
		return nil
	}
	for deadline := time.Now().Add(stoppedWithin); ; time.Sleep(time.Millisecond) {
		stopped, err := allStopped(pid)
		if err != nil || stopped {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("stop process %d: it still runs after %s", pid, stoppedWithin)
		}
	}
}

// allStopped reports whether each thread of a process is stopped, or has ended.
func allStopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	if len(threads) == 0 {
		return false, fmt.Errorf("stop process %d: there is none", pid)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state …; a name may have brackets in it
		s := string(b)
		if f := strings.Fields(s[strings.LastIndex(s, ")")+1:]); len(f) == 0 || !strings.Contains("TtZX", f[0]) {
			return false, nil
		}
	}
	return true, nil
}
