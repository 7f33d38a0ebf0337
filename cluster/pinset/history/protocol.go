package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
)

// Protocol is how peers ask each other for changes and what is before them: one
// JSON object and a newline on a stream, and for an answer the blocks, nearest
// first, each with its length in front as a varint and the CID before the data
// (the sections of a CARv1). The stream ends where the blocks end; a change that
// the peer does not have is not in it.
//
//	→ {"want":["CID",…],"most":256}
const Protocol = protocol.ID("/ipfs-aws/cluster/history/1")

const (
	// A change that a batch of pins makes is at most 1 MiB; most have 100 bytes.
	mostChanges = 256
	mostBytes   = 1 << 20
	mostBlock   = 2 << 20
	mostWanted  = mostChanges
	mostAsked   = mostWanted * 128 // bytes of a question

	// A peer nearby answers within milliseconds. One that is paused keeps its
	// connections and never does.
	askWithin = 3 * time.Second

	// How many questions are answered at the same time.
	atOnce = 4
)

type question struct {
	Want []string `json:"want"`
	Most int      `json:"most"`
}

// Serve answers the questions of trusted peers from a blockstore, until the host
// is closed.
func Serve(ctx context.Context, h host.Host, store blockstore.Blockstore, trusted func(context.Context, peer.ID) bool) {
	turn := make(chan struct{}, atOnce)
	h.SetStreamHandler(Protocol, func(s network.Stream) {
		ctx, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		if err := serve(ctx, s, turn, store, trusted); err != nil {
			logger.Debugf("peer %s asked for changes: %s", s.Conn().RemotePeer(), err)
			_ = s.Reset() // the other side keeps what it got, and asks again
			return
		}
		_ = s.Close()
	})
}

func serve(ctx context.Context, s network.Stream, turn chan struct{}, store blockstore.Blockstore, trusted func(context.Context, peer.ID) bool) error {
	if !trusted(ctx, s.Conn().RemotePeer()) {
		return errors.New("it is not trusted")
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	var q question
	if err := json.NewDecoder(io.LimitReader(s, mostAsked)).Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	var want []cid.Cid
	for _, w := range q.Want[:min(len(q.Want), mostWanted)] {
		c, err := cid.Decode(w)
		if err != nil {
			return fmt.Errorf("read the question: %w", err)
		}
		want = append(want, c)
	}
	out := msgio.NewVarintWriter(s)
	return walk(ctx, store, want, min(q.Most, mostChanges), func(b blocks.Block) error {
		return out.WriteMsg(append(b.Cid().Bytes(), b.RawData()...))
	})
}

// walk gives the blocks that it starts from and what is before them, nearest
// first, until it has given so many or [mostBytes]. What the store lacks is left
// out.
func walk(ctx context.Context, store blockstore.Blockstore, from []cid.Cid, most int, give func(blocks.Block) error) error {
	seen := cid.NewSet()
	size := 0
	for next := from; len(next) > 0 && most > 0; next = next[1:] {
		if !seen.Visit(next[0]) {
			continue
		}
		b, err := store.Get(ctx, next[0])
		if ipld.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read change %s: %w", next[0], err)
		}
		if size += len(b.RawData()); size > mostBytes && seen.Len() > 1 {
			return nil
		}
		if err := give(b); err != nil {
			return err
		}
		most--
		node, err := merkledag.DecodeProtobufBlock(b)
		if err != nil {
			return fmt.Errorf("read change %s: %w", next[0], err)
		}
		for _, l := range node.Links() {
			next = append(next, l.Cid)
		}
	}
	return nil
}

// ask gets changes and what is before them from one peer. Blocks that came before
// an error are returned with it.
func ask(ctx context.Context, h host.Host, id peer.ID, want []cid.Cid, most int) (came []blocks.Block, err error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "history"), askWithin)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask peer %s for changes: %w", id, err)
		}
	}()
	s, err := h.NewStream(ctx, id, Protocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset() // of no effect on a stream that has ended
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	q := question{Most: most}
	for _, c := range want[:min(len(want), mostWanted)] {
		q.Want = append(q.Want, c.String())
	}
	if err := json.NewEncoder(s).Encode(q); err != nil {
		return nil, err
	}
	in := msgio.NewVarintReaderSize(io.LimitReader(s, 2*mostBytes), mostBlock)
	for {
		msg, err := in.ReadMsg()
		if errors.Is(err, io.EOF) {
			return came, nil
		}
		if err != nil {
			return came, err
		}
		b, err := section(msg)
		in.ReleaseMsg(msg)
		if err != nil {
			return came, err
		}
		came = append(came, b)
	}
}

// section reads one block of an answer and checks its hash.
func section(msg []byte) (blocks.Block, error) {
	n, c, err := cid.CidFromBytes(msg)
	if err != nil {
		return nil, err
	}
	data := append([]byte(nil), msg[n:]...)
	got, err := c.Prefix().Sum(data)
	if err != nil {
		return nil, err
	}
	if !got.Equals(c) {
		return nil, fmt.Errorf("change %s came damaged", c)
	}
	return blocks.NewBlockWithCid(data, c)
}
