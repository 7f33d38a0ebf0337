package repair

import (
	"context"
	"slices"
	"testing"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/ipfs/go-ds-crdt/pb"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// These tests show the faults of go-ds-crdt that this package, frontier and catchup
// answer, with go-ds-crdt alone. One that fails says that upstream no longer needs
// the answer: then it can go.

// announcements are what a replica hears. A send returns when the one before has been
// dealt with.
type announcements chan []byte

func (announcements) Broadcast(context.Context, []byte) error { return nil }

func (a announcements) Next(ctx context.Context) ([]byte, error) {
	select {
	case data := <-a:
		return data, nil
	case <-ctx.Done():
		return nil, crdt.ErrNoMoreBroadcast
	}
}

// announce lets an open replica hear of the heads of another, and returns when it has
// dealt with them.
func (r *replica) announce(other *replica) {
	var message pb.CRDTBroadcast
	for _, key := range other.keys("/c/h") {
		id, err := dshelp.DsKeyToCidV1(ds.NewKey(ds.RawKey(key).BaseNamespace()), cid.DagProtobuf)
		require.NoError(r.t, err)
		message.Heads = append(message.Heads, &pb.Head{Cid: id.Bytes()})
	}
	data, err := proto.Marshal(&message)
	require.NoError(r.t, err)
	for range 2 {
		r.hears.(announcements) <- data
	}
}

// dying copies what is on the disk when a change is marked as processed for the first
// time: a process that is killed there leaves it.
type dying struct {
	ds.Batching
	r    *replica
	left *replica
	dead bool
}

func (d *dying) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := d.Batching.Put(ctx, key, value); err != nil {
		return err
	}
	if !d.dead && key.Parent().String() == "/c/b" {
		d.dead = true
		d.r.copyTo(d.left, "/")
	}
	return nil
}

// dies returns what the replica leaves if it is killed at the next mark.
func (r *replica) dies() *replica {
	left := newReplica(r.t)
	left.hears = make(announcements)
	r.store = &dying{Batching: r.store, r: &replica{t: r.t, store: r.store}, left: left}
	return left
}

// heal lets go-ds-crdt do by itself what it can: it repairs, and hears the heads of
// the other once more.
func (r *replica) heal(other *replica) *crdt.Datastore {
	c := r.open()
	require.NoError(r.t, c.Repair(r.t.Context()))
	r.announce(other)
	require.NoError(r.t, c.Repair(r.t.Context()))
	return c
}

// behind makes two replicas, the second of which has the first change of four, and of
// the others the blocks.
func behind(t *testing.T) (a, b *replica) {
	a, b = newReplica(t), newReplica(t)
	b.hears = make(announcements)
	a.write(0, 1)
	a.copyTo(b, "/")
	a.write(1, 4)
	a.copyTo(b, "/c/b/blocks")
	return a, b
}

// A peer that dies while it makes a change has it, and never announces it: it is no
// head (https://github.com/ipfs/go-ds-crdt/issues/279; pull request 351 marks the
// store dirty, and the repair that follows begins at the heads).
func TestUpstreamForgetsItsOwnChangeAfterADeath(t *testing.T) {
	r := newReplica(t)
	r.write(0, 2)
	left := r.dies()
	r.write(2, 3)
	c := left.open()
	require.NoError(t, c.Repair(t.Context()))
	require.Equal(t, 3, left.has(c, 3), "it is visible here")
	require.NoError(t, c.Close())
	require.NotEqual(t, r.keys("/c/h"), left.keys("/c/h"), "go-ds-crdt finds the head by itself now: heads need no repair any more")
	left.run()
	require.Equal(t, r.keys("/c/h"), left.keys("/c/h"))
}

// A peer that dies on the way back through a history has marked the newest change as
// processed, so it never looks behind it again (issue 279; pull requests 350 and 355
// were proposed for it).
func TestUpstreamForgetsABranchAfterADeath(t *testing.T) {
	a, b := behind(t)
	left := b.dies()
	c := b.open()
	b.announce(a)
	require.Equal(t, 4, b.has(c, 4), "who does not die gets them")
	require.NoError(t, c.Close())
	c = left.heal(a)
	require.Less(t, left.has(c, 4), 4, "go-ds-crdt finds them by itself now: package repair has done its work")
	require.NoError(t, c.Close())
	left.run()
	require.Equal(t, 4, left.has(left.settle(), 4))
}

// The same without a death: the block of a change cannot be had for a while. The
// store is marked dirty, the repair begins at the heads, which do not lead there,
// and the mark is taken away (pull requests 350 and 355).
func TestUpstreamForgetsABranchWhoseFetchingBrokeOff(t *testing.T) {
	a, b := behind(t)
	gap := slices.DeleteFunc(a.keys("/c/b/blocks"), func(key string) bool {
		return slices.Contains(a.keys("/c/h"), "/c/h/"+ds.RawKey(key).BaseNamespace()) || slices.Contains(b.keys("/c/h"), "/c/h/"+ds.RawKey(key).BaseNamespace())
	})
	b.remove(gap...)
	c := b.open()
	b.announce(a)
	require.NoError(t, c.Repair(t.Context()))
	require.False(t, c.IsDirty(t.Context()), "go-ds-crdt remembers now that something is missing: package frontier has done its work")
	a.copyTo(b, "/c/b/blocks")
	require.NoError(t, c.Close())
	c = b.heal(a)
	require.Less(t, b.has(c, 4), 4, "go-ds-crdt gets them by itself now: packages frontier and catchup have done their work")
	require.NoError(t, c.Close())
	b.run()
	require.Equal(t, 4, b.has(b.settle(), 4))
}
