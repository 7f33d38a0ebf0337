package reach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
)

var logger = logging.Logger("cluster-aws")

// Protocol is how a peer asks another one to answer when it has applied changes: one JSON
// object each way on a stream.
//
//	→ {"changes":["CID",…]}
//	← {"applied":true,"heads":["CID",…]}, with its newest changes
const Protocol = protocol.ID("/ipfs-aws/cluster/applied/1")

const (
	// waitFor bounds the wait for one change. A peer nearby needs milliseconds.
	waitFor = 2 * time.Second

	// leaveAlone is how long a peer is not waited for that did not answer in time. Of the pins
	// that a client sends one after the other, one in ten seconds waits for it.
	leaveAlone = 10 * time.Second

	// lookAgain is how often a peer that is asked looks whether it has applied a change: two
	// reads in memory. nudgeAfter is when it does not rely on the announcement any more.
	lookAgain  = 2 * time.Millisecond
	nudgeAfter = 100 * time.Millisecond

	// maxMessage bounds a message, in bytes: some thousand CIDs of 60 bytes.
	maxMessage = 64 << 10
)

// Consensus is what a Reach looks at and acts on.
type Consensus interface {
	Loaded() error
	Heads(context.Context) []cid.Cid
	Announce([]cid.Cid) error
	IsTrustedPeer(context.Context, peer.ID) bool
}

// Changes are the changes that this peer has: a [frontier.Store].
type Changes interface {
	IsApplied(context.Context, frontier.Change) (bool, error)
}

type question struct {
	Changes []cid.Cid `json:"changes"`
}

type answer struct {
	Applied bool      `json:"applied"`
	Heads   []cid.Cid `json:"heads,omitempty"`
}

// Reach asks the other peers. It is safe for concurrent use.
type Reach struct {
	host      host.Host
	consensus Consensus
	changes   Changes

	mu    sync.Mutex
	alone map[peer.ID]time.Time // until when a peer is not waited for
	// asking says that a question of Agree is under way; next is closed when the one after it is answered.
	asking bool
	next   chan struct{}
}

// New returns a Reach that asks other peers over a host, and lets it answer theirs.
func New(h host.Host, c Consensus, changes Changes) *Reach {
	r := &Reach{host: h, consensus: c, changes: changes, alone: map[peer.ID]time.Time{}}
	h.SetStreamHandler(Protocol, func(s network.Stream) {
		defer s.Close()
		if err := r.serve(s); err != nil {
			logger.Debugf("peer %s waits for a change: %s", s.Conn().RemotePeer(), err)
			_ = s.Reset() // it waits no longer
		}
	})
	return r
}

func (r *Reach) serve(s network.Stream) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	if !r.consensus.IsTrustedPeer(ctx, s.Conn().RemotePeer()) {
		return errors.New("it is not trusted")
	}
	if err := r.consensus.Loaded(); err != nil {
		return err
	}
	if err := s.SetDeadline(time.Now().Add(waitFor)); err != nil {
		return err
	}
	var q question
	if err := json.NewDecoder(io.LimitReader(s, maxMessage)).Decode(&q); err != nil {
		return err
	}
	if err := r.await(ctx, q.Changes); err != nil {
		return err
	}
	return json.NewEncoder(s).Encode(answer{Applied: true, Heads: r.consensus.Heads(ctx)})
}

// await returns nil when all changes are applied here.
func (r *Reach) await(ctx context.Context, changes []cid.Cid) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	nudge := time.After(nudgeAfter)
	for {
		missing, err := r.missing(ctx, changes)
		if err != nil || len(missing) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-nudge:
			_ = r.consensus.Announce(missing) // if one is on its way already, that does it
		case <-ctx.Done():
			return fmt.Errorf("%d changes are not applied: %w", len(missing), ctx.Err())
		}
	}
}

func (r *Reach) missing(ctx context.Context, changes []cid.Cid) (missing []cid.Cid, err error) {
	for _, c := range changes {
		done, err := r.changes.IsApplied(ctx, frontier.Named(c))
		if err != nil {
			return nil, err
		}
		if !done {
			missing = append(missing, c)
		}
	}
	return missing, nil
}

// Wait returns when all peers that are connected show the newest changes of this one, or are
// not to be waited for.
func (r *Reach) Wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, waitFor)
	defer cancel()
	r.wait(ctx)
}

// Agree does the same, and then waits until this peer has what the others had written by then. So when it
// returns, a change of this peer has won or lost against all that were made at the same moment. Those that call
// it while another call asks share the next question.
func (r *Reach) Agree(ctx context.Context) {
	r.mu.Lock()
	if r.next == nil {
		r.next = make(chan struct{})
	}
	agreed := r.next
	if !r.asking {
		r.asking = true
		go r.agree()
	}
	r.mu.Unlock()
	select {
	case <-agreed:
	case <-ctx.Done():
	}
}

// agree asks the other peers, again and again, until no caller of Agree is left waiting.
func (r *Reach) agree() {
	for {
		r.mu.Lock()
		agreed := r.next
		r.next, r.asking = nil, agreed != nil
		r.mu.Unlock()
		if agreed == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), waitFor)
		if err := r.await(ctx, r.wait(ctx)); err != nil {
			logger.Debugf("the newest changes of the other peers are not here yet: %s", err)
		}
		cancel()
		close(agreed)
	}
}

// wait returns the newest changes of the peers that answered.
func (r *Reach) wait(ctx context.Context) (heads []cid.Cid) {
	changes := r.consensus.Heads(ctx)
	if len(changes) == 0 {
		return nil
	}
	ctx = network.WithNoDial(ctx, "changes")
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for _, id := range r.host.Network().Peers() {
		if !r.consensus.IsTrustedPeer(ctx, id) || !r.toAsk(id) {
			continue
		}
		waiting.Go(func() {
			theirs, err := r.ask(ctx, id, changes)
			mu.Lock()
			defer mu.Unlock()
			heads = append(heads, theirs...)
			if err != nil {
				logger.Debugf("peer %s may not show the newest changes of the pinset yet, it is not waited for during %s: %s", id, leaveAlone, err)
				r.mu.Lock()
				r.alone[id] = time.Now().Add(leaveAlone)
				r.mu.Unlock()
			}
		})
	}
	waiting.Wait()
	return heads
}

func (r *Reach) toAsk(id peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !time.Now().Before(r.alone[id])
}

func (r *Reach) ask(ctx context.Context, id peer.ID, changes []cid.Cid) ([]cid.Cid, error) {
	s, err := r.host.NewStream(ctx, id, Protocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	if err := json.NewEncoder(s).Encode(question{changes}); err != nil {
		return nil, err
	}
	var a answer
	if err := json.NewDecoder(io.LimitReader(s, maxMessage)).Decode(&a); err != nil {
		return nil, err
	}
	if !a.Applied {
		return nil, errors.New("it says that it does not")
	}
	return a.Heads, nil
}
