package add

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	dag "github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

// peers is a cluster in memory. What a peer does with its stream can be set.
type peers struct {
	ids    []peer.ID
	stream map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error

	copy map[peer.ID]func(context.Context, func()) error
	hold map[peer.ID]func(ctx context.Context, root cid.Cid, check []cid.Cid) error
	// pin is what writing the pin returns.
	pin error

	mu     sync.Mutex
	lanes  [][]peer.ID
	held   map[peer.ID]int
	pinned []api.Pin
	ended  []string // holds, by peer, and whether they are kept
}

func (p *peers) Self() peer.ID { return "self" }

func (p *peers) Allocate(context.Context, api.PinOptions) ([]peer.ID, error) {
	return append([]peer.ID{}, p.ids...), nil
}

func (p *peers) Pin(_ context.Context, pin api.Pin) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pinned = append(p.pinned, pin)
	return p.pin
}

// Stream gives every destination of a lane its own stream. The lane ends when the
// first destination does, as one that is killed takes the second with it.
func (p *peers) Stream(ctx context.Context, dests []peer.ID, blocks <-chan api.NodeWithMeta) []error {
	p.mu.Lock()
	p.lanes = append(p.lanes, dests)
	p.mu.Unlock()
	if f := p.stream[dests[0]]; f != nil {
		err := f(ctx, blocks)
		return slices.Repeat([]error{err}, len(dests))
	}
	errs := make([]error, len(dests))
	for range blocks {
		p.mu.Lock()
		for _, d := range dests {
			p.held[d]++
		}
		p.mu.Unlock()
	}
	for i, d := range dests[1:] {
		if f := p.stream[d]; f != nil {
			errs[i+1] = f(ctx, blocks)
		}
	}
	return errs
}

func (p *peers) Copy(ctx context.Context, dest peer.ID, _ cid.Cid, moved func()) error {
	if f := p.copy[dest]; f != nil {
		return f(ctx, moved)
	}
	return errors.New("reach the peer: refused")
}

// heldBy is a hold in memory.
type heldBy struct {
	p  *peers
	id peer.ID
}

func (h heldBy) End(_ context.Context, keep bool) error {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.ended = append(h.p.ended, fmt.Sprintf("%s %v", string(h.id), keep))
	return nil
}

func (p *peers) Hold(ctx context.Context, dest peer.ID, root cid.Cid, check []cid.Cid) (Hold, error) {
	if f := p.hold[dest]; f != nil {
		if err := f(ctx, root, check); err != nil {
			return nil, err
		}
	}
	return heldBy{p, dest}, nil
}

const blockCount = 3 * window

// add sends blocks through a Fanout, as the adder does.
func add(t *testing.T, p *peers, params api.AddParams, minimum int) (*Fanout, error) {
	p.held, p.lanes = map[peer.ID]int{}, nil
	f := newFanout(context.Background(), p, params, minimum)
	f.stall = 20 * time.Millisecond
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	var root api.Cid
	for i := range blockCount {
		n := dag.NewRawNode([]byte(fmt.Sprint(i)))
		for range 2 { // blocks come twice in a row at times
			if err := f.Add(context.Background(), n); err != nil {
				return f, err
			}
		}
		root = api.NewCid(n.Cid())
	}
	got, err := f.Finalize(context.Background(), root)
	if err == nil {
		require.Equal(t, root, got)
	}
	return f, err
}

func TestAllDestinationsGetEverything(t *testing.T) {
	p := &peers{ids: []peer.ID{"a", "", "c"}}
	f, err := add(t, p, api.DefaultAddParams(), 1)
	require.NoError(t, err)
	require.Empty(t, f.Missing())
	require.Equal(t, map[peer.ID]int{"a": blockCount, "self": blockCount, "c": blockCount}, p.held)
	require.Len(t, p.pinned, 1)
	require.Equal(t, []peer.ID{"a", "self", "c"}, f.Allocations())
	require.ElementsMatch(t, []string{"a true", "self true", "c true"}, p.ended)
}

