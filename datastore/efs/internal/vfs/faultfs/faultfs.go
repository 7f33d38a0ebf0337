// Package faultfs makes the operations of a file system fail as a test wants,
// and counts them.
package faultfs

import (
	"io/fs"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// Op names an operation of [vfs.FS] or [vfs.File].
type Op string

const (
	Create  Op = "create"
	Open    Op = "open"
	Mkdir   Op = "mkdir"
	ReadDir Op = "readdir"
	Stat    Op = "stat"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "syncdir"
	Read    Op = "read"
	Write   Op = "write"
	Sync    Op = "fsync"
	Close   Op = "close"
)

// Ops are all operations.
var Ops = []Op{Create, Open, Mkdir, ReadDir, Stat, Rename, Remove, SyncDir, Read, Write, Sync, Close}

// Fault says what happens to one operation.
type Fault struct {
	// Err is the error that the operation returns, nil for none.
	Err error
	// Done says that the operation is carried out nevertheless, as when the
	// reply is lost.
	Done bool
}

// FS wraps a file system. It is safe for concurrent use.
type FS struct {
	vfs.FS

	mu     sync.Mutex
	decide func(op Op, path string) Fault
	counts map[Op]int
}

// New wraps fsys, with nothing failing.
func New(fsys vfs.FS) *FS { return &FS{FS: fsys, counts: make(map[Op]int)} }

// Inject has decide asked at every operation from now on; nil ends that.
// decide is called for one operation at a time.
func (f *FS) Inject(decide func(op Op, path string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

// Counts returns how many operations there have been of each kind since the last call.
func (f *FS) Counts() map[Op]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.counts
	f.counts = make(map[Op]int)
	return counts
}

func (f *FS) do(op Op, path string, body func() error) error {
	f.mu.Lock()
	f.counts[op]++
	var fault Fault
	if f.decide != nil {
		fault = f.decide(op, path)
	}
	f.mu.Unlock()
	if fault.Err == nil {
		return body()
	}
	if fault.Done {
		if err := body(); err != nil {
			return err
		}
	}
	return &fs.PathError{Op: string(op), Path: path, Err: fault.Err}
}

// Create implements [vfs.FS].
func (f *FS) Create(name string) (vfs.File, error) {
	return f.open(Create, name, f.FS.Create)
}

// Open implements [vfs.FS].
func (f *FS) Open(name string) (vfs.File, error) {
	return f.open(Open, name, f.FS.Open)
}

func (f *FS) open(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	var opened vfs.File
	err := f.do(op, name, func() (err error) {
		opened, err = open(name)
		return err
	})
	if err != nil {
		if opened != nil {
			// Carried out, and the caller does not know: there is no handle to close.
			_ = opened.Close()
		}
		return nil, err
	}
	return &file{File: opened, fs: f}, nil
}

// Mkdir implements [vfs.FS].
func (f *FS) Mkdir(name string) error {
	return f.do(Mkdir, name, func() error { return f.FS.Mkdir(name) })
}

// ReadDir implements [vfs.FS].
func (f *FS) ReadDir(name string) (entries []vfs.Entry, err error) {
	err = f.do(ReadDir, name, func() (err error) {
		entries, err = f.FS.ReadDir(name)
		return err
	})
	return entries, err
}

// Stat implements [vfs.FS].
func (f *FS) Stat(name string) (info vfs.Info, err error) {
	err = f.do(Stat, name, func() (err error) {
		info, err = f.FS.Stat(name)
		return err
	})
	return info, err
}

// StatFresh implements [vfs.FS].
func (f *FS) StatFresh(name string) (info vfs.Info, err error) {
	err = f.do(Stat, name, func() (err error) {
		info, err = f.FS.StatFresh(name)
		return err
	})
	return info, err
}

// Rename implements [vfs.FS]. Faults are asked for by the new name.
func (f *FS) Rename(oldName, newName string) error {
	return f.do(Rename, newName, func() error { return f.FS.Rename(oldName, newName) })
}

// Remove implements [vfs.FS].
func (f *FS) Remove(name string) error {
	return f.do(Remove, name, func() error { return f.FS.Remove(name) })
}

// SyncDir implements [vfs.FS].
func (f *FS) SyncDir(name string) error {
	return f.do(SyncDir, name, func() error { return f.FS.SyncDir(name) })
}

type file struct {
	vfs.File
	fs *FS
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(Read, f.Name(), func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *file) Write(p []byte) (n int, err error) {
	err = f.fs.do(Write, f.Name(), func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *file) Sync() error { return f.fs.do(Sync, f.Name(), f.File.Sync) }

func (f *file) Close() error {
	// The descriptor is gone whatever close(2) returns.
	err := f.fs.do(Close, f.Name(), func() error { return nil })
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
