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

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// Protocol is how the blocks of an add go from the peer where it arrives to
// another one: the sender writes a CARv1 file and closes its side, the receiver
// answers with one JSON object, {"blocks": stored} or {"error": "…"}, at any
// time, and closes its own.
//
// ipfs-cluster's RPC encodes and decodes each block by itself; here the bytes
// pass from the stream to the node as they are, and the node, which checks every
// block anyway, is the first to look at them.
const Protocol protocol.ID = "/cluster-aws/add/1.0.0"

// PairProtocol is how they go to two peers. In front of the CAR file is the ID of
// the second one, its length first in one byte; the receiver sends the file on
// to it, with Protocol, while it arrives. The answer has a second one in it, under
// "then", and comes when both are known. One of the two may fail without the other.
const PairProtocol protocol.ID = "/cluster-aws/add-pair/1.0.0"

const (
	// frame is how many bytes are written to a stream at a time. With its
	// headers it is one message of the secure channel (65,519 bytes at most),
	// hence one system call.
	frame = 60 << 10

	// openTimeout is how long opening a stream may take, a dial included.
	openTimeout = 15 * time.Second

	// pingTimeout is how long a receiver waits for a sign that its answer has
	// arrived.
	pingTimeout = 10 * time.Second

	// maxReply bounds the answer, in bytes.
	maxReply = 64 << 10
)

type reply struct {
	Blocks int    `json:"blocks"`
	Error  string `json:"error,omitempty"`
	Then   *reply `json:"then,omitempty"` // of the second peer of a pair
}

// outcome is the error that a reply tells; sent is how many blocks there were, or
// negative if that is not known.
func (r reply) outcome(sent int) error {
	switch {
	case r.Error != "":
		return errors.New(r.Error)
	case sent >= 0 && r.Blocks != sent:
		return fmt.Errorf("it stored %d of %d blocks", r.Blocks, sent)
	}
	return nil
}

// What a sender is told that may not store anything here, or not now.
var (
	errUntrusted = errors.New("this peer does not trust the sender")
	errDraining  = errors.New("this peer is shutting down")
)

// Receiver stores on the node what other peers send. Its methods are safe for
// concurrent use.
type Receiver struct {
	host    host.Host
	node    *kubo.Client
	holds   *Holds
	trusted func(context.Context, peer.ID) bool
	passOn  time.Duration // passOnLimit

	mu       sync.Mutex
	draining bool
	running  int
	until    time.Time     // when the hold for what was stored last has come, or never will
	ended    bool          // empty is closed
	empty    chan struct{} // closed when draining and nothing runs, or is about to
}

// holdGrace is how long a peer that is shutting down waits, when it has stored an add, for the
// request to hold it: the other destinations may be slower.
const holdGrace = 2 * time.Second

// Receive lets other peers send blocks to the node, until the host closes.
// trusted says who may.
func Receive(h host.Host, node *kubo.Client, holds *Holds, trusted func(context.Context, peer.ID) bool) *Receiver {
	r := &Receiver{host: h, node: node, holds: holds, trusted: trusted, passOn: passOnLimit, empty: make(chan struct{})}
	h.SetStreamHandler(Protocol, r.serve)
	h.SetStreamHandler(PairProtocol, r.serve)
	h.SetStreamHandler(HoldProtocol, r.serve)
	return r
}

func (r *Receiver) serve(s network.Stream) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	entered := r.enter(s.Protocol() == HoldProtocol)
	if entered {
		defer r.leave(s.Protocol() != HoldProtocol)
	}
	said := reply{}
	var err error
	switch {
	case !r.trusted(ctx, s.Conn().RemotePeer()):
		err = errUntrusted
	case !entered:
		err = errDraining
	case s.Protocol() == HoldProtocol:
		r.serveHold(ctx, s)
		return
	case s.Protocol() == PairProtocol:
		said, err = r.pair(ctx, s)
	default:
		said.Blocks, err = r.node.ImportCAR(ctx, s)
	}
	if err != nil {
		said = reply{Error: err.Error()}
	}
	// A sender that is gone does not need the answer.
	_ = json.NewEncoder(s).Encode(said)
	_ = s.Close()
	// What follows on the same connection arrives after the answer, so when the
	// sender has replied to it, the connection may be closed.
	pinging, pinged := context.WithTimeout(ctx, pingTimeout)
	defer pinged()
	<-ping.Ping(pinging, r.host, s.Conn().RemotePeer())
}

