package workloads

import "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "pin", Rank: 50, Kind: suite.Other, Title: "pin what is there",
		What: "`ipfs pin add` and `pin ls` of the large file, whose blocks are all in the node, from cold",
		Kubo: func(r *suite.Run) error {
			root, err := fileRoot(r)
			if err != nil {
				return err
			}
			if _, err := r.Node.Run(r.Context, "pin", "rm", root); err != nil {
				return err
			}
			if err := r.Cold(); err != nil {
				return err
			}
			return r.Measure(func(rec *suite.Recorder) error {
				for _, args := range [][]string{{"pin", "add", "--progress=false", root}, {"pin", "ls", "--quiet"}} {
					if err := rec.Op(func() (int64, error) {
						_, err := r.Node.Run(r.Context, args...)
						return 0, err
					}); err != nil {
						return err
					}
				}
				return nil
			})
		},
	})
}
