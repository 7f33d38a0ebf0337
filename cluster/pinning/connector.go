package pinning

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.opencensus.io/stats"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

var logger = logging.Logger("cluster-aws")

const (
	// lookLimit is how many blocks are looked at to name the first one that is missing, and
	// lookTimeout for how long. What lies behind that is not named.
	lookLimit   = 5000
	lookTimeout = 10 * time.Second

	// maxOrigins is how many of a pin's origins the node is connected to, as in ipfs-cluster.
	maxOrigins = 10
)

// Options are what the connector takes from ipfs-cluster's settings.
type Options struct {
	Slots      int           // CLUSTER_STATELESS_CONCURRENTPINS
	Stall      time.Duration // CLUSTER_IPFSHTTP_PINTIMEOUT
	GCTimeout  time.Duration // CLUSTER_IPFSHTTP_REPOGCTIMEOUT
	NeverUnpin bool          // CLUSTER_IPFSHTTP_UNPINDISABLE
}

// Connector is ipfs-cluster's connection to its IPFS node, with pins that are tried as
// the package says, and collections of garbage whose errors arrive. Its methods are safe
// for concurrent use.
type Connector struct {
	ipfscluster.IPFSConnector
	node   *kubo.Client
	opts   Options
	slots  *slots
	absent *absences
	pinned *pinned
	others atomic.Int64 // pins that failed for another reason
}

// Connect returns inner with its Pin, Unpin and RepoGC replaced. The store keeps since when
// CIDs are not found, and what the cluster has pinned on the node; lazy is the same store with
// writes that are durable later.
func Connect(ctx context.Context, inner ipfscluster.IPFSConnector, node *kubo.Client, store, lazy ds.Datastore, opts Options) (*Connector, error) {
	absent, err := loadAbsences(ctx, store)
	if err != nil {
		return nil, err
	}
	return &Connector{IPFSConnector: inner, node: node, opts: opts, slots: newSlots(opts.Slots), absent: absent, pinned: newPinned(store, lazy)}, nil
}

// Workers is how many pins the tracker has to hand over at a time, so that the
// connector can choose.
func (c *Connector) Workers() int { return c.slots.workers() }

// Standing is how many pins are being tried without a new block for a second or more;
// Waiting how many wait for their next attempt; Leaving how many wait to be unpinned.
func (c *Connector) Standing() int { return c.slots.stalled() }
func (c *Connector) Waiting() int  { return c.absent.count() }
func (c *Connector) Leaving() int  { return c.pinned.waiting() }

// Failed is how many pins were in error for another reason when it was last looked.
func (c *Connector) Failed() int { return int(c.others.Load()) }

// Pin makes one attempt to pin on the node. If it is not time for one, the error is
// that of the last one.
func (c *Connector) Pin(ctx context.Context, pin api.Pin) error {
	id := pin.Cid.Cid
	status, err := c.PinLsCid(ctx, pin)
	if err != nil {
		return err
	}
	// Before the node has the pin: it must have none of ours that we do not know of. One
	// that it has already is that of an add, or of a former release.
	if err := c.pinned.note(ctx, id); err != nil {
		return err
	}
	if status.IsPinned(pin.MaxDepth) {
		c.absent.forget(ctx, id)
		return nil
	}
	if err := c.absent.waiting(id); err != nil {
		return err
	}
	here, err := c.node.Has(ctx, id)
	if err != nil {
		return err
	}
	as := young
	if here {
		as = moving
	}
	trying, a, err := c.slots.enter(ctx, as)
	if err != nil {
		return err
	}
	stall := c.absent.stall(id, c.opts.Stall)
	began := time.Now()
	c.meet(trying, pin.Origins)
	stats.Record(context.Background(), observations.PinsPinAdd.M(1))
	err = c.node.Pin(trying, kubo.PinRequest{Cid: id, Direct: pin.MaxDepth == 0, Stall: stall, Progress: func(int) { c.slots.moved(a) }})
	c.slots.leave(a)
	if err == nil {
		c.absent.forget(ctx, id)
		return nil
	}
	stats.Record(context.Background(), observations.PinsPinAddError.M(1))
	if ctx.Err() != nil || !absentError(err) {
		return err
	}
	return c.failed(ctx, id, err, time.Since(began))
}

// Unpin removes a pin from the node. It is no error if there is none. The record stays until
// the next comparison: another attempt to pin the CID may have begun.
func (c *Connector) Unpin(ctx context.Context, id api.Cid) error {
	if err := c.IPFSConnector.Unpin(ctx, id); err != nil {
		return err
	}
	c.pinned.stays(id.Cid)
	return nil
}

// absentError says whether an attempt failed because blocks were not found.
func absentError(err error) bool {
	var stalled *kubo.StallError
	if errors.As(err, &stalled) || errors.Is(err, errCrowded) {
		return true
	}
	// What nodes say: ours when no block comes, kubo when it is offline or gave up.
	for _, text := range []string{"no new block", "could not find", "not found", "no providers"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// failed looks what is missing, and returns the error for the pin's status.
func (c *Connector) failed(ctx context.Context, id cid.Cid, err error, took time.Duration) error {
	why := err.Error()
	var stalled *kubo.StallError
	if errors.As(err, &stalled) {
		why = stalled.Error()
	} else if errors.Is(err, errCrowded) {
		why = fmt.Sprintf("no new block came in %s, and other pins waited", took.Round(time.Second))
	}
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	missing, locked := cid.Undef, false
	w, looked := c.node.Missing(looking, []cid.Cid{id}, 1, lookLimit)
	switch {
	case len(w.Missing) > 0:
		missing = w.Missing[0]
	case looked == nil && w.Whole:
		locked = true
		why = "the IPFS node did not finish the pin although it has every block: " + why
	}
	return c.absent.failed(ctx, id, why, missing, locked)
}

// meet asks the node to connect to the first origins of a pin, in the background.
func (c *Connector) meet(ctx context.Context, origins []api.Multiaddr) {
	for _, o := range origins[:min(len(origins), maxOrigins)] {
		addr := o.Value()
		if _, last := peer.SplitAddr(addr); last == "" {
			continue
		}
		go func() {
			if err := c.node.Connect(ctx, []ma.Multiaddr{addr}); err != nil {
				logger.Debugf("connect to an origin: %s", err)
			}
		}()
	}
}

// RepoGC collects garbage on the node.
func (c *Connector) RepoGC(ctx context.Context) (api.RepoGC, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.GCTimeout)
	defer cancel()
	out := api.RepoGC{Keys: []api.IPFSRepoGC{}}
	err := c.node.GC(ctx, func(one kubo.Collected) {
		if one.Key.Defined() || one.Error != "" {
			out.Keys = append(out.Keys, api.IPFSRepoGC{Key: api.NewCid(one.Key), Error: one.Error})
		}
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out, err
}
