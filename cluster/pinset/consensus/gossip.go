package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	crdt "github.com/ipfs/go-ds-crdt"
	"github.com/ipfs/go-ds-crdt/pb"
	"google.golang.org/protobuf/proto"
)

// errBusy says that announcements of this peer to itself still wait.
var errBusy = errors.New("the last announcement still waits to be looked at")

// gossip is a broadcaster with a second source of announcements, this peer
// itself, that announces nothing before it is durable.
//
// The consensus makes a change in half a dozen writes, and announces it before it
// says that it is made. So one sync, here, makes a change durable before anybody
// hears of it or gets it acknowledged. Changes of others need no sync: what a
// crash loses is announced again.
type gossip struct {
	crdt.Broadcaster
	durable func(context.Context) error

	heard chan heard
	own   chan []byte // has room for one
}

type heard struct {
	data []byte
	err  error
}

// newGossip returns a gossip on top of a broadcaster.
func newGossip(inner crdt.Broadcaster, durable func(context.Context) error) *gossip {
	return &gossip{Broadcaster: inner, durable: durable, own: make(chan []byte, 1)}
}

// Broadcast implements [crdt.Broadcaster].
//
// upstream: announced-last
func (g *gossip) Broadcast(ctx context.Context, data []byte) error {
	if err := g.durable(ctx); err != nil {
		return fmt.Errorf("make changes durable before they are announced: %w", err)
	}
	return g.Broadcaster.Broadcast(ctx, data)
}

// Next implements [crdt.Broadcaster]. It is called by one goroutine.
func (g *gossip) Next(ctx context.Context) ([]byte, error) {
	if g.heard == nil {
		// One message is read ahead, so that own announcements can overtake the
		// waiting for others.
		g.heard = make(chan heard)
		go g.listen(ctx)
	}
	select {
	case data := <-g.own:
		return data, nil
	case h := <-g.heard:
		return h.data, h.err
	case <-ctx.Done():
		return nil, crdt.ErrNoMoreBroadcast
	}
}

// listen ends with the context, which is the consensus's life.
func (g *gossip) listen(ctx context.Context) {
	for {
		data, err := g.Broadcaster.Next(ctx)
		select {
		case g.heard <- heard{data, err}:
		case <-ctx.Done():
			return
		}
		if errors.Is(err, crdt.ErrNoMoreBroadcast) {
			return
		}
	}
}

// announce gives changes to this peer's own consensus.
//
// upstream: announcement-format
func (g *gossip) announce(changes []cid.Cid) error {
	var message pb.CRDTBroadcast
	for _, c := range changes {
		message.Heads = append(message.Heads, &pb.Head{Cid: c.Bytes()})
	}
	data, err := proto.Marshal(&message)
	if err != nil {
		return fmt.Errorf("announce changes: %w", err)
	}
	select {
	case g.own <- data:
		return nil
	default:
		return errBusy
	}
}
