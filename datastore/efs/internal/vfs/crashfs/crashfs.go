// Package crashfs is a file system in memory that loses, when it crashes, what a
// real one may lose, and crashes at an operation of the test's choice.
//
// What may be lost: bytes written and not synced, of which any prefix, zeros in
// their place, or nothing may be left; and, with [OnSyncDir], each creation,
// rename and removal of which no directory was synced since, independently of
// the others. With [AtOnce], as on NFS, names are durable when the call returns.
// A rename is lost as a whole or not at all.
//
// Directories carry modification and change times from a clock that the test
// moves, forward and back, and that ticks as coarsely as the test wants. What
// is lost takes its modification time with it, as a journal would have it.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// ErrCrashed is the error of every operation from the crash on.
var ErrCrashed = errors.New("crashfs: crashed")

// Names says when a name is durable.
type Names int

const (
	AtOnce    Names = iota // when the call that makes it returns, as on NFS
	OnSyncDir              // when its directory was synced since, as POSIX has it
)

// FS is the file system. It is safe for concurrent use.
type FS struct {
	mu      sync.Mutex
	rng     *rand.Rand
	names   Names
	root    *node
	pending []*change
	nextID  uint64

	clock, tick int64

	ops     int
	crashAt int // 0: not planned
	crashed bool
}

type node struct {
	id    uint64
	dir   bool
	stamp times
	// of a directory
	entries map[string]*node
	durable map[string]*node
	kept    times // the stamp that is durable
	// of a file
	data   []byte
	synced []byte
}

type times struct{ mtime, ctime int64 }

// change is a creation, rename or removal that is not durable.
type change struct {
	links []link
}

// link sets or, with a nil node, removes a name.
type link struct {
	dir   *node
	name  string
	to    *node
	stamp times
}

// New returns an empty file system with a directory "/".
func New(rng *rand.Rand, names Names, tick int64) *FS {
	f := &FS{rng: rng, names: names, clock: 1_700_000_000e9, tick: tick}
	f.root = f.newNode(true)
	return f
}

func (f *FS) newNode(dir bool) *node {
	f.nextID++
	n := &node{id: f.nextID, dir: dir, stamp: f.now()}
	if dir {
		n.entries, n.durable, n.kept = map[string]*node{}, map[string]*node{}, n.stamp
	}
	return n
}

func (f *FS) now() times {
	t := f.clock - f.clock%f.tick
	return times{t, t}
}

// Advance moves the server's clock, by a negative number of nanoseconds too.
func (f *FS) Advance(ns int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock += ns
}

// CrashAfter plans a crash at the n-th operation from now. The operation may
// still take effect; its caller is not told.
func (f *FS) CrashAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = f.ops + n
}

// Crashed reports whether the planned crash has happened.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Recover crashes if that has not happened, loses what may be lost, and starts
// again with what is left.
func (f *FS) Recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.pending {
		if f.rng.IntN(2) == 0 {
			f.harden(c)
		}
	}
	f.pending = nil
	f.restart(f.root, map[*node]bool{})
	f.crashed, f.crashAt = false, 0
}

// Restart lets operations succeed again after the crash of the process alone:
// nothing is lost, and nothing that was not durable has become so.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed, f.crashAt = false, 0
}

func (f *FS) restart(n *node, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if !n.dir {
		if string(n.data) != string(n.synced) {
			n.data = f.torn(n)
		}
		n.synced = n.data
		return
	}
	n.stamp = n.kept
	n.entries = make(map[string]*node, len(n.durable))
	for name, child := range n.durable {
		n.entries[name] = child
		f.restart(child, seen)
	}
}

// torn is what may be left of a file with unsynced bytes.
func (f *FS) torn(n *node) []byte {
	switch f.rng.IntN(5) {
	case 0:
		return n.synced
	case 1:
		return nil
	case 2:
		return make([]byte, len(n.data))
	case 3:
		return append([]byte(nil), n.data[:f.rng.IntN(len(n.data)+1)]...)
	default:
		return n.data
	}
}

// step counts an operation. When the crash is due it has lost reports whether
// the operation takes no effect.
func (f *FS) step() (lost bool, err error) {
	if f.crashed {
		return true, ErrCrashed
	}
	f.ops++
	// Time goes on by itself, most of the time less than a tick.
	f.clock += f.rng.Int64N(2_000_000)
	if f.crashAt != 0 && f.ops >= f.crashAt {
		f.crashed = true
		return f.rng.IntN(2) == 0, ErrCrashed
	}
	return false, nil
}

func split(name string) []string {
	return strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
}

