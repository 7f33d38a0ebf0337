package pinning

import (
	"context"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// askInterval is how often it is looked which questions to other peers are due.
const askInterval = 10 * time.Second

// askMax is how many blocks one question is about.
const askMax = 1000

// Tracker is ipfs-cluster's tracker of pins. What a client does makes a CID due that
// was not found.
type Tracker struct {
	ipfscluster.PinTracker
	connector *Connector
	self      peer.ID
	state     func(context.Context) (state.ReadOnly, error)
	told      told
	short     chan struct{}
}

// Track returns the tracker with pins that become due.
func (c *Connector) Track(inner ipfscluster.PinTracker, self peer.ID, pinset func(context.Context) (state.ReadOnly, error)) *Tracker {
	return &Tracker{
		PinTracker: inner, connector: c, self: self, state: pinset,
		told: told{at: map[cid.Cid]time.Time{}}, short: make(chan struct{}, 1),
	}
}

// Short is told when a pin comes to the pinset that has fewer peers than copies are to be
// kept.
func (t *Tracker) Short() <-chan struct{} { return t.short }

// Track is told of every pin that is written to the pinset.
func (t *Tracker) Track(ctx context.Context, pin api.Pin) error {
	if pin.IsRemotePin(t.self) {
		t.connector.absent.forget(ctx, pin.Cid.Cid)
	} else {
		t.connector.absent.reset(pin.Cid.Cid)
	}
	if n := len(pin.Allocations); n > 0 && n < pin.ReplicationFactorMax {
		signal(t.short)
	}
	return t.told.hear(pin.Cid.Cid, func() error {
		t.connector.pinned.stays(pin.Cid.Cid)
		return t.PinTracker.Track(ctx, pin)
	})
}

// Untrack is told of every pin that is removed from the pinset.
func (t *Tracker) Untrack(ctx context.Context, id api.Cid) error {
	t.connector.absent.forget(ctx, id.Cid)
	return t.told.hear(id.Cid, func() error {
		if !t.connector.opts.NeverUnpin {
			t.connector.pinned.leaves(id.Cid)
		}
		return t.PinTracker.Untrack(ctx, id)
	})
}

// Recover tries a CID now.
func (t *Tracker) Recover(ctx context.Context, id api.Cid) (api.PinInfo, error) {
	t.connector.absent.reset(id.Cid)
	return t.PinTracker.Recover(ctx, id)
}

// RecoverAll tries everything now that is in error.
func (t *Tracker) RecoverAll(ctx context.Context, out chan<- api.PinInfo) error {
	t.connector.absent.reset()
	return t.PinTracker.RecoverAll(ctx, out)
}

// Run tries what is due, and at every interval what failed for another reason, and asks
// the other peers for blocks that are missing, until the context ends. ask returns those
// that a peer of the cluster has. The pinset must be loaded.
func (t *Tracker) Run(ctx context.Context, interval time.Duration, ask func(context.Context, []cid.Cid) []cid.Cid) {
	round := time.NewTicker(interval)
	defer round.Stop()
	question := time.NewTicker(askInterval)
	defer question.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.connector.absent.wake:
		case <-next.C:
			t.retry(ctx)
		case <-question.C:
			t.ask(ctx, ask)
			t.retry(ctx)
		case <-round.C:
			t.retryOthers(ctx)
		}
		if _, at := t.connector.absent.due(); !at.IsZero() {
			next.Reset(time.Until(at))
		}
	}
}

// retry tries what is due. What is on its way already stays so.
func (t *Tracker) retry(ctx context.Context) {
	ids, _ := t.connector.absent.due()
	for _, id := range ids {
		info, err := t.PinTracker.Recover(ctx, api.NewCid(id))
		if err != nil {
			if ctx.Err() == nil {
				logger.Warnf("%s is due and was not tried: %s", id, err)
			}
			return
		}
		const over = api.TrackerStatusPinned | api.TrackerStatusUnpinned | api.TrackerStatusRemote | api.TrackerStatusSharded
		if info.Status&over != 0 {
			t.connector.absent.forget(ctx, id)
		}
	}
}

// retryOthers tries what is in error and does not wait.
func (t *Tracker) retryOthers(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := make(chan api.PinInfo, 1024)
	listed := make(chan error, 1)
	go func() {
		listed <- t.StatusAll(ctx, api.TrackerStatusError|api.TrackerStatusUnexpectedlyUnpinned, all)
	}()
	others := 0
	for info := range all {
		if t.connector.absent.waiting(info.Cid.Cid) != nil {
			continue
		}
		others++
		if _, err := t.PinTracker.Recover(ctx, info.Cid); err != nil {
			if ctx.Err() == nil {
				logger.Warnf("%s is in error and was not tried again: %s", info.Cid, err)
			}
			return
		}
	}
	switch err := <-listed; {
	case err == nil:
		t.connector.others.Store(int64(others))
	case ctx.Err() == nil:
		logger.Warnf("which pins are in error is not known, will look again: %s", err)
	}
}

// ask asks the other peers, and makes those due whose block one of them has.
func (t *Tracker) ask(ctx context.Context, ask func(context.Context, []cid.Cid) []cid.Cid) {
	waiting := t.connector.absent.question(askMax)
	if len(waiting) == 0 {
		return
	}
	var blocks []cid.Cid
	for id := range waiting {
		blocks = append(blocks, id)
	}
	for _, block := range ask(ctx, blocks) {
		t.connector.absent.reset(waiting[block]...)
	}
}
