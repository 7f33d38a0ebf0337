package pins

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/boxo/pinning/pinner/dspinner"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	format "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

// here is a node: a store, what can be had from peers, and a pinner.
type here struct {
	*Pinner
	store blockstore.Blockstore
	peers peers
	base  pin.Pinner

	mu      sync.Mutex
	touched map[touched.Digest]bool
	early   []cid.Cid // looked for before they were touched
}

// peers have blocks; the others are waited for as long as the context lasts.
type peers map[cid.Cid]format.Node

// network is a DAG service that asks peers for what is not in the store.
type network struct {
	format.DAGService
	h *here
}

func (n network) Get(ctx context.Context, c cid.Cid) (format.Node, error) {
	n.h.look(c)
	nd, err := n.DAGService.Get(ctx, c)
	if !format.IsNotFound(err) {
		return nd, err
	}
	if nd, ok := n.h.peers[c]; ok {
		return nd, n.Add(ctx, nd)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func newHere(t *testing.T, stall time.Duration) *here {
	t.Helper()
	h := &here{peers: peers{}, touched: map[touched.Digest]bool{}}
	ds := dssync.MutexWrap(datastore.NewMapDatastore())
	h.store = blockstore.NewBlockstore(ds)
	local := merkledag.NewDAGService(blockservice.New(h.store, offline.Exchange(h.store)))
	base, err := dspinner.New(t.Context(), ds, local)
	require.NoError(t, err)
	h.base = base
	h.Pinner = New(base, Options{
		DAG: network{local, h}, Local: local, Stall: stall,
		Has: func(ctx context.Context, c cid.Cid) (bool, error) {
			h.look(c)
			return h.store.Has(ctx, c)
		},
		Touch: func(_ context.Context, keys ...touched.Digest) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, k := range keys {
				h.touched[k] = true
			}
			return nil
		},
	})
	return h
}

func (h *here) look(c cid.Cid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.touched[touched.Key(c.Hash())] {
		h.early = append(h.early, c)
	}
}

// tree is a root with two nodes of three leaves each; the root comes last.
func tree(t *testing.T, seed byte) []format.Node {
	t.Helper()
	root := new(merkledag.ProtoNode)
	var all []format.Node
	for i := range byte(2) {
		n := new(merkledag.ProtoNode)
		for j := range byte(3) {
			leaf := merkledag.NewRawNode([]byte{seed, i, j})
			require.NoError(t, n.AddNodeLink("", leaf))
			all = append(all, leaf)
		}
		require.NoError(t, root.AddNodeLink("", n))
		all = append(all, n)
	}
	return append(all, root)
}

func (h *here) put(t *testing.T, nodes ...format.Node) {
	t.Helper()
	for _, n := range nodes {
		b, err := blocks.NewBlockWithCid(n.RawData(), n.Cid())
		require.NoError(t, err)
		require.NoError(t, h.store.Put(t.Context(), b))
	}
}

func (h *here) pinnedAs(t *testing.T, c cid.Cid) (names []string) {
	t.Helper()
	for p := range h.base.RecursiveKeys(t.Context(), true) {
		require.NoError(t, p.Err)
		if p.Pin.Key == c {
			names = append(names, p.Pin.Name)
		}
	}
	return names
}

func TestAPinFetchesWhatIsMissing(t *testing.T) {
	h := newHere(t, time.Minute)
	all := tree(t, 1)
	root := all[len(all)-1]
	for i, n := range all {
		if i%2 == 0 || n == root {
			h.put(t, n)
			continue
		}
		h.peers[n.Cid()] = n
	}
	// A raw leaf that is missing is fetched as any other block.
	require.NoError(t, h.Pin(t.Context(), root, true, "mine"))
	require.Equal(t, []string{"mine"}, h.pinnedAs(t, root.Cid()))
	for _, n := range all {
		has, err := h.store.Has(t.Context(), n.Cid())
		require.NoError(t, err)
		require.True(t, has, n.Cid())
		require.True(t, h.touched[touched.Key(n.Cid().Hash())], n.Cid())
	}
	require.Empty(t, h.early, "looked for before they were touched")
}

func TestAPinThatIsThereStays(t *testing.T) {
	h := newHere(t, 0)
	all := tree(t, 2)
	root := all[len(all)-1]
	h.put(t, all...)
	require.NoError(t, h.Pin(t.Context(), root, true, "a"))
	require.NoError(t, h.Pin(t.Context(), root, true, "a"))
	require.NoError(t, h.Pin(t.Context(), root, true, "b"), "another name")
	require.Equal(t, []string{"b"}, h.pinnedAs(t, root.Cid()))

	// A pin that fails leaves the one that was there.
	require.NoError(t, h.store.DeleteBlock(t.Context(), all[0].Cid()))
	require.Error(t, h.Pin(WithLocal(t.Context()), root, true, "c"))
	require.Equal(t, []string{"b"}, h.pinnedAs(t, root.Cid()))
}

func TestALocalPinNamesWhatIsMissing(t *testing.T) {
	h := newHere(t, time.Minute)
	all := tree(t, 3)
	root := all[len(all)-1]
	h.put(t, all[1:]...)
	var e *IncompleteError
	require.ErrorAs(t, h.Fetch(WithLocal(t.Context()), root.Cid()), &e)
	require.Equal(t, []cid.Cid{all[0].Cid()}, e.Missing)
	require.Equal(t, len(all)-1, e.Blocks)
	require.NotContains(t, e.Error(), "no new block for")
	require.Empty(t, h.pinnedAs(t, root.Cid()))
}

func TestAPinWithoutProgressFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t, time.Minute)
		all := tree(t, 4)
		root := all[len(all)-1]
		h.put(t, all[:len(all)-1]...)
		gone := []cid.Cid{all[1].Cid(), all[5].Cid()}
		for _, c := range gone {
			require.NoError(t, h.store.DeleteBlock(t.Context(), c))
		}
		h.peers[root.Cid()] = root
		began := time.Now()
		var e *IncompleteError
		require.ErrorAs(t, h.Fetch(t.Context(), root.Cid()), &e)
		require.Equal(t, time.Minute, time.Since(began))
		require.ElementsMatch(t, gone, e.Missing)
		require.Contains(t, e.Error(), "no new block for 1m0s; first missing ")

		// The caller's own end is no stall.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, h.Fetch(ctx, root.Cid()), context.DeadlineExceeded)

		// Nor is the end of the node.
		time.AfterFunc(time.Second, h.Stop)
		require.ErrorIs(t, h.Fetch(t.Context(), root.Cid()), pin.ErrClosed)
	})
}

