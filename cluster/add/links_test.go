package add

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

// folder is a node with links to others.
func folder(t *testing.T, below ...format.Node) *dag.ProtoNode {
	n := &dag.ProtoNode{}
	n.SetCidBuilder(dag.V1CidPrefix())
	for i, b := range below {
		require.NoError(t, n.AddNodeLink(fmt.Sprint(i), b))
	}
	return n
}

func leaf(text string) format.Node { return dag.NewRawNode([]byte(text)) }

func cids(nodes ...format.Node) (out []cid.Cid) {
	for _, n := range nodes {
		out = append(out, n.Cid())
	}
	return out
}

func TestLinksThatLeadOutOfAFile(t *testing.T) {
	a, b, c := leaf("a"), leaf("b"), leaf("c")
	one := folder(t, a, b)
	two := folder(t, b, c, one)
	root := folder(t, one, two)
	inline, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0, MhLength: -1}.Sum(folder(t, c).RawData())
	require.NoError(t, err)
	withInline := folder(t)
	require.NoError(t, withInline.AddRawLink("c", &format.Link{Cid: inline}))
	for _, x := range []struct {
		name   string
		blocks []format.Node
		root   format.Node
		want   []cid.Cid
	}{
		{"top down", []format.Node{root, one, a, b, two, c}, root, nil},
		{"bottom up", []format.Node{c, b, a, one, two, root}, root, nil},
		{"twice", []format.Node{root, one, a, b, two, c, one, a, root}, root, nil},
		{"a leaf", []format.Node{root, one, a, two, c}, root, cids(b)},
		{"a folder", []format.Node{root, two, a, b, c}, root, cids(one)},
		{"in the order of the links", []format.Node{root, one, two}, root, cids(a, b, c)},
		{"no root", []format.Node{one, two, a, b, c}, root, cids(root)},
		{"nothing", nil, root, cids(root)},
		{"the root alone", []format.Node{a}, a, nil},
		{"below an inline block", []format.Node{withInline}, withInline, cids(c)},
		{"below an inline block, complete", []format.Node{withInline, c}, withInline, nil},
	} {
		l := newLinks()
		for _, n := range x.blocks {
			require.NoError(t, l.add(n))
		}
		require.Equal(t, x.want, l.unresolved(x.root.Cid()), x.name)
	}
}

func TestTooManyLinksAreLeftToTheNodes(t *testing.T) {
	l := newLinks()
	root := folder(t, leaf("not there"))
	require.NoError(t, l.add(root))
	for i := uint32(0); len(l.seen) < maxTracked-1; i++ {
		l.seen[key{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24), 1}] = struct{}{}
	}
	require.Len(t, l.unresolved(root.Cid()), 1)
	require.NoError(t, l.add(leaf("one more")))
	require.NoError(t, l.add(leaf("and another")))
	require.Empty(t, l.unresolved(root.Cid()))
	require.Nil(t, l.seen, "the memory is given back")
}

// addCAR sends blocks through a Fanout as ipfs-cluster's reader of CAR files does.
func addCAR(t *testing.T, p *peers, minimum int, root format.Node, blocks ...format.Node) (*Fanout, error) {
	p.held = map[peer.ID]int{}
	params := api.DefaultAddParams()
	params.Format = "car"
	f := newFanout(context.Background(), p, params, minimum)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	for _, b := range blocks {
		if err := f.Add(context.Background(), b); err != nil {
			return f, err
		}
	}
	_, err := f.Finalize(context.Background(), api.NewCid(root.Cid()))
	return f, err
}

func TestWhatAFileLacksIsLookedForAtEachDestination(t *testing.T) {
	a, b := leaf("a"), leaf("b")
	root := folder(t, a, b)
	lacks := func(_ context.Context, root cid.Cid, check []cid.Cid) error {
		if len(check) == 0 {
			return nil
		}
		return &Incomplete{Root: root, Missing: check}
	}
	type by = map[peer.ID]func(context.Context, cid.Cid, []cid.Cid) error

	// One has it from before.
	p := &peers{ids: []peer.ID{"a", "b"}, hold: by{"a": lacks}}
	f, err := addCAR(t, p, 1, root, root, a)
	require.NoError(t, err)
	require.Len(t, p.pinned, 1)
	require.Len(t, f.Missing(), 1)
	require.Contains(t, f.Missing()[0].Error, b.Cid().String())
	require.Equal(t, []string{"b true"}, p.ended)

	// One is too few, or nobody has it.
	for _, p := range []*peers{
		{ids: []peer.ID{"a", "b"}, hold: by{"a": lacks}},
		{ids: []peer.ID{"a", "b"}, hold: by{"a": lacks, "b": lacks}},
	} {
		f, err = addCAR(t, p, 2, root, root, a)
		var incomplete *Incomplete
		require.ErrorAs(t, err, &incomplete)
		require.Equal(t, cids(b), incomplete.Missing)
		require.ErrorContains(t, err, b.Cid().String())
		require.True(t, f.blames(err), "it is what the client sent")
		require.Empty(t, p.pinned)
		require.NotContains(t, fmt.Sprint(p.ended), "true")
	}

	// A file that has everything is not held up by one that has nothing else.
	_, err = addCAR(t, &peers{ids: []peer.ID{"a"}, hold: by{"a": lacks}}, 1, root, b, root, a)
	require.NoError(t, err)

	// What came and was collected in between is not the client's fault.
	eaten := func(_ context.Context, root cid.Cid, _ []cid.Cid) error {
		return &Incomplete{Root: root, Missing: cids(b)}
	}
	f, err = addCAR(t, &peers{ids: []peer.ID{"a"}, hold: by{"a": eaten}}, 1, root, root, a, b)
	require.ErrorContains(t, err, b.Cid().String())
	require.False(t, f.blames(err))

	// A destination that fails is not the client's fault.
	gone := func(context.Context, cid.Cid, []cid.Cid) error { return errors.New("gone") }
	f, err = addCAR(t, &peers{ids: []peer.ID{"a", "b"}, hold: by{"a": gone, "b": gone}}, 1, root, root, a, b)
	require.ErrorContains(t, err, "only 0 of 2 destinations are left")
	require.False(t, f.blames(err))
}

