package placement

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol is what a peer speaks that reads placements. Nothing is said in it.
const Protocol = protocol.ID("/ipfs-aws/cluster/placements/1")

// Announce makes a host say that its peer reads placements.
func Announce(h host.Host) {
	h.SetStreamHandler(Protocol, func(s network.Stream) { _ = s.Close() })
}

// Understands reports whether a connected peer reads placements. One whose protocols are not
// known yet does not.
func Understands(h host.Host, id peer.ID) bool {
	speaks, err := h.Peerstore().SupportsProtocols(id, Protocol)
	return err == nil && slices.Contains(speaks, Protocol)
}
