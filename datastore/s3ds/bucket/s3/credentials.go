package s3bucket

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go/logging"
)

// refreshWindow is how long before they expire temporary credentials from an endpoint are renewed.
const refreshWindow = 2 * time.Minute

// loadConfig reads the SDK's configuration: region and credentials as o says, everything else from the default chain.
func loadConfig(ctx context.Context, o Options) (aws.Config, error) {
	load := []func(*config.LoadOptions) error{config.WithRegion(o.Region), config.WithLogger(logging.Nop{})}
	switch {
	case o.AccessKey != "":
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(o.AccessKey, string(o.SecretKey), string(o.SessionToken))))
	case o.CredentialsEndpoint != "":
		load = append(load, config.WithCredentialsProvider(aws.NewCredentialsCache(
			endpointcreds.New(o.CredentialsEndpoint),
			func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = refreshWindow })))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return aws.Config{}, err
	}
	cfg.Credentials = boundedCredentials{cfg.Credentials, min(credentialsTimeout, o.RequestTimeout)}
	return cfg, nil
}

// boundedCredentials gives the chain a limited time, and its failure a type.
type boundedCredentials struct {
	chain   aws.CredentialsProvider
	timeout time.Duration
}

func (b boundedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	v, err := b.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err.Error()}
	}
	return v, nil
}

// credentialsError does not unwrap: its cause is often a connection error, which the SDK would retry.
type credentialsError struct{ detail string }

func (e *credentialsError) Error() string { return e.detail }