func TestOfSeveralRootsAllArePinnedOrNone(t *testing.T) {
	a, b, c := leaf("a"), leaf("b"), leaf("c")
	one, two := folder(t, a, b), folder(t, c)
	finalize := func(p *peers, roots []cid.Cid, blocks ...format.Node) (*Fanout, error) {
		p.held = map[peer.ID]int{}
		params := api.DefaultAddParams()
		params.Format = "car"
		f := newFanout(context.Background(), p, params, 2)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		for _, n := range blocks {
			require.NoError(t, f.Add(context.Background(), n))
		}
		return f, f.FinalizeAll(context.Background(), roots)
	}
	roots := cids(one, two)
	checked := map[string][]cid.Cid{}
	looks := func(_ context.Context, root cid.Cid, check []cid.Cid) error {
		checked[root.String()] = check
		if len(check) > 0 {
			return &Incomplete{Root: root, Missing: check}
		}
		return nil
	}
	p := &peers{ids: []peer.ID{"a", "self"}, hold: map[peer.ID]func(context.Context, cid.Cid, []cid.Cid) error{"a": looks}}
	_, err := finalize(p, roots, one, two, a, b, c)
	require.NoError(t, err)
	require.Len(t, p.pinned, 2)
	require.Len(t, checked, 2)
	require.ElementsMatch(t, []string{"a true", "a true", "self true", "self true"}, p.ended)

	for _, x := range []struct {
		lacks  format.Node
		blocks []format.Node
	}{{c, []format.Node{one, two, a, b}}, {two, []format.Node{one, a, b, c}}, {one, []format.Node{two, a, b, c}}} {
		p.pinned, p.ended = nil, nil
		f, err := finalize(p, roots, x.blocks...)
		require.ErrorContains(t, err, x.lacks.Cid().String())
		require.True(t, f.blames(err))
		require.Empty(t, p.pinned)
		require.NotContains(t, fmt.Sprint(p.ended), "true")
	}

	p.pinned, p.pin = nil, errors.New("the disk is full")
	_, err = finalize(p, roots, one, two, a, b, c)
	require.ErrorContains(t, err, "0 of the 2 roots are pinned: the disk is full")
}

// A client behind CloudFront waits for 60 s, and some of them are for the way of the content.
func TestTheLimitsLeaveTimeForAnAnswer(t *testing.T) {
	require.Less(t, passOnLimit, stallLimit)
	require.LessOrEqual(t, 2*stallLimit+endTimeout, 50*time.Second, "one that stands still, then is sent the content again")
	require.LessOrEqual(t, holdStall+holdSlack+endTimeout, 50*time.Second, "one that stands still when it has it")
}

func TestAFileWithoutBlocks(t *testing.T) {
	root := leaf("root")
	seen := false
	p := &peers{ids: []peer.ID{"a"}, hold: map[peer.ID]func(context.Context, cid.Cid, []cid.Cid) error{
		"a": func(_ context.Context, _ cid.Cid, check []cid.Cid) error {
			seen = true
			require.Equal(t, cids(root), check)
			return nil
		}}}
	_, err := addCAR(t, p, 1, root)
	require.NoError(t, err)
	require.True(t, seen)
}

func TestAnAddThatFailsHoldsNothing(t *testing.T) {
	p := &peers{ids: []peer.ID{"a", "b"}, pin: errors.New("the disk is full")}
	_, err := add(t, p, api.DefaultAddParams(), 1)
	require.ErrorContains(t, err, "the disk is full")
	require.ElementsMatch(t, []string{"a false", "b false"}, p.ended)

	// Too few hold it.
	lacks := func(context.Context, cid.Cid, []cid.Cid) error { return errors.New("no new block") }
	p = &peers{ids: []peer.ID{"a", "b"}, hold: map[peer.ID]func(context.Context, cid.Cid, []cid.Cid) error{"b": lacks}}
	f, err := add(t, p, api.DefaultAddParams(), 2)
	require.ErrorContains(t, err, "only 1 of 2 destinations are left")
	require.False(t, f.blames(err))
	require.Empty(t, p.pinned)
	require.Equal(t, []string{"a false"}, p.ended)

	// The client goes away while a destination is asked.
	ctx, cancel := context.WithCancel(context.Background())
	p = &peers{ids: []peer.ID{"a", "b"}, held: map[peer.ID]int{}, hold: map[peer.ID]func(context.Context, cid.Cid, []cid.Cid) error{
		"b": func(ctx context.Context, _ cid.Cid, _ []cid.Cid) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}}}
	f = newFanout(ctx, p, api.DefaultAddParams(), 1)
	require.NoError(t, f.Add(ctx, leaf("root")))
	_, err = f.Finalize(context.Background(), api.NewCid(leaf("root").Cid()))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, f.Close())
	require.Empty(t, p.pinned)
	require.Equal(t, []string{"a false"}, p.ended)
}
