package efs

import (
	"bytes"
	"context"
	"iter"
	"math"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// shard is one directory of blocks and what the index knows about it.
type shard struct {
	name string

	// gate is held for reading from before a change of a final name until the
	// index says the same as the directory, and for writing while the
	// directory and the index are compared. It is taken before mu.
	gate sync.RWMutex

	mu     sync.RWMutex
	sums   map[digest]uint32 // size in bytes of blocks with a SHA-256 key, under 4 GiB
	others map[string]int64  // size of all other blocks, by name
	// doubt holds the names of which a failed call has left unknown whether
	// they are there. The file system is asked before anything is said about them.
	doubt map[string]struct{}
	// busy holds the names with a Put or Delete under way.
	busy map[string]*flight
	// made says that the directory is known to exist.
	made bool
	// unsettled counts the temporary files in the directory and the removals
	// that are not yet done. While it is not 0, the directory holds something
	// that the index does not tell.
	unsettled int

	// stamp is the directory's at a moment when it held exactly what the index
	// says; valid if stamped. Any change of ours ends it.
	stamp   vfs.Stamp
	stamped bool
	// racy says that the stamp may be too young to tell a later change apart.
	racy bool
	// changed counts the changes of the directory that were not synced there and
	// then: removals, and whatever failed. synced is how many of them are durable.
	changed, synced uint64
}

func newShard(name string) *shard {
	return &shard{
		name: name,
		sums: make(map[digest]uint32), others: make(map[string]int64),
		doubt: make(map[string]struct{}), busy: make(map[string]*flight),
	}
}

// flight is a Put or Delete under way.
type flight struct {
	done  chan struct{}
	put   bool
	value []byte
	err   error
}

// acquire makes the caller the only one to change name, after waiting for
// whoever is. If that was a Put of the same value and it succeeded, so has the
// caller's: joined is true and there is nothing to release.
func (s *shard) acquire(ctx context.Context, name string, put bool, value []byte) (fl *flight, joined bool, err error) {
	for {
		s.mu.Lock()
		other := s.busy[name]
		if other == nil {
			fl = &flight{done: make(chan struct{}), put: put, value: value}
			s.busy[name] = fl
			s.mu.Unlock()
			return fl, false, nil
		}
		s.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if put && other.put && other.err == nil && bytes.Equal(value, other.value) {
			return nil, true, nil
		}
	}
}

func (s *shard) release(name string, fl *flight, err error) {
	fl.err = err
	s.mu.Lock()
	delete(s.busy, name)
	s.mu.Unlock()
	close(fl.done)
}

// lookup returns a block's size. doubtful means that the file system must be asked.
func (s *shard) lookup(name string) (size int64, ok, doubtful bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.doubt) > 0 {
		if _, doubtful := s.doubt[name]; doubtful {
			return 0, false, true
		}
	}
	size, ok = s.get(name)
	return size, ok, false
}

// get, set and unset work under mu.
func (s *shard) get(name string) (size int64, ok bool) {
	if d, is := digestOf(name); is {
		if size, ok := s.sums[d]; ok {
			return int64(size), true
		}
	}
	size, ok = s.others[name]
	return size, ok
}

func (s *shard) set(name string, size int64) {
	delete(s.doubt, name)
	if d, is := digestOf(name); is {
		if size <= math.MaxUint32 {
			delete(s.others, name)
			s.sums[d] = uint32(size)
			return
		}
		delete(s.sums, d)
	}
	s.others[name] = size
}

func (s *shard) unset(name string) {
	delete(s.doubt, name)
	if d, is := digestOf(name); is {
		delete(s.sums, d)
	}
	delete(s.others, name)
}

// entry is one block, for listings.
type entry struct {
	name string
	size int64
}

// list returns all blocks of the shard, in no order.
func (s *shard) list() []entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]entry, 0, len(s.sums)+len(s.others))
	for d, size := range s.sums {
		list = append(list, entry{d.name(), int64(size)})
	}
	for name, size := range s.others {
		list = append(list, entry{name, size})
	}
	return list
}

// names goes through all names; it works under mu, and names may be unset meanwhile.
func (s *shard) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for d := range s.sums {
			if !yield(d.name()) {
				return
			}
		}
		for name := range s.others {
			if !yield(name) {
				return
			}
		}
	}
}

// doubtful returns the names in doubt.
func (s *shard) doubtful() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.doubt) == 0 {
		return nil
	}
	names := make([]string, 0, len(s.doubt))
	for name := range s.doubt {
		names = append(names, name)
	}
	return names
}

// begin notes that something is about to be in the directory that the index
// does not tell. Whoever brings that to an end takes it from unsettled.
func (s *shard) begin() {
	s.mu.Lock()
	s.unsettled++
	s.stamped = false
	s.mu.Unlock()
}
