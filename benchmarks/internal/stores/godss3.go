package stores

import (
	"context"

	ds "github.com/ipfs/go-datastore"
	godss3 "github.com/ipfs/go-ds-s3"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// go-ds-s3 0.11 is the S3 blockstore that people use today.
func init() {
	suite.RegisterStore(suite.Store{
		Name: "go-ds-s3", Rank: 50, Title: "go-ds-s3 0.11",
		What:  "the S3 datastore of upstream, one object per block, in upstream's kubo",
		S3:    suite.DefaultClass,
		Stock: true,
		Spec:  s3Spec,
		DiskSpec: func(spec map[string]any) (map[string]any, error) {
			return map[string]any{"region": spec["region"], "bucket": spec["bucket"], "rootDirectory": spec["rootDirectory"]}, nil
		},
		Open: func(_ context.Context, p *suite.Place) (ds.Batching, error) {
			d, err := godss3.NewS3Datastore(godss3.Config{
				Region: p.Region, Bucket: p.Bucket, RootDirectory: p.Prefix, RegionEndpoint: p.Endpoint, AccessKey: p.AccessKey, SecretKey: p.SecretKey,
			})
			return d, err
		},
	})
}

// s3Spec are the settings that go-ds-s3 and s3ds share.
func s3Spec(p *suite.Place) map[string]any {
	return map[string]any{
		"type": "s3ds", "region": p.Region, "bucket": p.Bucket, "rootDirectory": p.Prefix, "regionEndpoint": p.Endpoint,
		"accessKey": p.AccessKey, "secretKey": p.SecretKey,
	}
}
