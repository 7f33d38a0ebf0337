package journal_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// testFS counts, delays and fails what changes a file system, on top of one in
// memory that knows what a loss of power leaves.
type testFS struct {
	vfs.FS
	mem *vfs.MemFS

	mu      sync.Mutex
	counts  map[string]int
	log     []string
	hook    func(op, path string) error // before each operation; may block
	free    int64                       // bytes that still fit; negative for no limit
	crashIn int                         // operations until the crash; 0 for none
	crash   vfs.CrashCloneCfg
	after   *vfs.MemFS // what the crash left
}

var errCrashed = errors.New("machine is off")

func newFS() *testFS { return wrapFS(vfs.NewCrashableMem()) }

func wrapFS(mem *vfs.MemFS) *testFS {
	return &testFS{FS: mem, mem: mem, counts: make(map[string]int), free: -1}
}

// op is called before each operation that changes something. torn is how many
// of n bytes an operation that crashes still writes, -1 for "no crash".
func (f *testFS) op(op, path string) (crash bool, err error) {
	f.mu.Lock()
	hook := f.hook
	if f.after != nil {
		f.mu.Unlock()
		return false, errCrashed
	}
	f.counts[op]++
	f.log = append(f.log, op+" "+kind(path))
	if f.crashIn > 0 {
		if f.crashIn--; f.crashIn == 0 {
			f.mu.Unlock()
			return true, errCrashed
		}
	}
	f.mu.Unlock()
	if hook != nil {
		return false, hook(op, path)
	}
	return false, nil
}

// kind is what is stable about a file name.
func kind(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[i:]
	}
	return "folder"
}

// crashNow takes the picture that the next start will find.
func (f *testFS) crashNow() *vfs.MemFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after == nil {
		f.after = f.mem.CrashClone(f.crash)
	}
	return f.after
}

func (f *testFS) setHook(h func(op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

func (f *testFS) setFree(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = n
}

// takeLog returns the operations since the last call.
func (f *testFS) takeLog() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func (f *testFS) plain(op, path string, do func() error) error {
	crash, err := f.op(op, path)
	if crash {
		f.crashNow()
	}
	if err != nil {
		return err
	}
	return do()
}

func (f *testFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (file vfs.File, err error) {
	op := "create"
	if _, err := f.mem.Stat(name); err == nil {
		op = "open"
	}
	err = f.plain(op, name, func() (err error) { file, err = f.FS.OpenReadWrite(name, c, o...); return err })
	if err != nil {
		return nil, err
	}
	return &testFile{file, f, name, false}, nil
}

func (f *testFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &testFile{file, f, name, true}, nil
}

func (f *testFS) Rename(a, b string) error {
	return f.plain("rename", b, func() error { return f.FS.Rename(a, b) })
}

func (f *testFS) Remove(name string) error {
	return f.plain("remove", name, func() error {
		size := int64(0)
		if i, err := f.FS.Stat(name); err == nil {
			size = i.Size()
		}
		err := f.FS.Remove(name)
		f.mu.Lock()
		if err == nil && f.free >= 0 {
			f.free += size
		}
		f.mu.Unlock()
		return err
	})
}

func (f *testFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.plain("mkdir", dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

type testFile struct {
	vfs.File
	fs   *testFS
	path string
	dir  bool
}

func (f *testFile) WriteAt(p []byte, off int64) (int, error) {
	crash, err := f.fs.op("write", f.path)
	if crash { // in the middle of the write
		n := 0
		if f.fs.crash.RNG != nil {
			n = f.fs.crash.RNG.IntN(len(p) + 1)
		}
		if n > 0 {
			_, _ = f.File.WriteAt(p[:n], off)
		}
		f.fs.crashNow()
	}
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	if grow := off + int64(len(p)) - info.Size(); f.fs.free >= 0 && grow > 0 {
		if grow > f.fs.free {
			p = p[:int64(len(p))-(grow-f.fs.free)] // what fits is written
			err = &os.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
			grow = f.fs.free
		}
		f.fs.free -= grow
	}
	f.fs.mu.Unlock()
	n, werr := 0, error(nil)
	if len(p) > 0 {
		n, werr = f.File.WriteAt(p, off)
	}
	return n, errors.Join(werr, err)
}

func (f *testFile) Sync() error {
	op := "sync"
	if f.dir {
		op = "syncdir"
	}
	return f.fs.plain(op, f.path, f.File.Sync)
}

func (f *testFile) SyncData() error { return f.fs.plain("syncdata", f.path, f.File.SyncData) }

func (f *testFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	off2 := f.fs.after != nil
	f.fs.mu.Unlock()
	if off2 {
		return 0, errCrashed
	}
	return f.File.ReadAt(p, off)
}

var _ io.ReaderAt = (*testFile)(nil)

func crashCfg(percent int, seed uint64) vfs.CrashCloneCfg {
	return vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, seed))}
}
