package stores

import (
	"context"
	"fmt"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
)

// storedGiB is what the file system of the bursting stores is taken to hold: with it, the baseline is 50 KiB/s × 100 = 4.9 MiB/s.
const storedGiB = 100

// efs on each kind of file system: two profiles, three throughput modes, and what is left of bursting when its credits are used up.
func init() {
	for i, profile := range []efsmodel.Profile{efsmodel.OneZone, efsmodel.Regional} {
		for j, m := range []struct {
			name, title, what string
			efsmodel.Throughput
		}{
			{"elastic", "elastic", "elastic throughput", efsmodel.Throughput{Mode: "elastic"}},
			{"provisioned", "provisioned", "provisioned throughput of 100 MiB/s", efsmodel.Throughput{Mode: "provisioned", MiBps: 100}},
			{"bursting", "bursting", "bursting throughput, 100 GiB stored, the credits of a new file system", efsmodel.Throughput{Mode: "bursting", StoredGiB: storedGiB, CreditBytes: efsmodel.InitialCredits}},
			{"bursting-spent", "bursting, credits used up", "bursting throughput, 100 GiB stored, no burst credits left", efsmodel.Throughput{Mode: "bursting", StoredGiB: storedGiB}},
		} {
			kind := map[string]string{"onezone": "One Zone", "regional": "Regional"}[profile.Name]
			suite.RegisterStore(suite.Store{
				Name: "efs-" + profile.Name + "-" + m.name, Rank: 30 + 4*i + j,
				Title:    fmt.Sprintf("efs, %s %s", kind, m.title),
				What:     fmt.Sprintf("the efs blockstore on EFS %s with %s", kind, m.what),
				EFS:      &suite.EFS{Profile: profile, Throughput: m.Throughput},
				Baseline: "flatfs-efs",
				Spec:     efsSpec, DiskSpec: flatfsDiskSpec,
				Open: func(_ context.Context, p *suite.Place) (ds.Batching, error) { return openEFS(p) },
			})
		}
	}
}

func efsSpec(p *suite.Place) map[string]any {
	return map[string]any{"type": "efsds", "path": "blocks", "shardFunc": efs.DefaultShardFunc, "namesDurable": p.NamesDurable}
}

func openEFS(p *suite.Place) (ds.Batching, error) {
	return efs.Open(efs.Config{Path: filepath.Join(p.Dir, "blocks"), NamesDurable: p.NamesDurable})
}
