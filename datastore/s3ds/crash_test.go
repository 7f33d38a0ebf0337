package s3ds

import (
	"context"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

// machine is a disk and a bucket that can stop at any call that changes one of them: what a crash would leave of both is put aside at
// that moment, and the process goes on, to no avail.
type machine struct {
	disk   *vfs.MemFS
	remote *mem.Bucket
	bad    *faulty.Bucket

	step sync.RWMutex // read-locked by each call, locked for the picture

	mu     sync.Mutex
	left   int // calls until the crash; 0 for none
	seed   uint64
	after  *machine
	passed *atomic.Int64 // seconds that the clock of the server is ahead
}

func newMachine() *machine {
	m := &machine{disk: vfs.NewCrashableMem(), remote: mem.New(), passed: &atomic.Int64{}}
	m.remote.Now = func() time.Time { return time.Now().Add(time.Duration(m.passed.Load()) * time.Second) }
	m.bad = faulty.Wrap(m.remote)
	return m
}

// crashIn has the machine stop at the n-th call from now on.
func (m *machine) crashIn(n int, seed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.seed = n, seed
}

// stop stops the machine now.
func (m *machine) stop(seed uint64) {
	m.crashIn(1, seed)
	m.call(func() {})
}

// stopped returns what the crash left, nil if there was none.
func (m *machine) stopped() *machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.after
}

func (m *machine) call(do func()) {
	m.mu.Lock()
	due := false
	if m.after == nil && m.left > 0 {
		m.left--
		due = m.left == 0
	}
	seed := m.seed
	m.mu.Unlock()
	if due {
		m.picture(seed)
	}
	m.step.RLock()
	defer m.step.RUnlock()
	do()
}

func (m *machine) picture(seed uint64) {
	m.step.Lock()
	defer m.step.Unlock()
	random := rand.New(rand.NewPCG(seed, seed))
	after := &machine{
		disk:   m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random}),
		remote: m.remote.Clone(), passed: m.passed,
	}
	after.bad = faulty.Wrap(after.remote)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = after
}

// wipe puts a new disk into the machine.
func (m *machine) wipe() { m.disk = vfs.NewCrashableMem() }

// site is where a store on this machine lives.
func (m *machine) site() *site {
	s := newSite(machineBucket{m.bad, m})
	s.fs = machineFS{m.disk, m}
	return s
}

type machineBucket struct {
	*faulty.Bucket
	m *machine
}

var _ bucket.Conditional = machineBucket{}

func (b machineBucket) Put(ctx context.Context, key string, body io.ReadSeeker) (err error) {
	b.m.call(func() { err = b.Bucket.Put(ctx, key, body) })
	return err
}

func (b machineBucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (info bucket.Info, err error) {
	b.m.call(func() { info, err = b.Bucket.PutIf(ctx, key, body, cond) })
	return info, err
}

func (b machineBucket) Get(ctx context.Context, key string, r bucket.Range) (body io.ReadCloser, info bucket.Info, err error) {
	b.m.call(func() { body, info, err = b.Bucket.Get(ctx, key, r) })
	return body, info, err
}

func (b machineBucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	b.m.call(func() {})
	return b.Bucket.List(ctx, prefix, after)
}

func (b machineBucket) Delete(ctx context.Context, keys ...string) (err error) {
	b.m.call(func() { err = b.Bucket.Delete(ctx, keys...) })
	return err
}

type machineFS struct {
	vfs.FS
	m *machine
}

func (f machineFS) file(open func() (vfs.File, error)) (file vfs.File, err error) {
	f.m.call(func() { file, err = open() })
	if err != nil {
		return nil, err
	}
	return machineFile{file, f.m}, nil
}

func (f machineFS) do(change func() error) (err error) {
	f.m.call(func() { err = change() })
	return err
}

func (f machineFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f machineFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f machineFS) OpenDir(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f machineFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

func (f machineFS) Link(old, name string) error {
	return f.do(func() error { return f.FS.Link(old, name) })
}
func (f machineFS) Remove(name string) error { return f.do(func() error { return f.FS.Remove(name) }) }
func (f machineFS) RemoveAll(name string) error {
	return f.do(func() error { return f.FS.RemoveAll(name) })
}

func (f machineFS) Rename(old, name string) error {
	return f.do(func() error { return f.FS.Rename(old, name) })
}

func (f machineFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.do(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Unwrap returns the file system below.
func (f machineFS) Unwrap() vfs.FS { return f.FS }

type machineFile struct {
	vfs.File
	m *machine
}

func (f machineFile) Write(p []byte) (n int, err error) {
	f.m.call(func() { n, err = f.File.Write(p) })
	return n, err
}

func (f machineFile) WriteAt(p []byte, off int64) (n int, err error) {
	f.m.call(func() { n, err = f.File.WriteAt(p, off) })
	return n, err
}

func (f machineFile) Sync() (err error) {
	f.m.call(func() { err = f.File.Sync() })
	return err
}

func (f machineFile) SyncData() (err error) {
	f.m.call(func() { err = f.File.SyncData() })
	return err
}

func (f machineFile) SyncTo(length int64) (full bool, err error) {
	f.m.call(func() { full, err = f.File.SyncTo(length) })
	return full, err
}