func TestTwoDestinationsShareALane(t *testing.T) {
	for _, c := range []struct{ targets, lanes string }{
		{"self", "[[self]]"},
		{"a", "[[a]]"},
		{"a self", "[[self] [a]]"},
		{"a self b", "[[self] [a b]]"},
		{"a b c d self", "[[self] [a b] [c d]]"},
		{"a b c self", "[[self] [a b] [c]]"},
		{"a b c", "[[a] [b] [c]]"}, // nobody could make up for a
	} {
		var targets []peer.ID
		for _, id := range strings.Fields(c.targets) {
			targets = append(targets, peer.ID(id))
		}
		var got [][]string
		for _, lane := range lanes("self", targets) {
			var ids []string
			for _, id := range lane {
				ids = append(ids, string(id))
			}
			got = append(got, ids)
		}
		require.Equal(t, c.lanes, fmt.Sprint(got), c.targets)
	}
}

func TestWhatSharedALaneWithOneThatFailedIsMadeUpFor(t *testing.T) {
	takes := func(n int, err error) func(context.Context, <-chan api.NodeWithMeta) error {
		return func(_ context.Context, blocks <-chan api.NodeWithMeta) error {
			for range n {
				<-blocks
			}
			return err
		}
	}
	slow := func(_ context.Context, moved func()) error {
		for range 10 {
			time.Sleep(10 * time.Millisecond) // longer than the stall limit in all
			moved()
		}
		return nil
	}
	killed := errors.New("stream reset")
	for _, c := range []struct {
		name    string
		stream  map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error
		copy    map[peer.ID]func(context.Context, func()) error
		minimum int
		missing map[peer.ID]string
		fails   string
	}{
		{name: "the first is killed", minimum: 2,
			stream:  map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"a": takes(2, killed)},
			copy:    map[peer.ID]func(context.Context, func()) error{"b": slow},
			missing: map[peer.ID]string{"a": "stream reset; once more: reach the peer: refused"}},
		{name: "the first is back", minimum: 3,
			stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"a": takes(blockCount, killed)},
			copy:   map[peer.ID]func(context.Context, func()) error{"a": slow, "b": slow}},
		{name: "the second fails", minimum: 2,
			stream:  map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"b": takes(0, errors.New("disk full"))},
			missing: map[peer.ID]string{"b": "disk full; once more: reach the peer: refused"}},
		{name: "the second stands still", minimum: 2,
			stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"a": takes(2, killed)},
			copy: map[peer.ID]func(context.Context, func()) error{"b": func(ctx context.Context, _ func()) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}},
			fails: "it took no block for 20ms"},
		{name: "this peer's own node fails", minimum: 1,
			stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"self": takes(1, errors.New("no space")), "a": takes(2, killed)},
			copy:   map[peer.ID]func(context.Context, func()) error{"a": slow, "b": slow},
			fails:  "only 0 of 3 destinations are left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &peers{ids: []peer.ID{"a", "", "b"}, stream: c.stream, copy: c.copy}
			f, err := add(t, p, api.DefaultAddParams(), c.minimum)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.Empty(t, p.pinned)
				return
			}
			require.NoError(t, err)
			missing := map[peer.ID]string{}
			for _, m := range f.Missing() {
				missing[m.Peer] = m.Error
			}
			if c.missing == nil {
				c.missing = missing
				require.Empty(t, missing)
			}
			require.Equal(t, c.missing, missing)
			require.Len(t, p.pinned, 1)
		})
	}
}

func TestADestinationThatFailsIsNamed(t *testing.T) {
	p := &peers{ids: []peer.ID{"a", "b", "c"}, stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{
		"b": func(_ context.Context, blocks <-chan api.NodeWithMeta) error {
			<-blocks
			return errors.New("disk full")
		},
	}}
	f, err := add(t, p, api.DefaultAddParams(), 2)
	require.NoError(t, err)
	require.Equal(t, []Missing{{Peer: "b", Error: "disk full"}}, f.Missing())
	require.Equal(t, blockCount, p.held["a"])
	require.Len(t, p.pinned, 1, "it fetches the content later")
}

func TestADestinationThatFailsAtTheEndIsNamed(t *testing.T) {
	p := &peers{ids: []peer.ID{"a", "b"}, stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{
		"b": func(_ context.Context, blocks <-chan api.NodeWithMeta) error {
			for range blocks {
			}
			return errors.New("not stored")
		},
	}}
	f, err := add(t, p, api.DefaultAddParams(), 1)
	require.NoError(t, err)
	require.Equal(t, []Missing{{Peer: "b", Error: "not stored"}}, f.Missing())
}

