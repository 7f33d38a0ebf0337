package catchup

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
)

// side is a peer as the others see it: its consensus and its changes.
type side struct {
	loading   error
	heads     []cid.Cid
	missing   []frontier.Missing
	done      map[frontier.Change]bool
	held      map[frontier.Change]bool
	count     uint64
	trusts    func(peer.ID) bool
	announced []frontier.Change
	reopened  []frontier.Change
}

func newSide() *side {
	return &side{done: map[frontier.Change]bool{}, held: map[frontier.Change]bool{}}
}

func (s *side) Loaded() error                   { return s.loading }
func (s *side) Heads(context.Context) []cid.Cid { return s.heads }
func (s *side) Announce(cids []cid.Cid) error {
	for _, c := range cids {
		s.announced = append(s.announced, frontier.Named(c))
	}
	return nil
}
func (s *side) IsTrustedPeer(_ context.Context, id peer.ID) bool {
	return s.trusts == nil || s.trusts(id)
}
func (s *side) Missing() []frontier.Missing { return s.missing }
func (s *side) Applied() uint64             { return s.count }
func (s *side) IsApplied(_ context.Context, c frontier.Change) (bool, error) {
	return s.done[c], nil
}
func (s *side) Holds(_ context.Context, c frontier.Change) (bool, error) { return s.held[c], nil }
func (s *side) Reopen(_ context.Context, c frontier.Change) error {
	s.reopened = append(s.reopened, c)
	return nil
}

