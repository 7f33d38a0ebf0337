package placement

import (
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs-cluster/ipfs-cluster/state/dsstate"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

func id(name string) peer.ID {
	mh, _ := multihash.Encode([]byte(name), multihash.IDENTITY) // never fails for this hash
	return peer.ID(mh)
}

func list(t *testing.T, s state.ReadOnly) (pins []api.Pin) {
	out := make(chan api.Pin, 100)
	require.NoError(t, s.List(t.Context(), out))
	for p := range out {
		pins = append(pins, p)
	}
	return pins
}

// What ipfs-cluster reads of a pinset with placements are the records, and nothing else.
func TestPeersOfIPFSClusterLeavePlacementsAlone(t *testing.T) {
	ctx := t.Context()
	blocks := blockstore.NewBlockstore(dssync.MutexWrap(ds.NewMapDatastore()))
	opts := crdt.DefaultOptions()
	c, err := crdt.New(dssync.MutexWrap(ds.NewMapDatastore()), ds.NewKey("/c"), dag.NewDAGService(blockservice.New(blocks, offline.Exchange(blocks))), nil, opts)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	s, err := New(ctx, c)
	require.NoError(t, err)
	theirs, err := dsstate.NewBatching(ctx, c, "", dsstate.DefaultHandle())
	require.NoError(t, err)

	pin := api.PinWithOpts(api.NewCid(dag.NewRawNode([]byte("x")).Cid()), api.PinOptions{Name: "n", ReplicationFactorMin: 1, ReplicationFactorMax: 2})
	pin.Allocations = []peer.ID{id("a"), id("b")}
	require.NoError(t, s.Add(ctx, pin))
	require.NoError(t, s.Commit(ctx))
	record := list(t, theirs)
	require.Len(t, record, 1)

	read, v, err := s.Read(ctx, pin.Cid)
	require.NoError(t, err)
	moved := read
	moved.Allocations = []peer.ID{id("a"), id("c")}
	moved.Metadata = Homed(moved.Metadata, Home(pin.Allocations))
	moved.Name = "is not looked at"
	require.NoError(t, s.Place(ctx, moved, v))
	require.NoError(t, s.Commit(ctx))
	require.Equal(t, record, list(t, theirs))
	ours := list(t, s)
	require.Len(t, ours, 1)
	require.Equal(t, moved.Allocations, ours[0].Allocations)
	require.Equal(t, Home(pin.Allocations), ours[0].Metadata[HomeKey])
	require.Equal(t, "n", ours[0].Name)
	value, err := c.Get(ctx, Of(key(pin.Cid)))
	require.NoError(t, err)
	require.Error(t, (&api.Pin{}).ProtoUnmarshal(value), "their hook would track it")

	// A pin that ipfs-cluster writes is where it says.
	pin.Name = "m"
	require.NoError(t, theirs.Add(ctx, pin))
	require.NoError(t, theirs.Commit(ctx))
	require.ErrorIs(t, s.Place(ctx, moved, v), ErrChanged)
	read, err = s.Get(ctx, pin.Cid)
	require.NoError(t, err)
	require.Equal(t, pin.Allocations, read.Allocations)
	require.Empty(t, read.Metadata)

	require.NoError(t, s.Rm(ctx, pin.Cid))
	require.NoError(t, s.Commit(ctx))
	require.Empty(t, list(t, s))
	_, err = s.Get(ctx, pin.Cid)
	require.ErrorIs(t, err, state.ErrNotFound)
	_, err = c.Get(ctx, Of(key(pin.Cid)))
	require.ErrorIs(t, err, ds.ErrNotFound, "the placement went with it")
}
