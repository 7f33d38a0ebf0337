package folder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const lockName = "cluster.lock"

// ErrLocked is wrapped by [Folder.Lock]'s error when another process holds the
// folder.
var ErrLocked = errors.New("the folder is in use")

// Lock is a held lock. Close releases it; so does the end of the process.
type Lock struct{ file *os.File }

// Lock creates the folder if it is missing (mode 0700) and takes its lock, or
// fails at once. When another process holds the lock, the error wraps
// [ErrLocked] and names that process, as far as the file system tells (on NFS
// the process may be on another host). One process must not lock a folder
// twice: fcntl locks exclude processes, not callers within one.
func (f Folder) Lock() (*Lock, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, fmt.Errorf("create the cluster folder: %w: make it writable for this user, or name another one in IPFS_CLUSTER_PATH", err)
	}
	path := filepath.Join(string(f), lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the cluster folder: %w: make it writable for this user, or name another one in IPFS_CLUSTER_PATH", err)
	}
	want := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &want); err != nil {
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EAGAIN) {
			err = fmt.Errorf("%w: %s is locked by %s", ErrLocked, path, holder(file))
		} else {
			err = fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, errors.Join(err, file.Close())
	}
	return &Lock{file: file}, nil
}

// holder describes the process that keeps us from locking the file.
func holder(file *os.File) string {
	q := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_GETLK, &q); err != nil || q.Type == syscall.F_UNLCK || q.Pid <= 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d", q.Pid)
}

// Close releases the lock. The lock file stays.
func (l *Lock) Close() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("release the lock of the cluster folder: %w", err)
	}
	return nil
}
