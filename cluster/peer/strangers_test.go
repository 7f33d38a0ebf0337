package peer

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

func newHost(t *testing.T) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func TestStrangersAreCutOff(t *testing.T) {
	h, friend, stranger := newHost(t), newHost(t), newHost(t)
	expelStrangers(h, []peer.ID{friend.ID()})
	info := peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
	require.NoError(t, friend.Connect(context.Background(), info))
	closed := make(chan struct{}, 1)
	stranger.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { closed <- struct{}{} }})
	_ = stranger.Connect(context.Background(), info) // may fail already
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("the stranger is still connected")
	}
	require.Equal(t, network.Connected, h.Network().Connectedness(friend.ID()))
	require.NotEqual(t, network.Connected, h.Network().Connectedness(stranger.ID()))
}

func TestAPeerIsFoundWhenItComesUpAndAgainAfterItWasAway(t *testing.T) {
	h, other := newHost(t), newHost(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := &connection{host: h, peer: settings.Peer{Name: "other", ID: other.ID(), Addr: other.Addrs()[0]}}
		c.keep(ctx)
	}()
	connected := func() bool { return h.Network().Connectedness(other.ID()) == network.Connected }
	require.Eventually(t, connected, time.Minute, time.Millisecond)
	require.NoError(t, h.Network().ClosePeer(other.ID()))
	require.Eventually(t, connected, time.Minute, time.Millisecond)
	cancel()
	<-done
}
