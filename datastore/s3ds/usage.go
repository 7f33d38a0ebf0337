package s3ds

import (
	"context"
	"fmt"
	"sync"
)

// usageDrift is how much of the store may have been written or removed since it was last listed before DiskUsage lists again:
// 1/20. Nothing tells whether a put replaced an object, or how large a deleted one was, so what is known between two lists is
// an estimate. Listing a store costs one LIST per 1,000 objects; having changed 1/20 of those took 50 PUTs at the same
// price each. So exactness adds at most 2 % to the bill of writing.
const usageDrift = 20

// usageExact is the number of objects up to which any change makes DiskUsage list again: that is one request.
const usageExact = 1000

// usage is the size of the store: as last listed, adjusted by what was done since.
type usage struct {
	list func(context.Context) (bytes, objects uint64, err error)

	listing chan struct{} // a lock that obeys a context; made by the first caller
	mu      sync.Mutex
	known   bool
	bytes   int64
	objects int64
	churn   int64 // objects put or deleted since the list began
}

func (u *usage) put(size int) { u.adjust(int64(size), 1) }

// deleted assumes objects of average size.
func (u *usage) deleted(n int) {
	u.mu.Lock()
	average := int64(0)
	if u.objects > 0 {
		average = u.bytes / u.objects
	}
	u.mu.Unlock()
	u.adjust(-average*int64(n), -int64(n))
}

func (u *usage) adjust(bytes, objects int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes = max(u.bytes+bytes, 0)
	u.objects = max(u.objects+objects, 0)
	u.churn += max(objects, -objects)
}

// fresh returns the size if it is known well enough.
func (u *usage) fresh() (uint64, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	exact, near := u.churn == 0, u.objects > usageExact && u.churn*usageDrift <= u.objects
	return uint64(u.bytes), u.known && (exact || near)
}

func (u *usage) lock(ctx context.Context) error {
	u.mu.Lock()
	if u.listing == nil {
		u.listing = make(chan struct{}, 1)
	}
	u.mu.Unlock()
	select {
	case u.listing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// size returns the bytes in the store, listing it if need be. Concurrent callers share one list.
func (u *usage) size(ctx context.Context) (uint64, error) {
	if size, ok := u.fresh(); ok {
		return size, nil
	}
	if err := u.lock(ctx); err != nil {
		return 0, err
	}
	defer func() { <-u.listing }()
	if size, ok := u.fresh(); ok {
		return size, nil
	}
	u.mu.Lock()
	before := u.churn
	u.mu.Unlock()
	bytes, objects, err := u.list(ctx)
	if err != nil {
		return 0, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	// What happened during the list may or may not be in it: it stays on the account of churn.
	u.known, u.bytes, u.objects, u.churn = true, int64(bytes), int64(objects), u.churn-before
	return bytes, nil
}

// DiskUsage implements datastore.PersistentDatastore: the bytes of all values. It is exact for a store of up to 1,000 objects, and
// for any store that did not change since it was last listed; otherwise it is off by no more than the objects put and deleted since,
// a twentieth of the store at most. The first call lists the store (1 LIST per 1,000 objects, one after the other), later ones when
// more than that has changed. Nothing of it is kept on disk. What other processes write under the prefix is seen at the next list.
func (d *Datastore) DiskUsage(ctx context.Context) (uint64, error) {
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	size, err := d.usage.size(ctx)
	if err != nil {
		return 0, fmt.Errorf("s3ds: disk usage: %w", err)
	}
	return size, nil
}

// measure lists the store.
func (d *Datastore) measure(ctx context.Context) (bytes, objects uint64, err error) {
	for info, err := range d.b.List(ctx, d.prefix(""), "") {
		if err != nil {
			d.health.record(ctx, err)
			return 0, 0, err
		}
		if _, ours := d.key(info.Key); ours {
			bytes += uint64(info.Size)
			objects++
		}
	}
	d.health.record(ctx, nil)
	return bytes, objects, nil
}
