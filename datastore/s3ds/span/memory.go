package span

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// memory bounds the bytes of fetched data. Extents that are whole can be evicted at any time; one that is being filled cannot, but
// its request needs no more memory to end. So who waits for memory waits for the network, never for another who waits.
type memory struct {
	limit, used int64
	free        *sync.Cond
	lru         list.List // of whole extents; the one used last at the back
	arena       *arena
	patience    patience
}

func (m *memory) init(mu *sync.Mutex, limit int64) {
	m.limit, m.free = limit, sync.NewCond(mu)
	m.arena = newArena(limit / extentBytes)
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
		switch {
		case r.evict(onDisk, evictScan):
		case r.awaitDisk(ctx):
		case r.evict(wasRead, evictScan):
		case r.evict(anyOne, m.lru.Len()): // but those that are being copied
		default:
			if err := ctx.Err(); err != nil {
				return err
			}
			m.free.Wait()
		}
	}
	m.used += e.size()
	e.data, e.slot = m.arena.get(e.size())
	return nil
}

// evictScan is how many of the extents used least recently are looked at for one that costs nothing to evict. A window has 16.
const evictScan = 64

func onDisk(e *extent) bool  { return e.file != nil }
func wasRead(e *extent) bool { return e.read }
func anyOne(*extent) bool    { return true }

// evict gives the memory of one extent back, the first that may be evicted of those used least recently.
func (r *Reader) evict(may func(*extent) bool, scan int) bool {
	for el := r.memory.lru.Front(); el != nil && scan > 0; el, scan = el.Next(), scan-1 {
		if e := el.Value.(*extent); e.pins == 0 && may(e) {
			r.forget(e)
			return true
		}
	}
	return false
}

// awaitDisk waits for the disk to take an extent that would otherwise be evicted before its turn. It returns whether it
// waited: not for a disk that has nothing to take, that fails, or for which enough was waited lately. The caller holds the
// lock, which is released meanwhile.
func (r *Reader) awaitDisk(ctx context.Context) bool {
	m := &r.memory
	left := m.patience.left()
	if left <= 0 || ctx.Err() != nil || r.disk.failing || len(r.disk.queue) == 0 {
		return false
	}
	timer := time.AfterFunc(left, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.free.Broadcast()
	})
	m.patience.waiting++
	m.free.Wait()
	m.patience.left()
	m.patience.waiting--
	timer.Stop()
	return true
}

// A disk that is slower than the network for a moment is waited for, or what it did not take would have to be paid for again.
// One that is always slower costs a reader up to a tenth of the time; what it does not take then is skipped.
const (
	mostPatience  = 2 * time.Second
	patienceShare = 10
)

// patience is for how long memory was kept waiting for the disk, less a tenth of the time when it was not.
type patience struct {
	spent   time.Duration
	at      time.Time // spent is of this moment
	waiting int       // who waits
}

// left brings spent up to date and returns for how long the disk may be waited for.
func (p *patience) left() time.Duration {
	now := time.Now()
	if since := now.Sub(p.at); p.waiting > 0 {
		p.spent += since
	} else {
		p.spent = max(0, p.spent-since/patienceShare)
	}
	p.at = now
	return mostPatience - p.spent
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
	m.release(e)
}

// release gives back the memory of an extent: when nobody reads it any more.
func (m *memory) release(e *extent) {
	if e.pins > 0 {
		e.late = e.data
	} else if e.slot {
		m.arena.put(e.data)
	}
	e.data = nil
	m.used -= e.size()
	m.free.Broadcast()
}

// unpin ends the use of an extent's data without the lock.
func (m *memory) unpin(e *extent) {
	e.pins--
	if e.pins == 0 && e.late != nil {
		if e.slot {
			m.arena.put(e.late)
		}
		e.late = nil
	}
}

// abandon gives back the memory of an extent that will not be filled.
func (m *memory) abandon(e *extent) {
	if e.data != nil && e.mem == nil {
		m.release(e)
	}
}
