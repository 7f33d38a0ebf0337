package workloads

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ipfs/go-datastore/query"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// garbageChunk is small, so that there are many dead blocks of few bytes.
const garbageChunk = 16 << 10

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "gc", Rank: 60, Kind: suite.Other, Title: "collect garbage",
		What: "`ipfs repo gc` of blocks that nothing pins, among all others; at level datastore, a listing of the keys and a Delete for each",
		Datastore: func(r *suite.Run) error {
			b := suite.Blocks(suite.SeedGarbage, r.Sizes.GarbageBlocks, garbageChunk)
			if err := putAll(r.Context, r.DS, b, silent); err != nil {
				return err
			}
			return r.Measure(func(rec *suite.Recorder) error {
				found, err := r.DS.Query(r.Context, query.Query{KeysOnly: true})
				if err != nil {
					return err
				}
				if _, err := found.Rest(); err != nil {
					return err
				}
				for _, one := range b {
					if err := rec.Op(func() (int64, error) { return 0, r.DS.Delete(r.Context, one.Key) }); err != nil {
						return err
					}
				}
				return nil
			})
		},
		Kubo: func(r *suite.Run) error {
			path, err := r.Data.File(suite.SeedGarbage, int64(r.Sizes.GarbageBlocks)*garbageChunk)
			if err != nil {
				return err
			}
			if _, err := add(r, "--pin=false", fmt.Sprintf("--chunker=size-%d", garbageChunk), path); err != nil {
				return err
			}
			return r.Measure(func(rec *suite.Recorder) error {
				began := time.Now()
				out, err := r.Node.Run(r.Context, "repo", "gc", "--quiet")
				if err != nil {
					return err
				}
				if n := len(lines(out)); n < r.Sizes.GarbageBlocks {
					return fmt.Errorf("repo gc removed %d blocks of %d", n, r.Sizes.GarbageBlocks)
				}
				rec.Took(time.Since(began), 0)
				if r.Sizes.Compaction && !r.Store.Stock && r.Store.S3 != "" {
					return compacted(r.Context, r.Node)
				}
				return nil
			})
		},
	})
}

// compacted waits until the packs that gc has left dead are gone, which a node does within 10 s of real time.
func compacted(ctx context.Context, n *suite.Node) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for again := time.NewTicker(200 * time.Millisecond); ; {
		b, err := n.RPC(ctx, "datastore/stat")
		if err != nil {
			return err
		}
		var s struct {
			Packs struct{ DeadBytes, LiveBytes int64 }
		}
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if 2*s.Packs.DeadBytes <= s.Packs.LiveBytes {
			again.Stop()
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("gc left %d dead bytes that were not compacted within a minute", s.Packs.DeadBytes)
		}
	}
}
