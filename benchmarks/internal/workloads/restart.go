package workloads

import "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "restart", Rank: 70, Kind: suite.Other, Title: "restart",
		What:      "from SIGTERM until the daemon answers again; at level datastore, Close and Open",
		Datastore: restart,
		Kubo:      restart,
	})
	suite.RegisterWorkload(suite.Workload{
		Name: "idle", Rank: 80, Kind: suite.Other, Title: "idle",
		What:      "nothing is asked for a while, of real time",
		Datastore: idle,
		Kubo:      idle,
	})
}

func restart(r *suite.Run) error {
	if err := r.Agree(); err != nil {
		return err
	}
	return r.Measure(func(rec *suite.Recorder) error {
		return rec.Op(func() (int64, error) {
			if err := r.Close(); err != nil {
				return 0, err
			}
			return 0, r.Open()
		})
	})
}

func idle(r *suite.Run) error {
	return r.MeasureRealTime(func(rec *suite.Recorder) error {
		rec.Count(1, 0)
		return r.Wait(r.Sizes.IdleSeconds)
	})
}
