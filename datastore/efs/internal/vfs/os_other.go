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

func namesAreDurable(string) bool { return false }

// Rename implements [FS].
func (*OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }
