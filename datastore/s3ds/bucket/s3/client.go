package s3bucket

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Bucket is a bucket.Bucket in S3. Safe for concurrent use.
type Bucket struct {
	o     Options
	s3    *s3.Client
	creds aws.CredentialsProvider
	idle  *http.Transport
	// singly: the server has no DeleteObjects.
	singly atomic.Bool
}

var _ bucket.Conditional = (*Bucket)(nil)

// New returns a client for the bucket that o names. It sends nothing to the bucket; see Credentials and Check for that.
// The error names every setting that is wrong, or what is wrong with the SDK's own configuration files.
func New(ctx context.Context, o Options) (*Bucket, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	cfg, err := loadConfig(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration (environment, ~/.aws): %w", err)
	}
	b := &Bucket{o: o, creds: cfg.Credentials, idle: pool(cfg, o)}
	b.s3 = s3.NewFromConfig(cfg, func(so *s3.Options) {
		so.BaseEndpoint = nil // where the blocks go is a setting, and never whatever the environment says
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
		so.UsePathStyle = *o.PathStyle
		so.HTTPClient = &transport{base: b.idle, stall: o.RequestTimeout, observe: o.Observe}
		so.Retryer = renew(retryer(o), cfg.Credentials, o)
		so.Logger = logging.Nop{}           // what matters is in the errors
		so.RetryMaxAttempts = o.MaxAttempts // not AWS_MAX_ATTEMPTS
		// Uploads carry a checksum of our own. The SDK's is a trailer in aws-chunked encoding, which many
		// S3-compatible servers refuse.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		withoutAcceptEncoding(so)
	})
	return b, nil
}

// pool is the connection pool. It starts from the SDK's transport because that one trusts AWS_CA_BUNDLE.
func pool(cfg aws.Config, o Options) *http.Transport {
	sdk, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		sdk = awshttp.NewBuildableClient()
	}
	dialer := sdk.GetDialer()
	dialer.Timeout = min(connectTimeout, o.RequestTimeout)
	t := sdk.GetTransport()
	t.DialContext = dialCounted(dialer.DialContext)
	t.TLSHandshakeTimeout = min(connectTimeout, o.RequestTimeout)
	t.MaxIdleConns = o.MaxConns
	t.MaxIdleConnsPerHost = o.MaxConns
	t.DisableCompression = true
	return t
}

// retryer backs off and adapts the request rate to throttling. The SDK's retry quota (35 retries per client until successes
// refill it) is left out: attempts are bounded, the requests in flight are bounded by the caller, and a server that restarts
// fails all of those at once.
func retryer(o Options) aws.RetryerV2 {
	return retry.NewAdaptiveMode(func(a *retry.AdaptiveModeOptions) {
		a.StandardOptions = append(a.StandardOptions, func(so *retry.StandardOptions) {
			so.MaxAttempts = o.MaxAttempts
			so.MaxBackoff = o.MaxBackoff
			so.RateLimiter = ratelimit.None
			so.Retryables = append(so.Retryables, retry.RetryableErrorCode{Codes: sendAgain})
		})
	})
}

// sendAgain are the codes with which a server refuses what may work when it is sent again: a body that does not match its checksum,
// and a conditional put that met another one.
var sendAgain = map[string]struct{}{
	"ConditionalRequestConflict":  {},
	"BadDigest":                   {},
	"XAmzContentSHA256Mismatch":   {},
	"XAmzContentChecksumMismatch": {},
	"IncompleteBody":              {},
}

// Credentials gets credentials, as the first request would, and returns ErrNoCredentials with the fix if there are none.
// It asks nothing of the bucket.
func (b *Bucket) Credentials(ctx context.Context) error {
	_, err := b.creds.Retrieve(ctx)
	return b.fault(ctx, bucket.OpCheck, "", err)
}

// Close drops idle connections. Calls in flight are not disturbed.
func (b *Bucket) Close() error {
	b.idle.CloseIdleConnections()
	return nil
}