func TestAnUpdateKeepsTheName(t *testing.T) {
	h := newHere(t, 0)
	one, two := tree(t, 5), tree(t, 6)
	from, to := one[len(one)-1], two[len(two)-1]
	h.put(t, slices.Concat(one, two)...)
	require.Error(t, h.Update(t.Context(), from.Cid(), to.Cid(), true), "not pinned")
	require.NoError(t, h.Pin(t.Context(), from, true, "site"))
	require.NoError(t, h.Update(t.Context(), from.Cid(), from.Cid(), true))
	require.NoError(t, h.Update(t.Context(), from.Cid(), to.Cid(), true))
	require.Empty(t, h.pinnedAs(t, from.Cid()))
	require.Equal(t, []string{"site"}, h.pinnedAs(t, to.Cid()))
	require.NoError(t, h.Pin(t.Context(), from, true, "old"))
	require.Error(t, h.Update(t.Context(), from.Cid(), to.Cid(), true), "both are pinned")
	require.Equal(t, []string{"old"}, h.pinnedAs(t, from.Cid()))
}

func TestAStoreThatFailsEndsAPin(t *testing.T) {
	h := newHere(t, 0)
	all := tree(t, 7)
	root := all[len(all)-1]
	h.put(t, all...)
	broken := errors.New("503 Slow Down")
	h.o.Has = func(context.Context, cid.Cid) (bool, error) { return false, broken }
	require.ErrorIs(t, h.Pin(t.Context(), root, true, ""), broken)
	require.Empty(t, h.pinnedAs(t, root.Cid()))
}
