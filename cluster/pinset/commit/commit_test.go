package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/requests"
)

// pinset records what happens to it. A commit waits for the gate.
type pinset struct {
	mu      sync.Mutex
	pending []string
	commits [][]string
	gate    chan struct{}
	entered chan struct{}
	fail    error
	has     map[string]api.Pin
	added   []api.Pin
}

func (p *pinset) Add(_ context.Context, pin api.Pin) error {
	if pin.Name == "bad" {
		return errors.New("bad pin")
	}
	p.pending = append(p.pending, "+"+pin.Name)
	p.added = append(p.added, pin)
	return nil
}

func (p *pinset) Read(_ context.Context, c api.Cid) (api.Pin, placement.Version, error) {
	if was, ok := p.has[c.String()]; ok {
		return was, "v", nil
	}
	return api.Pin{}, "", state.ErrNotFound
}

func (p *pinset) Place(_ context.Context, pin api.Pin, v placement.Version) error {
	if v != "v" {
		return placement.ErrChanged
	}
	p.pending = append(p.pending, "@"+pin.Name)
	return nil
}

func (p *pinset) Rm(_ context.Context, c api.Cid) error {
	p.pending = append(p.pending, "-"+c.String())
	return nil
}

func (p *pinset) Commit(context.Context) error {
	p.entered <- struct{}{}
	<-p.gate
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits = append(p.commits, p.pending)
	p.pending = nil
	return p.fail
}

func start(t *testing.T, max int) (*pinset, *queue) {
	p := &pinset{gate: make(chan struct{}), entered: make(chan struct{}, 100)}
	return p, newQueue(max, func(context.Context) {}, func(context.Context) (batch, error) { return p, nil })
}

