package stores

import (
	"context"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// s3 is our S3 blockstore, in both layouts, and packs in three circumstances.
func init() {
	objects := suite.Store{
		Name: "s3-objects", Rank: 51, Title: "s3, objects",
		What: "our S3 blockstore, one object per block as go-ds-s3 writes them",
		S3:   suite.DefaultClass, Baseline: "go-ds-s3",
		Spec: s3Spec, DiskSpec: s3DiskSpec,
		Open: func(ctx context.Context, p *suite.Place) (ds.Batching, error) { return openS3(ctx, s3Spec(p), p) },
	}
	suite.RegisterStore(objects)

	cold := objects
	cold.Name, cold.Rank, cold.Title = "s3-packs", 52, "s3, packs, cold cache"
	cold.What = "our S3 blockstore, many blocks per object; the read cache is deleted before what is called cold"
	cold.Spec = packsSpec
	cold.Open = func(ctx context.Context, p *suite.Place) (ds.Batching, error) { return openS3(ctx, packsSpec(p), p) }
	cold.Cold = dropCache
	suite.RegisterStore(cold)

	warm := cold
	warm.Name, warm.Rank, warm.Title = "s3-packs-warm", 53, "s3, packs, warm cache"
	warm.What = "the same, with a read cache that outlives the process, as on a disk that is kept"
	warm.Cold = nil
	suite.RegisterStore(warm)

	express := cold
	express.Name, express.Rank, express.Title = "s3-packs-express", 54, "s3, packs, Express One Zone"
	express.What = "packs with a cold cache, in S3 Express One Zone"
	express.S3 = s3model.Express.Name
	suite.RegisterStore(express)
}

func packsSpec(p *suite.Place) map[string]any {
	spec := s3Spec(p)
	spec["layout"], spec["sealAge"] = s3ds.LayoutPacks, p.SealAge.String()
	return spec
}

func s3DiskSpec(spec map[string]any) (map[string]any, error) {
	c, err := s3ds.ParseConfig(spec)
	if err != nil {
		return nil, err
	}
	return c.DiskSpec(), nil
}

func openS3(ctx context.Context, spec map[string]any, p *suite.Place) (s3ds.Store, error) {
	c, err := s3ds.ParseConfig(spec)
	if err != nil {
		return nil, err
	}
	return s3ds.OpenIn(ctx, c, p.Dir, nil)
}

func dropCache(_ context.Context, p *suite.Place) error {
	return os.RemoveAll(filepath.Join(p.Dir, "s3ds", "cache"))
}
