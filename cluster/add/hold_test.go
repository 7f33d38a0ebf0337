package add

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"
)

// pins is a node's pins and blocks in memory.
type pins struct {
	mu     sync.Mutex
	names  map[string]string // of the pins, by CID
	blocks map[string]bool
	asked  chan struct{} // receives a value when a pin begins
	block  chan struct{} // pins wait until it is closed, if it is not nil
	fail   string        // what pins fail with
}

func newPins() *pins {
	return &pins{names: map[string]string{}, blocks: map[string]bool{}, asked: make(chan struct{}, 100)}
}

func (p *pins) has(id cid.Cid) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.names[id.String()]
	return ok
}

func refuse(w http.ResponseWriter, message string) {
	w.WriteHeader(http.StatusInternalServerError)
	_ = json.NewEncoder(w).Encode(map[string]any{"Message": message, "Code": 0, "Type": "error"})
}

func (p *pins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	arg, command := q.Get("arg"), strings.TrimPrefix(r.URL.Path, "/api/v0/")
	if command == "pin/add" {
		p.asked <- struct{}{}
		if p.block != nil {
			select {
			case <-p.block:
			case <-r.Context().Done():
				return
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch command {
	case "pin/add":
		if p.fail != "" {
			refuse(w, p.fail)
			return
		}
		p.names[arg] = q.Get("name")
		_, _ = fmt.Fprintf(w, `{"Pins":[%q]}`, arg)
	case "pin/rm":
		if _, ok := p.names[arg]; !ok {
			refuse(w, "not pinned or pinned indirectly")
			return
		}
		delete(p.names, arg)
		_, _ = fmt.Fprintf(w, `{"Pins":[%q]}`, arg)
	case "pin/ls":
		if arg != "" {
			if _, ok := p.names[arg]; !ok {
				refuse(w, "path '"+arg+"' is not pinned")
			}
			return
		}
		for id, name := range p.names {
			if strings.Contains(name, q.Get("name")) {
				_ = json.NewEncoder(w).Encode(map[string]string{"Cid": id, "Name": name, "Type": "recursive"})
			}
		}
	case "block/stat":
		if !p.blocks[arg] {
			refuse(w, "block was not found locally (offline): ipld: could not find "+arg)
		}
	default:
		refuse(w, "not known: "+command)
	}
}

// pinset says what a peer keeps.
type pinset struct {
	mu   sync.Mutex
	kept map[cid.Cid]bool
	err  error
}

func (p *pinset) keeps(_ context.Context, id cid.Cid) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[id], p.err
}

func holdsOn(t *testing.T, p *pins, kept ...cid.Cid) *Holds {
	s := &pinset{kept: map[cid.Cid]bool{}}
	for _, id := range kept {
		s.kept[id] = true
	}
	return NewHolds(node(t, p.ServeHTTP), s.keeps)
}

var root = leaf("root").Cid()

func TestAHoldEndsAsItsAddDoes(t *testing.T) {
	ctx := context.Background()
	p := newPins()
	h := holdsOn(t, p)
	for _, keep := range []bool{false, true} {
		require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
		require.True(t, p.has(root))
		require.True(t, strings.HasPrefix(p.names[root.String()], heldName))
		require.NoError(t, h.end(ctx, root, keep))
		require.Equal(t, keep, p.has(root))
		require.Empty(t, h.by)
	}
	// What was pinned before stays, whoever had pinned it.
	require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
	require.NoError(t, h.end(ctx, root, false))
	require.True(t, p.has(root))
}

func TestAHoldThatFailsLeavesNothing(t *testing.T) {
	ctx := context.Background()
	p := newPins()
	h := holdsOn(t, p)
	p.fail = "the disk is full"
	require.ErrorContains(t, h.take(ctx, holdRequest{Root: root}, nil), "the disk is full")
	require.Empty(t, h.by)
	p.fail = ""

	var incomplete *Incomplete
	gone := leaf("gone").Cid()
	err := h.take(ctx, holdRequest{Root: root, Check: []cid.Cid{gone}}, nil)
	require.ErrorAs(t, err, &incomplete)
	require.Equal(t, []cid.Cid{gone}, incomplete.Missing)
	require.False(t, p.has(root))
	p.blocks[gone.String()] = true
	require.NoError(t, h.take(ctx, holdRequest{Root: root, Check: []cid.Cid{gone}}, nil))
	require.NoError(t, h.end(ctx, root, false))

	// No block comes: what is missing is named.
	p.block = make(chan struct{})
	h.stall = 10 * time.Millisecond
	err = h.take(ctx, holdRequest{Root: root}, nil)
	require.ErrorAs(t, err, &incomplete)
	require.Equal(t, []cid.Cid{root}, incomplete.Missing)
	require.Empty(t, h.by)
}

// TestAddsOfTheSame hold one root: the last one decides, and one that ended well does.
func TestAddsOfTheSame(t *testing.T) {
	ctx := context.Background()
	for _, x := range []struct {
		ends []bool
		want bool
	}{{[]bool{false, false}, false}, {[]bool{true, false}, true}, {[]bool{false, true}, true}} {
		p := newPins()
		h := holdsOn(t, p)
		require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
		require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
		require.NoError(t, h.end(ctx, root, x.ends[0]))
		require.True(t, p.has(root), "the other one holds it")
		require.NoError(t, h.end(ctx, root, x.ends[1]))
		require.Equal(t, x.want, p.has(root), x.ends)
	}
	// One that fails while another waits for its turn.
	p := newPins()
	p.block = make(chan struct{})
	h := holdsOn(t, p)
	first, cancel := context.WithCancel(ctx)
	results := make(chan error, 2)
	go func() { results <- h.take(first, holdRequest{Root: root}, nil) }()
	<-p.asked
	go func() { results <- h.take(ctx, holdRequest{Root: root}, nil) }()
	require.Eventually(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.by[root].users == 2 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	<-p.asked // it is pinned for the second one
	close(p.block)
	require.NoError(t, <-results)
	require.True(t, p.has(root))
	require.NoError(t, h.end(ctx, root, true))
	require.True(t, p.has(root))
}

func TestWhatThePinsetKeepsIsNotLetGoOf(t *testing.T) {
	ctx := context.Background()
	p := newPins()
	h := holdsOn(t, p, root)
	require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
	require.NoError(t, h.end(ctx, root, false))
	require.True(t, p.has(root))

	p = newPins()
	s := &pinset{err: errors.New("it is being loaded")}
	h = NewHolds(node(t, p.ServeHTTP), s.keeps)
	require.NoError(t, h.take(ctx, holdRequest{Root: root}, nil))
	require.ErrorContains(t, h.end(ctx, root, false), "it is being loaded")
	require.True(t, p.has(root), "the sweep will see")
}

func TestSweep(t *testing.T) {
	ctx := context.Background()
	p := newPins()
	stray, young, own, kept, held, told := leaf("stray").Cid(), leaf("young").Cid(), leaf("own").Cid(), leaf("kept").Cid(), leaf("held").Cid(), leaf("told").Cid()
	h := holdsOn(t, p, kept)
	old := heldName + time.Now().Add(-2*time.Hour).UTC().Format(time.RFC3339)
	require.NoError(t, h.take(ctx, holdRequest{Root: held}, nil))
	require.NoError(t, h.take(ctx, holdRequest{Root: told}, nil))
	require.NoError(t, h.end(ctx, told, true)) // and this peer's pinset does not have it yet
	for _, id := range []cid.Cid{stray, kept, held, told} {
		p.names[id.String()] = old
	}
	p.names[young.String()] = heldName + time.Now().UTC().Format(time.RFC3339)
	p.names[own.String()] = "my " + old
	n, err := h.Sweep(ctx, time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.False(t, p.has(stray))
	for _, id := range []cid.Cid{young, own, kept, held, told} {
		require.True(t, p.has(id))
	}
	require.NoError(t, h.end(ctx, held, true))
}

func TestAnotherPeerHolds(t *testing.T) {
	for name, x := range map[string]struct {
		end  func(*testing.T, host.Host, Hold)
		want bool
	}{
		"kept":                     {func(t *testing.T, _ host.Host, o Hold) { require.NoError(t, o.End(t.Context(), true)) }, true},
		"let go of":                {func(t *testing.T, _ host.Host, o Hold) { require.NoError(t, o.End(t.Context(), false)) }, false},
		"nobody said how it ended": {func(t *testing.T, from host.Host, o Hold) { require.NoError(t, o.(*otherHold).s.Reset()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := hosts(t)
			p := newPins()
			holds := holdsOn(t, p)
			Receive(to, node(t, p.ServeHTTP), holds, everybody)
			o, err := hold(t.Context(), from, to.ID(), holdRequest{Root: root})
			require.NoError(t, err)
			require.True(t, p.has(root))
			x.end(t, from, o)
			require.Eventually(t, func() bool { holds.mu.Lock(); defer holds.mu.Unlock(); return len(holds.by) == 0 }, 10*time.Second, time.Millisecond)
			require.Equal(t, x.want, p.has(root))
		})
	}
}

func TestAnotherPeerDoesNotHold(t *testing.T) {
	from, to := hosts(t)
	p := newPins()
	holds := holdsOn(t, p)
	Receive(to, node(t, p.ServeHTTP), holds, everybody)
	gone := leaf("gone").Cid()
	_, err := hold(t.Context(), from, to.ID(), holdRequest{Root: root, Check: []cid.Cid{gone}})
	var incomplete *Incomplete
	require.ErrorAs(t, err, &incomplete)
	require.Equal(t, &Incomplete{Root: root, Missing: []cid.Cid{gone}}, incomplete)
	p.fail = "the disk is full"
	_, err = hold(t.Context(), from, to.ID(), holdRequest{Root: root})
	require.ErrorContains(t, err, "the disk is full")
	p.fail = ""

	// The add ends while the node pins.
	p.block = make(chan struct{})
	for len(p.asked) > 0 {
		<-p.asked
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-p.asked; cancel(errors.New("the client is gone")) }()
	_, err = hold(ctx, from, to.ID(), holdRequest{Root: root})
	require.Error(t, err)
	require.Eventually(t, func() bool { holds.mu.Lock(); defer holds.mu.Unlock(); return len(holds.by) == 0 }, 10*time.Second, time.Millisecond)
	require.False(t, p.has(root))
}
