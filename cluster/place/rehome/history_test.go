package rehome

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	pinset "github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	crdt "github.com/ipfs/go-ds-crdt"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// network is three peers with a pinset each, kept in step by go-ds-crdt. What one announces
// reaches another when the test delivers it.
type network struct {
	t     *testing.T
	peers []*replica
}

type replica struct {
	t     *testing.T
	i     int
	net   *network
	crdt  *crdt.Datastore
	pins  *placement.State
	inbox [][]byte
	hears chan []byte
}

func newNetwork(t *testing.T) *network {
	n := &network{t: t}
	blocks := blockstore.NewBlockstore(dssync.MutexWrap(ds.NewMapDatastore()))
	var nodes ipld.DAGService = dag.NewDAGService(blockservice.New(blocks, offline.Exchange(blocks)))
	for i := range 3 {
		r := &replica{t: t, i: i, net: n, hears: make(chan []byte)}
		opts := crdt.DefaultOptions()
		opts.RebroadcastInterval, opts.RepairInterval = time.Hour, 0
		var err error
		r.crdt, err = crdt.New(dssync.MutexWrap(ds.NewMapDatastore()), ds.NewKey("/c"), nodes, r, opts)
		require.NoError(t, err)
		r.pins, err = placement.New(t.Context(), r.crdt)
		require.NoError(t, err)
		n.peers = append(n.peers, r)
	}
	return n
}

func (n *network) close() {
	for _, r := range n.peers {
		require.NoError(n.t, r.crdt.Close())
	}
}

// Broadcast implements crdt.Broadcaster.
func (r *replica) Broadcast(_ context.Context, data []byte) error {
	for _, other := range r.net.peers {
		if other != r {
			other.inbox = append(other.inbox, data)
		}
	}
	return nil
}

// Next implements crdt.Broadcaster.
func (r *replica) Next(ctx context.Context) ([]byte, error) {
	select {
	case data := <-r.hears:
		return data, nil
	case <-ctx.Done():
		return nil, crdt.ErrNoMoreBroadcast
	}
}

// deliver lets a peer hear the message at a place in its inbox. It is heard twice: when the
// second one is taken, the first one has been dealt with.
func (r *replica) deliver(i int) {
	data := r.inbox[i]
	r.inbox = slices.Delete(r.inbox, i, i+1)
	for range 2 {
		r.hears <- data
	}
}

// deliverAll delivers everything to the peers in an order, until there is nothing left.
func (n *network) deliverAll(order ...int) {
	for again := true; again; {
		again = false
		for _, i := range order {
			for len(n.peers[i].inbox) > 0 {
				n.peers[i].deliver(0)
				again = true
			}
		}
	}
}

func (r *replica) commit(err error) error {
	if err == nil {
		err = r.pins.Commit(r.t.Context())
	}
	return err
}

// decision is what a client wants of a pin.
type decision string

const (
	unpin  decision = "unpin"
	rename decision = "rename"
	expire decision = "expire"
)

var expiry = time.Unix(2e9, 0)

// decide carries a decision out on a peer, as ipfs-cluster does it.
func (r *replica) decide(what decision, c api.Cid) {
	pin, err := r.pins.Get(r.t.Context(), c)
	require.NoError(r.t, err)
	pin.Timestamp = time.Unix(1e9, 0)
	pin.Metadata = placement.Homed(pin.Metadata, "")
	switch what {
	case unpin:
		require.NoError(r.t, r.commit(r.pins.Rm(r.t.Context(), c)))
		return
	case rename:
		pin.Name = "new"
	case expire:
		pin.ExpireAt = expiry
	}
	require.NoError(r.t, r.commit(r.pins.Add(r.t.Context(), pin)))
}

