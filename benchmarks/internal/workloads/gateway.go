package workloads

import (
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "gateway", Rank: 30, Kind: suite.Serve, Title: "gateway, rising concurrency",
		What: "GET of files of 1 to 50 KiB by Zipf popularity, from cold; clients double until twice in a row that gains less than 10 percent; at level datastore, Gets of their blocks",
		Datastore: func(r *suite.Run) error {
			b, err := smallBlocks(r)
			if err != nil {
				return err
			}
			zipf := suite.NewZipf(len(b), suite.Rand(30))
			return saturate(r, func(int) (int64, error) { return getOne(r.Context, r.DS, b[zipf.Next()]) })
		},
		Kubo: func(r *suite.Run) error {
			root, err := gatewayRoot(r)
			if err != nil {
				return err
			}
			sizes := suite.SmallSizes(suite.SeedGateway, r.Sizes.GatewayFiles)
			zipf := suite.NewZipf(len(sizes), suite.Rand(30))
			return saturate(r, func(int) (int64, error) {
				i := zipf.Next()
				body, err := r.Node.Get(r.Context, "/ipfs/"+root+"/"+suite.TreeName(i))
				if err == nil && len(body) != sizes[i] {
					err = fmt.Errorf("file %d has %d bytes instead of %d", i, len(body), sizes[i])
				}
				return int64(len(body)), err
			})
		},
	})
}

// gain is how much a doubling of clients must bring for it to have been worth while.
const gain = 1.10

func saturate(r *suite.Run, get func(int) (int64, error)) error {
	if err := r.Cold(); err != nil {
		return err
	}
	return r.Measure(func(rec *suite.Recorder) error {
		best, without := 0.0, 0
		for clients := 1; clients <= r.Sizes.GatewayClients && without < 2; clients *= 2 {
			s, err := rec.Step(r.Context, clients, max(r.Sizes.GatewayRequests, 2*clients), get)
			if err != nil {
				return err
			}
			rate := float64(s.Ops) / s.Seconds
			if rate > best*gain {
				without = 0
			} else {
				without++
			}
			best = max(best, rate)
		}
		return nil
	})
}
