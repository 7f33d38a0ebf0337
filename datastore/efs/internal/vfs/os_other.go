//go:build !linux

package vfs

import "os"

// Stat implements [FS].
func (*OS) Stat(name string) (Info, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: fi.Size(), Dir: fi.IsDir(), Stamp: Stamp{Mtime: fi.ModTime().UnixNano()}}, nil
}

// StatFresh implements [FS]. There is no portable way past an attribute cache;
// EFS is mounted from Linux.
func (o *OS) StatFresh(name string) (Info, error) { return o.Stat(name) }

func isNFS(string) bool { return false }

// IsNetwork reports whether dir is on a network file system, which is not known here.
func IsNetwork(string) (bool, error) { return false, nil }

// Rename implements [FS].
func (*OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }
