package workloads

import (
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// rangeBytes is what a player asks for when somebody seeks.
const rangeBytes = 1 << 20

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "range", Rank: 32, Kind: suite.Serve, Title: "video seeking",
		What: "Range requests of 1 MiB at random places of the large file, from cold, one after the other; at level datastore, the four blocks there",
		Datastore: func(r *suite.Run) error {
			b, err := fileBlocks(r)
			if err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			const row = rangeBytes / suite.ChunkSize
			at := suite.Rand(32)
			return r.Measure(func(rec *suite.Recorder) error {
				_, err := rec.Step(r.Context, 1, r.Sizes.Ranges, func(int) (sum int64, err error) {
					for _, one := range b[at.IntN(max(len(b)-row, 1)):][:min(row, len(b))] {
						n, err := getOne(r.Context, r.DS, one)
						if err != nil {
							return sum, err
						}
						sum += n
					}
					return sum, nil
				})
				return err
			})
		},
		Kubo: func(r *suite.Run) error {
			root, err := fileRoot(r)
			if err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			at, size := suite.Rand(32), min(rangeBytes, r.Sizes.FileBytes)
			return r.Measure(func(rec *suite.Recorder) error {
				_, err := rec.Step(r.Context, 1, r.Sizes.Ranges, func(int) (int64, error) {
					from := at.Int64N(r.Sizes.FileBytes - size + 1)
					body, err := r.Node.Get(r.Context, "/ipfs/"+root, "Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
					if err == nil && int64(len(body)) != size {
						err = fmt.Errorf("the gateway sent %d bytes of a range of %d", len(body), size)
					}
					return int64(len(body)), err
				})
				return err
			})
		},
	})
}
