package peer

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/version"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/commit"
)

// handOverInterval is how often a peer is asked again. It has what was written
// a moment ago, unless it is slow.
const handOverInterval = 200 * time.Millisecond

// handOver waits until all trusted peers that are connected have received what
// this one has written, or the context ends; the error then names the first that
// has not. Without it a pin that was answered just before the end would
// be known to nobody else until this peer is back, with its disk.
func handOver(ctx context.Context, h host.Host, consensus *commit.Consensus) error {
	cid, removed, ok := consensus.Last()
	if !ok {
		return nil
	}
	client := rpc.NewClient(h, version.RPCProtocol)
	for _, id := range h.Network().Peers() {
		if !consensus.IsTrustedPeer(ctx, id) {
			continue
		}
		for !knows(ctx, client, id, cid, removed) {
			if len(h.Network().ConnsToPeer(id)) == 0 {
				break // it is leaving too
			}
			select {
			case <-time.After(handOverInterval):
			case <-ctx.Done():
				return fmt.Errorf("peer %s may not have received the last changes of the pinset: %w", id, context.Cause(ctx))
			}
		}
	}
	return nil
}

// knows says whether a peer's pinset holds a pin, or no longer does.
//
// upstream: rpc-methods
func knows(ctx context.Context, client *rpc.Client, id peer.ID, cid api.Cid, removed bool) bool {
	var info api.PinInfo
	if err := client.CallContext(ctx, id, "PinTracker", "Status", cid, &info); err != nil {
		return false
	}
	const going = api.TrackerStatusUnpinned | api.TrackerStatusUnpinning | api.TrackerStatusUnpinQueued | api.TrackerStatusUnpinError
	return (info.Status&going != 0) == removed
}
