package span

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// readPiece is how much is read from a response at once, in bytes: waiters hear of their block when a piece of it came.
const readPiece = 128 << 10

// fetch is one request for a range of a pack, which fills extents one after the other. Guarded by Reader.mu.
type fetch struct {
	o        *object
	lo, hi   int64
	extents  []*extent
	from, to int64 // what was asked for when it began: a failure is an error for who waits for this; others try for themselves
	prefetch bool  // nobody waited when it began
	ctx      context.Context
	stop     context.CancelFunc

	waiters   int
	useful    bool // somebody got a block out of it: the rest is wanted, too
	cancelled bool
	err       error
}

// joined are the requests that one read waits for.
type joined []*fetch

// join registers a read as a waiter.
func (j *joined) join(f *fetch) {
	if !slices.Contains(*j, f) {
		f.waiters++
		*j = append(*j, f)
	}
}

// release ends a read. A request for which nobody waits any more is cancelled, unless it was sent ahead of the reader, or the
// reader got its block and may go on.
func (r *Reader) release(j joined, ok bool) {
	for _, f := range j {
		f.waiters--
		f.useful = f.useful || ok
		if _, running := r.fetches[f]; running && f.waiters == 0 && !f.useful && !f.prefetch {
			r.cancel(f)
		}
	}
}

// cancel ends a request. What it has not brought yet is no longer expected: who comes now sends a new one.
func (r *Reader) cancel(f *fetch) {
	if f.cancelled {
		return
	}
	f.cancelled = true
	f.stop()
	for _, e := range f.extents {
		if e.fetch == f {
			r.drop(e)
		}
	}
}

// fetch begins a request for [lo, hi), of which [from, to) is asked for now.
func (r *Reader) fetch(o *object, lo, hi, from, to int64, prefetch bool) *fetch {
	if lo < sectionHeader {
		lo = 0 // the header of the pack, or who comes near would miss it
	}
	f := &fetch{o: o, lo: lo, hi: hi, from: from, to: to, prefetch: prefetch}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for at := lo; at < hi; {
		e := &extent{o: o, lo: at, hi: min(hi, (at/extentBytes+1)*extentBytes), fetch: f}
		f.extents = append(f.extents, e)
		r.insert(e)
		at = e.hi
	}
	r.fetches[f] = struct{}{}
	r.running.Add(1)
	go r.run(f)
	return f
}

// run does the request.
func (r *Reader) run(f *fetch) {
	defer r.running.Done()
	defer f.stop()
	err := r.stream(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fetches, f)
	if err == nil {
		return
	}
	if r.closed {
		err = ErrClosed
	}
	f.err = fmt.Errorf("fetch bytes %d to %d: %w", f.lo, f.hi, err)
	for _, e := range f.extents {
		if e.fetch == f {
			r.memory.abandon(e)
			r.drop(e)
			e.wake(e.hi)
		}
	}
}

func (r *Reader) stream(f *fetch) (err error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	r.mu.Lock()
	r.stats.Requests++
	if f.prefetch {
		r.stats.Prefetches++
	}
	r.mu.Unlock()
	body, _, err := r.bucket.Get(f.ctx, f.o.key, bucket.Range{Offset: f.lo, Length: f.hi - f.lo})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	for _, e := range f.extents {
		r.mu.Lock()
		err := r.take(f.ctx, e)
		data := e.data
		r.mu.Unlock()
		if err != nil {
			return err
		}
		for filled := 0; filled < len(data); {
			n, err := body.Read(data[filled:min(len(data), filled+readPiece)])
			filled += n
			r.progress(e, n, filled == len(data))
			if err == io.EOF && filled < len(data) {
				return fmt.Errorf("the object ends at %d: %w", e.lo+int64(filled), io.ErrUnexpectedEOF)
			} else if err != nil && err != io.EOF {
				return err
			}
		}
	}
	return nil
}

// progress counts bytes that came, and tells who waits for them.
func (r *Reader) progress(e *extent, n int, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.BytesMoved += int64(n)
	e.filled += int64(n)
	e.wake(e.lo + e.filled)
	if !whole {
		return
	}
	if e.gone {
		r.memory.abandon(e)
		e.fetch = nil
		return
	}
	e.fetch = nil
	r.memory.whole(e)
	r.supersede(e)
	r.disk.offer(e)
}

// wake tells those who wait for bytes below upTo.
func (e *extent) wake(upTo int64) {
	e.waits = slices.DeleteFunc(e.waits, func(w wait) bool {
		if w.upTo <= upTo {
			close(w.done)
			return true
		}
		return false
	})
}

// wait waits until an extent is filled up to an offset. retry: it is not, but that is no fault of a request which
// was sent for these bytes; look again. The caller holds the lock, which is released while it waits.
func (r *Reader) wait(ctx context.Context, e *extent, from, upTo int64, j *joined) (retry bool, err error) {
	f := e.fetch
	if f == nil || e.lo+e.filled >= upTo {
		return false, nil
	}
	j.join(f)
	w := wait{upTo, make(chan struct{})}
	e.waits = append(e.waits, w)
	r.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	r.mu.Lock()
	select {
	case <-w.done:
	default:
		e.waits = slices.DeleteFunc(e.waits, func(x wait) bool { return x.done == w.done })
		return false, ctx.Err()
	}
	switch {
	case e.data != nil && e.lo+e.filled >= upTo:
		return false, nil
	case f.err != nil && !f.cancelled && f.from <= from && from < f.to:
		return false, f.err
	}
	return true, nil
}
