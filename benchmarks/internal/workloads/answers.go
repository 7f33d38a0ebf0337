package workloads

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

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
