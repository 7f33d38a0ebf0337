package stores

import (
	"context"
	"errors"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/datastore/tiered"
)

// tiered puts efs in front of packs: new blocks are on EFS, what was read from the bucket is kept there too. Cold is the state in which
// everything has been moved to the bucket.
func init() {
	suite.RegisterStore(suite.Store{
		Name: "tiered", Rank: 60, Title: "tiered: efs before s3",
		What: "efs on EFS One Zone Elastic in front of packs in S3; what is read is promoted; cold: all of it is in the bucket only",
		S3:   suite.DefaultClass,
		EFS:  &suite.EFS{Profile: efsmodel.OneZone, Throughput: efsmodel.Throughput{Mode: "elastic"}},
		Spec: func(p *suite.Place) map[string]any {
			return map[string]any{"type": "tiered", "promote": true, "hot": efsSpec(p), "cold": packsSpec(p)}
		},
		Baseline: "flatfs-efs",
		DiskSpec: func(spec map[string]any) (map[string]any, error) {
			hot, err := flatfsDiskSpec(spec["hot"].(map[string]any))
			if err != nil {
				return nil, err
			}
			cold, err := s3DiskSpec(spec["cold"].(map[string]any))
			return map[string]any{"type": "tiered", "hot": hot, "cold": cold}, err
		},
		Open: func(ctx context.Context, p *suite.Place) (ds.Batching, error) {
			hot, err := openEFS(p)
			if err != nil {
				return nil, err
			}
			cold, err := openS3(ctx, packsSpec(p), p)
			if err != nil {
				return nil, errors.Join(err, hot.Close())
			}
			return tiered.New(hot, cold, tiered.Options{Promote: true}), nil
		},
		Cold: demote,
	})
}

// demote moves everything to the bucket, and drops what the node had cached of it.
func demote(ctx context.Context, p *suite.Place) error {
	hot, err := openEFS(p)
	if err != nil {
		return err
	}
	defer func() { _ = hot.Close() }()
	cold, err := openS3(ctx, packsSpec(p), p)
	if err != nil {
		return err
	}
	defer func() { _ = cold.Close() }()
	found, err := hot.Query(ctx, query.Query{})
	if err != nil {
		return err
	}
	all, err := found.Rest()
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := cold.Put(ctx, ds.NewKey(e.Key), e.Value); err != nil {
			return err
		}
		if err := hot.Delete(ctx, ds.NewKey(e.Key)); err != nil {
			return err
		}
	}
	drained := cold.(interface{ Drain(context.Context) error }).Drain(ctx)
	return errors.Join(drained, cold.Close(), hot.Close(), dropCache(ctx, p))
}