func testCid(t *testing.T, name string) api.Cid {
	mh, err := multihash.Sum([]byte(name), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return api.NewCid(cid.NewCidV1(cid.Raw, mh))
}

func pin(t *testing.T, name string) operation {
	p := api.PinCid(testCid(t, name))
	p.Name = name
	return operation{pin: p}
}

// submit queues operations in their order and returns their results.
func submit(t *testing.T, q *queue, ops ...operation) []chan error {
	var results []chan error
	for _, op := range ops {
		res := make(chan error, 1)
		q.mu.Lock()
		want := len(q.waiting) + 1
		q.mu.Unlock()
		go func() { res <- q.log(context.Background(), op) }()
		for queued := false; !queued; {
			q.mu.Lock()
			queued = len(q.waiting) >= want
			q.mu.Unlock()
		}
		results = append(results, res)
	}
	return results
}

// busy lets the queue begin with one operation, so that what follows gathers.
func busy(t *testing.T, p *pinset, q *queue) chan error {
	res := make(chan error, 1)
	op := pin(t, "first")
	go func() { res <- q.log(context.Background(), op) }()
	<-p.entered
	return res
}

func TestNothingIsAnsweredBeforeItsCommit(t *testing.T) {
	p, q := start(t, 100)
	first := busy(t, p, q)
	rest := submit(t, q, pin(t, "a"), pin(t, "b"), pin(t, "c"))
	require.Empty(t, first)
	p.gate <- struct{}{}
	require.NoError(t, <-first)
	<-p.entered
	for _, r := range rest {
		require.Empty(t, r, "answered while its commit is still running")
	}
	p.gate <- struct{}{}
	for _, r := range rest {
		require.NoError(t, <-r)
	}
	close(p.gate)
	q.close()
	require.Equal(t, [][]string{{"+first"}, {"+a", "+b", "+c"}}, p.commits, "what came together is one change")
}

func TestACIDOccursOnceInAGroup(t *testing.T) {
	p, q := start(t, 100)
	first := busy(t, p, q)
	unpin := pin(t, "a")
	unpin.remove = true
	rest := submit(t, q, pin(t, "a"), pin(t, "b"), unpin, pin(t, "c"))
	close(p.gate)
	require.NoError(t, <-first)
	for _, r := range rest {
		require.NoError(t, <-r)
	}
	q.close()
	require.Equal(t, [][]string{{"+first"}, {"+a", "+b"}, {"-" + testCid(t, "a").String(), "+c"}}, p.commits)
}

func TestGroupsAreBounded(t *testing.T) {
	p, q := start(t, 2)
	first := busy(t, p, q)
	var ops []operation
	for i := range 5 {
		ops = append(ops, pin(t, fmt.Sprint(i)))
	}
	rest := submit(t, q, ops...)
	close(p.gate)
	require.NoError(t, <-first)
	for _, r := range rest {
		require.NoError(t, <-r)
	}
	q.close()
	require.Equal(t, [][]string{{"+first"}, {"+0", "+1"}, {"+2", "+3"}, {"+4"}}, p.commits)
}

func TestAFailedOperationFailsAlone(t *testing.T) {
	p, q := start(t, 100)
	first := busy(t, p, q)
	rest := submit(t, q, pin(t, "a"), pin(t, "bad"), pin(t, "b"))
	close(p.gate)
	require.NoError(t, <-first)
	require.NoError(t, <-rest[0])
	require.ErrorContains(t, <-rest[1], "bad pin")
	require.NoError(t, <-rest[2])
	q.close()
	require.Equal(t, [][]string{{"+first"}, {"+a", "+b"}}, p.commits)
}

func TestTheLastChangeIsKnown(t *testing.T) {
	p, q := start(t, 100)
	c := &Consensus{queue: q}
	_, _, ok := c.Last()
	require.False(t, ok)
	close(p.gate)
	require.NoError(t, q.log(context.Background(), pin(t, "a")))
	last, removed, ok := c.Last()
	require.True(t, ok)
	require.Equal(t, testCid(t, "a"), last)
	require.False(t, removed)
	unpin := pin(t, "a")
	unpin.remove = true
	require.NoError(t, q.log(context.Background(), unpin))
	_, removed, ok = c.Last()
	require.True(t, ok && removed)
	p.fail = errors.New("disk full")
	require.Error(t, q.log(context.Background(), pin(t, "b")))
	last, _, _ = c.Last()
	require.Equal(t, testCid(t, "a"), last, "b was not written")
	q.close()
}

func TestAFailedCommitFailsAll(t *testing.T) {
	p, q := start(t, 100)
	p.fail = errors.New("disk full")
	close(p.gate)
	require.ErrorContains(t, q.log(context.Background(), pin(t, "a")), "disk full")
	q.close()
}

func TestCloseFinishesWhatWasTakenAndRefusesTheRest(t *testing.T) {
	p, q := start(t, 100)
	first := busy(t, p, q)
	rest := submit(t, q, pin(t, "a"))
	closed := make(chan struct{})
	go func() { q.close(); close(closed) }()
	for refused := false; !refused; {
		q.mu.Lock()
		refused = q.closed
		q.mu.Unlock()
	}
	require.ErrorIs(t, q.log(context.Background(), pin(t, "late")), ErrShuttingDown)
	close(p.gate)
	require.NoError(t, <-first)
	require.NoError(t, <-rest[0])
	<-closed
}

func TestAClientThatGoesAwayLearnsThatTheOutcomeIsUnknown(t *testing.T) {
	p, q := start(t, 100)
	ctx, cancel := context.WithCancel(context.Background())
	res := make(chan error, 1)
	op := pin(t, "a")
	go func() { res <- q.log(ctx, op) }()
	<-p.entered
	cancel()
	require.ErrorIs(t, <-res, context.Canceled)
	close(p.gate)
	q.close()
	require.Equal(t, [][]string{{"+a"}}, p.commits, "it is written all the same")
}

func TestAPlacementIsForOneRecord(t *testing.T) {
	p, q := start(t, 100)
	close(p.gate)
	place := pin(t, "a")
	place.of = "v"
	require.NoError(t, q.log(context.Background(), place))
	place.of = "former"
	require.ErrorIs(t, q.log(context.Background(), place), placement.ErrChanged)
	_, _, ok := (&Consensus{queue: q}).Last()
	require.False(t, ok, "no pin was written")
	q.close()
	require.Equal(t, [][]string{{"@a"}}, p.commits)
}

func TestAPinThatIsWrittenAgainKeepsWhatTheClientDoesNotMention(t *testing.T) {
	p, q := start(t, 100)
	close(p.gate)
	was := pin(t, "a").pin
	was.Metadata = map[string]string{"k": "v", placement.HomeKey: "x"}
	p.has = map[string]api.Pin{was.Cid.String(): was}
	again := api.PinCid(was.Cid)
	require.NoError(t, q.log(context.Background(), operation{pin: again}))
	require.Equal(t, "a", p.added[0].Name)
	require.Equal(t, map[string]string{"k": "v"}, p.added[0].Metadata, "where it is becomes its home")
	again.Name, again.Metadata = "b", map[string]string{"l": "w"}
	require.NoError(t, q.log(context.Background(), operation{pin: again}))
	require.Equal(t, "b", p.added[1].Name)
	require.Equal(t, again.Metadata, p.added[1].Metadata)
	q.close()
}

func TestAPinGoesWithItsLastRequest(t *testing.T) {
	p, q := start(t, 100)
	close(p.gate)
	was := pin(t, "a").pin
	one, two := requests.New(was.Cid), requests.New(was.Cid)
	with := func(all ...requests.Request) api.Pin {
		out := was
		var err error
		out.Metadata, err = requests.Set(nil, all)
		require.NoError(t, err)
		return out
	}
	c := &Consensus{queue: q}
	ctx := context.Background()
	require.ErrorIs(t, c.Drop(ctx, was.Cid, one.ID), state.ErrNotFound)
	p.has = map[string]api.Pin{was.Cid.String(): with(one, two)}
	require.ErrorIs(t, c.Drop(ctx, was.Cid, "bogus"), requests.ErrNotFound)
	require.NoError(t, c.Drop(ctx, was.Cid, one.ID))
	require.Equal(t, with(two).Metadata, p.added[0].Metadata)
	_, removed, _ := c.Last()
	require.False(t, removed)
	// What comes at the same time is added to what is there.
	require.NoError(t, q.log(ctx, operation{pin: with(requests.Request{ID: "x", At: 1})}))
	all, err := requests.Of(p.added[1])
	require.NoError(t, err)
	require.Len(t, all, 3)
	// A pin that is made from another one does not stand for what that one was asked for.
	from := with(one)
	from.PinUpdate = pin(t, "b").pin.Cid
	delete(p.has, was.Cid.String())
	require.NoError(t, q.log(ctx, operation{pin: from}))
	require.NotContains(t, p.added[2].Metadata, requests.Key)
	p.has[was.Cid.String()] = with(two)
	require.NoError(t, c.Drop(ctx, was.Cid, two.ID))
	_, removed, _ = c.Last()
	require.True(t, removed)
	q.close()
	require.Equal(t, []string{"-" + was.Cid.String()}, p.commits[len(p.commits)-1])
}

func TestAChangeIsAnsweredWhenTheOthersHaveItAndTheNextOneGoesOn(t *testing.T) {
	p := &pinset{gate: make(chan struct{}), entered: make(chan struct{}, 100)}
	reach := make(chan struct{})
	q := newQueue(100, func(context.Context) { <-reach }, func(context.Context) (batch, error) { return p, nil })
	close(p.gate)
	first := busy(t, p, q)
	second := make(chan error, 1)
	op := pin(t, "a")
	go func() { second <- q.log(context.Background(), op) }()
	<-p.entered
	require.Empty(t, first, "it is written, and the others do not have it")
	require.Empty(t, second)
	place := pin(t, "b")
	place.of = "v"
	require.NoError(t, q.log(context.Background(), place), "nobody waits to read a placement")
	close(reach)
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	q.close()
}
