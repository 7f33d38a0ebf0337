package workloads

import "github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "cat-cold", Rank: 20, Kind: suite.Serve, Title: "read the large file, cold",
		What:      "`ipfs cat` right after a cold start; at level datastore, its blocks in order, two Gets at a time as kubo walks a file",
		Datastore: func(r *suite.Run) error { return read(r, true) },
		Kubo:      func(r *suite.Run) error { return catMeasured(r, true) },
	})
	suite.RegisterWorkload(suite.Workload{
		Name: "cat-warm", Rank: 22, Kind: suite.Serve, Title: "read it once more",
		What:      "the same again, without a restart in between",
		Datastore: func(r *suite.Run) error { return read(r, false) },
		Kubo:      func(r *suite.Run) error { return catMeasured(r, false) },
	})
}

// inFlight is how many Gets kubo has under way while it walks a file.
const inFlight = 2

func read(r *suite.Run, cold bool) error {
	b, err := fileBlocks(r)
	if err != nil {
		return err
	}
	all := func(took func(f func() (int64, error)) error) error {
		return suite.Parallel(r.Context, inFlight, len(b), func(i int) error {
			return took(func() (int64, error) { return getOne(r.Context, r.DS, b[i]) })
		})
	}
	if cold {
		if err := r.Cold(); err != nil {
			return err
		}
	} else if err := all(untimed); err != nil {
		return err
	}
	return r.Measure(func(rec *suite.Recorder) error { return all(rec.Op) })
}

func untimed(f func() (int64, error)) error {
	_, err := f()
	return err
}

func catMeasured(r *suite.Run, cold bool) error {
	root, err := fileRoot(r)
	if err != nil {
		return err
	}
	if cold {
		if err := r.Cold(); err != nil {
			return err
		}
	} else if _, err := cat(r, root); err != nil { // so that it is warm whatever came before
		return err
	}
	return r.Measure(func(rec *suite.Recorder) error {
		return rec.Op(func() (int64, error) { return cat(r, root) })
	})
}