func (f *FS) walk(op, name string) (*node, error) {
	n := f.root
	for _, part := range split(name) {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.entries[part]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (f *FS) parent(op, name string) (*node, string, error) {
	dir, err := f.walk(op, path.Dir(path.Clean("/"+name)))
	if err == nil && !dir.dir {
		err = &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, "", err
	}
	return dir, path.Base(name), nil
}

// apply makes a change visible, and durable if names are so at once.
func (f *FS) apply(links ...link) {
	c := &change{}
	for _, l := range links {
		l.dir.stamp = f.now()
		l.stamp = l.dir.stamp
		if l.to == nil {
			delete(l.dir.entries, l.name)
		} else {
			l.dir.entries[l.name] = l.to
		}
		c.links = append(c.links, l)
	}
	if f.names == AtOnce {
		f.harden(c)
	} else {
		f.pending = append(f.pending, c)
	}
}

func (f *FS) harden(c *change) {
	for _, l := range c.links {
		if l.to == nil {
			delete(l.dir.durable, l.name)
		} else {
			l.dir.durable[l.name] = l.to
		}
		l.dir.kept = l.stamp
	}
}

// do runs an operation as one step.
func (f *FS) do(op, name string, body func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost, crash := f.step()
	if lost {
		return &fs.PathError{Op: op, Path: name, Err: crash}
	}
	err := body()
	if crash != nil {
		return &fs.PathError{Op: op, Path: name, Err: crash}
	}
	return err
}

// Create implements [vfs.FS].
func (f *FS) Create(name string) (file vfs.File, err error) {
	err = f.do("create", name, func() error {
		dir, base, err := f.parent("create", name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
		}
		n := f.newNode(false)
		f.apply(link{dir: dir, name: base, to: n})
		file = &handle{fs: f, node: n, name: name}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Open implements [vfs.FS].
func (f *FS) Open(name string) (file vfs.File, err error) {
	err = f.do("open", name, func() error {
		n, err := f.walk("open", name)
		if err == nil {
			file = &handle{fs: f, node: n, name: name}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Mkdir implements [vfs.FS].
func (f *FS) Mkdir(name string) error {
	return f.do("mkdir", name, func() error {
		dir, base, err := f.parent("mkdir", name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
		}
		f.apply(link{dir: dir, name: base, to: f.newNode(true)})
		return nil
	})
}

// ReadDir implements [vfs.FS].
func (f *FS) ReadDir(name string) (entries []vfs.Entry, err error) {
	err = f.do("readdir", name, func() error {
		n, err := f.walk("readdir", name)
		if err != nil {
			return err
		}
		if !n.dir {
			return &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
		}
		for name, child := range n.entries {
			e := vfs.Entry{Name: name}
			if child.dir {
				e.Type = fs.ModeDir
			}
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Stat implements [vfs.FS].
func (f *FS) Stat(name string) (info vfs.Info, err error) {
	err = f.do("stat", name, func() error {
		n, err := f.walk("stat", name)
		if err != nil {
			return err
		}
		info = vfs.Info{
			Size: int64(len(n.data)), Dir: n.dir,
			Stamp: vfs.Stamp{Mtime: n.stamp.mtime, Ctime: n.stamp.ctime, Inode: n.id},
		}
		if n.dir {
			info.Size = 4096
		}
		return nil
	})
	return info, err
}

// StatFresh implements [vfs.FS].
func (f *FS) StatFresh(name string) (vfs.Info, error) { return f.Stat(name) }

// Rename implements [vfs.FS].
func (f *FS) Rename(oldName, newName string) error {
	return f.do("rename", oldName+" "+newName, func() error {
		from, fromBase, err := f.parent("rename", oldName)
		if err != nil {
			return err
		}
		to, toBase, err := f.parent("rename", newName)
		if err != nil {
			return err
		}
		n := from.entries[fromBase]
		if n == nil {
			return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
		}
		f.apply(link{dir: from, name: fromBase}, link{dir: to, name: toBase, to: n})
		return nil
	})
}

// Remove implements [vfs.FS].
func (f *FS) Remove(name string) error {
	return f.do("remove", name, func() error {
		dir, base, err := f.parent("remove", name)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		if n == nil {
			return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
		}
		if len(n.entries) > 0 {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		f.apply(link{dir: dir, name: base})
		return nil
	})
}

// SyncDir implements [vfs.FS].
func (f *FS) SyncDir(name string) error {
	return f.do("syncdir", name, func() error {
		n, err := f.walk("syncdir", name)
		if err != nil {
			return err
		}
		var left []*change
		for _, c := range f.pending {
			touches := false
			for _, l := range c.links {
				touches = touches || l.dir == n
			}
			if touches {
				f.harden(c)
			} else {
				left = append(left, c)
			}
		}
		f.pending = left
		return nil
	})
}

type handle struct {
	fs   *FS
	node *node
	name string
}

func (h *handle) Name() string { return h.name }

func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.fs.do("read", h.name, func() error {
		if off >= int64(len(h.node.data)) {
			return io.EOF
		}
		if n = copy(p, h.node.data[off:]); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (h *handle) Write(p []byte) (n int, err error) {
	err = h.fs.do("write", h.name, func() error {
		h.node.data = append(h.node.data[:len(h.node.data):len(h.node.data)], p...)
		n = len(p)
		return nil
	})
	return n, err
}

func (h *handle) Sync() error {
	return h.fs.do("fsync", h.name, func() error {
		h.node.synced = h.node.data
		return nil
	})
}

func (h *handle) Close() error {
	return h.fs.do("close", h.name, func() error { return nil })
}
