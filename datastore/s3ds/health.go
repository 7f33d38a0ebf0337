package s3ds

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// probeEvery is how often Check asks a bucket that fails, at most: an orchestrator that polls every second costs no more
// than one that polls every 5.
const probeEvery = 5 * time.Second

// health remembers what became of the latest request.
type health struct {
	mu      sync.Mutex
	failure error     // of the latest request; nil if it went well
	asked   time.Time // when Check last asked the bucket
}

// record takes note of the outcome of a request. What the caller broke off says nothing about the bucket; a miss says that it answers.
func (h *health) record(ctx context.Context, err error) {
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrClosed)) {
		return
	}
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrInvalidRange) || errors.Is(err, bucket.ErrArchived) || errors.Is(err, ErrCorrupt) {
		err = nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = err
}

// due returns the latest failure, and whether it is time to ask the bucket again. Of concurrent callers one is told to.
func (h *health) due() (failure error, ask bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failure == nil || time.Since(h.asked) < probeEvery {
		return h.failure, false
	}
	h.asked = time.Now()
	return h.failure, true
}

// Check implements datastore.CheckedDatastore: nil if the bucket is believed to answer. While requests go well it asks nothing
// and costs nothing; after one that failed it asks the bucket, one HEAD request at most every 5 s, until it answers.
func (d *Datastore) Check(ctx context.Context) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	failure, ask := d.health.due()
	if ask {
		failure = d.b.Check(ctx)
		d.health.record(ctx, failure)
	}
	return failure
}
