// Package vfs is the file system as the efs blockstore sees it: nine operations,
// each of which is one or two round trips on NFS.
//
// It exists so that the store can be run on a file system that crashes or fails
// at a chosen operation (packages crashfs and faultfs), and so that everything
// that differs between an NFS mount and a local disk is in one place ([OS]).
//
// Every error names the path it is about, as *fs.PathError or *os.LinkError do.
// Implementations are safe for concurrent use.
package vfs

import "io/fs"

// FS is a tree of directories and files. Names are slash-separated paths.
type FS interface {
	// Create makes a new file, open for writing. It fails with fs.ErrExist
	// when the name is taken. The name is durable after SyncDir of its folder.
	Create(name string) (File, error)

	// Open opens an existing file for reading.
	Open(name string) (File, error)

	// Mkdir makes one directory. It fails with fs.ErrExist when the name is taken.
	Mkdir(name string) error

	// ReadDir lists a directory completely, in no particular order.
	// A listing that broke off half-way is an error, never a shorter listing.
	ReadDir(name string) ([]Entry, error)

	// Stat describes what name leads to, following symbolic links. It may be
	// answered from the client's attribute cache.
	Stat(name string) (Info, error)

	// StatFresh is Stat answered by the server, past any attribute cache of
	// this client. The staleness checks of the index rest on it.
	StatFresh(name string) (Info, error)

	// Rename moves a file, replacing what had the new name, atomically: a
	// reader sees the old file or the new one. Durable after SyncDir of the
	// new name's folder.
	Rename(oldName, newName string) error

	// Remove deletes a file or an empty directory.
	Remove(name string) error

	// SyncDir returns once all creations, renames and removals in the
	// directory that had returned before are durable.
	SyncDir(name string) error
}

// File is an open file. Only ReadAt may be called concurrently.
type File interface {
	// Name is the path the file was opened or created under.
	Name() string
	ReadAt(p []byte, off int64) (int, error)
	Write(p []byte) (int, error)
	// Sync returns once all written bytes are durable.
	Sync() error
	Close() error
}

// Info is what Stat tells.
type Info struct {
	Size  int64 // bytes
	Dir   bool
	Stamp Stamp
}

// Stamp identifies a state of a directory: it changes whenever a name in the
// directory is added, removed or replaced. The modification time alone would do,
// were it not that backups are restored with modification times preserved: the
// change time and the inode number cannot be set by a restore.
type Stamp struct {
	Mtime, Ctime int64 // nanoseconds since 1970, the server's clock
	Inode        uint64
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	// Type is the entry's type as fs.DirEntry.Type gives it; a symbolic link
	// is not followed.
	Type fs.FileMode
}
