package frontier

import (
	"context"
	"path/filepath"
	"testing"

	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
)

type change struct {
	Change
	block []byte
}

// history makes changes, each of which links to the one before it.
func history(t *testing.T, n int) []change {
	var all []change
	var last cid.Cid
	for i := range n {
		node := dag.NodeWithData([]byte{byte(i)})
		require.NoError(t, node.SetCidBuilder(dag.V1CidPrefix()))
		if last.Defined() {
			require.NoError(t, node.AddRawLink("", &format.Link{Cid: last}))
		}
		last = node.Cid()
		all = append(all, change{Named(last), node.RawData()})
	}
	return all
}

func open(t *testing.T, missing ...string) *Store {
	inner, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, inner.Close()) })
	return Wrap(inner.Deferred(), "/c", missing)
}

func (s *Store) names() []Change {
	var names []Change
	for _, m := range s.Missing() {
		names = append(names, m.Change)
	}
	return names
}

var ctx = context.Background()

func keep(t *testing.T, w ds.Write, c change) {
	require.NoError(t, w.Put(ctx, ds.NewKey("/c/b/blocks/"+string(c.Change)), c.block))
}

func apply(t *testing.T, w ds.Write, c change) {
	require.NoError(t, w.Put(ctx, ds.NewKey("/c/b/"+string(c.Change)), nil))
}

// The order of a peer that receives a change and walks back from it.
func TestWhatAKeptBlockLinksToIsMissingUntilItIsApplied(t *testing.T) {
	s, h := open(t), history(t, 3)
	require.Empty(t, s.Missing())
	keep(t, s, h[2])
	require.ElementsMatch(t, []Change{h[2].Change, h[1].Change}, s.names())
	apply(t, s, h[2])
	require.Equal(t, []Change{h[1].Change}, s.names())
	require.Equal(t, []Change{h[2].Change}, s.Missing()[0].After, "where to start from to get it")
	keep(t, s, h[1])
	apply(t, s, h[1])
	require.Equal(t, []Change{h[0].Change}, s.names())
	require.Equal(t, []Change{h[1].Change}, s.Missing()[0].After)
	require.Equal(t, []Change{h[2].Change}, s.Missing()[0].Tops, "which is no head yet")
	keep(t, s, h[0])
	apply(t, s, h[0])
	require.Empty(t, s.Missing())
	require.EqualValues(t, 3, s.Applied())
}

func TestAppliedChangesAreNotMissed(t *testing.T) {
	s, h := open(t), history(t, 2)
	for _, c := range h {
		keep(t, s, c)
		apply(t, s, c)
	}
	keep(t, s, h[1]) // it comes once more
	require.Empty(t, s.Missing())
}

func TestBatchesCountWhenTheyAreCommitted(t *testing.T) {
	s, h := open(t), history(t, 2)
	b, err := s.Batch(ctx)
	require.NoError(t, err)
	keep(t, b, h[1])
	require.Empty(t, s.Missing())
	require.NoError(t, b.Commit(ctx))
	require.ElementsMatch(t, []Change{h[1].Change, h[0].Change}, s.names())
	b, err = s.Batch(ctx)
	require.NoError(t, err)
	apply(t, b, h[0])
	apply(t, b, h[1])
	require.NoError(t, b.Commit(ctx))
	require.Empty(t, s.Missing())
}

func TestAReopenedChangeIsMissingUntilItIsAppliedAgain(t *testing.T) {
	s, h := open(t), history(t, 1)
	keep(t, s, h[0])
	apply(t, s, h[0])
	require.NoError(t, s.Reopen(ctx, h[0].Change))
	require.Equal(t, []Change{h[0].Change}, s.names())
	done, err := s.IsApplied(ctx, h[0].Change)
	require.NoError(t, err)
	require.False(t, done)
	here, err := s.Holds(ctx, h[0].Change)
	require.NoError(t, err)
	require.True(t, here, "the block stays")
	apply(t, s, h[0])
	require.Empty(t, s.Missing())
}

func TestWhatTheRepairFoundIsMissingFromTheStart(t *testing.T) {
	h := history(t, 1)
	s := open(t, string(h[0].Change))
	require.Equal(t, []Change{h[0].Change}, s.names())
	apply(t, s, h[0])
	require.Empty(t, s.Missing())
}

func TestOtherKeysPassThrough(t *testing.T) {
	s := open(t)
	for _, key := range []string{"/c/s/k/x/v", "/c/h/X", "/c/d", "/dht/b/x", "/c/b/repro/x", "/c/b/blocks/NOTAPROTOBUF"} {
		require.NoError(t, s.Put(ctx, ds.NewKey(key), []byte{0xff}))
		v, err := s.Get(ctx, ds.NewKey(key))
		require.NoError(t, err)
		require.Equal(t, []byte{0xff}, v)
	}
	require.Empty(t, s.Missing())
	require.Zero(t, s.Applied())
}

func TestNamesAndCIDs(t *testing.T) {
	h := history(t, 1)
	id, err := h[0].Cid()
	require.NoError(t, err)
	require.Equal(t, h[0].Change, Named(id))
	_, err = Change("no change").Cid()
	require.ErrorContains(t, err, "no change")
}