func change(t *testing.T, i int) cid.Cid {
	mh, err := multihash.Sum([]byte(fmt.Sprint(i)), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

// world is this peer among others, with a clock that is wound by hand.
type world struct {
	*side
	others map[peer.ID]answer
	peers  []Peer
	clock  time.Time
	*Catchup
}

func newWorld(others ...string) *world {
	w := &world{side: newSide(), others: map[peer.ID]answer{}, clock: time.Unix(1e9, 0)}
	for _, name := range others {
		w.peers = append(w.peers, Peer{Name: name, ID: peer.ID(name), Connected: true, Tried: true})
		w.others[peer.ID(name)] = answer{}
	}
	w.Catchup = newCatchup(w.side, w.side, func(_ context.Context, id peer.ID, _ question) (answer, error) {
		a, ok := w.others[id]
		if !ok {
			return a, errors.New("no answer")
		}
		return a, nil
	})
	w.now = func() time.Time { return w.clock }
	return w
}

// check lets seconds pass in steps of two and returns the last status.
func (w *world) check(seconds int) Status {
	for range max(seconds/2, 1) {
		w.clock = w.clock.Add(2 * time.Second)
		w.Catchup.Check(context.Background(), w.peers)
	}
	return w.Catchup.Check(context.Background(), w.peers)
}

func TestAPeerIsReadyWhenItHasAppliedWhatTheOthersHave(t *testing.T) {
	w := newWorld("a", "b")
	w.loading = errors.New("loading")
	require.Equal(t, Status{Detail: "loading"}, w.check(2))
	w.loading = nil
	head := change(t, 1)
	w.others["b"] = answer{Heads: []string{head.String()}}
	s := w.check(2)
	require.False(t, s.OK)
	require.Equal(t, []string{"change " + string(frontier.Named(head)) + " of b"}, s.Missing)
	require.Contains(t, s.Detail, "1 changes are not here yet")

	// It is applied, but what is before it is not.
	w.done[frontier.Named(head)] = true
	w.missing = []frontier.Missing{{Change: frontier.Named(change(t, 0)), Since: w.clock, After: []frontier.Change{frontier.Named(head)}}}
	require.False(t, w.check(2).OK)
	w.missing = nil
	s = w.check(2)
	require.True(t, s.OK)
	require.Equal(t, "the pinset is that of a, b", s.Detail)
	require.Empty(t, s.Missing)
	require.Empty(t, w.announced, "nothing was stuck")
}

func TestWhoIsWaitedFor(t *testing.T) {
	w := newWorld("away", "silent")
	w.peers[0].Connected, w.peers[0].Tried = false, false
	delete(w.others, "silent")
	s := w.check(2)
	require.False(t, s.OK, "nobody knows yet what the first one has")
	require.Equal(t, []string{"peer away", "peer silent"}, s.Missing)
	w.peers[0].Tried = true
	s = w.check(2)
	require.False(t, s.OK, "the other one is connected and may be busy")
	require.Equal(t, []string{"peer silent"}, s.Missing)
	s = w.check(int(silentFor / time.Second))
	require.True(t, s.OK, "with two of three away the third is ready")
	require.Contains(t, s.Detail, "no answer from silent")
}

func TestAChangeThatNobodyHasIsNotWaitedFor(t *testing.T) {
	w := newWorld("a")
	lost := frontier.Missing{Change: frontier.Named(change(t, 1)), Since: w.clock}
	w.missing = []frontier.Missing{lost}
	require.False(t, w.check(2).OK, "somebody may have it")
	s := w.check(int(healAfter / time.Second))
	require.True(t, s.OK)
	require.Contains(t, s.Detail, "1 changes are held by no peer that answers")
	require.Empty(t, w.announced, "asking for it would only block the others")

	w.others["a"] = answer{Holds: []string{change(t, 1).String()}}
	require.Contains(t, w.check(2).Detail, "not here yet")
	w.check(2 * int(healAfter/time.Second))
	require.Equal(t, []frontier.Change{lost.Change}, w.announced[:1])
}

func TestWhatIsStuckIsTakenUpFromItsSuccessor(t *testing.T) {
	w := newWorld("a")
	oldest, older, newest := frontier.Named(change(t, 0)), frontier.Named(change(t, 1)), frontier.Named(change(t, 2))
	top := frontier.Named(change(t, 3))
	w.missing = []frontier.Missing{
		{Change: oldest, Since: w.clock, After: []frontier.Change{older}}, // comes with older
		{Change: older, Since: w.clock, After: []frontier.Change{newest}, Tops: []frontier.Change{top}},
	}
	w.others["a"] = answer{Holds: []string{change(t, 0).String(), change(t, 1).String()}}
	w.done[newest] = true
	w.check(int(healAfter/time.Second) - 2)
	require.Empty(t, w.announced, "it may still come by itself")
	w.check(4)
	require.Equal(t, []frontier.Change{newest, top}, w.announced, "in this order")
	require.Equal(t, []frontier.Change{newest, top}, w.reopened)

	// No storm: the intervals double up to the longest one.
	w.check(3600)
	require.Less(t, len(w.announced), 2*(5+int(time.Hour/healAtMost)))
	w.missing = nil
	n := len(w.announced)
	w.check(600)
	require.Len(t, w.announced, n)
	require.Empty(t, w.attempts)
}

func TestManyStuckChangesAreTakenUpAFewAtATime(t *testing.T) {
	w := newWorld("a")
	var heads []string
	for i := range 100 {
		heads = append(heads, change(t, i).String())
	}
	w.others["a"] = answer{Heads: heads}
	w.check(int(healAfter/time.Second) + 2)
	require.Len(t, w.announced, healAtOnce)
}

func TestAReadyPeerMayBeBehindAsLongAsItGetsAhead(t *testing.T) {
	w := newWorld("a")
	require.True(t, w.check(2).OK)
	for i := range 100 {
		w.others["a"] = answer{Heads: []string{change(t, i).String()}}
		w.count++
		require.True(t, w.check(2).OK)
	}
	require.Empty(t, w.announced)
	require.False(t, w.check(int(stuckAfter/time.Second)+2).OK, "nothing has come for a minute")
	w.others["a"] = answer{}
	require.True(t, w.check(2).OK)
}

func TestAfterAPauseItHasToCatchUp(t *testing.T) {
	w := newWorld("a")
	require.True(t, w.check(2).OK)
	w.others["a"] = answer{Heads: []string{change(t, 1).String()}}
	require.True(t, w.check(2).OK)
	w.clock = w.clock.Add(time.Minute) // the process was stopped
	require.False(t, w.Catchup.Check(context.Background(), w.peers).OK)
	w.done[frontier.Named(change(t, 1))] = true
	require.True(t, w.check(2).OK)
}

func newHost(t *testing.T) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func TestPeersAnswerWhomTheyTrust(t *testing.T) {
	here, there := newHost(t), newHost(t)
	s := newSide()
	s.heads = []cid.Cid{change(t, 1)}
	s.held[frontier.Named(change(t, 2))] = true
	trusted := false
	s.trusts = func(id peer.ID) bool { return trusted && id == here.ID() }
	New(there, s, s)
	require.NoError(t, here.Connect(t.Context(), peer.AddrInfo{ID: there.ID(), Addrs: there.Addrs()}))

	q := question{Holds: []string{change(t, 2).String(), change(t, 3).String(), "no CID"}}
	_, err := ask(t.Context(), here, there.ID(), q)
	require.Error(t, err)
	trusted = true
	a, err := ask(t.Context(), here, there.ID(), q)
	require.NoError(t, err)
	require.Equal(t, answer{Heads: []string{change(t, 1).String()}, Holds: []string{change(t, 2).String()}}, a)
	s.loading = errors.New("loading")
	_, err = ask(t.Context(), here, there.ID(), q)
	require.Error(t, err, "what is not loaded is not known")
	stock := newHost(t)
	require.NoError(t, here.Connect(t.Context(), peer.AddrInfo{ID: stock.ID(), Addrs: stock.Addrs()}))
	_, err = ask(t.Context(), here, stock.ID(), q)
	require.ErrorIs(t, err, errUnknown, "ipfs-cluster's own")
}
