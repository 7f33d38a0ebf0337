package efsmodel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// folded reports whether a LOOKUP is part of an operation that an NFS 4 client
// sends as one compound: OPEN, CREATE, RENAME. FUSE asks for the name first
// and does not say what for, but the thread that asks is waiting in the system
// call that says it.
func folded(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", caller.Pid))
	if err != nil {
		return false
	}
	number, _, _ := bytes.Cut(line, []byte(" "))
	n, err := strconv.Atoi(string(number))
	if err != nil {
		return false // "running": a kernel thread, or one that was not waiting yet
	}
	switch n {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT:
		return true
	}
	return foldedHere(n)
}
