package span

import (
	"container/list"
	"crypto/sha256"
	"slices"
)

// objectID names an object by the SHA-256 of its key, cut to 16 bytes: it is also the name of the object's folder on disk.
type objectID [16]byte

func idOf(key string) objectID {
	h := sha256.Sum256([]byte(key))
	return objectID(h[:16])
}

// object is what is known here of one pack.
type object struct {
	id    objectID
	key   string // empty until somebody asks for it: the cache on disk knows the id only
	users int    // reads under way
	// misses in a row of a pack of nodes, the last one at missed on Reader.clock.
	misses int
	missed int64
	// cells has the extents that begin in each multiple of extentBytes, in no order. They may overlap.
	cells map[int64][]*extent
}

// extent is a piece of a pack: fetched or on its way, in memory, on disk, or both. It does not cross a multiple of
// extentBytes. All fields are guarded by Reader.mu, but the bytes of data below filled do not change.
type extent struct {
	o      *object
	lo, hi int64

	fetch  *fetch // that brings it; nil when it is here
	data   []byte // nil unless in memory, or until the first byte comes
	filled int64  // bytes of data that are here
	waits  []wait
	slot   bool   // data is of the arena
	pins   int    // who reads data without the lock
	late   []byte // what data was, when the last of these has ended
	read   bool
	mem    *list.Element // in memory.lru

	queued bool          // in disk.queue
	file   *list.Element // in disk.clock
	bytes  int64         // size of the file
	used   bool          // since the clock's hand was here
	gone   bool          // dropped
}

// wait is somebody who waits for an extent to be filled up to some offset in the pack, or to fail.
type wait struct {
	upTo int64
	done chan struct{}
}

func (e *extent) size() int64    { return e.hi - e.lo }
func (e *extent) inMemory() bool { return e.fetch != nil || e.data != nil }

func (r *Reader) object(key string) *object {
	id := idOf(key)
	o, ok := r.objects[id]
	if !ok {
		o = &object{id: id, cells: make(map[int64][]*extent)}
		r.objects[id] = o
	}
	if o.key == "" {
		o.key = key // requests read it without the lock, from now on
	}
	return o
}

// tidy forgets an object of which nothing is kept.
func (r *Reader) tidy(o *object) {
	if o.users == 0 && len(o.cells) == 0 && r.objects[o.id] == o {
		delete(r.objects, o.id)
	}
}

// at returns the extent that holds the byte at an offset, and the most behind it.
func (o *object) at(at int64) *extent {
	var best *extent
	for _, e := range o.cells[at/extentBytes] {
		if e.lo <= at && at < e.hi && (best == nil || e.hi > best.hi) {
			best = e
		}
	}
	return best
}

// next returns the beginning of the first extent at or behind an offset and before end, or end.
func (o *object) next(at, end int64) int64 {
	for cell := at / extentBytes; cell*extentBytes < end; cell++ {
		first := end
		for _, e := range o.cells[cell] {
			if e.hi > at {
				first = min(first, max(e.lo, at))
			}
		}
		if first < end {
			return first
		}
	}
	return end
}

// covered returns where the run of bytes that are here, or on their way, ends which begins at at; at itself if it is not here.
func (o *object) covered(at, end int64) int64 {
	for at < end {
		e := o.at(at)
		if e == nil {
			return at
		}
		at = e.hi
	}
	return end
}

// gap returns the part of [lo, hi) from its first missing byte to its last; empty if none is missing.
func (o *object) gap(lo, hi int64) (int64, int64) {
	lo = o.covered(lo, hi)
	last := lo
	for at := lo; at < hi; {
		last = o.next(at, hi) // [at, last) is missing
		at = o.covered(last, hi)
	}
	return lo, last
}

// insert adds an extent.
func (r *Reader) insert(e *extent) {
	cell := e.lo / extentBytes
	e.o.cells[cell] = append(e.o.cells[cell], e)
}

// drop forgets an extent, in memory and on disk. Who reads it keeps its bytes.
func (r *Reader) drop(e *extent) {
	if e.gone {
		return
	}
	e.gone = true
	cell := e.lo / extentBytes
	if rest := slices.DeleteFunc(e.o.cells[cell], func(x *extent) bool { return x == e }); len(rest) > 0 {
		e.o.cells[cell] = rest
	} else {
		delete(e.o.cells, cell)
	}
	r.memory.remove(e)
	r.disk.remove(r, e)
	r.tidy(e.o)
}

// dropRange drops every extent that touches [lo, hi). Requests that bring some of them go on for the others.
func (r *Reader) dropRange(o *object, lo, hi int64) {
	for _, cell := range o.cells {
		for _, e := range slices.Clone(cell) {
			if e.lo < hi && e.hi > lo {
				r.drop(e)
			}
		}
	}
}

// supersede drops what a whole new extent makes superfluous.
func (r *Reader) supersede(e *extent) {
	for _, old := range slices.Clone(e.o.cells[e.lo/extentBytes]) {
		if old != e && old.fetch == nil && e.lo <= old.lo && old.hi <= e.hi {
			r.drop(old)
		}
	}
}