// holds says whether the peer's pinset is what was decided.
func (r *replica) holds(what decision, c api.Cid) error {
	pin, err := r.pins.Get(r.t.Context(), c)
	switch {
	case what == unpin && err == nil:
		return fmt.Errorf("peer %d: the pin is back, at %v", r.i, pin.Allocations)
	case what == unpin && errors.Is(err, pinset.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("peer %d: %w", r.i, err)
	case what == rename && pin.Name != "new":
		return fmt.Errorf("peer %d: the pin has its old name", r.i)
	case what == expire && !pin.ExpireAt.Equal(expiry):
		return fmt.Errorf("peer %d: the pin does not expire", r.i)
	}
	return nil
}

// moment is when a decision falls in a step of a move.
type moment string

const (
	beforeRead  moment = "before the pin is read"
	afterRead   moment = "after the pin was read"
	whileAsking moment = "while the peers are asked"
	beforeWrite moment = "before the step is written"
	afterWrite  moment = "after the step was written, before anybody heard of it"
	afterAll    moment = "after everybody heard of it"
)

// at is a cluster as one of the peers sees it. On each moment of a step something can happen.
type at struct {
	*replica
	old bool // as former releases moved pins: by writing them again
	on  func(moment)
}

func (c at) There(context.Context) []spread.Candidate { return six() }
func (c at) Former(context.Context) []string          { return nil }

func (c at) Pins(ctx context.Context, out chan<- api.Pin) error { return c.pins.List(ctx, out) }

func (c at) Read(ctx context.Context, id api.Cid) (api.Pin, placement.Version, error) {
	c.on(beforeRead)
	defer c.on(afterRead)
	return c.pins.Read(ctx, id)
}

func (c at) Status(_ context.Context, id api.Cid) (api.GlobalPinInfo, error) {
	c.on(whileAsking)
	info := api.GlobalPinInfo{PeerMap: map[string]api.PinInfoShort{}}
	for _, one := range six() {
		info.PeerMap[one.ID.String()] = api.PinInfoShort{Status: api.TrackerStatusPinned}
	}
	return info, nil
}

func (c at) Place(ctx context.Context, pin api.Pin, v placement.Version) error {
	c.on(beforeWrite)
	defer c.on(afterWrite)
	if c.old {
		return c.commit(c.pins.Add(ctx, pin))
	}
	return c.commit(c.pins.Place(ctx, pin, v))
}

// step makes the next step with a pin on a peer.
func (c at) step(v *view, id api.Cid) kind {
	pin, err := c.pins.Get(c.t.Context(), id)
	if err != nil {
		return nothing
	}
	s := v.plan(pin)
	if s.kind == nothing {
		return nothing
	}
	r := &runner{Cluster: c, members: newMembers(delay, nil, time.Time{})}
	k, err := r.makeOne(c.t.Context(), v, s)
	require.NoError(c.t, err)
	return k
}

func quiet(moment) {}

// views are what a peer sees at the three steps of a move.
func views() map[kind]*view {
	return map[kind]*view{replace: viewOf("a1", "c1"), approach: viewOf("a1"), arrive: viewOf("a1")}
}

// history is one decision that falls into one step of a move.
type history struct {
	what decision
	step kind
	when moment
	by   int // the peer that the client asks; peer 1 moves
	swap bool
}

func (h history) String() string {
	return fmt.Sprintf("%s on peer %d at step %d, %s, messages the other way round: %v", h.what, h.by, h.step, h.when, h.swap)
}

// run carries a history out and returns what is wrong in the end.
func (h history) run(t *testing.T, old bool) error {
	n := newNetwork(t)
	defer n.close()
	c := key(1)
	pin := newPin(c, 2, ids("a1", "c1")...)
	pin.Name, pin.Timestamp = "old", time.Unix(1e8, 0)
	require.NoError(t, n.peers[0].commit(n.peers[0].pins.Add(t.Context(), pin)))
	n.deliverAll(0, 1, 2)
	mover := at{n.peers[1], old, quiet}
	for _, k := range []kind{replace, approach, arrive} {
		if k == h.step {
			break
		}
		require.Equal(t, k, mover.step(views()[k], c))
		n.deliverAll(0, 1, 2)
	}
	decided := false
	mover.on = func(m moment) {
		if m == h.when && !decided {
			decided = true
			n.peers[h.by].decide(h.what, c)
		}
	}
	mover.step(views()[h.step], c)
	order := []int{0, 1, 2}
	if h.swap {
		order = []int{2, 1, 0}
	}
	if h.when == afterAll {
		n.deliverAll(order...)
		mover.on(afterAll)
	}
	require.True(t, decided)
	n.deliverAll(order...)
	// Everybody goes on moving.
	for range 4 {
		for i, r := range n.peers {
			at{r, old, quiet}.step(viewOf([]string{"a1", "b1", "c1"}[i]), c)
			n.deliverAll(order...)
		}
	}
	for _, r := range n.peers {
		if err := r.holds(h.what, c); err != nil {
			return err
		}
	}
	return nil
}

func histories() (all []history) {
	for _, what := range []decision{unpin, rename, expire} {
		for _, step := range []kind{replace, approach, arrive} {
			for _, when := range []moment{beforeRead, afterRead, whileAsking, beforeWrite, afterWrite, afterAll} {
				if when == whileAsking && step != arrive {
					continue
				}
				for _, by := range []int{0, 1} {
					for _, swap := range []bool{false, true} {
						all = append(all, history{what, step, when, by, swap})
					}
				}
			}
		}
	}
	return all
}

// A client's decision holds on all peers, at whichever step of a move, and whichever moment of
// it, it is made, by the moving peer or another one.
func TestNoMoveUndoesADecision(t *testing.T) {
	for _, h := range histories() {
		require.NoError(t, h.run(t, false), h)
	}
	t.Logf("%d histories", len(histories()))
}

// The control: the same histories, with moves that write the pin again. If they undo no
// decision any more, the test above proves nothing.
func TestMovesThatWriteThePinAgainUndoDecisions(t *testing.T) {
	undone := map[decision]int{}
	for _, h := range histories() {
		if err := h.run(t, true); err != nil {
			undone[h.what]++
		}
	}
	t.Logf("of %d histories these were undone: %v", len(histories()), undone)
	for _, what := range []decision{unpin, rename, expire} {
		require.NotZero(t, undone[what], what)
	}
}

// Clients decide about ten pins, each by one peer, while all peers move them and messages
// arrive in any order. In the end every pin is as it was decided last, on all peers.
func TestRandomMovesUndoNoDecision(t *testing.T) {
	random := gate.Random(t)
	for range gate.Rounds(5, 20, 500) {
		randomHistory(t, random)
	}
}

func randomHistory(t *testing.T, random *rand.Rand) {
	n := newNetwork(t)
	defer n.close()
	const pins = 10
	last := map[int]decision{} // of each pin that exists, or existed
	moves := 0
	for range 300 {
		i := random.IntN(pins)
		c, owner, anyone := key(i), n.peers[i%3], n.peers[random.IntN(3)]
		switch random.IntN(6) {
		case 0:
			existed := last[i] != "" && last[i] != unpin
			if !existed {
				pin := newPin(c, 2, ids("a1", "c1")...)
				pin.Name, pin.Timestamp = "old", time.Unix(int64(random.IntN(1e6)), 0)
				require.NoError(t, owner.commit(owner.pins.Add(t.Context(), pin)))
				last[i] = "pin"
				break
			}
			what := []decision{unpin, rename, expire}[random.IntN(3)]
			owner.decide(what, c)
			last[i] = what
		case 1, 2, 3:
			v := views()[[]kind{replace, approach}[random.IntN(2)]]
			if (at{anyone, false, quiet}).step(v, c) != nothing {
				moves++
			}
		default:
			if len(anyone.inbox) > 0 {
				anyone.deliver(random.IntN(len(anyone.inbox)))
			}
		}
	}
	n.deliverAll(0, 1, 2)
	require.NotZero(t, moves)
	for i, what := range last {
		var first api.Pin
		for j, r := range n.peers {
			require.NoError(t, r.holds(what, key(i)))
			if what == unpin {
				continue
			}
			pin, err := r.pins.Get(t.Context(), key(i))
			require.NoError(t, err)
			if j == 0 {
				first = pin
			}
			require.Equal(t, first, pin, "all peers say the same")
		}
	}
}
