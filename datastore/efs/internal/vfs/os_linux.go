package vfs

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Stat implements [FS].
func (*OS) Stat(name string) (Info, error) { return statx(name, unix.AT_STATX_SYNC_AS_STAT) }

// StatFresh implements [FS]. Without the flag, Linux may answer for up to a
// minute (acdirmax) with what it knew before another client changed the directory.
func (*OS) StatFresh(name string) (Info, error) { return statx(name, unix.AT_STATX_FORCE_SYNC) }

// Rename implements [FS]. os.Rename looks for the new name first, which on NFS
// is another round trip.
func (*OS) Rename(oldName, newName string) error {
	for {
		err := unix.Rename(oldName, newName)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
		}
		return nil
	}
}

func statx(name string, flags int) (Info, error) {
	const want = unix.STATX_TYPE | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME | unix.STATX_INO
	var st unix.Statx_t
	for {
		err := unix.Statx(unix.AT_FDCWD, name, flags, want, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		return Info{
			Size: int64(st.Size),
			Dir:  st.Mode&unix.S_IFMT == unix.S_IFDIR,
			Stamp: Stamp{
				Mtime: st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec),
				Ctime: st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec),
				Inode: st.Ino,
			},
		}, nil
	}
}

func isNFS(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false // not known to be NFS: sync
	}
	return int64(st.Type) == unix.NFS_SUPER_MAGIC
}

// IsNetwork reports whether dir is on a file system that may be a network's. All of FUSE may be.
func IsNetwork(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	switch int64(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
		unix.CEPH_SUPER_MAGIC, unix.V9FS_MAGIC:
		return true, nil
	}
	return false, nil
}
