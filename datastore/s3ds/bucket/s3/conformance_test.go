package s3bucket_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestMain(m *testing.M) {
	s3test.Main(m)
}

// options are those of a new bucket behind url, with short timeouts and backoff.
func options(url, name string) s3bucket.Options {
	return s3bucket.Options{
		Bucket: name, Region: s3test.Region, Endpoint: url, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		MaxAttempts: 3, MaxBackoff: 10 * time.Millisecond, RequestTimeout: 10 * time.Second,
	}
}

func open(t testing.TB, o s3bucket.Options) *s3bucket.Bucket {
	t.Helper()
	b, err := s3bucket.New(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		return open(t, options(server.URL, server.NewBucket(t)))
	})
}
