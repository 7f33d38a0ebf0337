package efs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// lockFile is in the folder of the blocks; its lock is held by the process that has the store open. Neither flatfs nor this
// package takes it for a block. It stays where it is: removing it would take the lock from under its holder.
const lockFile = "efs.lock"

// lockPatience is how long Open waits for the lock: the one before, whose repo was taken over a moment ago, may still be ending.
const lockPatience = 3 * time.Second

// ErrLocked: another process has the store open.
var ErrLocked = errors.New("another process has this folder of blocks open")

// errNoLocks: the file system has none.
var errNoLocks = errors.New("no locks")

// held are the locks of this process, by path: the kernel gives a process its own lock twice, and takes it away
// when any of its descriptors of the file is closed.
var held = struct {
	sync.Mutex
	files map[string]*heldLock
}{files: map[string]*heldLock{}}

type heldLock struct {
	path  string
	file  *os.File
	users int
}

// lockFolder locks a folder that exists against other processes and machines. The kernel, or the server of a network file system, gives
// the lock back when its holder dies.
func lockFolder(dir string) (*heldLock, error) {
	path, err := filepath.Abs(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	held.Lock()
	defer held.Unlock()
	if l := held.files[path]; l != nil {
		l.users++
		return l, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, explain("lock store", err)
	}
	until := time.Now().Add(lockPatience)
	for {
		err = lock(f)
		if !errors.Is(err, ErrLocked) || time.Now().After(until) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	switch {
	case errors.Is(err, errNoLocks):
	case errors.Is(err, ErrLocked):
		holder := "another node"
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 {
			holder = strings.TrimSpace(string(b))
		}
		return nil, errors.Join(fmt.Errorf("efs: open %s: %w (%s), and each would remove and overlook blocks of the other: give every node a folder of its own, or stop that one", dir, ErrLocked, holder), f.Close())
	case err != nil:
		return nil, errors.Join(explain("lock store", err), f.Close())
	default:
		host, _ := os.Hostname()
		if err := f.Truncate(0); err == nil { // what is said about the holder is for people
			_, _ = f.WriteAt(fmt.Appendf(nil, "process %d on %s, since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339)), 0)
		}
	}
	l := &heldLock{path, f, 1}
	held.files[path] = l
	return l, nil
}

// Close gives the lock back when no store of this process needs it.
func (l *heldLock) Close() error {
	held.Lock()
	defer held.Unlock()
	if l.users--; l.users > 0 {
		return nil
	}
	delete(held.files, l.path)
	return explain("unlock store", l.file.Close())
}
