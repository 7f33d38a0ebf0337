package container

import (
	"context"
	"os"
	"os/signal"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long a child that has ended may wait for whoever started it
// to ask how: os/exec asks within microseconds.
const patience = time.Second

// ReapOrphans collects, until the context ends, children that have ended and that
// nobody waits for. Those that this process has started, and waits for, are left
// alone. It returns at once.
func ReapOrphans(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			collect(ctx)
			select {
			case <-ended:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// collect returns when no child is left that has ended.
func collect(ctx context.Context) {
	for seen := 0; ; {
		pid := zombie()
		switch {
		case pid == 0:
			return
		case pid == seen:
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // gone already is as good
			seen = 0
			continue
		}
		seen = pid
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return
		}
	}
}

// zombie is a child that has ended and was not waited for, or 0.
func zombie() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	// The pid comes first in the union behind three words of 32 bits, which begins
	// where a pointer may stand.
	const word = unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), (12+word-1)/word*word)))
}
