package suite

import (
	"context"
	"fmt"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// realUpstream is the bucket that the settings name, with the credentials of the AWS environment.
func realUpstream(ctx context.Context, set record.Settings) (s3model.Upstream, error) {
	var options []func(*awsconfig.LoadOptions) error
	if set.Region != "" {
		options = append(options, awsconfig.WithRegion(set.Region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return s3model.Upstream{}, fmt.Errorf("load the AWS configuration (environment, ~/.aws): %w", err)
	}
	if cfg.Region == "" {
		return s3model.Upstream{}, fmt.Errorf("--region is not set, and the AWS environment has none: say where bucket %s is", set.Bucket)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return s3model.Upstream{}, fmt.Errorf("no credentials for bucket %s: %w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run under a role", set.Bucket, err)
	}
	endpoint := set.Endpoint
	if endpoint == "" {
		endpoint = "https://s3." + cfg.Region + ".amazonaws.com"
	}
	return s3model.Upstream{Endpoint: endpoint, Region: cfg.Region, Credentials: cfg.Credentials}, nil
}
