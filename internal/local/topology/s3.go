package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const defaultRegion = "us-east-1"

// bucketTimeout bounds one question to the S3 server.
const bucketTimeout = 20 * time.Second

// MakeBucket creates a bucket at a server of our own, or finds it there. It asks
// once.
func MakeBucket(ctx context.Context, endpoint, bucket, accessKey, secretKey string) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       defaultRegion,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		Retryer:      aws.NopRetryer{},
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	var own *types.BucketAlreadyOwnedByYou
	if err == nil || errors.As(err, &own) {
		return nil
	}
	return fmt.Errorf("create the bucket %s at %s: %w", bucket, endpoint, err)
}

// findBucket makes sure that a server which is not ours has the bucket and
// lets us in. Its error says what to do. It returns the region to use.
func findBucket(ctx context.Context, endpoint, bucket string) (region string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", fmt.Errorf("read the AWS settings: %w", err)
	}
	region = cfg.Region
	if region == "" {
		region = defaultRegion
	}
	if cfg.Credentials == nil {
		return "", errNoCredentials
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return "", errNoCredentials
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint, o.Region, o.UsePathStyle = aws.String(endpoint), region, true
	})
	_, err = client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(bucket)})
	if err == nil {
		return region, nil
	}
	var status *awshttp.ResponseError
	var refused *net.OpError
	switch {
	case errors.As(err, &status) && status.HTTPStatusCode() == http.StatusNotFound:
		return "", fmt.Errorf("there is no bucket %s at %s: create it, or name another with --s3-bucket", bucket, endpoint)
	case errors.As(err, &status) && (status.HTTPStatusCode() == http.StatusForbidden || status.HTTPStatusCode() == http.StatusUnauthorized):
		return "", fmt.Errorf("the S3 server at %s refuses access to the bucket %s: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (%s)", endpoint, bucket, region)
	case errors.As(err, &status) && status.HTTPStatusCode() == http.StatusMovedPermanently:
		return "", fmt.Errorf("the bucket %s is not in the region %s: set AWS_REGION", bucket, region)
	case errors.As(err, &refused):
		return "", fmt.Errorf("no S3 server answers at %s (%v): start it, or correct --s3-endpoint", endpoint, refused)
	}
	return "", fmt.Errorf("look for the bucket %s at %s: %w", bucket, endpoint, err)
}

var errNoCredentials = errors.New("no credentials for the S3 server: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
