package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Follower reads a chain that another process writes. It is not for several goroutines.
type Follower struct {
	b     bucket.Bucket
	root  string
	next  uint64
	clock *Clock
	asked *instant // before the request whose answer was the last one that counted
}

// Follow reads on from the record with number from. Nothing is asked yet.
func Follow(b bucket.Bucket, root string, from uint64) *Follower {
	return &Follower{b: b, root: root, next: from, clock: realClock()}
}

// Next returns the next record. ErrNone: there is none yet. ErrGap: it was trimmed, or may have been; start over from the snapshot, with
// another Follower. Cost: 1 GET, and 1 LIST for the first call and for one that comes more than blindFor after the one before.
func (f *Follower) Next(ctx context.Context) (Record, error) {
	sent := f.clock.now()
	r, err := read(ctx, f.b, f.root, f.next)
	none := errors.Is(err, bucket.ErrNotFound)
	if err != nil && !none {
		return Record{}, fmt.Errorf("follow the chain under %q: %w", f.root, err)
	}
	if now := f.clock.now(); f.asked == nil || now.since(*f.asked) > blindFor {
		// What was found may stand in a hole, and what was not found may have been trimmed.
		if err := f.look(ctx, none); err != nil {
			return Record{}, err
		}
	}
	f.asked = &sent
	if none {
		return Record{}, ErrNone
	}
	f.next++
	return r, nil
}

func (f *Follower) look(ctx context.Context, none bool) error {
	after := ""
	if f.next > 0 {
		after = key(f.root, f.next-1)
	}
	for info, err := range f.b.List(ctx, f.root+"/", after) {
		if err != nil {
			return fmt.Errorf("follow the chain under %q: %w", f.root, err)
		}
		seq, snap, ok := parseKey(f.root, info.Key)
		if ok && (snap && seq > f.next || !snap && seq > f.next && none) {
			return ErrGap
		}
	}
	return nil
}