func TestADestinationThatStandsStillIsLeftBehind(t *testing.T) {
	for name, takes := range map[string]int{"in the middle": 1, "at the end": blockCount} {
		t.Run(name, func(t *testing.T) {
			p := &peers{ids: []peer.ID{"a", "b"}, stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{
				"b": func(ctx context.Context, blocks <-chan api.NodeWithMeta) error {
					for range takes {
						<-blocks
					}
					<-ctx.Done()
					return ctx.Err()
				},
			}}
			f, err := add(t, p, api.DefaultAddParams(), 1)
			require.NoError(t, err)
			require.Len(t, f.Missing(), 1)
			require.Equal(t, peer.ID("b"), f.Missing()[0].Peer)
			require.Contains(t, f.Missing()[0].Error, "20ms")
			require.Equal(t, blockCount, p.held["a"])
		})
	}
}

func TestTooFewDestinations(t *testing.T) {
	gone := func(context.Context, <-chan api.NodeWithMeta) error { return errors.New("gone") }
	p := &peers{ids: []peer.ID{"a", "b", "c"}, stream: map[peer.ID]func(context.Context, <-chan api.NodeWithMeta) error{"b": gone, "c": gone}}
	_, err := add(t, p, api.DefaultAddParams(), 2)
	require.ErrorContains(t, err, "only 1 of 3 destinations are left, 2 are needed")
	require.ErrorContains(t, err, "gone")
	require.Empty(t, p.pinned)
	_, err = add(t, &peers{}, api.DefaultAddParams(), 1)
	require.ErrorContains(t, err, "no peer to add to")
}

func TestLocalAndNoPin(t *testing.T) {
	params := api.DefaultAddParams()
	params.Local, params.NoPin = true, true
	p := &peers{ids: []peer.ID{"a", "b"}}
	f, err := add(t, p, params, 2)
	require.NoError(t, err)
	require.Equal(t, map[peer.ID]int{"self": blockCount}, p.held)
	require.Equal(t, []peer.ID{"a", "self"}, f.Allocations())
	require.Empty(t, p.pinned)
	require.Equal(t, []string{"self false"}, p.ended)
}

func TestAnswers(t *testing.T) {
	missing := []Missing{{Peer: "b", Name: "task-2", Error: "gone"}}
	objects := []added{{AddedOutput: api.AddedOutput{Name: "f"}}, {AddedOutput: api.AddedOutput{Name: "dir"}}}
	code := 500
	answer := func(stream bool, missing []Missing, err error) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a := newAnswer(w, stream)
		for _, o := range objects {
			a.add(o)
		}
		a.end(missing, code, err)
		return w
	}
	w := answer(true, missing, nil)
	require.Regexp(t, `^\{"name":"f",[^\n]*\}\n\{"name":"dir",[^\n]*"missing":\[\{"peer":"[^"]*","peername":"task-2","error":"gone"\}\]\}\n$`, w.Body.String())
	require.Equal(t, "task-2", w.Result().Trailer.Get(MissingTrailer))
	w = answer(true, nil, nil)
	require.NotContains(t, w.Body.String(), "missing")
	w = httptest.NewRecorder()
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		a := newAnswer(w, true)
		for _, o := range objects {
			a.add(o)
		}
		a.end(nil, code, errors.New("two\nlines"))
	}, "what is not whole breaks off")
	require.Regexp(t, `^\{"name":"f",[^\n]*\}\n\{"error":"two; lines","code":500\}\n$`, w.Body.String())
	require.NotContains(t, w.Body.String(), `"name":"dir"`, "what failed has no last object")
	w = answer(false, missing, nil)
	require.Equal(t, 200, w.Code)
	require.Regexp(t, `^\[\{"name":"f",.*"missing":\[.*\]\}\]\n$`, w.Body.String())
	w = answer(false, nil, errors.New("failed"))
	require.Equal(t, 500, w.Code)
	require.JSONEq(t, `{"code":500,"message":"failed"}`, w.Body.String())
	objects, code = objects[1:], 400 // as for a CAR file
	for _, stream := range []bool{false, true} {
		w = answer(stream, nil, errors.New("not complete"))
		require.Equal(t, 400, w.Code, "streaming %v", stream)
		require.JSONEq(t, `{"code":400,"message":"not complete"}`, w.Body.String())
	}
}
