//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// isMounted reports whether a folder could not be removed because something is mounted on it.
func isMounted(err error) bool { return errors.Is(err, unix.EBUSY) }

// freeBytes is how much an unprivileged process may still write to the file system of a path, or of what of it exists.
func freeBytes(path string) (int64, bool) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return int64(st.Bavail) * int64(st.Bsize), true
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, os.ErrNotExist) || parent == path {
			return 0, false
		}
		path = parent
	}
}
