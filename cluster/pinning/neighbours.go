package pinning

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// HaveProtocol is how a peer asks another one which blocks that one's node has: one JSON
// array of CIDs, answered with one of those that are there.
const HaveProtocol protocol.ID = "/cluster-aws/have/1.0.0"

const (
	// haveTimeout bounds a question: [askMax] requests to a node, 16 at a time.
	haveTimeout = 20 * time.Second

	// haveAtOnce is how many requests one question makes to the node at a time.
	haveAtOnce = 16

	// maxHave bounds a question and an answer, in bytes: askMax CIDs of up to 100 bytes.
	maxHave = 256 << 10
)

// Neighbours are the other peers of the cluster. It is safe for concurrent use.
type Neighbours struct {
	host    host.Host
	node    *kubo.Client
	trusted func(context.Context, peer.ID) bool
}

// NewNeighbours answers questions of trusted peers until the host closes.
func NewNeighbours(h host.Host, node *kubo.Client, trusted func(context.Context, peer.ID) bool) *Neighbours {
	n := &Neighbours{h, node, trusted}
	h.SetStreamHandler(HaveProtocol, n.answer)
	return n
}

func (n *Neighbours) answer(s network.Stream) {
	ctx, cancel := context.WithTimeout(context.Background(), haveTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	var asked []cid.Cid
	if !n.trusted(ctx, s.Conn().RemotePeer()) ||
		json.NewDecoder(io.LimitReader(s, maxHave)).Decode(&asked) != nil || len(asked) > askMax {
		_ = s.Reset() // the peer asks again
		return
	}
	var mu sync.Mutex
	here := []cid.Cid{}
	for group := range slices.Chunk(asked, haveAtOnce) {
		var asking sync.WaitGroup
		for _, id := range group {
			asking.Go(func() {
				if has, err := n.node.Has(ctx, id); has && err == nil { // one that cannot say has it later
					mu.Lock()
					defer mu.Unlock()
					here = append(here, id)
				}
			})
		}
		asking.Wait()
	}
	_ = json.NewEncoder(s).Encode(here)
	_ = s.Close()
}

// Have returns which blocks one of the connected peers has. A peer that does not answer
// has none.
func (n *Neighbours) Have(ctx context.Context, blocks []cid.Cid) []cid.Cid {
	ctx, cancel := context.WithTimeout(ctx, haveTimeout)
	defer cancel()
	var mu sync.Mutex
	var out []cid.Cid
	var asking sync.WaitGroup
	for _, id := range n.host.Network().Peers() {
		if !n.trusted(ctx, id) {
			continue
		}
		asking.Go(func() {
			has, err := n.ask(ctx, id, blocks)
			if err != nil {
				logger.Debugf("peer %s was asked for missing blocks: %s", id, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, has...)
		})
	}
	asking.Wait()
	return out
}

func (n *Neighbours) ask(ctx context.Context, id peer.ID, blocks []cid.Cid) (has []cid.Cid, err error) {
	s, err := n.host.NewStream(network.WithNoDial(ctx, "asking for missing blocks"), id, HaveProtocol)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err = json.NewEncoder(s).Encode(blocks); err == nil {
		err = json.NewDecoder(io.LimitReader(s, maxHave)).Decode(&has)
	}
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	return has, s.Close()
}
