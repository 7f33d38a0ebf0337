package consensus

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	upstream "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/catchup"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// node is a peer with nothing but a consensus.
type node struct {
	*Consensus
	t       *testing.T
	host    host.Host
	store   *store.Store
	changes *frontier.Store
	catchup *catchup.Catchup
	tracked tracker
}

// tracker is told what the node has to see to.
type tracker struct{ calls chan string }

func (t *tracker) Track(_ context.Context, pin api.Pin, _ *struct{}) error {
	t.calls <- "+" + pin.Cid.String()
	return nil
}

func (t *tracker) Untrack(_ context.Context, pin api.Pin, _ *struct{}) error {
	t.calls <- "-" + pin.Cid.String()
	return nil
}

func start(t *testing.T, h host.Host, trusted ...peer.ID) *node {
	n := &node{t: t, host: h, tracked: tracker{make(chan string, 1000)}}
	var err error
	n.store, err = store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	require.NoError(t, err)
	n.changes = frontier.Wrap(n.store.Deferred(), "/c", nil)
	ps, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithFloodPublish(true))
	require.NoError(t, err)
	cfg := &upstream.Config{}
	require.NoError(t, cfg.Default())
	cfg.TrustAll, cfg.TrustedPeers = false, trusted
	cfg.RebroadcastInterval, cfg.RepairInterval = time.Second, time.Second
	n.Consensus, err = New(h, nil, ps, cfg, n.changes)
	require.NoError(t, err)
	server := rpc.NewServer(nil, "/test")
	require.NoError(t, server.RegisterName("PinTracker", &n.tracked))
	n.SetClient(rpc.NewClientWithServer(nil, "/test", server))
	n.catchup = catchup.New(h, n.Consensus, n.changes)
	<-n.Ready(t.Context())
	t.Cleanup(func() {
		require.NoError(t, n.Shutdown(context.Background()))
		require.NoError(t, h.Close())
		require.NoError(t, n.store.Close())
	})
	return n
}

func newHost(t *testing.T) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	require.NoError(t, err)
	return h
}