// Put implements bucket.Bucket. Cost: one PUT request.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	_, err := b.put(ctx, key, body, &s3.PutObjectInput{})
	return err
}

// PutIf implements bucket.Conditional. Cost: one PUT request.
func (b *Bucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	in := &s3.PutObjectInput{IfMatch: nonEmpty(cond.ETag)}
	if cond.Absent {
		in.IfNoneMatch = aws.String("*")
	}
	return b.put(ctx, key, body, in)
}

func (b *Bucket) put(ctx context.Context, key string, body io.ReadSeeker, in *s3.PutObjectInput) (bucket.Info, error) {
	sum, size, err := checksum(body)
	if err != nil {
		return bucket.Info{}, fmt.Errorf("read the body of object %q: %w", key, err)
	}
	in.Bucket, in.Key, in.Body, in.ContentLength, in.ChecksumCRC32C = &b.o.Bucket, &key, body, &size, &sum
	in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryption(b.o.SSE), nonEmpty(b.o.SSEKMSKeyID)
	in.StorageClass = types.StorageClass(b.o.StorageClass)
	out, err := b.s3.PutObject(ctx, in)
	if err != nil {
		return bucket.Info{}, b.fault(ctx, bucket.OpPut, key, err)
	}
	return bucket.Info{Key: key, Size: size, ETag: aws.ToString(out.ETag), Clock: clockOf(out.ResultMetadata)}, nil
}

// clockOf returns what the clock of the server said when it answered, the zero time if it did not say.
func clockOf(answer middleware.Metadata) time.Time {
	r, ok := awsmiddleware.GetRawResponse(answer).(*smithyhttp.Response)
	if !ok {
		return time.Time{}
	}
	t, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// Head implements bucket.Bucket. Cost: one GET request of one byte; the package comment says why.
func (b *Bucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	ctx = withOp(ctx, bucket.OpHead)
	body, info, _, err := b.open(ctx, bucket.OpHead, key, bucket.Range{Length: 1}, "")
	if errors.Is(err, bucket.ErrInvalidRange) { // an empty object has no first byte
		return bucket.Info{Key: key, ETag: ""}, nil
	}
	if err != nil {
		return bucket.Info{}, err
	}
	_, err = io.Copy(io.Discard, body) // for the connection to be used again
	if err = errors.Join(err, body.Close()); err != nil {
		return bucket.Info{}, b.fault(ctx, bucket.OpHead, key, err)
	}
	return info, nil
}

// Check implements bucket.Bucket. Cost: one HEAD request; if it fails, one LIST to learn why, for HEAD has no body.
func (b *Bucket) Check(ctx context.Context) error {
	_, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.o.Bucket})
	if status := statusOf(err); bodiless(status) || status == http.StatusNotFound {
		return b.diagnose(ctx, err)
	}
	if err != nil {
		return b.fault(ctx, bucket.OpCheck, "", err)
	}
	return nil
}

// bodiless reports whether status is one whose reason is in the body, which an answer to HEAD does not have.
func bodiless(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest, http.StatusForbidden:
		return true
	}
	return false
}

// diagnose asks again, with a request whose answer has a body, why the bucket was refused.
func (b *Bucket) diagnose(ctx context.Context, refused error) error {
	_, err := b.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.o.Bucket, MaxKeys: aws.Int32(1)})
	if err == nil {
		err = refused
	}
	return b.fault(ctx, bucket.OpCheck, "", err)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC-32C, as S3 wants it in x-amz-checksum-crc32c, and the size of what is left of body, which
// is left where it was.
func checksum(body io.ReadSeeker) (string, int64, error) {
	start, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return "", 0, err
	}
	sum := crc32.New(castagnoli)
	size, err := io.Copy(sum, body)
	if err != nil {
		return "", 0, err
	}
	if _, err := body.Seek(start, io.SeekStart); err != nil {
		return "", 0, err
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum.Sum32())), size, nil
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
