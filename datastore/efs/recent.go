package efs

import (
	"bytes"
	"sync"
)

// recentBytes is how much of what was written last stays in memory. `ipfs add`
// of a directory reads back every file's root block when all are written, one
// after the other, which is two round trips each; 32 MiB are 8,000 files of 4 KiB.
const recentBytes = 32 << 20

// recent holds the blocks that were written last, first in, first out.
type recent struct {
	mu     sync.Mutex
	blocks map[string][]byte
	order  []string // may name blocks that were dropped since
	bytes  int
}

func newRecent() recent { return recent{blocks: make(map[string][]byte)} }

// add keeps a copy of a block that has just become durable.
func (r *recent) add(name string, value []byte) {
	if len(value) > recentBytes/8 {
		r.drop(name)
		return
	}
	value = bytes.Clone(value)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(name)
	r.blocks[name] = value
	r.order = append(r.order, name)
	r.bytes += cost(value)
	// A name may be in order more than once: the block then goes a little early.
	for r.bytes > recentBytes || len(r.order) > 2*len(r.blocks)+64 {
		r.remove(r.order[0])
		r.order = r.order[1:]
	}
}

// cost is what a block takes, with about 128 bytes for its name and place.
func cost(value []byte) int { return len(value) + 128 }

// remove works under mu.
func (r *recent) remove(name string) {
	if value, there := r.blocks[name]; there {
		r.bytes -= cost(value)
		delete(r.blocks, name)
	}
}

// drop forgets a block that was changed or removed.
func (r *recent) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(name)
}

// get returns a copy of a block, if it is here and has the given size.
func (r *recent) get(name string, size int64) ([]byte, bool) {
	r.mu.Lock()
	value, there := r.blocks[name]
	r.mu.Unlock()
	if !there || int64(len(value)) != size {
		return nil, false
	}
	return bytes.Clone(value), true
}
