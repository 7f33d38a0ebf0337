package efs

import (
	"sync"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/readcache"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// Datastore is an open store. It is safe for concurrent use.
//
// Put and a batch's Commit are durable when they return; for Delete see the
// package documentation. Errors of the file system are wrapped and name the
// file; errors.Is finds the errno (syscall.ENOSPC, …) in them.
type Datastore struct {
	cfg     Config
	fsys    vfs.FS
	indexFS vfs.FS    // where the index is persisted
	lock    *heldLock // of the folder; nil if fsys is not the system's
	shardOf func(name string) string

	shardsMu sync.RWMutex
	shards   map[string]*shard

	writes slots // writers
	reads  slots
	closes slots // files being closed behind an acknowledgement

	spares  spares
	removal removal
	keeper  keeper
	usage   usage
	late    deferred
	recent  recent
	cache   *readcache.Cache // nil if off

	active  atomic.Int64  // writers at work
	damaged atomic.Uint64 // reads of files that did not hash to their names

	// closing is held for reading by every call, and for writing by Close.
	closing sync.RWMutex
	closed  bool
}

var (
	_ ds.Batching            = (*Datastore)(nil)
	_ ds.PersistentDatastore = (*Datastore)(nil)
	_ ds.GCDatastore         = (*Datastore)(nil)
)

// enter begins a call, and returns ErrClosed once Close was called.
func (d *Datastore) enter() error {
	d.closing.RLock()
	if d.closed {
		d.closing.RUnlock()
		return ErrClosed
	}
	return nil
}

func (d *Datastore) leave() { d.closing.RUnlock() }

// shard returns the shard that name belongs to, or nil if there is none and create is false.
func (d *Datastore) shard(name string, create bool) *shard {
	dir := d.shardOf(name)
	d.shardsMu.RLock()
	s := d.shards[dir]
	d.shardsMu.RUnlock()
	if s != nil || !create {
		return s
	}
	d.shardsMu.Lock()
	defer d.shardsMu.Unlock()
	if s := d.shards[dir]; s != nil {
		return s
	}
	s = newShard(dir)
	d.shards[dir] = s
	return s
}

func (d *Datastore) allShards() []*shard {
	d.shardsMu.RLock()
	defer d.shardsMu.RUnlock()
	all := make([]*shard, 0, len(d.shards))
	for _, s := range d.shards {
		all = append(all, s)
	}
	return all
}

// forget drops what is remembered of a block that was changed or removed.
func (d *Datastore) forget(name string) {
	d.recent.drop(name)
	if d.cache != nil {
		d.cache.Drop(name)
	}
}

// closeLater closes a file whose bytes are durable, or that was only read,
// without making the caller wait for the round trip, unless as many files as
// there are workers are being closed already.
func (d *Datastore) closeLater(f vfs.File) {
	if !d.closes.try() {
		d.late.add(explain("close block", f.Close()))
		return
	}
	go func() {
		defer d.closes.release()
		d.late.add(explain("close block", f.Close()))
	}()
}
