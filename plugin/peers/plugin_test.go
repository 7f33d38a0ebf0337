package peers

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

func listening(t *testing.T) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func exchange(t *testing.T, h host.Host, has ...blocks.Block) *bitswap.Bitswap {
	store := blockstore.NewBlockstore(dssync.MutexWrap(ds.NewMapDatastore()))
	require.NoError(t, store.PutMany(t.Context(), has))
	bs := bitswap.New(context.WithoutCancel(t.Context()), bsnet.NewFromIpfsHost(h), nil, store)
	t.Cleanup(func() { _ = bs.Close() })
	return bs
}

// A node whose peers connect before it has a bitswap gets their blocks all the same.
func TestAPeerThatIsEarlyIsAsked(t *testing.T) {
	b := blocks.NewBlock([]byte("a block that the other has"))
	for _, again := range []bool{false, true} { // the first is upstream's fault: when that is gone, so may this package be
		node, other := listening(t), listening(t)
		exchange(t, other, b)
		told := make(chan struct{}) // everybody is who is to be told of the connection
		var once sync.Once
		node.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { once.Do(func() { close(told) }) }})
		require.NoError(t, other.Connect(t.Context(), peer.AddrInfo{ID: node.ID(), Addrs: node.Addrs()}))
		<-told
		late := exchange(t, node)
		patience := 2 * time.Second
		if again {
			reconnect(parts{Host: node, Bitswap: late})
			patience = time.Minute
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := late.GetBlock(ctx, b.Cid())
		cancel()
		if !again {
			require.Error(t, err, "bitswap sees early peers now: this package has done its work")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, b.RawData(), got.RawData())
	}
}

func TestANodeThatIsOfflineHasNoPeers(t *testing.T) { reconnect(parts{}) }
