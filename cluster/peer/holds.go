package peer

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	pinset "github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
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

// Names of metrics.
const (
	StalledMetric = "cluster_aws_pins_stalled"
	WaitingMetric = "cluster_aws_pins_backing_off"
	FailedMetric  = "cluster_aws_pins_failed"
)

var (
	standingDesc = prometheus.NewDesc(StalledMetric, "Pins that are being tried and got no new block for a second or more.", nil, nil)
	waitingDesc  = prometheus.NewDesc(WaitingMetric, "Pins whose content was not found and that wait for their next attempt.", nil, nil)
	failedDesc   = prometheus.NewDesc(FailedMetric, "Pins in error for another reason than that their content was not found, when it was last looked (CLUSTER_PINRECOVERINTERVAL).", nil, nil)
)

// Describe implements [prometheus.Collector].
func (p *Peer) Describe(ch chan<- *prometheus.Desc) {
	ch <- standingDesc
	ch <- waitingDesc
	ch <- failedDesc
}

// Collect implements [prometheus.Collector].
func (p *Peer) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(standingDesc, prometheus.GaugeValue, float64(p.pins.Standing()))
	ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(p.pins.Waiting()))
	ch <- prometheus.MustNewConstMetric(failedDesc, prometheus.GaugeValue, float64(p.pins.Failed()))
}
