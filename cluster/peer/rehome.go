package peer

import (
	"context"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/commit"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/rehome"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// mover is the cluster as package rehome sees it.
type mover struct {
	*ipfscluster.Cluster
	consensus *commit.Consensus
	monitor   ipfscluster.PeerMonitor
	allocator *spread.Allocator
}

// There implements rehome.Cluster: who has all metrics that the allocator
// needs. A peer whose IPFS node is dead has no free space.
func (m mover) There(ctx context.Context) []spread.Candidate {
	set := api.MetricsSet{}
	for _, name := range m.allocator.Metrics() {
		for _, one := range m.monitor.LatestMetrics(ctx, name) {
			if m.consensus.IsTrustedPeer(ctx, one.Peer) {
				set[name] = append(set[name], one)
			}
		}
	}
	return m.allocator.Candidates(set)
}

// Pins implements rehome.Cluster.
func (m mover) Pins(ctx context.Context, out chan<- api.Pin) error {
	state, err := m.consensus.State(ctx)
	if err != nil {
		close(out)
		return err
	}
	return state.List(ctx, out)
}

// LogPin implements rehome.Cluster.
func (m mover) LogPin(ctx context.Context, pin api.Pin) error { return m.consensus.LogPin(ctx, pin) }

// run moves pins from when the pinset is loaded until the context ends.
func (m mover) run(ctx context.Context, s *settings.Settings, self peer.ID) {
	select {
	case <-ctx.Done():
		return
	case <-m.Ready():
	}
	o := rehome.Options{Delay: s.ReallocationDelay, Rate: s.ReallocationRate, Self: self}
	for _, p := range s.Peers {
		o.Peers = append(o.Peers, p.ID)
	}
	rehome.Run(ctx, m, o)
}
