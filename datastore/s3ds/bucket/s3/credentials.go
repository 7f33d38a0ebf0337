package s3bucket

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go"
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

// revoked are the codes with which S3 refuses temporary credentials that are no longer good, whatever their date says.
var revoked = []string{"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}

// renewOnce is how long after the cache of credentials was dropped it is not dropped again: requests that were under way
// are refused as well.
const renewOnce = 5 * time.Second

// renewing is a retryer that drops the cached credentials when the server refuses them, and has the request be sent again,
// which signs it with new ones.
type renewing struct {
	aws.RetryerV2
	cache *aws.CredentialsCache
	mu    sync.Mutex
	last  time.Time
}

// renew puts it around a retryer, if there are credentials to be had other than those that were given.
func renew(inner aws.RetryerV2, creds aws.CredentialsProvider, o Options) aws.RetryerV2 {
	if b, ok := creds.(boundedCredentials); ok {
		creds = b.chain
	}
	cache, ok := creds.(*aws.CredentialsCache)
	if !ok || o.AccessKey != "" {
		return inner
	}
	return &renewing{RetryerV2: inner, cache: cache}
}

// IsErrorRetryable implements aws.Retryer.
func (r *renewing) IsErrorRetryable(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || !slices.Contains(revoked, api.ErrorCode()) {
		return r.RetryerV2.IsErrorRetryable(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.last) > renewOnce {
		r.last = now
		r.cache.Invalidate()
	}
	return true
}
