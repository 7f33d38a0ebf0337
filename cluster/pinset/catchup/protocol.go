package catchup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// Protocol is how peers ask each other for their newest changes: one JSON object
// each way on a stream.
//
//	→ {"holds":["CID",…]}                   asks also which of these changes it has
//	← {"heads":["CID",…],"holds":["CID",…]} the newest changes; those that it has
const Protocol = protocol.ID("/ipfs-aws/cluster/changes/1")

const (
	// A peer answers from memory. One that is paused keeps its connections and
	// never answers; a check has five seconds.
	answerWithin = 3 * time.Second
	// A CID has some 60 bytes, and a cluster has as many heads as peers that
	// write, plus what did not come together yet.
	maxMessage = 1 << 20
)

// errUnknown is the answer of a peer that does not speak the protocol, such as
// ipfs-cluster's own. What it announces comes all the same.
var errUnknown = errors.New("the peer does not know the question for its newest changes")

type question struct {
	Holds []string `json:"holds,omitempty"`
}

type answer struct {
	Heads []string `json:"heads"`
	Holds []string `json:"holds,omitempty"`
}

// New returns a Catchup that asks other peers over a host, and lets it answer
// theirs.
func New(h host.Host, c Consensus, changes Changes) *Catchup {
	h.SetStreamHandler(Protocol, func(s network.Stream) {
		defer s.Close()
		if err := serve(s, c, changes); err != nil {
			logger.Debugf("peer %s asked for the newest changes: %s", s.Conn().RemotePeer(), err)
			_ = s.Reset() // the other side asks again
		}
	})
	return newCatchup(c, changes, func(ctx context.Context, id peer.ID, q question) (answer, error) {
		return ask(ctx, h, id, q)
	})
}

func serve(s network.Stream, c Consensus, changes Changes) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if !c.IsTrustedPeer(ctx, s.Conn().RemotePeer()) {
		return fmt.Errorf("it is not trusted")
	}
	if err := c.Loaded(); err != nil {
		return err
	}
	if err := s.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	var q question
	if err := json.NewDecoder(io.LimitReader(s, maxMessage)).Decode(&q); err != nil {
		return err
	}
	var a answer
	for _, id := range c.Heads(ctx) {
		a.Heads = append(a.Heads, id.String())
	}
	for _, change := range decode(q.Holds[:min(len(q.Holds), askFor)]) {
		here, err := changes.Holds(ctx, change)
		if err != nil {
			return err
		}
		if here {
			id, err := change.Cid()
			if err != nil {
				return err
			}
			a.Holds = append(a.Holds, id.String())
		}
	}
	return json.NewEncoder(s).Encode(a)
}

func ask(ctx context.Context, h host.Host, id peer.ID, q question) (answer, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "catchup"), answerWithin)
	defer cancel()
	var a answer
	s, err := h.NewStream(ctx, id, Protocol)
	if unsupported := (multistream.ErrNotSupported[protocol.ID]{}); errors.As(err, &unsupported) {
		return a, errUnknown
	}
	if err != nil {
		return a, fmt.Errorf("ask peer %s for its newest changes: %w", id, err)
	}
	defer s.Close()
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return a, err
	}
	if err := json.NewEncoder(s).Encode(q); err != nil {
		return a, fmt.Errorf("ask peer %s for its newest changes: %w", id, err)
	}
	if err := json.NewDecoder(io.LimitReader(s, maxMessage)).Decode(&a); err != nil {
		return a, fmt.Errorf("ask peer %s for its newest changes: %w", id, err)
	}
	return a, nil
}
