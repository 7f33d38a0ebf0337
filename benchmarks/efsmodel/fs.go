//go:build linux

package efsmodel

import (
	"context"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory of the mount: the loopback node of go-fuse, with
// the request that an NFS client would send charged before each operation.
type node struct {
	*fs.LoopbackNode
	srv *server

	// seen is what the file looked like when it was last opened or closed; while
	// that stays so the kernel's cached pages are good, as NFS has it.
	mu   sync.Mutex
	seen fileState
}

type fileState struct {
	mtimeSec  uint64
	mtimeNsec uint32
	size      uint64
}

var (
	_ fs.NodeWrapChilder    = (*node)(nil)
	_ fs.NodeLookuper       = (*node)(nil)
	_ fs.NodeGetattrer      = (*node)(nil)
	_ fs.NodeSetattrer      = (*node)(nil)
	_ fs.NodeOpener         = (*node)(nil)
	_ fs.NodeCreater        = (*node)(nil)
	_ fs.NodeMkdirer        = (*node)(nil)
	_ fs.NodeMknoder        = (*node)(nil)
	_ fs.NodeRmdirer        = (*node)(nil)
	_ fs.NodeUnlinker       = (*node)(nil)
	_ fs.NodeRenamer        = (*node)(nil)
	_ fs.NodeOpendirHandler = (*node)(nil)
	_ fs.NodeStatxer        = (*node)(nil)
)

// WrapChild makes every node below one of ours.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), srv: n.srv}
}

// folder is the node's directory, or the first components of its path, "" for the root.
func (n *node) folder() string {
	parts := strings.Split(n.Path(nil), "/")
	if !n.IsDir() {
		parts = parts[:len(parts)-1]
	}
	return strings.Join(parts[:min(len(parts), max(n.srv.opts.FolderDepth, 1))], "/")
}

// charge takes the time of a request about this node.
func (n *node) charge(kind Kind, bytes int64) { n.srv.request(n.folder(), kind, bytes) }

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if !folded(ctx) {
		n.charge(Lookup, 0)
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.charge(Getattr, 0)
	return n.LoopbackNode.Getattr(ctx, f, out)
}

func (n *node) Statx(ctx context.Context, f fs.FileHandle, flags, mask uint32, out *fuse.StatxOut) syscall.Errno {
	n.charge(Getattr, 0)
	return n.LoopbackNode.Statx(ctx, f, flags, mask, out)
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.charge(Setattr, 0)
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.charge(Open, 0)
	f, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	h := &handle{LoopbackFile: f.(*fs.LoopbackFile), node: n}
	if n.unchanged(ctx, h) {
		fuseFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return h, fuseFlags, 0
}

// unchanged reports whether the file is as it was when last seen, and notes how it is now.
func (n *node) unchanged(ctx context.Context, h *handle) bool {
	var out fuse.AttrOut
	if errno := h.LoopbackFile.Getattr(ctx, &out); errno != 0 {
		return false
	}
	now := fileState{mtimeSec: out.Mtime, mtimeNsec: out.Mtimensec, size: out.Size}
	n.mu.Lock()
	defer n.mu.Unlock()
	same := n.seen == now
	n.seen = now
	return same
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.charge(Create, 0)
	inode, f, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return inode, &handle{LoopbackFile: f.(*fs.LoopbackFile), node: inode.Operations().(*node)}, fuseFlags, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.charge(Create, 0)
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (n *node) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.charge(Create, 0)
	return n.LoopbackNode.Mknod(ctx, name, mode, rdev, out)
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	n.charge(Remove, 0)
	return n.LoopbackNode.Rmdir(ctx, name)
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	n.charge(Remove, 0)
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.charge(Rename, 0)
	return n.LoopbackNode.Rename(ctx, name, newParent.(*node).LoopbackNode, newName, flags)
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	// An NFS client asks for a directory's attributes when it is opened, whatever
	// it has cached: close-to-open consistency (nfs_lookup_verify_inode in Linux).
	n.charge(Getattr, 0)
	f, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{dirFile: f.(dirFile), node: n}, fuseFlags, 0
}

// dirFile is what the loopback's directory handles can do.
type dirFile interface {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
}

// dirHandle is an open directory. Syncing and closing it are free.
type dirHandle struct {
	dirFile
	node *node
	mu   sync.Mutex
	read int
}

func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	h.mu.Lock()
	first := h.read%readdirEntries == 0
	h.read++
	h.mu.Unlock()
	if first {
		h.node.charge(Readdir, 0)
	}
	return h.dirFile.Readdirent(ctx)
}

func (h *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno { return 0 }

// handle is an open file. What is written stays with the client until it is synced or closed.
type handle struct {
	*fs.LoopbackFile
	node *node

	mu     sync.Mutex
	dirty  int64
	closed bool
}

// PassthroughFd keeps the kernel from reading and writing past us.
func (h *handle) PassthroughFd() (int, bool) { return 0, false }

func (h *handle) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	var out fuse.AttrOut
	if errno := h.LoopbackFile.Getattr(ctx, &out); errno != 0 {
		return nil, errno
	}
	// The client knows the file's size, and does not ask for what is past it.
	if n := min(int64(len(buf)), int64(out.Size)-off); n > 0 {
		h.node.charge(Read, n)
	}
	return h.LoopbackFile.Read(ctx, buf, off)
}

func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, errno := h.LoopbackFile.Write(ctx, data, off)
	h.mu.Lock()
	h.dirty += int64(n)
	h.mu.Unlock()
	return n, errno
}

func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	h.writeBack()
	return 0
}

// writeBack charges what was written since the last time.
func (h *handle) writeBack() {
	h.mu.Lock()
	dirty := h.dirty
	h.dirty = 0
	h.mu.Unlock()
	var wg sync.WaitGroup
	for ; dirty > 0; dirty -= MaxTransfer {
		n := min(dirty, MaxTransfer)
		wg.Go(func() { h.node.charge(Write, n) })
	}
	wg.Wait()
}

// Flush is close(2), which writes back and waits for CLOSE.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	h.writeBack()
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if first {
		h.node.charge(Close, 0)
		h.node.unchanged(ctx, h)
	}
	return 0
}
