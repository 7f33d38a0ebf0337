package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// UsableVolume returns an error of one line, with the fix, unless this process may
// read and write a folder and those of the named things that are in it. A folder
// that is not there must be one that can be made.
func UsableVolume(root string, names ...string) error {
	if _, err := os.Lstat(root); errors.Is(err, os.ErrNotExist) {
		dir := root
		for errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			_, err = os.Lstat(dir)
		}
		return check(root, dir)
	}
	for _, name := range append([]string{""}, names...) {
		if err := check(root, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	return nil
}

func check(root, path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	mode := uint32(4 | 2) // read and write
	if err == nil {
		if fi.IsDir() {
			mode |= 1 // and search
		} else if path == root {
			return fmt.Errorf("%s is a file, and must be a folder", root)
		}
		err = syscall.Access(path, mode)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the volume at %s is mounted read-only: mount it writable", root)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s cannot be a folder, because something above it is a file: %w", root, err)
	}
	fix := "chown -R"
	if path != root && len(path) < len(root) {
		fix = fmt.Sprintf("mkdir -p %s && %s", root, fix)
	}
	return fmt.Errorf("%s %s and this process is user %d (%w): `%s %d:%d %s` as root, or run as that user (with EFS: an access point with this user)",
		path, owner(fi), os.Getuid(), err, fix, os.Getuid(), os.Getgid(), root)
}

// owner says to whom a file belongs.
func owner(fi os.FileInfo) string {
	if fi == nil {
		return "cannot be looked at,"
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("belongs to user %d (mode %04o),", st.Uid, fi.Mode().Perm())
	}
	return fmt.Sprintf("has mode %04o,", fi.Mode().Perm())
}
