package span

import "runtime"

// arena is memory for extents of full length, outside of Go's heap. There it would count twice: the heap grows to double of what lives before it
// is collected. It is also used again without being filled with zeros, and comes in large pages where the system has
// them: a page of 4 KiB that is touched first costs as much as copying it. Guarded by Reader.mu.
type arena struct {
	region []byte   // empty where there is no such memory
	fresh  int      // where in region nothing was given out yet
	free   [][]byte // what came back
}

// newArena returns an arena of some extents. The system gives the memory when it is used.
func newArena(extents int64) *arena {
	a := &arena{}
	region, err := mapMemory(int(extents) * extentBytes)
	if err != nil {
		return a // the heap does as well
	}
	a.region = region
	// Not at Close: who is copying has the lock no more.
	runtime.AddCleanup(a, unmapMemory, region)
	return a
}

// get returns memory in which anything may stand. slot: it has to be given back with put.
func (a *arena) get(size int64) (b []byte, slot bool) {
	if size < extentBytes {
		return make([]byte, size), false // a slot would be more than is counted
	}
	if last := len(a.free) - 1; last >= 0 {
		b, a.free = a.free[last], a.free[:last]
		return b, true
	}
	if a.fresh == len(a.region) {
		return make([]byte, size), false
	}
	b = a.region[a.fresh:][:extentBytes:extentBytes]
	a.fresh += extentBytes
	return b, true
}

func (a *arena) put(b []byte) { a.free = append(a.free, b) }
