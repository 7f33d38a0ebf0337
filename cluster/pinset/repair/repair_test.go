package repair

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/stretchr/testify/require"
)

const ns = "/c"

// replica is a go-ds-crdt datastore over the same layout that ipfs-cluster uses.
type replica struct {
	t     *testing.T
	store ds.Batching
	crdt  *crdt.Datastore
	hears crdt.Broadcaster // nil: it hears of no one
}

func newReplica(t *testing.T) *replica {
	return &replica{t: t, store: dssync.MutexWrap(ds.NewMapDatastore())}
}

func (r *replica) open() *crdt.Datastore {
	bs := blockstore.NewBlockstore(namespace.Wrap(r.store, ds.NewKey(ns).ChildString("b")))
	opts := crdt.DefaultOptions()
	opts.RepairInterval = 10 * time.Millisecond
	c, err := crdt.New(r.store, ds.NewKey(ns), dag.NewDAGService(blockservice.New(bs, offline.Exchange(bs))), r.hears, opts)
	require.NoError(r.t, err)
	r.crdt = c
	return c
}

func (r *replica) write(from, to int) {
	c := r.open()
	for i := from; i < to; i++ {
		require.NoError(r.t, c.Put(context.Background(), ds.NewKey(fmt.Sprint(i)), []byte("v")))
	}
	require.NoError(r.t, c.Close())
}

func (r *replica) keys(under string) []string {
	res, err := r.store.Query(context.Background(), query.Query{Prefix: under, KeysOnly: true})
	require.NoError(r.t, err)
	all, err := res.Rest()
	require.NoError(r.t, err)
	var out []string
	for _, e := range all {
		if ds.RawKey(e.Key).Parent().String() == under {
			out = append(out, e.Key)
		}
	}
	return out
}

func (r *replica) copyTo(other *replica, under string) {
	res, err := r.store.Query(context.Background(), query.Query{Prefix: under})
	require.NoError(r.t, err)
	all, err := res.Rest()
	require.NoError(r.t, err)
	for _, e := range all {
		require.NoError(r.t, other.store.Put(context.Background(), ds.RawKey(e.Key), e.Value))
	}
}

func (r *replica) remove(keys ...string) {
	for _, k := range keys {
		require.NoError(r.t, r.store.Delete(context.Background(), ds.RawKey(k)))
	}
}

// marked says whether the consensus was told to walk the whole graph.
func (r *replica) marked() bool {
	ok, err := r.store.Has(context.Background(), ds.NewKey("/c/d"))
	require.NoError(r.t, err)
	return ok
}

func (r *replica) run() Report {
	rep, err := Run(context.Background(), r.store, ns)
	require.NoError(r.t, err)
	return rep
}

// settle opens the replica and waits until its own repair has nothing left.
func (r *replica) settle() *crdt.Datastore {
	c := r.open()
	require.Eventually(r.t, func() bool { return !c.IsDirty(context.Background()) }, time.Minute, time.Millisecond)
	return c
}

func (r *replica) has(c *crdt.Datastore, n int) (count int) {
	for i := range n {
		ok, err := c.Has(context.Background(), ds.NewKey(fmt.Sprint(i)))
		require.NoError(r.t, err)
		if ok {
			count++
		}
	}
	return count
}

func TestNothingToRepair(t *testing.T) {
	r := newReplica(t)
	require.True(t, r.run().Sound(), "an empty store")
	r.write(0, 20)
	rep := r.run()
	require.Equal(t, Report{Blocks: 20}, rep)
	require.False(t, r.marked())
}

func TestAChangeThatIsNoHeadBecomesOne(t *testing.T) {
	r := newReplica(t)
	r.write(0, 5)
	before := r.keys("/c/h")
	beforeValue, err := r.store.Get(context.Background(), ds.RawKey(before[0]))
	require.NoError(t, err)
	r.write(5, 6)
	after := r.keys("/c/h")
	want, err := r.store.Get(context.Background(), ds.RawKey(after[0]))
	require.NoError(t, err)
	// Died after the block was processed, before the head moved.
	r.remove(after...)
	require.NoError(t, r.store.Put(context.Background(), ds.RawKey(before[0]), beforeValue))

	require.Equal(t, Report{Blocks: 6, HeadsAdded: 1, HeadsRemoved: 1}, r.run())
	require.False(t, r.marked(), "nothing to process, so nothing to walk")
	require.Equal(t, after, r.keys("/c/h"))
	got, err := r.store.Get(context.Background(), ds.RawKey(after[0]))
	require.NoError(t, err)
	require.Equal(t, want, got, "the height is stored as go-ds-crdt stores it")
	require.NoError(t, r.settle().Close())
	require.True(t, r.run().Sound())
}

// This is the state that loses acknowledged pins without repair: the newest
// block of another peer is processed, the ones before it are not.
func TestBlocksBeforeAProcessedOneAreProcessed(t *testing.T) {
	for _, repaired := range []bool{false, true} {
		t.Run(fmt.Sprintf("repaired=%t", repaired), func(t *testing.T) {
			there := newReplica(t)
			there.write(0, 3)
			here := newReplica(t)
			there.copyTo(here, "/c") // in step up to 3
			tip := map[string]bool{}
			for _, k := range there.keys("/c/b") {
				tip[k] = true
			}
			there.write(3, 9)
			there.copyTo(here, "/c/b/blocks") // the blocks have arrived
			for _, k := range there.keys("/c/h") {
				newest := ds.NewKey("/c/b").ChildString(ds.RawKey(k).BaseNamespace())
				require.False(t, tip[newest.String()])
				require.NoError(t, here.store.Put(context.Background(), newest, nil))
			}
			if repaired {
				rep := here.run()
				require.Len(t, rep.Missing, 5)
				rep.Missing = nil
				require.Equal(t, Report{Blocks: 9, Unprocessed: 5, HeadsAdded: 1, HeadsRemoved: 1}, rep)
				require.True(t, here.marked())
			}
			c := here.settle()
			defer c.Close()
			if !repaired {
				require.Equal(t, 3, here.has(c, 9), "control: go-ds-crdt does not notice")
				return
			}
			// The newest block itself was marked by hand, its element is not set.
			require.Equal(t, 8, here.has(c, 9))
			require.Equal(t, there.keys("/c/h"), here.keys("/c/h"))
		})
	}
}

func TestAbsentBlocksAreLeftToTheConsensus(t *testing.T) {
	for i := range 3 { // among them the head
		r := newReplica(t)
		r.write(0, 3)
		lost := slices.Sorted(slices.Values(r.keys("/c/b/blocks")))[i]
		r.remove(lost)
		rep := r.run()
		require.False(t, rep.Sound())
		require.Equal(t, 2, rep.Blocks)
		require.Equal(t, 1, rep.Absent)
		require.Equal(t, []string{ds.RawKey(lost).BaseNamespace()}, rep.Missing)
		require.True(t, r.marked())
	}
}

func TestAnUnknownFormatIsLeftAlone(t *testing.T) {
	r := newReplica(t)
	r.write(0, 3)
	r.remove(r.keys("/c/h")...)
	require.NoError(t, r.store.Put(context.Background(), ds.NewKey("/c/crdt_version"), []byte{9}))
	require.Equal(t, Report{}, r.run())
	require.Empty(t, r.keys("/c/h"))
}
