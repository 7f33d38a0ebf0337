package span

import (
	"container/list"
	"context"
	"sync"
)

// memory bounds the bytes of fetched data. Extents that are whole can be evicted at any time; one that is being filled cannot, but
// its request needs no more memory to end. So who waits for memory waits for the network, never for another who waits.
type memory struct {
	limit, used int64
	free        *sync.Cond
	lru         list.List // of whole extents; the one used last at the back
}

func (m *memory) init(mu *sync.Mutex, limit int64) {
	m.limit, m.free = limit, sync.NewCond(mu)
}

// take makes room for an extent and gives it memory. The caller holds the lock, which is released while it waits.
func (r *Reader) take(ctx context.Context, e *extent) error {
	m := &r.memory
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.free.Broadcast()
	})
	defer stop()
	for m.used+e.size() > m.limit {
		if !r.evict() {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.free.Wait()
		}
	}
	m.used += e.size()
	e.data = make([]byte, e.size())
	return nil
}

// evictScan is how many of the extents used least recently are looked at for one that costs nothing to evict. A window has 16.
const evictScan = 64

// evict gives one extent's memory back: of those used least recently one that is on disk, else one that was read, else the first.
func (r *Reader) evict() bool {
	for _, choice := range []struct {
		may  func(*extent) bool
		scan int
	}{
		{func(e *extent) bool { return e.file != nil }, evictScan},
		{func(e *extent) bool { return e.read }, evictScan},
		{func(*extent) bool { return true }, r.memory.lru.Len()}, // all but those that are being copied
	} {
		el := r.memory.lru.Front()
		for range choice.scan {
			if el == nil {
				break
			}
			if e := el.Value.(*extent); e.pins == 0 && choice.may(e) {
				r.forget(e)
				return true
			}
			el = el.Next()
		}
	}
	return false
}

// forget takes a whole extent out of memory; if the disk has not got it, it is gone.
func (r *Reader) forget(e *extent) {
	if e.file != nil {
		r.memory.remove(e)
		return
	}
	if r.disk.enabled() {
		r.stats.CacheSkipped++
	}
	r.drop(e)
}

// whole puts an extent that is filled up for eviction.
func (m *memory) whole(e *extent) {
	e.mem = m.lru.PushBack(e)
	m.free.Broadcast()
}

func (m *memory) touch(e *extent) {
	if e.mem != nil {
		m.lru.MoveToBack(e.mem)
	}
	m.free.Broadcast() // it is not pinned any more
}

// remove takes an extent out of memory. The memory of one that is being filled is counted until its request lets go of it.
func (m *memory) remove(e *extent) {
	if e.mem == nil {
		return
	}
	m.lru.Remove(e.mem)
	e.mem = nil
	e.data = nil
	m.used -= e.size()
	m.free.Broadcast()
}

// abandon gives back the memory of an extent that will not be filled.
func (m *memory) abandon(e *extent) {
	if e.data != nil && e.mem == nil {
		e.data = nil
		m.used -= e.size()
		m.free.Broadcast()
	}
}
