package workloads

import (
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// randomClients read at once.
const randomClients = 4

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "blocks", Rank: 34, Kind: suite.Serve, Title: "random single blocks",
		What: "single blocks of the large file, from cold, four readers; `block/get` of the RPC; at level datastore, Get",
		Datastore: func(r *suite.Run) error {
			b, err := fileBlocks(r)
			if err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			which := picks(r, len(b))
			return r.Measure(func(rec *suite.Recorder) error {
				_, err := rec.Step(r.Context, randomClients, len(which), func(i int) (int64, error) { return getOne(r.Context, r.DS, b[which[i]]) })
				return err
			})
		},
		Kubo: func(r *suite.Run) error {
			root, err := fileRoot(r)
			if err != nil {
				return err
			}
			out, err := r.Node.Run(r.Context, "refs", "-r", root)
			if err != nil {
				return err
			}
			cids := lines(out)
			if len(cids) == 0 {
				return fmt.Errorf("ipfs refs -r %s lists nothing", root)
			}
			if err := r.Cold(); err != nil {
				return err
			}
			which := picks(r, len(cids))
			return r.Measure(func(rec *suite.Recorder) error {
				_, err := rec.Step(r.Context, randomClients, len(which), func(i int) (int64, error) {
					body, err := r.Node.RPC(r.Context, "block/get", "arg", cids[which[i]])
					return int64(len(body)), err
				})
				return err
			})
		},
	})
}

// picks are which of n blocks are read.
func picks(r *suite.Run, n int) []int {
	random := suite.Rand(34)
	which := make([]int, r.Sizes.Blocks)
	for i := range which {
		which[i] = random.IntN(n)
	}
	return which
}
