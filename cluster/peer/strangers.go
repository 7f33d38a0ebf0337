package peer

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// expelStrangers closes every connection of a peer that is not on the list.
//
// The cluster's secret only keeps outsiders off. Whoever knows it can connect,
// and ipfs-cluster then counts that peer as a member: it shows up among the
// peers, is sent the blocks of adds, and receives the pinset, although it
// cannot change it. When the list of peers is known, nobody else has any
// business here.
func expelStrangers(h host.Host, known []peer.ID) {
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if slices.Contains(known, c.RemotePeer()) {
				return
			}
			logger.Warnf("closed a connection of %s from %s: it knows CLUSTER_SECRET, but is not among CLUSTER_PEERS", c.RemotePeer(), c.RemoteMultiaddr())
			go func() { _ = c.Close() }() // a notifiee must not block; a connection that is gone is what we want
		},
	})
}
