package span

import (
	"context"
	"io"
)

// Keep puts a pack that the caller has at hand, because it has just written it, into the cache on disk, so that reading it takes no
// request. It returns when the disk has it, when ctx ends, or when the cache cannot take it; there is nothing to be done about that,
// and Stats count it. It needs memory for one extent.
func (r *Reader) Keep(ctx context.Context, p Pack, src io.ReaderAt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.disk.enabled() {
		return
	}
	o := r.object(p.Key)
	o.users++
	defer func() { o.users--; r.tidy(o) }()
	for at := int64(0); at < p.End && ctx.Err() == nil && !r.closed; at = (at/extentBytes + 1) * extentBytes {
		hi := min(p.End, (at/extentBytes+1)*extentBytes)
		if o.covered(at, hi) == hi {
			continue
		}
		e := &extent{o: o, lo: at, hi: hi}
		if err := r.take(ctx, e); err != nil {
			return
		}
		r.mu.Unlock()
		n, err := src.ReadAt(e.data, at)
		r.mu.Lock()
		if err != nil && (err != io.EOF || n < len(e.data)) {
			r.memory.abandon(e)
			return
		}
		e.filled, e.read = e.size(), true
		r.insert(e)
		r.memory.whole(e)
		r.supersede(e)
		r.disk.offer(e)
		for e.queued && !r.disk.failing && ctx.Err() == nil {
			r.memory.free.Wait()
		}
		if r.disk.failing {
			return
		}
	}
}
