package workloads

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	ds "github.com/ipfs/go-datastore"

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
