package add

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// passOnLimit is how long the second peer of a pair may take nothing, or have no
	// answer after the first one has stored everything, before the first gives it up.
	// It is less than stallLimit, so that the source does not give up both.
	passOnLimit = 10 * time.Second

	// ahead is how many frames the faster one of a pair may be in front: 8 MiB.
	ahead = 8 << 20 / frame
)

// pair stores what a stream brings on the node, and sends it on to the peer that
// the stream names, at the same time. It reads on as long as one of them takes it.
func (r *Receiver) pair(ctx context.Context, s network.Stream) (reply, error) {
	second, err := readPeer(s)
	if err != nil {
		return reply{}, err
	}
	own, next := newBranch(stallLimit), newBranch(r.passOn)
	var said, then reply
	stored, passed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stored)
		defer own.end()
		n, err := r.node.ImportCAR(ctx, own)
		said.Blocks = n
		if err != nil {
			said.Error = err.Error()
		}
	}()
	passing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		defer close(passed)
		defer next.end()
		then = r.passTo(passing, second, next)
	}()
	split(s, own, next)
	<-stored
	late := time.AfterFunc(r.passOn, func() {
		stop(fmt.Errorf("it did not answer within %s after the peer before it had stored everything", r.passOn))
	})
	defer late.Stop()
	<-passed
	said.Then = &then
	return said, nil
}

// passTo sends what a branch brings to the second peer of a pair, and returns its
// answer.
func (r *Receiver) passTo(ctx context.Context, second peer.ID, b *branch) reply {
	if !r.trusted(ctx, second) {
		return reply{Error: "the peer that was to pass it on does not trust this one"}
	}
	said, err := exchange(ctx, r.host, []peer.ID{second}, b)
	if err != nil {
		return reply{Error: err.Error()}
	}
	return said
}

// readPeer reads what is in front of the CAR file of a pair.
func readPeer(r io.Reader) (peer.ID, error) {
	var length [1]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return "", fmt.Errorf("read who comes second: %w", err)
	}
	id := make([]byte, length[0])
	if _, err := io.ReadFull(r, id); err != nil {
		return "", fmt.Errorf("read who comes second: %w", err)
	}
	second, err := peer.IDFromBytes(id)
	if err != nil {
		return "", fmt.Errorf("read who comes second: %w", err)
	}
	return second, nil
}

// piece is a part of what split reads. The last branch that is done with it gives
// its memory back.
type piece struct {
	data  []byte
	users atomic.Int32
}

var pieces = sync.Pool{New: func() any { return &piece{data: make([]byte, frame)} }}

func (p *piece) release() {
	if p.users.Add(-1) == 0 {
		p.data = p.data[:frame]
		pieces.Put(p)
	}
}

// branch is one of several readers of the same bytes. One goroutine reads it, and
// calls end when it will not read on.
type branch struct {
	limit   time.Duration // for which it may take nothing
	pieces  chan *piece
	current *piece
	rest    []byte        // of current
	ended   chan struct{} // closed by end
	err     error         // what comes after the last piece; set before pieces is closed
}

func newBranch(limit time.Duration) *branch {
	return &branch{limit: limit, pieces: make(chan *piece, ahead), ended: make(chan struct{})}
}

func (b *branch) end() { close(b.ended) }

func (b *branch) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.current != nil {
			b.current.release()
			b.current = nil
		}
		next, ok := <-b.pieces
		if !ok {
			return 0, b.err
		}
		b.current, b.rest = next, next.data
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// close ends what the branch reads, with io.EOF or an error.
func (b *branch) close(err error) {
	b.err = err
	close(b.pieces)
}

// take hands a piece to the branch; it returns false if that has ended, or has to,
// because it took none within its limit.
func (b *branch) take(p *piece) bool {
	select {
	case b.pieces <- p:
		return true
	case <-b.ended:
		return false
	default:
	}
	stalled := time.NewTimer(b.limit)
	defer stalled.Stop()
	select {
	case b.pieces <- p:
		return true
	case <-b.ended:
	case <-stalled.C:
	}
	return false
}

// split reads a stream to its end and lets every branch read all of it. A branch
// that stands still for longer than its limit is broken off; when all have ended,
// nothing more is read.
func split(r io.Reader, branches ...*branch) {
	for len(branches) > 0 {
		p := pieces.Get().(*piece)
		n, err := io.ReadFull(r, p.data)
		p.data = p.data[:n]
		if n > 0 {
			p.users.Store(int32(len(branches)))
			var left []*branch
			for _, b := range branches {
				if b.take(p) {
					left = append(left, b)
					continue
				}
				b.close(fmt.Errorf("nothing was taken for %s", b.limit))
				p.release()
			}
			branches = left
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // the last piece is not a full one
		}
		for _, b := range branches {
			b.close(err)
		}
		return
	}
}