// enter reports whether something new may begin. What belongs to an add that was
// stored here may until the end.
func (r *Receiver) enter(begun bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining && (!begun || r.ended) {
		return false
	}
	r.running++
	return true
}

// leave is for what has entered. stored says that it was an add, which is yet to be held.
func (r *Receiver) leave(stored bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if stored {
		r.until = time.Now().Add(holdGrace)
	}
	r.settle()
}

// settle ends a drain when nothing runs and no hold is to come. r.mu is held.
func (r *Receiver) settle() {
	if !r.draining || r.running > 0 || r.ended {
		return
	}
	if left := time.Until(r.until); left > 0 {
		time.AfterFunc(left, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.settle()
		})
		return
	}
	r.ended = true
	close(r.empty)
}

// Drain refuses further adds of other peers, who then name this one as missing,
// and waits until those that have begun are stored and held, or the context ends. It is
// called once.
func (r *Receiver) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	r.settle()
	r.mu.Unlock()
	select {
	case <-r.empty:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Errorf("%d adds of other peers were still being stored: %w", r.running, context.Cause(ctx))
	}
}

// send sends a CAR file to one or two peers and returns when it is stored on
// their nodes, with an error for each where it is not. blocks tells at the end
// how many were in it, or is nil.
func send(ctx context.Context, h host.Host, dests []peer.ID, car io.Reader, blocks func() int) []error {
	errs := make([]error, len(dests))
	r, err := exchange(ctx, h, dests, car)
	if err == nil && r.Error != "" && r.Then == nil {
		err = errors.New(r.Error)
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	sent := -1
	if blocks != nil {
		sent = blocks()
	}
	errs[0] = r.outcome(sent)
	if len(dests) > 1 {
		if r.Then == nil {
			errs[1] = errors.New("the peer that was to pass it on cannot do that yet")
		} else {
			errs[1] = r.Then.outcome(sent)
		}
	}
	return errs
}

// exchange sends a CAR file to one or two peers and returns the answer of the first.
func exchange(ctx context.Context, h host.Host, dests []peer.ID, car io.Reader) (reply, error) {
	protocols := []protocol.ID{Protocol}
	if len(dests) > 1 {
		protocols = []protocol.ID{PairProtocol, Protocol}
	}
	opening, opened := context.WithTimeout(ctx, openTimeout)
	s, err := h.NewStream(opening, dests[0], protocols...)
	opened()
	if err != nil {
		return reply{}, fmt.Errorf("reach the peer: %w", err)
	}
	if s.Protocol() == PairProtocol {
		car = io.MultiReader(strings.NewReader(string(byte(len(dests[1])))+string(dests[1])), car)
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	answered := make(chan answerOf, 1)
	go func() {
		var r reply
		err := json.NewDecoder(io.LimitReader(s, maxReply)).Decode(&r)
		if err != nil || r.Error != "" {
			_ = s.Reset() // ends the writer
		}
		answered <- answerOf{r, err}
	}()
	_, sendErr := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{car}, make([]byte, frame))
	switch {
	case ctx.Err() != nil || sendErr != nil:
		_ = s.Reset() // the end of the file would say that this was all
	default:
		sendErr = s.CloseWrite()
	}
	a := <-answered
	switch {
	case ctx.Err() != nil:
		return reply{}, context.Cause(ctx)
	case a.err == nil && a.Error != "":
		return a.reply, nil
	case sendErr != nil:
		return reply{}, fmt.Errorf("send blocks: %w", sendErr)
	case a.err != nil:
		return reply{}, fmt.Errorf("wait for the blocks to be stored: %w", a.err)
	}
	return a.reply, s.Close()
}

type answerOf struct {
	reply
	err error
}

// take returns a function that receives blocks until the channel is closed or
// the context ends.
func take(ctx context.Context, blocks <-chan api.NodeWithMeta) func() (kubo.Block, bool) {
	return func() (kubo.Block, bool) {
		select {
		case b, ok := <-blocks:
			return kubo.Block{Cid: b.Cid.Cid, Data: b.Data}, ok
		case <-ctx.Done():
			return kubo.Block{}, false
		}
	}
}
