package peer

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	pinset "github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinning"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/commit"
)

const (
	// sweepInterval is how often pins are looked for whose add never ended. The node looks
	// through the names of its pins: a second for 100,000.
	sweepInterval = time.Hour

	// holdAge is how old such a pin must be when all peers are there and this one has what
	// they have: the pin of an add that was answered arrives within seconds. holdAgeAlone is
	// for when a peer is away, that may have answered it and not have said so to any other.
	holdAge      = time.Hour
	holdAgeAlone = 24 * time.Hour

	// sweepSoon is how soon after the start it is looked first, and how soon again if the node
	// or the pinset was not there.
	sweepSoon = 10 * time.Second

	// compareInterval is how often the node's pins are compared with the pinset. The node
	// lists them, and each is looked up: some seconds for 100,000. compareAgain is how soon it is
	// looked again when some were to be unpinned.
	compareInterval = time.Hour
	compareAgain    = time.Minute
)

// keeps returns a function that says whether the pinset says that a peer keeps a CID.
func keeps(consensus *commit.Consensus, self peer.ID) func(context.Context, cid.Cid) (bool, error) {
	return func(ctx context.Context, id cid.Cid) (bool, error) {
		state, err := consensus.State(ctx)
		if err != nil {
			return false, err
		}
		pin, err := state.Get(ctx, api.NewCid(id))
		if errors.Is(err, pinset.ErrNotFound) {
			return false, nil
		}
		return err == nil && !pin.IsRemotePin(self), err
	}
}

// ready waits until the pinset is loaded, or the context ends.
func (w *watcher) ready(ctx context.Context) bool {
	select {
	case <-w.cluster.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

// sweepHolds removes the pins of adds whose end nobody heard of, at the start and then
// from time to time, until the context ends.
func (w *watcher) sweepHolds(ctx context.Context, holds *add.Holds, h *health.Health) {
	if !w.ready(ctx) {
		return
	}
	wait := sweepSoon
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = sweepSoon
		age, ok := sweepAge(h.Report(), len(w.wanted) > 0)
		if !ok {
			continue
		}
		removed, err := holds.Sweep(ctx, age)
		switch {
		case err == nil:
			wait = sweepInterval
		case ctx.Err() == nil:
			logger.Warnf("pins of adds that were broken off may be left on the IPFS node, will look again: %s", err)
		}
		if removed > 0 {
			logger.Infof("removed %d pins of adds that were broken off from the IPFS node", removed)
		}
	}
}

// sweepAge is how old a pin must be to be swept. It is too early to say (not ok) while the
// node does not answer or this peer lacks changes of the pinset.
func sweepAge(r health.Report, listed bool) (age time.Duration, ok bool) {
	age = holdAgeAlone
	for _, c := range r.Checks {
		switch {
		case c.Name == "peers" && listed && len(c.Missing) == 0:
			age = holdAge
		case c.Name != "peers" && !c.OK:
			return 0, false
		}
	}
	return age, len(r.Checks) > 0
}

// reconcile compares the node's pins with the pinset, at the start and then from time to
// time, until the context ends.
func (w *watcher) reconcile(ctx context.Context, t *pinning.Tracker, h *health.Health, last *atomic.Pointer[pinning.Difference]) {
	if !w.ready(ctx) {
		return
	}
	wait := sweepSoon
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = sweepSoon
		if _, ok := sweepAge(h.Report(), len(w.wanted) > 0); !ok {
			continue // what the other peers have decided meanwhile is not known yet
		}
		d, err := t.Reconcile(ctx)
		if err != nil {
			if ctx.Err() == nil {
				logger.Warnf("the IPFS node's pins were not compared with the pinset, will try again: %s", err)
			}
			continue
		}
		last.Store(&d)
		wait = compareInterval
		if d.Surplus > 0 {
			logger.Infof("%d pins of the cluster are on the IPFS node and not in the pinset any more; they are removed", d.Surplus)
			wait = compareAgain
		}
	}
}

// Names of metrics.
const (
	StalledMetric = "cluster_aws_pins_stalled"
	WaitingMetric = "cluster_aws_pins_backing_off"
	FailedMetric  = "cluster_aws_pins_failed"
)

var (
	standingDesc = prometheus.NewDesc(StalledMetric, "Pins that are being tried and got no new block for a second or more.", nil, nil)
	waitingDesc  = prometheus.NewDesc(WaitingMetric, "Pins whose content was not found and that wait for their next attempt.", nil, nil)
	leavingDesc  = prometheus.NewDesc("cluster_aws_unpins_waiting", "Pins that are removed from the pinset and not yet from this peer's IPFS node.", nil, nil)
	surplusDesc  = prometheus.NewDesc("cluster_aws_node_pins_surplus", "Pins that the cluster made on this peer's IPFS node and that were not in the pinset when both were compared last.", nil, nil)
	lackingDesc  = prometheus.NewDesc("cluster_aws_node_pins_lacking", "Pins that this peer keeps and that its IPFS node did not have when both were compared last.", nil, nil)
	foreignDesc  = prometheus.NewDesc("cluster_aws_node_pins_foreign", "Pins on this peer's IPFS node that the cluster did not make, when both were compared last.", nil, nil)
	failedDesc   = prometheus.NewDesc(FailedMetric, "Pins in error for another reason than that their content was not found, when it was last looked (CLUSTER_PINRECOVERINTERVAL).", nil, nil)
)

// Describe implements [prometheus.Collector].
func (p *Peer) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{standingDesc, waitingDesc, leavingDesc, surplusDesc, lackingDesc, foreignDesc, failedDesc} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (p *Peer) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	gauge(standingDesc, p.pins.Standing())
	gauge(waitingDesc, p.pins.Waiting())
	gauge(failedDesc, p.pins.Failed())
	gauge(leavingDesc, p.pins.Leaving())
	if d := p.compared.Load(); d != nil {
		gauge(surplusDesc, d.Surplus)
		gauge(lackingDesc, d.Lacking)
		gauge(foreignDesc, d.Foreign)
	}
}
