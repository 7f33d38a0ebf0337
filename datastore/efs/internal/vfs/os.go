package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// OS is the operating system's file system.
//
// On NFS, SyncDir does nothing: the protocol has the server commit CREATE,
// RENAME, REMOVE and MKDIR to stable storage before it replies (RFC 8881,
// section 18: they have no unstable form as WRITE has), and fsync(2) of a
// directory is empty in Linux's NFS client for that reason. Everywhere else it
// opens and syncs the directory.
//
// When the process runs out of file descriptors, Create, Open and SyncDir wait
// and try again, for three seconds in all; kubo shares its descriptors with
// thousands of network connections, which come and go.
//
// A value serves one file system: what it is, is asked once, at the first SyncDir.
type OS struct {
	// NamesDurable says that names are durable when the call that makes them
	// returns, on a file system that is not NFS.
	NamesDurable bool

	asked sync.Once
	nfs   bool
}

// attempts with a growing pause: 200 ms × (1+2+3+4+5) = 3 s.
const (
	descriptorAttempts = 6
	descriptorPause    = 200 * time.Millisecond
)

func withDescriptor[T any](op func() (T, error)) (T, error) {
	for i := 1; ; i++ {
		v, err := op()
		if err == nil || i == descriptorAttempts || !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return v, err
		}
		time.Sleep(time.Duration(i) * descriptorPause)
	}
}

// Create implements [FS]. Files are readable by their owner only, as the
// temporary files of stock flatfs are.
func (*OS) Create(name string) (File, error) {
	f, err := withDescriptor(func() (*os.File, error) {
		return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Open implements [FS].
func (*OS) Open(name string) (File, error) {
	f, err := withDescriptor(func() (*os.File, error) { return os.Open(name) })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir implements [FS].
func (*OS) Mkdir(name string) error { return os.Mkdir(name, 0o755) }

// ReadDir implements [FS].
func (*OS) ReadDir(name string) ([]Entry, error) {
	f, err := withDescriptor(func() (*os.File, error) { return os.Open(name) })
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: unwrapPath(err)}
	}
	entries := make([]Entry, len(list))
	for i, e := range list {
		entries[i] = Entry{Name: e.Name(), Type: e.Type()}
	}
	return entries, nil
}

// Remove implements [FS].
func (*OS) Remove(name string) error { return os.Remove(name) }

// SyncDir implements [FS].
func (o *OS) SyncDir(name string) error {
	if o.NamesDurable {
		return nil
	}
	o.asked.Do(func() { o.nfs = isNFS(name) })
	if o.nfs {
		return nil
	}
	d, err := withDescriptor(func() (*os.File, error) { return os.Open(name) })
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// ReadAll reads a file of a few bytes or megabytes whole.
func ReadAll(fsys FS, name string) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	// One byte more than the size, so that one call sees the end of the file.
	data = make([]byte, info.Size+1)
	n := 0
	for {
		k, err := f.ReadAt(data[n:], int64(n))
		n += k
		switch {
		case errors.Is(err, io.EOF):
			return data[:n], nil
		case err != nil:
			return nil, err
		case n == len(data):
			data = append(data, make([]byte, len(data))...)
		}
	}
}
