package add

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// HoldProtocol is how a peer asks another one to hold the root of an add on its node.
// It sends a [holdRequest]. The other one sends one [holdReply] after the other, the
// last one with "held" or an error. Then, or before if the add has ended by then, the
// first one sends a [word], and the other one answers it with a last reply.
const HoldProtocol protocol.ID = "/cluster-aws/hold/1.0.0"

const (
	// heldName begins the names of the pins that adds make on nodes. The time of the
	// pin follows, as [time.RFC3339].
	heldName = "cluster-aws-add "

	// holdStall is for how long the node may go through no further block. It has them
	// all, unless a collection of garbage took some: a node that protects new blocks
	// takes milliseconds for each. A client behind CloudFront waits for 60 s.
	holdStall = 30 * time.Second

	// holdSlack is how much longer than that the peer that asks waits for another sign.
	holdSlack = 10 * time.Second

	// wordTimeout is how long a peer may take to let go of what it held, or to note
	// that it is kept. It writes one entry of the index of its pins.
	wordTimeout = 30 * time.Second

	// few is how many missing blocks are named.
	few = 5

	// checkLimit is how many blocks a destination looks at below the links that lead out
	// of a CAR file, before it leaves that to the pin: some seconds.
	checkLimit = 20_000

	// maxHold bounds a request, in bytes: [maxOpen] CIDs of up to 100 bytes.
	maxHold = 2 << 20
)

// Incomplete is the error of an add to a node that lacks blocks of it.
type Incomplete struct {
	Root    cid.Cid
	Missing []cid.Cid // the first few
}

func (e *Incomplete) Error() string {
	var names []string
	for _, id := range e.Missing {
		names = append(names, id.String())
	}
	return fmt.Sprintf("the content below %s is not complete: %s neither came nor was there before", e.Root, strings.Join(names, ", "))
}

type holdRequest struct {
	Root cid.Cid `json:"root"`
	// Check are CIDs below the root that are not known to have been stored.
	Check []cid.Cid `json:"check,omitempty"`
}

type holdReply struct {
	Held    bool      `json:"held,omitempty"`
	Blocks  int       `json:"blocks,omitempty"` // that the node went through so far
	Error   string    `json:"error,omitempty"`
	Missing []cid.Cid `json:"missing,omitempty"`
}

// word is how an add ended: its pin is in the pinset, or never will be.
type word struct {
	Keep bool `json:"keep"`
}

// Holds are the pins that adds under way have on this peer's node. The methods are
// safe for concurrent use.
type Holds struct {
	node *kubo.Client
	// pinned says whether the pinset says that this peer keeps a CID.
	pinned func(context.Context, cid.Cid) (bool, error)
	stall  time.Duration // holdStall

	mu sync.Mutex
	by map[cid.Cid]*held
	// kept are the CIDs of adds that ended well, with the time: the pinset of this
	// peer may not have them yet.
	kept map[cid.Cid]time.Time
}

// held is a root that one or more adds hold.
type held struct {
	turn  chan struct{} // has a value while nobody works on the node's pin
	users int           // adds that hold it or wait for their turn; under Holds.mu
	ours  bool          // an add made the pin: it was not there before
	kept  bool          // an add of it ended well
}

// NewHolds returns the holds of a node. pinned says whether the pinset says that
// this peer keeps a CID.
func NewHolds(node *kubo.Client, pinned func(context.Context, cid.Cid) (bool, error)) *Holds {
	return &Holds{node: node, pinned: pinned, stall: holdStall, by: map[cid.Cid]*held{}, kept: map[cid.Cid]time.Time{}}
}

// enter makes the caller a user of a root and waits for its turn.
func (h *Holds) enter(ctx context.Context, root cid.Cid) (*held, error) {
	h.mu.Lock()
	e := h.by[root]
	if e == nil {
		e = &held{turn: make(chan struct{}, 1)}
		e.turn <- struct{}{}
		h.by[root] = e
	}
	e.users++
	h.mu.Unlock()
	select {
	case <-e.turn:
		return e, nil
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(root, e)
		return nil, context.Cause(ctx)
	}
}

// drop ends the use of a root. The caller has locked mu.
func (h *Holds) drop(root cid.Cid, e *held) (last bool) {
	e.users--
	if e.users == 0 {
		delete(h.by, root)
	}
	return e.users == 0
}

