package index

import (
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskCategory is what Pebble's disk statistics file our own writes under.
const diskCategory = vfs.WriteCategoryUnspecified

// retrySpace is how long a write waits before it asks again whether there is space: long enough to cost nothing, short
// enough that nobody restarts a node meanwhile.
const retrySpace = 200 * time.Millisecond

// guardedFS stands between Pebble and the disk, because Pebble ends the process when its log or manifest cannot be written.
//
// A write that meets a full disk waits for space, and goes on where it stopped. A write, sync or close that fails
// otherwise is reported to failed, and never returns: its goroutine is parked with whatever it holds. Nothing that reads
// needs these, and nobody waits for them (Index.apply). fsync is not repeated: after a failed one the kernel may
// have dropped the data, so that a second one proves nothing.
//
// Until guard is called errors pass through: while it opens, Pebble returns them.
type guardedFS struct {
	vfs.FS
	space *space
}

// space knows how many writes wait for room on the disk.
type space struct {
	retry  time.Duration
	failed func(error)

	mu      sync.Mutex
	guarded bool
	waiting int
	full    chan struct{} // closed while waiting > 0
	stop    chan struct{} // closed by abandon
}

func newSpace(retry time.Duration, failed func(error)) *space {
	return &space{retry: retry, failed: failed, full: make(chan struct{}), stop: make(chan struct{})}
}

// guard keeps errors from Pebble from now on.
func (s *space) guard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guarded = true
}

// abandon parks writes that wait for space: there is nobody left to want them.
func (s *space) abandon() { close(s.stop) }

// isFull returns a channel that is closed as long as, or as soon as, a write waits for space.
func (s *space) isFull() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// begin counts a write that waits, unless errors pass through.
func (s *space) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.guarded {
		return false
	}
	if s.waiting++; s.waiting == 1 {
		close(s.full)
	}
	return true
}

func (s *space) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		s.full = make(chan struct{})
	}
}

// write calls op until it meets something else than a full disk.
func (s *space) write(op func() error) error {
	err := op()
	if !diskFull(err) || !s.begin() {
		return s.final(err)
	}
	tick := time.NewTicker(s.retry)
	defer tick.Stop()
	for diskFull(err) {
		select {
		case <-s.stop:
			park()
		case <-tick.C:
			err = op()
		}
	}
	s.end()
	return s.final(err)
}

// final returns nil, or does not return, or passes err through.
func (s *space) final(err error) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	guarded := s.guarded
	s.mu.Unlock()
	if guarded {
		s.failed(err)
		park()
	}
	return err
}

func park() { select {} }

func (fs guardedFS) file(open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := fs.space.write(func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return guardedFile{f, fs.space}, nil
}

// Create is guarded.
func (fs guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

// OpenReadWrite is guarded.
func (fs guardedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite is guarded.
func (fs guardedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir is guarded: a folder is opened to be synced.
func (fs guardedFS) OpenDir(name string) (vfs.File, error) {
	return fs.file(func() (vfs.File, error) { return fs.FS.OpenDir(name) })
}

// Rename is guarded.
func (fs guardedFS) Rename(oldname, newname string) error {
	return fs.space.write(func() error { return fs.FS.Rename(oldname, newname) })
}

// MkdirAll is guarded.
func (fs guardedFS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.space.write(func() error { return fs.FS.MkdirAll(dir, perm) })
}

// Unwrap returns the file system below.
func (fs guardedFS) Unwrap() vfs.FS { return fs.FS }

// guardedFile is a file that was opened for writing.
type guardedFile struct {
	vfs.File
	space *space
}

// Write waits for space, and goes on behind what was written before the disk was full.
func (f guardedFile) Write(p []byte) (int, error) {
	done := 0
	err := f.space.write(func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	return done, err
}

// WriteAt is like Write.
func (f guardedFile) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	err := f.space.write(func() error {
		n, err := f.File.WriteAt(p[done:], off+int64(done))
		done += n
		return err
	})
	return done, err
}

// Preallocate is an optimisation, which may fail: the write itself is guarded.
func (f guardedFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

// Sync is guarded.
func (f guardedFile) Sync() error { return f.space.final(f.File.Sync()) }

// SyncData is guarded.
func (f guardedFile) SyncData() error { return f.space.final(f.File.SyncData()) }

// SyncTo is guarded.
func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.space.final(err)
}

// Close is guarded: on a network file system it is the last chance to hear of a failed write.
func (f guardedFile) Close() error { return f.space.final(f.File.Close()) }
