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

// storedGiB is what the file system of the bursting stores is taken to hold: with it, the baseline is 50 KiB/s × 100 = 4.9 MiB/s. They
// begin with the credits of a new file system.
const storedGiB = 100

// efs on each kind of file system: two profiles, three throughput modes.
func init() {
	for i, profile := range []efsmodel.Profile{efsmodel.OneZone, efsmodel.Regional} {
		for j, t := range []efsmodel.Throughput{
			{Mode: "elastic"},
			{Mode: "provisioned", MiBps: 100},
			{Mode: "bursting", StoredGiB: storedGiB, CreditBytes: efsmodel.InitialCredits},
		} {
			kind := map[string]string{"onezone": "One Zone", "regional": "Regional"}[profile.Name]
			suite.RegisterStore(suite.Store{
				Name: "efs-" + profile.Name + "-" + t.Mode, Rank: 30 + 3*i + j,
				Title:    fmt.Sprintf("efs, %s %s", kind, t.Mode),
				What:     fmt.Sprintf("the efs blockstore on EFS %s with %s throughput%s", kind, t.Mode, map[string]string{"provisioned": " of 100 MiB/s", "bursting": ", 100 GiB stored, burst credits left"}[t.Mode]),
				EFS:      &suite.EFS{Profile: profile, Throughput: t},
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
