package peer

import (
	"context"
	"slices"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/commit"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
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
	host      host.Host
	short     <-chan struct{} // see [rehome.Options]
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

// Read implements rehome.Cluster.
func (m mover) Read(ctx context.Context, c api.Cid) (api.Pin, placement.Version, error) {
	return m.consensus.Read(ctx, c)
}

// Place implements rehome.Cluster.
func (m mover) Place(ctx context.Context, pin api.Pin, v placement.Version) error {
	return m.consensus.Place(ctx, pin, v)
}

// Former implements rehome.Cluster.
func (m mover) Former(ctx context.Context) []string {
	var names []string
	for _, id := range m.host.Network().Peers() {
		if m.consensus.IsTrustedPeer(ctx, id) && !placement.Understands(m.host, id) {
			names = append(names, id.String())
		}
	}
	slices.Sort(names)
	return names
}

// run moves pins from when the pinset is loaded until the context ends.
func (m mover) run(ctx context.Context, s *settings.Settings, self peer.ID) {
	select {
	case <-ctx.Done():
		return
	case <-m.Ready():
	}
	o := rehome.Options{Delay: s.ReallocationDelay, Rate: s.ReallocationRate, Self: self, Short: m.short}
	for _, p := range s.Peers {
		o.Peers = append(o.Peers, p.ID)
	}
	rehome.Run(ctx, m, o)
}
