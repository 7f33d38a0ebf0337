package workloads

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "wants", Rank: 40, Kind: suite.Other, Title: "wants for absent blocks",
		What:      "the background of the public network: wants for blocks that nobody has, at a steady rate; at level datastore, a GetSize each",
		Datastore: absentDatastore,
		Kubo:      absentKubo,
	})
}

// wantTick is how often wants are sent: a message each.
const wantTick = 100 * time.Millisecond

// absent is the block that the i-th want is for, which nobody has.
func absent(i int) suite.Block {
	return suite.MakeBlock(binary.BigEndian.AppendUint64(fmt.Appendf(nil, "absent %d ", suite.SeedAbsent), uint64(i)))
}

// steadily calls send with the numbers of wants that are due, at the model's rate, and returns how many there were.
func steadily(r *suite.Run, send func(from, to int) error) (int, error) {
	total := int(r.Sizes.WantsPerSecond * r.Sizes.WantsSeconds)
	ticker := time.NewTicker(wantTick)
	defer ticker.Stop()
	began, sent := time.Now(), 0
	for sent < total {
		select {
		case <-ticker.C:
		case <-r.Context.Done():
			return sent, context.Cause(r.Context)
		}
		due := min(total, max(1, int(time.Since(began).Seconds()/r.Dilation()*r.Sizes.WantsPerSecond)))
		for sent < due {
			to := min(due, sent+500) // below the 1,024 wants that kubo keeps for a peer
			if err := send(sent, to); err != nil {
				return sent, err
			}
			sent = to
		}
	}
	return sent, nil
}

func absentDatastore(r *suite.Run) error {
	return r.Measure(func(rec *suite.Recorder) error {
		_, err := steadily(r, func(from, to int) error {
			return suite.Parallel(r.Context, serveWorkers, to-from, func(i int) error {
				return rec.Op(func() (int64, error) {
					_, err := r.DS.GetSize(r.Context, absent(from+i).Key)
					if errors.Is(err, ds.ErrNotFound) {
						return 0, nil
					}
					return 0, fmt.Errorf("size of an absent block: %w instead of not found", errors.Join(err, errors.New("an answer")))
				})
			})
		})
		return err
	})
}

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
