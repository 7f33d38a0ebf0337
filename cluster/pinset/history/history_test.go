package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hsanjuan/ipfs-lite"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// chain makes n changes, each after the one before it; the newest is the last.
func chain(t require.TestingT, n, size int) []*merkledag.ProtoNode {
	var nodes []*merkledag.ProtoNode
	for i := range n {
		node := merkledag.NodeWithData(append([]byte(fmt.Sprintf("change %d", i)), make([]byte, size)...))
		require.NoError(t, node.SetCidBuilder(merkledag.V1CidPrefix()))
		if i > 0 {
			require.NoError(t, node.AddRawLink("", &ipld.Link{Cid: nodes[i-1].Cid()}))
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func memory(ctx context.Context, t require.TestingT, nodes ...*merkledag.ProtoNode) blockstore.Blockstore {
	store := blockstore.NewBlockstore(dssync.MutexWrap(ds.NewMapDatastore()))
	for _, n := range nodes {
		require.NoError(t, store.Put(ctx, n))
	}
	return store
}

// member is a peer as the consensus makes it.
type member struct {
	host.Host
	*ipfslite.Peer
	asked atomic.Int64
}

func (m *member) getter(trusted func(context.Context, peer.ID) bool) *Getter {
	g := New(m.Peer, m.Host, trusted)
	inner := g.ask
	g.ask = func(ctx context.Context, id peer.ID, want []cid.Cid, most int) ([]blocks.Block, error) {
		m.asked.Add(1)
		return inner(ctx, id, want, most)
	}
	return g
}

func everybody(context.Context, peer.ID) bool { return true }

// members are peers that are connected, on a network in memory.
func members(t *testing.T, n int) []*member {
	net := mocknet.New()
	t.Cleanup(func() { _ = net.Close() })
	var all []*member
	for range n {
		h, err := net.GenPeer()
		require.NoError(t, err)
		p, err := ipfslite.New(t.Context(), dssync.MutexWrap(ds.NewMapDatastore()), nil, h, nil, &ipfslite.Config{ReprovideInterval: -1})
		require.NoError(t, err)
		all = append(all, &member{Host: h, Peer: p})
	}
	require.NoError(t, net.LinkAll())
	require.NoError(t, net.ConnectAllButSelf())
	return all
}

// fetch walks a history back from a change, as the consensus does.
func fetch(ctx context.Context, g ipld.NodeGetter, newest cid.Cid) (n int, err error) {
	for c := newest; ; n++ {
		var node ipld.Node
		for o := range g.GetMany(ctx, []cid.Cid{c}) {
			if o.Err != nil {
				return n, o.Err
			}
			node = o.Node
		}
		if node == nil {
			return n, ctx.Err()
		}
		if len(node.Links()) == 0 {
			return n + 1, nil
		}
		c = node.Links()[0].Cid
	}
}

func TestAHistoryTakesFewRequests(t *testing.T) {
	all := members(t, 2)
	nodes := chain(t, 5000, 100)
	for _, n := range nodes {
		require.NoError(t, all[0].Add(t.Context(), n))
	}
	Serve(t.Context(), all[0].Host, all[0].BlockStore(), everybody)
	g := all[1].getter(everybody)
	n, err := fetch(t.Context(), g.Session(t.Context()), nodes[4999].Cid())
	require.NoError(t, err)
	require.Equal(t, len(nodes), n)
	// 1, 4, 16 and 64, and what is left by 256.
	require.EqualValues(t, 24, all[1].asked.Load())
	require.Empty(t, g.ahead.young, "what was handed on is not kept in memory")
	require.Empty(t, g.ahead.old)

	n, err = fetch(t.Context(), g.Session(t.Context()), nodes[4999].Cid())
	require.NoError(t, err)
	require.Equal(t, len(nodes), n)
	require.EqualValues(t, 24, all[1].asked.Load(), "what is in the store is not asked for")
}

func TestAnAnnouncedChangeComesAlone(t *testing.T) {
	all := members(t, 2)
	nodes := chain(t, 50, 100)
	for _, n := range nodes {
		require.NoError(t, all[0].Add(t.Context(), n))
	}
	Serve(t.Context(), all[0].Host, all[0].BlockStore(), everybody)
	g := all[1].getter(everybody)
	_, err := g.Get(t.Context(), nodes[49].Cid())
	require.NoError(t, err)
	require.Empty(t, g.ahead.young)
	here, err := all[1].HasBlock(t.Context(), nodes[48].Cid())
	require.NoError(t, err)
	require.False(t, here)
}

func TestWhatOnePeerLacksComesFromAnother(t *testing.T) {
	all := members(t, 3)
	nodes := chain(t, 40, 100)
	for i, n := range nodes {
		require.NoError(t, all[i/20].Add(t.Context(), n))
	}
	for _, m := range all[:2] {
		Serve(t.Context(), m.Host, m.BlockStore(), everybody)
	}
	n, err := fetch(t.Context(), all[2].getter(everybody), nodes[39].Cid())
	require.NoError(t, err)
	require.Equal(t, len(nodes), n)
}

// ipfs-cluster's own peers do not speak the protocol.
func TestBitswapBringsWhatNobodyGives(t *testing.T) {
	all := members(t, 2)
	nodes := chain(t, 10, 100)
	for _, n := range nodes {
		require.NoError(t, all[0].Add(t.Context(), n))
	}
	n, err := fetch(t.Context(), all[1].getter(everybody), nodes[9].Cid())
	require.NoError(t, err)
	require.Equal(t, len(nodes), n)
}

// A change that gets to a peer after it was asked for comes all the same, by
// either way: here the one that bitswap cannot see.
func TestAChangeThatComesLateIsFound(t *testing.T) {
	all := members(t, 2)
	late := chain(t, 1, 100)[0]
	hidden := memory(t.Context(), t)
	Serve(t.Context(), all[0].Host, hidden, everybody)
	g := all[1].getter(everybody)
	got := make(chan error, 1)
	go func() {
		_, err := g.Get(t.Context(), late.Cid())
		got <- err
	}()
	require.Eventually(t, func() bool { return all[1].asked.Load() > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, hidden.Put(t.Context(), late))
	require.NoError(t, <-got)
}

// What comes this way is handed on to peers that wait for it with bitswap.
func TestAPeerThatWaitsIsTold(t *testing.T) {
	all := members(t, 3)
	late := chain(t, 1, 100)[0]
	hidden := memory(t.Context(), t)
	Serve(t.Context(), all[0].Host, hidden, everybody)
	got := make(chan error, 1)
	go func() {
		_, err := all[2].Peer.Get(t.Context(), late.Cid())
		got <- err
	}()
	require.NoError(t, hidden.Put(t.Context(), late))
	_, err := all[1].getter(everybody).Get(t.Context(), late.Cid())
	require.NoError(t, err)
	require.NoError(t, <-got)
}

func TestStrangersGetNothingAndAreNotAsked(t *testing.T) {
	all := members(t, 2)
	nodes := chain(t, 1, 100)
	nobody := func(context.Context, peer.ID) bool { return false }
	Serve(t.Context(), all[0].Host, memory(t.Context(), t, nodes...), nobody)
	came, err := ask(t.Context(), all[1].Host, all[0].ID(), []cid.Cid{nodes[0].Cid()}, 1)
	require.Error(t, err)
	require.Empty(t, came)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = all[1].getter(nobody).Get(ctx, nodes[0].Cid())
	require.Error(t, err)
	require.Zero(t, all[1].asked.Load())
}

func TestAnAnswerIsBounded(t *testing.T) {
	all := members(t, 2)
	small, big := chain(t, 2*mostChanges, 10), chain(t, 10, 1<<18)
	Serve(t.Context(), all[0].Host, memory(t.Context(), t, slices.Concat(small, big)...), everybody)
	count := func(newest cid.Cid, most int) int {
		came, err := ask(t.Context(), all[1].Host, all[0].ID(), []cid.Cid{newest}, most)
		require.NoError(t, err)
		return len(came)
	}
	require.Equal(t, mostChanges, count(small[len(small)-1].Cid(), 1<<30))
	require.Equal(t, 3, count(big[9].Cid(), mostChanges), "3 of 256 KiB and a little are below 1 MiB")
	require.Zero(t, count(small[0].Cid(), -1))
	require.Equal(t, 1, count(small[0].Cid(), mostChanges))
}

func TestDamagedBlocksAreRefused(t *testing.T) {
	node := chain(t, 1, 10)[0]
	good := append(node.Cid().Bytes(), node.RawData()...)
	b, err := section(good)
	require.NoError(t, err)
	require.Equal(t, node.Cid(), b.Cid())
	good[len(good)-1] ^= 1
	_, err = section(good)
	require.ErrorContains(t, err, "came damaged")
	_, err = section(nil)
	require.Error(t, err)
}

// A peer that fails is left alone while there are others.
func TestAPeerThatFailsIsLeftAlone(t *testing.T) {
	nodes := chain(t, 3, 10)
	p := members(t, 1)[0]
	var mu sync.Mutex
	var asked []peer.ID
	g := newGetter(p.Peer,
		func(context.Context) []peer.ID { return []peer.ID{"paused", "well"} },
		func(_ context.Context, id peer.ID, want []cid.Cid, _ int) ([]blocks.Block, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, id)
			if id == "paused" {
				return nil, errors.New("no answer")
			}
			return []blocks.Block{nodes[slices.IndexFunc(nodes, func(n *merkledag.ProtoNode) bool { return n.Cid() == want[0] })]}, nil
		})
	for _, n := range nodes {
		_, err := g.Get(t.Context(), n.Cid())
		require.NoError(t, err)
	}
	require.Equal(t, []peer.ID{"paused", "well", "well", "well"}, asked)
}

// Whatever is put and taken: a block is there until it is taken or two
// generations old, and the size is that of what is young.
func TestGenerations(t *testing.T) {
	nodes := chain(t, 8, 1<<20)
	rapid.Check(t, func(t *rapid.T) {
		var m generations
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "block")]
			if rapid.Bool().Draw(t, "put") {
				m.put(n)
				require.True(t, m.has(n.Cid()))
			} else {
				had := m.has(n.Cid())
				require.Equal(t, had, m.take(n.Cid()) != nil)
				require.False(t, m.has(n.Cid()))
			}
			size := 0
			for _, b := range m.young {
				size += len(b.RawData()) + besideBytes
			}
			require.Equal(t, size, m.size)
			require.LessOrEqual(t, size, aheadBytes+2<<20)
		}
	})
}