// take makes sure that the node has the whole DAG below a root, and a pin of it. It
// calls progress as the node goes through the DAG. Call leave after it, if it
// returned nil.
func (h *Holds) take(ctx context.Context, r holdRequest, progress func(int)) error {
	if len(r.Check) > 0 {
		w, err := h.node.Missing(ctx, r.Check, few, checkLimit)
		if err != nil {
			return fmt.Errorf("look for the blocks that did not come: %w", err)
		}
		if len(w.Missing) > 0 {
			return &Incomplete{Root: r.Root, Missing: w.Missing}
		}
	}
	e, err := h.enter(ctx, r.Root)
	if err != nil {
		return err
	}
	was, err := h.node.Pinned(ctx, r.Root, "recursive")
	asked := err == nil && !was
	if asked {
		err = h.node.Pin(ctx, kubo.PinRequest{
			Cid: r.Root, Name: heldName + time.Now().UTC().Format(time.RFC3339), Stall: h.stall, Progress: progress,
		})
		e.ours = e.ours || err == nil
	}
	if err != nil {
		var stalled *kubo.StallError
		if errors.As(err, &stalled) {
			err = h.explain(ctx, r.Root, err)
		}
		// A request that was broken off may have been carried out.
		h.leave(context.WithoutCancel(ctx), r.Root, e, false, asked)
		return fmt.Errorf("hold the content on the node: %w", err)
	}
	e.turn <- struct{}{}
	return nil
}

// explain names what a node waits for that goes through no further block.
func (h *Holds) explain(ctx context.Context, root cid.Cid, err error) error {
	w, looked := h.node.Missing(ctx, []cid.Cid{root}, few, checkLimit)
	if looked == nil && len(w.Missing) > 0 {
		return &Incomplete{Root: root, Missing: w.Missing}
	}
	return err
}

// end is the end of a hold: the add's pin is in the pinset (keep), or never will be.
// Then the node lets go of the root, unless it had pinned it before, another add holds
// it or has kept it, or the pinset says that this peer keeps it.
func (h *Holds) end(ctx context.Context, root cid.Cid, keep bool) error {
	h.mu.Lock()
	e := h.by[root] // this add uses it
	h.mu.Unlock()
	select {
	case <-e.turn:
	case <-ctx.Done():
		return context.Cause(ctx) // it stays for the sweep
	}
	return h.leave(ctx, root, e, keep, false)
}