func pin(t *testing.T, i int) api.Pin {
	mh, err := multihash.Sum([]byte(fmt.Sprint(i)), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return api.PinCid(api.NewCid(cid.NewCidV1(cid.Raw, mh)))
}

func (n *node) pins(from, to int) {
	for i := from; i < to; i++ {
		require.NoError(n.t, n.LogPin(context.Background(), pin(n.t, i)))
	}
}

func (n *node) count() int {
	st, err := n.State(context.Background())
	require.NoError(n.t, err)
	out := make(chan api.Pin, 10)
	go func() { _ = st.List(context.Background(), out) }()
	count := 0
	for range out {
		count++
	}
	return count
}

func (n *node) connect(to *node) {
	require.NoError(n.t, n.host.Connect(context.Background(), peer.AddrInfo{ID: to.host.ID(), Addrs: to.host.Addrs()}))
}

func (n *node) check(others ...*node) catchup.Status {
	var peers []catchup.Peer
	for i, o := range others {
		peers = append(peers, catchup.Peer{Name: fmt.Sprint("peer ", i), ID: o.host.ID(), Connected: true, Tried: true})
	}
	return n.catchup.Check(context.Background(), peers)
}

const patience = 2 * time.Minute

func TestPinsReachTheTrackersOfTrustingPeers(t *testing.T) {
	ah, bh, ch := newHost(t), newHost(t), newHost(t)
	a, b, c := start(t, ah, bh.ID()), start(t, bh, ah.ID()), start(t, ch)
	a.connect(b)
	a.connect(c)
	a.pins(0, 3)
	require.Eventually(t, func() bool { return b.count() == 3 }, patience, 10*time.Millisecond)
	for i := range 3 {
		require.Equal(t, "+"+pin(t, i).Cid.String(), <-a.tracked.calls)
		<-b.tracked.calls // in whatever order they came
	}
	require.NoError(t, b.LogUnpin(t.Context(), pin(t, 1)))
	require.Equal(t, "-"+pin(t, 1).Cid.String(), <-a.tracked.calls)
	require.Equal(t, 2, a.count())
	require.Zero(t, c.count(), "it trusts nobody")
	require.True(t, a.IsTrustedPeer(t.Context(), ah.ID()), "itself")
	require.ErrorIs(t, a.RmPeer(t.Context(), bh.ID()), upstream.ErrRmPeer)
	require.Eventually(t, func() bool { return a.check(b).OK && b.check(a).OK }, patience, 10*time.Millisecond)
}

// A history whose fetching breaks off is forgotten by go-ds-crdt: its newest
// change is applied, so nobody looks behind it again. It takes some 40 s, which
// are the fetch's timeout and what is waited before healing.
func TestAHistoryWhoseFetchingBrokeOffIsHealed(t *testing.T) {
	gate.NotQuick(t, "waits for the fetch's timeout")
	ah, bh := newHost(t), newHost(t)
	a, b := start(t, ah, bh.ID()), start(t, bh, ah.ID())
	a.connect(b)
	a.pins(0, 2)
	require.Eventually(t, func() bool { return b.count() == 2 }, patience, 10*time.Millisecond)
	require.NoError(t, bh.Network().ClosePeer(ah.ID()))
	// Until a has seen it, connecting would find the old connection good enough.
	require.Eventually(t, func() bool { return len(ah.Network().ConnsToPeer(bh.ID())) == 0 }, patience, time.Millisecond)

	// Four more changes, the second of which cannot be had when b comes back.
	a.pins(2, 3)
	a.pins(3, 4)
	gap := a.Heads(t.Context())[0]
	a.pins(4, 6)
	block, err := a.blocks.BlockStore().Get(t.Context(), gap)
	require.NoError(t, err)
	require.NoError(t, a.blocks.BlockStore().DeleteBlock(t.Context(), gap))
	a.connect(b)
	require.Eventually(t, func() bool { return b.count() == 4 && len(b.changes.Missing()) == 1 }, patience, 10*time.Millisecond)
	require.Equal(t, frontier.Named(gap), b.changes.Missing()[0].Change)
	require.False(t, b.check(a).OK)
	require.Eventually(t, func() bool { return b.crdt.IsDirty(t.Context()) }, patience, 10*time.Millisecond, "it gives up")
	// go-ds-crdt's repair walks from its heads, finds nothing, and forgets it.
	require.Eventually(t, func() bool { return !b.crdt.IsDirty(t.Context()) }, patience, 10*time.Millisecond)

	require.NoError(t, a.blocks.BlockStore().Put(t.Context(), block))
	began := time.Now()
	require.Eventually(t, func() bool { return b.check(a).OK }, patience, 100*time.Millisecond)
	t.Logf("healed %.1f s after the change could be had again", time.Since(began).Seconds())
	require.Equal(t, 6, b.count())
	require.Equal(t, a.Heads(t.Context()), b.Heads(t.Context()))
}

// What is announced, and so what is acknowledged, is in the store's log and
// that is synced: a store opened again from the files alone has it.
func TestAnAcknowledgedPinIsDurable(t *testing.T) {
	a := start(t, newHost(t))
	synced := 0
	inner := a.gossip.durable
	a.gossip.durable = func(ctx context.Context) error { synced++; return inner(ctx) }
	a.pins(0, 3)
	require.GreaterOrEqual(t, synced, 3, "a sync for each")
	a.gossip.durable = func(context.Context) error { return fmt.Errorf("disk full") }
	require.ErrorContains(t, a.LogPin(t.Context(), pin(t, 4)), "disk full")
	a.gossip.durable = inner
	_, err := a.store.Has(t.Context(), ds.NewKey("/c/h"))
	require.NoError(t, err)
}
