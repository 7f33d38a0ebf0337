package workloads

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

func absentKubo(r *suite.Run) error {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	net := bsnet.NewFromIpfsHost(h)
	a := &answers{asked: map[cid.Cid]time.Time{}}
	net.Start(a)
	defer net.Stop()
	id, err := dialUp(r, h)
	if err != nil {
		return err
	}
	send := func(cids []cid.Cid) error {
		msg := bsmsg.New(false)
		for _, c := range cids {
			msg.AddEntry(c, 1, pb.Message_Wantlist_Have, true)
		}
		return net.SendMessage(r.Context, id, msg)
	}
	first := cid.NewCidV1(cid.Raw, absent(-1).Hash) // so that both sides know each other before anything is measured
	a.ask(first)
	if err := send([]cid.Cid{first}); err != nil {
		return err
	}
	if err := a.wait(r.Context, 1, send); err != nil {
		return err
	}
	return r.Measure(func(rec *suite.Recorder) error {
		a.start(rec)
		sent, err := steadily(r, func(from, to int) error {
			cids := make([]cid.Cid, 0, to-from)
			for i := from; i < to; i++ {
				c := cid.NewCidV1(cid.Raw, absent(i).Hash)
				a.ask(c)
				cids = append(cids, c)
			}
			if err := send(cids); err != nil {
				return err
			}
			return a.cancel(r.Context, net, id)
		})
		if err != nil {
			return err
		}
		return a.wait(r.Context, sent, send)
	})
}

// start begins to count, and to take down, what is answered from now on.
func (a *answers) start(rec *suite.Recorder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rec, a.n = rec, 0
}

// answers notes when each want was answered with "do not have".
type answers struct {
	rec *suite.Recorder

	mu    sync.Mutex
	asked map[cid.Cid]time.Time
	done  []cid.Cid // answered, and not taken off the node's list yet
	n     int
	want  int
	all   chan struct{}
}

func (a *answers) ask(c cid.Cid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[c] = time.Now()
}

// answerTimeout is far longer than a node takes to say that it does not have a block.
const answerTimeout = 2 * time.Minute

// ReceiveMessage implements the receiver of a bitswap network.
func (a *answers) ReceiveMessage(_ context.Context, _ peer.ID, m bsmsg.BitSwapMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range m.DontHaves() {
		began, ok := a.asked[c]
		if !ok {
			continue
		}
		delete(a.asked, c)
		a.done = append(a.done, c)
		a.n++
		if a.rec != nil {
			a.rec.Took(time.Since(began), 0)
		}
	}
	if a.want > 0 && a.n >= a.want {
		a.want = 0
		close(a.all)
	}
}

// cancel takes what was answered off the node's list of wants, as a client does.
func (a *answers) cancel(ctx context.Context, net network.BitSwapNetwork, id peer.ID) error {
	a.mu.Lock()
	done := a.done
	a.done = nil
	a.mu.Unlock()
	if len(done) == 0 {
		return nil
	}
	msg := bsmsg.New(false)
	for _, c := range done {
		msg.Cancel(c)
	}
	return net.SendMessage(ctx, id, msg)
}

// again is how long a client waits for an answer before it says once more what it wants, as bitswap clients do.
const again = 3 * time.Second

// wait returns when n wants were answered. A peer that has only just connected may not be listened to yet: wants are repeated.
func (a *answers) wait(ctx context.Context, n int, send func([]cid.Cid) error) error {
	a.mu.Lock()
	if a.n >= n {
		a.mu.Unlock()
		return nil
	}
	a.want, a.all = n, make(chan struct{})
	all := a.all
	a.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errors.New("the node does not answer"))
	defer cancel()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		select {
		case <-all:
			return nil
		case <-tick.C:
			a.mu.Lock()
			left := slices.Collect(maps.Keys(a.asked))
			a.mu.Unlock()
			if err := send(left); err != nil {
				return err
			}
		case <-ctx.Done():
			a.mu.Lock()
			defer a.mu.Unlock()
			return fmt.Errorf("%d of %d wants were answered: %w", a.n, n, context.Cause(ctx))
		}
	}
}

// ReceiveError implements the receiver of a bitswap network.
func (*answers) ReceiveError(error) {}

// PeerConnected implements the receiver of a bitswap network.
func (*answers) PeerConnected(peer.ID) {}

// PeerDisconnected implements the receiver of a bitswap network.
func (*answers) PeerDisconnected(peer.ID) {}
