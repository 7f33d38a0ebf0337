package s3bucket

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Options say which bucket to use and how. Bucket and Region are required; the zero value of everything else is a default
// that suits S3.
type Options struct {
	Bucket string
	Region string

	// Endpoint is the URL of an S3-compatible server, "" for AWS. Path-style addressing is used with an endpoint, and virtual
	// hosts without, unless PathStyle says otherwise.
	Endpoint  string
	PathStyle *bool

	// AccessKey and SecretKey (and SessionToken, for temporary ones) are static credentials. Without them the SDK's
	// default chain is asked, or CredentialsEndpoint if it is set: the URL of a server that answers as the ECS credentials
	// endpoint does.
	AccessKey           string
	SecretKey           Secret
	SessionToken        Secret
	CredentialsEndpoint string

	// SSE is the server-side encryption of new objects: "" (the bucket's default), "AES256", "aws:kms" or "aws:kms:dsse".
	// SSEKMSKeyID is the key for the latter two; "" is the account's key for S3.
	SSE         string
	SSEKMSKeyID string
	// StorageClass of new objects, "" for the default (STANDARD). Only classes that can be read at once are accepted.
	StorageClass string

	// MaxAttempts is how often a request is sent at most, the first time included (default 5). It also bounds how often a
	// download that broke is resumed.
	MaxAttempts int
	// MaxBackoff bounds the pause between two attempts (default 10 s).
	MaxBackoff time.Duration
	// RequestTimeout is how long one attempt may make no progress: waiting for the answer's header, for the next bytes of an
	// answer, or for the server to take the next bytes of an upload (default 30 s). Connecting takes at most 5 s of it.
	RequestTimeout time.Duration
	// MaxConns is how many idle connections are kept (default 256): at least the number of requests in flight.
	MaxConns int

	// Observe, if not nil, is told of every HTTP request once it is over, retries included: each of them is paid for. It is
	// called concurrently and must be quick.
	Observe func(Request)
}

// Request is one HTTP request that was sent.
type Request = bucket.Request

// Defaults of Options.
const (
	// DefaultMaxAttempts rides out a restart of a server or a burst of throttling: with backoff doubling from 50 ms
	// (1 s when throttled), 5 attempts span about 1 s (10 s when throttled).
	DefaultMaxAttempts = 5
	// DefaultRequestTimeout is far above the slowest answer of a healthy S3 (first byte under 1 s).
	DefaultRequestTimeout = 30 * time.Second
	// DefaultMaxConns is twice the 128 requests that a kubo node has in flight, so that none is closed for want of a seat.
	DefaultMaxConns = 256

	defaultMaxBackoff = 10 * time.Second
	// connectTimeout for TCP, and again for TLS. A SYN that is lost is sent again after 1 s and 3 s.
	connectTimeout = 5 * time.Second
	// credentialsTimeout bounds one attempt to get credentials. The container endpoint answers in milliseconds; the instance
	// metadata service, where there is none, swallows packets.
	credentialsTimeout = 10 * time.Second
)

// Accepted values of Options.SSE and Options.StorageClass, next to "".
var (
	SSEs           = []string{"AES256", "aws:kms", "aws:kms:dsse"}
	StorageClasses = []string{"STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR",
		"REDUCED_REDUNDANCY", "EXPRESS_ONEZONE"}
)

// bucketName is what S3 accepts for new buckets, wide enough for the older ones and for access point aliases and ARNs.
var bucketName = regexp.MustCompile(`^(arn:[A-Za-z0-9:/._-]+|[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])$`)

// Validate returns everything that is wrong with o, joined, or nil. Nothing is asked of the network.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if o.Bucket == "" {
		bad("bucket: not set: name the bucket that holds the blocks")
	} else if !bucketName.MatchString(o.Bucket) {
		bad("bucket: %q is no bucket name: use 3 to 63 lower-case letters, digits, dots and hyphens", o.Bucket)
	}
	if o.Region == "" {
		bad("region: not set: name the region of the bucket, for instance us-east-1")
	} else if strings.ContainsAny(o.Region, " \t\r\n/:.") {
		bad("region: %q is no region: use a name such as us-east-1", o.Region)
	}
	if err := checkURL(o.Endpoint); err != nil {
		bad("regionEndpoint: %w", err)
	}
	if err := checkURL(o.CredentialsEndpoint); err != nil {
		bad("credentialsEndpoint: %w", err)
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		bad("accessKey, secretKey: only one of them is set: set both, or neither to use the default credential chain")
	}
	if o.SessionToken != "" && o.AccessKey == "" {
		bad("sessionToken: set without accessKey and secretKey: set all three, or none")
	}
	if o.AccessKey != "" && o.CredentialsEndpoint != "" {
		bad("credentialsEndpoint: set next to accessKey: keep one of them")
	}
	if o.SSE != "" && !slices.Contains(SSEs, o.SSE) {
		bad("sse: %q: use one of %s, or leave it out", o.SSE, strings.Join(SSEs, ", "))
	}
	if o.SSEKMSKeyID != "" && !strings.HasPrefix(o.SSE, "aws:kms") {
		bad("sseKMSKeyId: set while sse is %q: set sse to aws:kms", o.SSE)
	}
	if o.StorageClass != "" && !slices.Contains(StorageClasses, o.StorageClass) {
		bad("storageClass: %q: use one of %s, or leave it out", o.StorageClass, strings.Join(StorageClasses, ", "))
	}
	if o.MaxAttempts < 0 || o.MaxAttempts > 100 {
		bad("maxAttempts: %d: use 1 to 100", o.MaxAttempts)
	}
	if o.RequestTimeout < 0 {
		bad("requestTimeout: %s: use a positive duration, for instance 30s", o.RequestTimeout)
	}
	if o.MaxBackoff < 0 || o.MaxConns < 0 {
		bad("maximum backoff and connections must not be negative")
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.MaxAttempts == 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = defaultMaxBackoff
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = DefaultRequestTimeout
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.PathStyle == nil {
		style := o.Endpoint != ""
		o.PathStyle = &style
	}
	if o.Endpoint != "" && !strings.Contains(o.Endpoint, "://") {
		o.Endpoint = "https://" + o.Endpoint // a bare host, as the first SDK accepted it
	}
	return o
}

// checkURL accepts "", an http or https URL, or a bare host. Passwords in URLs end up in logs: refused.
func checkURL(s string) error {
	if s == "" {
		return nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a URL: use http(s)://host[:port]")
	case u.User != nil:
		return errors.New("holds a user name or password: take it out, credentials have settings of their own")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("%q: use http(s)://host[:port]", s)
	case u.Port() != "":
		if _, err := net.LookupPort("tcp", u.Port()); err != nil {
			return fmt.Errorf("%q: the port is no port number", s)
		}
	}
	return nil
}
