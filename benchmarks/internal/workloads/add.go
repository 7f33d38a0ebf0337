package workloads

import (
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

func init() {
	suite.RegisterWorkload(suite.Workload{
		Name: "add-file", Rank: 10, Kind: suite.Add, Title: "add one large file",
		What: "`ipfs add` of a file in chunks of 256 KiB; at level datastore, its blocks in kubo's batches and a Sync",
		Datastore: func(r *suite.Run) error {
			b := suite.Blocks(suite.SeedFile, int(r.Sizes.FileBytes/suite.ChunkSize), suite.ChunkSize)
			r.Keep("file blocks", b)
			return putMeasured(r, b)
		},
		Kubo: func(r *suite.Run) error {
			path, err := r.Data.File(suite.SeedFile, r.Sizes.FileBytes)
			if err != nil {
				return err
			}
			root, err := addMeasured(r, r.Sizes.FileBytes, path)
			r.Keep("file root", root)
			return err
		},
	})
	suite.RegisterWorkload(suite.Workload{
		Name: "add-1mib", Rank: 12, Kind: suite.Add, Title: "add in chunks of 1 MiB",
		What: "the same amount of other bytes in chunks of 1 MiB",
		Datastore: func(r *suite.Run) error {
			return putMeasured(r, suite.Blocks(suite.SeedLarge, int(max(r.Sizes.FileBytes>>20, 1)), 1<<20))
		},
		Kubo: func(r *suite.Run) error {
			path, err := r.Data.File(suite.SeedLarge, r.Sizes.FileBytes)
			if err != nil {
				return err
			}
			_, err = addMeasured(r, r.Sizes.FileBytes, "--chunker=size-1048576", path)
			return err
		},
	})
	suite.RegisterWorkload(suite.Workload{
		Name: "add-tree", Rank: 14, Kind: suite.Add, Title: "add many small files",
		What:      "`ipfs add -r` of files of 1 to 50 KiB; at level datastore, a block each",
		Datastore: func(r *suite.Run) error { return putMeasured(r, suite.SmallBlocks(suite.SeedTree, r.Sizes.TreeFiles)) },
		Kubo: func(r *suite.Run) error {
			path, err := r.Data.Tree(suite.SeedTree, r.Sizes.TreeFiles)
			if err != nil {
				return err
			}
			var bytes int64
			for _, n := range suite.SmallSizes(suite.SeedTree, r.Sizes.TreeFiles) {
				bytes += int64(n)
			}
			_, err = addMeasured(r, bytes, "-r", path)
			return err
		},
	})
}

func putMeasured(r *suite.Run, b []suite.Block) error {
	return r.Measure(func(rec *suite.Recorder) error { return putAll(r.Context, r.DS, b, rec.Took) })
}

func addMeasured(r *suite.Run, bytes int64, args ...string) (root string, err error) {
	err = r.Measure(func(rec *suite.Recorder) error {
		return rec.Op(func() (int64, error) {
			root, err = add(r, args...)
			return bytes, err
		})
	})
	return root, err
}
