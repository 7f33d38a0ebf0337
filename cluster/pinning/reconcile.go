package pinning

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
)

const (
	// settleTime is how long a CID is left alone after the pinset has changed it: the change
	// is told before it can be read, and some changes are of a thousand pins.
	settleTime = time.Minute

	// drainAtOnce is how many pins a peer that ends takes from its node at a time. The node
	// syncs its index for each; its pinner makes them one after the other, so more would wait.
	drainAtOnce = 16
)

// Difference is what a comparison of the node's pins with the pinset finds.
type Difference struct {
	// Surplus are pins that the cluster made and the pinset does not say.
	Surplus int
	// Lacking are pins that the pinset says, and that the node does not have. Those that are
	// being tried, or wait, count as well.
	Lacking int
	// Foreign are pins that the cluster did not make. They are left alone.
	Foreign int
}

// told knows which CIDs the pinset has changed lately.
type told struct {
	mu sync.RWMutex // held while the tracker is told of a change, and to decide about a CID
	at map[cid.Cid]time.Time
	by sync.Mutex // of at
}

// hear calls tell, and takes down that the pinset has changed a CID.
func (t *told) hear(id cid.Cid, tell func() error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.by.Lock()
	t.at[id] = time.Now()
	t.by.Unlock()
	return tell()
}

// lately says whether the pinset has changed a CID within settleTime. The caller has locked mu.
func (t *told) lately(id cid.Cid) bool {
	t.by.Lock()
	defer t.by.Unlock()
	return time.Since(t.at[id]) < settleTime
}

// prune forgets what was long ago.
func (t *told) prune() {
	t.by.Lock()
	defer t.by.Unlock()
	for id, at := range t.at {
		if time.Since(at) >= settleTime {
			delete(t.at, id)
		}
	}
}

// Reconcile compares what the node has pinned with what the pinset says, and unpins what the
// cluster has pinned and should be no more: a peer that dies forgets which unpins were
// waiting. The pinset must be that of the other peers. Pins that the cluster did not make are
// left alone; those that the pinset says are the cluster's from now on. What the node lacks is
// the tracker's to pin, see [Tracker.Run].
func (t *Tracker) Reconcile(ctx context.Context) (Difference, error) {
	var d Difference
	pins, err := t.state(ctx)
	if err != nil {
		return d, err
	}
	t.told.prune()
	there := map[cid.Cid]struct{}{}
	for _, mode := range []string{"recursive", "direct"} {
		err := t.connector.node.Pins(ctx, mode, func(id cid.Cid) { there[id] = struct{}{} })
		if err != nil {
			return d, fmt.Errorf("list the node's pins: %w", err)
		}
	}
	ours := func(id cid.Cid) (bool, error) {
		pin, err := pins.Get(ctx, api.NewCid(id))
		if errors.Is(err, state.ErrNotFound) {
			return false, nil
		}
		return err == nil && t.keeps(pin), err
	}
	var surplus, stale []cid.Cid
	err = t.connector.pinned.each(ctx, func(id cid.Cid) error {
		keep, err := ours(id)
		if err != nil || keep {
			return err
		}
		if _, ok := there[id]; ok {
			surplus = append(surplus, id)
		} else {
			stale = append(stale, id)
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("compare the node's pins with the pinset: %w", err)
	}
	for id := range there {
		known, err := t.connector.pinned.has(ctx, id)
		if err == nil && !known {
			var keep bool
			if keep, err = ours(id); err == nil && keep {
				err = t.connector.pinned.adopt(ctx, id)
			} else if err == nil {
				d.Foreign++
			}
		}
		if err != nil {
			return d, fmt.Errorf("compare the node's pins with the pinset: %w", err)
		}
	}
	if d.Lacking, err = t.lacking(ctx, pins, there); err != nil {
		return d, err
	}
	for _, id := range stale {
		if _, err := t.decide(ctx, pins, id, func(*api.Pin) error { t.connector.pinned.forget(ctx, id); return nil }); err != nil {
			return d, err
		}
	}
	if t.connector.opts.NeverUnpin {
		d.Surplus = len(surplus)
		return d, nil
	}
	for _, id := range surplus {
		done, err := t.decide(ctx, pins, id, func(remote *api.Pin) error {
			if remote != nil {
				return t.PinTracker.Track(ctx, *remote) // unpins it
			}
			t.connector.pinned.leaves(id)
			return t.PinTracker.Untrack(ctx, api.NewCid(id))
		})
		if err != nil {
			return d, err
		}
		if done {
			d.Surplus++
		}
	}
	return d, nil
}

// keeps says whether this peer's node is to pin a pin of the pinset.
func (t *Tracker) keeps(pin api.Pin) bool {
	return pin.Type != api.MetaType && !pin.IsRemotePin(t.self)
}

// lacking counts what the pinset says that this peer keeps and the node does not have.
func (t *Tracker) lacking(ctx context.Context, pins state.ReadOnly, there map[cid.Cid]struct{}) (n int, err error) {
	all := make(chan api.Pin, 1024)
	listed := make(chan error, 1)
	go func() { listed <- pins.List(ctx, all) }()
	for pin := range all {
		if _, ok := there[pin.Cid.Cid]; !ok && t.keeps(pin) {
			n++
		}
	}
	return n, <-listed
}

// decide calls do for a CID that the pinset does not say, or says of other peers (remote), if
// that is still so and nobody has changed it lately.
func (t *Tracker) decide(ctx context.Context, pins state.ReadOnly, id cid.Cid, do func(remote *api.Pin) error) (done bool, err error) {
	t.told.mu.Lock()
	defer t.told.mu.Unlock()
	if t.told.lately(id) {
		return false, nil
	}
	pin, err := pins.Get(ctx, api.NewCid(id))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return true, do(nil)
	case err != nil || t.keeps(pin):
		return false, err
	}
	return true, do(&pin)
}

// Drain unpins on the node what waits to be unpinned, until that is done or the context ends;
// the error then says how many are left. The next start finds them.
func (t *Tracker) Drain(ctx context.Context) error {
	var failed error
	for ctx.Err() == nil {
		ids := t.connector.pinned.left(drainAtOnce)
		if len(ids) == 0 {
			return nil
		}
		var unpinning sync.WaitGroup
		var mu sync.Mutex
		for _, id := range ids {
			unpinning.Go(func() {
				if err := t.connector.Unpin(ctx, api.NewCid(id)); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
		unpinning.Wait()
		if failed != nil {
			break // the node is away, or may not unpin
		}
	}
	if failed == nil {
		failed = context.Cause(ctx)
	}
	if n := t.connector.pinned.waiting(); n > 0 {
		return fmt.Errorf("%d pins were not removed from the IPFS node, the next start does it: %w", n, failed)
	}
	return nil
}