// leave ends the use of a root by the caller, who has the turn. unsure says that a
// pin may have been made.
func (h *Holds) leave(ctx context.Context, root cid.Cid, e *held, keep, unsure bool) error {
	defer func() { e.turn <- struct{}{} }()
	h.mu.Lock()
	if keep {
		e.kept = true
		h.kept[root] = time.Now()
	}
	last := e.users == 1
	h.mu.Unlock()
	var err error
	if last && (e.ours || unsure) && !e.kept {
		if err = h.unpin(ctx, root); err == nil {
			e.ours = false // for one that waits for its turn
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(root, e)
	return err
}

// unpin removes the node's pin of a root, unless the pinset says that it is kept.
func (h *Holds) unpin(ctx context.Context, root cid.Cid) error {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	pinned, err := h.pinned(ctx, root)
	if err == nil && !pinned {
		err = h.node.Unpin(ctx, root)
	}
	if err != nil {
		return fmt.Errorf("let go of %s: %w", root, err)
	}
	return nil
}

// Sweep removes the pins of adds whose end this peer never heard of: its own process or
// the one where the add arrived was killed in between. It leaves alone what the
// pinset says that this peer keeps, what adds hold right now, pins that others have made,
// and pins younger than age. It returns how many it removed.
func (h *Holds) Sweep(ctx context.Context, age time.Duration) (removed int, err error) {
	var stray []cid.Cid
	err = h.node.PinsNamed(ctx, heldName, func(p kubo.NamedPin) {
		at, err := time.Parse(time.RFC3339, strings.TrimPrefix(p.Name, heldName))
		if err == nil && time.Since(at) >= age {
			stray = append(stray, p.Cid)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("list the pins of adds: %w", err)
	}
	h.mu.Lock()
	for id, at := range h.kept {
		if time.Since(at) >= age {
			delete(h.kept, id)
		}
	}
	h.mu.Unlock()
	for _, root := range stray {
		gone, err := h.sweep(ctx, root)
		if err != nil {
			return removed, err
		}
		if gone {
			removed++
		}
	}
	return removed, nil
}

func (h *Holds) sweep(ctx context.Context, root cid.Cid) (bool, error) {
	pinned, err := h.pinned(ctx, root)
	if err != nil || pinned {
		return false, err
	}
	e, err := h.enter(ctx, root)
	if err != nil {
		return false, err
	}
	defer func() { e.turn <- struct{}{} }()
	h.mu.Lock()
	_, kept := h.kept[root]
	alone := e.users == 1 && !kept
	h.mu.Unlock()
	if alone {
		err = h.unpin(ctx, root)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(root, e)
	return alone && err == nil, err
}

// serveHold holds a root for another peer.
func (r *Receiver) serveHold(ctx context.Context, s network.Stream) {
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in, out := json.NewDecoder(io.LimitReader(s, maxHold)), json.NewEncoder(s)
	var req holdRequest
	if err := in.Decode(&req); err != nil {
		_ = out.Encode(holdReply{Error: fmt.Sprintf("read what is to be held: %s", err)}) // to one that may be gone
		return
	}
	ended := make(chan *word, 1)
	go func() {
		var w word
		if err := in.Decode(&w); err != nil {
			cancel(fmt.Errorf("the peer that adds is gone: %w", err))
			ended <- nil
			return
		}
		if !w.Keep {
			cancel(errors.New("the add has ended"))
		}
		ended <- &w
	}()
	err := r.holds.take(ctx, req, func(n int) { _ = out.Encode(holdReply{Blocks: n}) }) // one that is gone is noticed above
	if err != nil {
		reply := holdReply{Error: err.Error()}
		var incomplete *Incomplete
		if errors.As(err, &incomplete) {
			reply.Missing = incomplete.Missing
		}
		_ = out.Encode(reply)
		return
	}
	told := out.Encode(holdReply{Held: true}) == nil
	w := <-ended
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), wordTimeout)
	defer done()
	switch {
	case w != nil:
		err = r.holds.end(ending, req.Root, w.Keep)
	case told:
		// Whether the pinset has it is not known here: it stays, and Sweep decides.
		logger.Warnf("the peer that added %s is gone before it reported how that ended; the node holds it until the pinset has it, or an hour has passed", req.Root)
		err = r.holds.end(ending, req.Root, true)
	default:
		err = r.holds.end(ending, req.Root, false)
	}
	reply := holdReply{}
	if err != nil {
		logger.Warnf("the end of an add: %s", err)
		reply.Error = err.Error()
	}
	_ = out.Encode(reply)
}

// Hold is a root that a peer's node holds.
type Hold interface {
	// End says how the add ended: its pin is in the pinset (keep), or never will be.
	End(ctx context.Context, keep bool) error
}

type ownHold struct {
	holds *Holds
	root  cid.Cid
}

func (o ownHold) End(ctx context.Context, keep bool) error { return o.holds.end(ctx, o.root, keep) }

type otherHold struct {
	s  network.Stream
	in *json.Decoder
}

func (o *otherHold) End(ctx context.Context, keep bool) error {
	defer context.AfterFunc(ctx, func() { _ = o.s.Reset() })()
	var r holdReply
	err := json.NewEncoder(o.s).Encode(word{keep})
	for err == nil {
		r = holdReply{}
		err = o.in.Decode(&r)
		if err == nil && r.Blocks == 0 && !r.Held {
			break // the last one
		}
	}
	_ = o.s.Close()
	if err != nil {
		return fmt.Errorf("tell the peer how the add ended: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// hold makes another peer hold a root on its node.
func hold(ctx context.Context, h host.Host, dest peer.ID, req holdRequest) (Hold, error) {
	opening, opened := context.WithTimeout(ctx, openTimeout)
	s, err := h.NewStream(opening, dest, HoldProtocol)
	opened()
	if err != nil {
		return nil, fmt.Errorf("ask the peer to hold the content: %w", err)
	}
	o := &otherHold{s: s, in: json.NewDecoder(io.LimitReader(s, maxHold))}
	waited := time.AfterFunc(holdStall+holdSlack, func() { _ = s.Reset() })
	defer waited.Stop()
	if err := json.NewEncoder(s).Encode(req); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("ask the peer to hold the content: %w", err)
	}
	// An add that ends before the answer says so: the peer then stops and lets go.
	goesOn := context.AfterFunc(ctx, func() { _ = json.NewEncoder(s).Encode(word{}) })
	defer goesOn()
	for {
		var r holdReply
		err := o.in.Decode(&r)
		switch {
		case err != nil:
			_ = s.Reset()
			return nil, fmt.Errorf("wait for the peer to hold the content: %w", err)
		case len(r.Missing) > 0:
			_ = s.Close()
			return nil, &Incomplete{Root: req.Root, Missing: r.Missing}
		case r.Error != "":
			_ = s.Close()
			return nil, errors.New(r.Error)
		case r.Held && goesOn():
			return o, nil
		case r.Blocks == 0 && !r.Held:
			return nil, context.Cause(ctx) // the answer to the word
		}
		waited.Reset(holdStall + holdSlack)
	}
}
