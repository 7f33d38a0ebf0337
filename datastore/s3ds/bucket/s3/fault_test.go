package s3bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/buckettest"
	s3bucket "github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// calls are all operations, on a bucket that holds "there" and "there too".
func calls(ctx context.Context, b bucket.Bucket) map[string]func() error {
	return map[string]func() error{
		"put": func() error { return b.Put(ctx, "new", strings.NewReader("x")) },
		"get": func() error {
			body, _, err := b.Get(ctx, "there", bucket.Range{})
			if err != nil {
				return err
			}
			_, err = io.ReadAll(body)
			return errors.Join(err, body.Close())
		},
		"head": func() error { _, err := b.Head(ctx, "there"); return err },
		"list": func() error {
			for _, err := range b.List(ctx, "", "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"delete one":  func() error { return b.Delete(ctx, "there") },
		"delete many": func() error { return b.Delete(ctx, "there", "there too") },
		"check":       func() error { return b.Check(ctx) },
	}
}

var allCalls = []string{"put", "get", "head", "list", "delete one", "delete many", "check"}

type setup struct {
	server *s3test.Server
	proxy  *s3test.Proxy
	o      s3bucket.Options
	b      *s3bucket.Bucket
}

func start(t *testing.T, server *s3test.Server, tune ...func(*s3bucket.Options)) setup {
	t.Helper()
	proxy := s3test.NewProxy(t, server.URL)
	o := options(proxy.URL, server.NewBucket(t))
	for _, f := range tune {
		f(&o)
	}
	s := setup{server, proxy, o, open(t, o)}
	for _, k := range []string{"there", "there too"} {
		require.NoError(t, s.b.Put(t.Context(), k, strings.NewReader("content of "+k)))
	}
	proxy.Take()
	return s
}

func TestServerErrorsAreNeverNotFound(t *testing.T) {
	server := s3test.Start(t)
	for _, c := range []struct {
		name     string
		fault    s3test.Fault
		kind     error
		attempts int
		says     string
	}{
		{"500", s3test.Fault{Status: 500, Code: "InternalError"}, bucket.ErrServer, 3, "try again later"},
		{"502 by a load balancer", s3test.Fault{Status: 502, HTML: "<html>Bad Gateway</html>"}, bucket.ErrServer, 3, "try again later"},
		{"503 SlowDown", s3test.Fault{Status: 503, Code: "SlowDown"}, bucket.ErrThrottled, 3, "lower workers"},
		{"403", s3test.Fault{Status: 403, Code: "AccessDenied"}, bucket.ErrAccessDenied, 1, "allow s3:"},
		{"404 on the bucket", s3test.Fault{Status: 404, Code: "NoSuchBucket"}, bucket.ErrNoBucket, 1, "create the bucket in region us-east-1"},
		{"404 by a web server", s3test.Fault{Status: 404, HTML: "<html>no such page</html>"}, bucket.ErrRejected, 1, "correct regionEndpoint"},
		{"301 to another region", s3test.Fault{Status: 301, Code: "PermanentRedirect", Header: http.Header{"X-Amz-Bucket-Region": {"eu-west-1"}}},
			bucket.ErrWrongRegion, 1, "is in region eu-west-1, the setting says us-east-1: set region to eu-west-1"},
		{"expired token", s3test.Fault{Status: 400, Code: "ExpiredToken"}, bucket.ErrAccessDenied, 1, "renew them"},
		{"unknown access key", s3test.Fault{Status: 403, Code: "InvalidAccessKeyId"}, bucket.ErrAccessDenied, 1, "correct accessKey"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, op := range allCalls {
				t.Run(op, func(t *testing.T) {
					t.Parallel() // a client of its own each: throttling slows down all that follows on the same one
					s := start(t, server)
					s.proxy.Disturb(s3test.Always("", c.fault))
					s3test.Within(t, func() {
						err := calls(t.Context(), s.b)[op]()
						require.ErrorIs(t, err, c.kind)
						require.NotErrorIs(t, err, bucket.ErrNotFound)
						require.Contains(t, err.Error(), c.says)
						require.NotContains(t, err.Error(), "\n")
					})
					if sent := s.proxy.Take(); c.attempts > 1 {
						require.Len(t, sent, c.attempts, "attempts are bounded")
					}
					s.proxy.Disturb(nil)
					got, _ := buckettest.Read(t, open(t, s.o), "there too", bucket.Range{})
					require.Equal(t, "content of there too", string(got))
				})
			}
		})
	}
}

func TestPassingFailuresAreRetried(t *testing.T) {
	server := s3test.Start(t)
	for name, f := range map[string]s3test.Fault{
		"500": {Status: 500, Code: "InternalError"}, "503": {Status: 503, Code: "ServiceUnavailable"},
		"dropped": {Cut: s3test.Drop},
	} {
		t.Run(name, func(t *testing.T) {
			for _, op := range allCalls {
				t.Run(op, func(t *testing.T) {
					t.Parallel()
					s := start(t, server)
					s.proxy.Disturb(s3test.Times(2, "", f))
					s3test.Within(t, func() { require.NoError(t, calls(t.Context(), s.b)[op]()) })
					require.Greater(t, len(s.proxy.Take()), 1)
				})
			}
		})
	}
}

func TestBrokenBodyIsResumedWhereItStopped(t *testing.T) {
	server := s3test.Start(t)
	want := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(want)
	for name, cut := range map[string]s3test.Cut{"reset": s3test.Reset, "closed": s3test.Close, "stalled": s3test.Stall} {
		t.Run(name, func(t *testing.T) {
			s := start(t, server, func(o *s3bucket.Options) { o.RequestTimeout = 300 * time.Millisecond })
			require.NoError(t, s.b.Put(t.Context(), "large", bytes.NewReader(want)))
			s.proxy.Take()
			s.proxy.Disturb(s3test.Times(2, http.MethodGet, s3test.Fault{Cut: cut, CutAfter: 100_000}))
			s3test.Within(t, func() {
				got, info := buckettest.Read(t, s.b, "large", bucket.Range{})
				require.True(t, bytes.Equal(want, got))
				require.EqualValues(t, len(want), info.Size)
			})
			sent := s.proxy.Take()
			require.Len(t, sent, 3)
			require.NotContains(t, sent[0], "bytes=")
			for _, line := range sent[1:] { // a reset may swallow bytes that were on the way
				require.Regexp(t, `bytes=\d+-299999: 206$`, line)
			}

			s.proxy.Disturb(s3test.Times(1, http.MethodGet, s3test.Fault{Cut: cut, CutAfter: 10_000}))
			s3test.Within(t, func() {
				got, info := buckettest.Read(t, s.b, "large", bucket.Range{Offset: 1000, Length: 200_000})
				require.True(t, bytes.Equal(want[1000:201_000], got))
				require.EqualValues(t, len(want), info.Size)
			})
		})
	}
}

func TestBodyThatBreaksForEverIsAnError(t *testing.T) {
	server := s3test.Start(t)
	for name, cut := range map[string]s3test.Cut{"reset": s3test.Reset, "closed": s3test.Close, "stalled": s3test.Stall} {
		t.Run(name, func(t *testing.T) {
			s := start(t, server, func(o *s3bucket.Options) { o.RequestTimeout = 200 * time.Millisecond })
			s.proxy.Disturb(s3test.Always(http.MethodGet, s3test.Fault{Cut: cut, CutAfter: 1}))
			s3test.Within(t, func() {
				body, _, err := s.b.Get(t.Context(), "there", bucket.Range{})
				require.NoError(t, err)
				_, err = io.ReadAll(body)
				require.ErrorIs(t, err, bucket.ErrUnreachable)
				require.NotErrorIs(t, err, bucket.ErrNotFound)
				require.Contains(t, err.Error(), `"there"`)
				require.NoError(t, body.Close())
			})
			require.Len(t, s.proxy.Take(), s.o.MaxAttempts)
		})
	}
}

func TestObjectReplacedWhileItIsReadIsNeverMixed(t *testing.T) {
	s := start(t, s3test.Start(t))
	require.NoError(t, s.b.Put(t.Context(), "key", bytes.NewReader(bytes.Repeat([]byte("a"), 1_000_000))))
	s.proxy.Disturb(s3test.Times(1, http.MethodGet, s3test.Fault{Cut: s3test.Close, CutAfter: 1000}))
	body, _, err := s.b.Get(t.Context(), "key", bucket.Range{})
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, s.b.Put(t.Context(), "key", bytes.NewReader(bytes.Repeat([]byte("b"), 1_000_000))))
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, bucket.ErrRejected)
	require.Contains(t, err.Error(), "PreconditionFailed")
	require.NoError(t, body.Close())
}

func TestAnswerThatIsNotTheRangeIsRefused(t *testing.T) {
	s := start(t, s3test.Start(t))
	s.proxy.Disturb(s3test.Always(http.MethodGet, s3test.Fault{Cut: s3test.Shorten, CutAfter: 3}))
	_, _, err := s.b.Get(t.Context(), "there", bucket.Range{Offset: 2, Length: 8})
	require.ErrorIs(t, err, bucket.ErrRejected)

	s.proxy.Disturb(func(r *http.Request) s3test.Fault { r.Header.Del("Range"); return s3test.Fault{} })
	_, _, err = s.b.Get(t.Context(), "there", bucket.Range{Offset: 2, Length: 8})
	require.Error(t, err)
}

func TestSilentServerIsGivenUp(t *testing.T) {
	s := start(t, s3test.Start(t), func(o *s3bucket.Options) { o.RequestTimeout = 100 * time.Millisecond })
	s.proxy.Disturb(s3test.Always("", s3test.Fault{Cut: s3test.Silence}))
	for name, call := range calls(t.Context(), s.b) {
		s3test.Within(t, func() {
			err := call()
			require.ErrorIs(t, err, bucket.ErrUnreachable, name)
			require.Contains(t, err.Error(), "no progress for 100ms", name)
		})
	}
}

func TestBrokenAnswersAreRetried(t *testing.T) {
	s := start(t, s3test.Start(t), func(o *s3bucket.Options) { o.RequestTimeout = 200 * time.Millisecond })
	for _, cut := range []s3test.Cut{s3test.Stall, s3test.Reset, s3test.Close} {
		for _, op := range []string{"list", "delete many"} {
			s.proxy.Disturb(s3test.Times(2, "", s3test.Fault{Cut: cut, CutAfter: 50}))
			s3test.Within(t, func() { require.NoError(t, calls(t.Context(), s.b)[op]()) })
			require.Len(t, s.proxy.Take(), 3, op)
		}
	}
}

// TestStalledUploadIsGivenUp lets the connection take 1 KB/s, so that the upload makes no progress, which only the watchdog notices.
func TestStalledUploadIsGivenUp(t *testing.T) {
	server := s3test.Start(t)
	upstream, err := url.Parse(server.URL)
	require.NoError(t, err)
	tox := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()), "s3", "127.0.0.1:0", upstream.Host)
	require.NoError(t, tox.Start())
	t.Cleanup(tox.Stop)
	o := options("http://"+tox.Listen, server.NewBucket(t))
	o.RequestTimeout, o.MaxAttempts = 300*time.Millisecond, 2
	b := open(t, o)
	require.NoError(t, b.Put(t.Context(), "small", strings.NewReader("x")))

	_, err = tox.Toxics.AddToxicJson(strings.NewReader(`{"type":"bandwidth","stream":"upstream","attributes":{"rate":1}}`))
	require.NoError(t, err)
	s3test.Within(t, func() {
		err := b.Put(t.Context(), "large", bytes.NewReader(make([]byte, 64<<20)))
		require.ErrorIs(t, err, bucket.ErrUnreachable)
		require.Contains(t, err.Error(), "no progress")
	})
	_, err = open(t, options(server.URL, o.Bucket)).Head(t.Context(), "large")
	require.ErrorIs(t, err, bucket.ErrNotFound)
}

func TestCancellationIsObeyedEverywhere(t *testing.T) {
	server := s3test.Start(t)
	for name, f := range map[string]s3test.Fault{
		"while the server is silent": {Cut: s3test.Silence},
		"between two attempts":       {Status: 503, Code: "SlowDown"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, op := range allCalls {
				t.Run(op, func(t *testing.T) {
					t.Parallel()
					s := start(t, server, func(o *s3bucket.Options) { o.MaxAttempts, o.MaxBackoff = 100, time.Hour })
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var once sync.Once
					s.proxy.Disturb(func(*http.Request) s3test.Fault {
						once.Do(func() { time.AfterFunc(20*time.Millisecond, cancel) })
						return f
					})
					s3test.Within(t, func() {
						err := calls(ctx, s.b)[op]()
						require.ErrorIs(t, err, context.Canceled)
						require.NotErrorIs(t, err, bucket.ErrNotFound)
					})
				})
			}
		})
	}
}

func TestDamagedUploadIsRefusedByTheServerAndSentAgain(t *testing.T) {
	s := start(t, s3test.Start(t))
	want := bytes.Repeat([]byte("block"), 1000)
	s.proxy.Disturb(s3test.Times(1, http.MethodPut, s3test.Fault{FlipUpload: true}))
	require.NoError(t, s.b.Put(t.Context(), "key", bytes.NewReader(want)))
	require.Len(t, s.proxy.Take(), 2)
	got, _ := buckettest.Read(t, s.b, "key", bucket.Range{})
	require.True(t, bytes.Equal(want, got))

	s.proxy.Disturb(s3test.Always(http.MethodPut, s3test.Fault{FlipUpload: true}))
	require.ErrorIs(t, s.b.Put(t.Context(), "other", bytes.NewReader(want)), bucket.ErrRejected)
	_, err := s.b.Head(t.Context(), "other")
	require.ErrorIs(t, err, bucket.ErrNotFound, "nothing damaged is kept")
}

func TestUploadCarriesItsChecksum(t *testing.T) {
	s := start(t, s3test.Start(t))
	var header http.Header
	s.proxy.Disturb(func(r *http.Request) s3test.Fault { header = r.Header.Clone(); return s3test.Fault{} })
	require.NoError(t, s.b.Put(t.Context(), "key", strings.NewReader("123456789")))
	require.Equal(t, "4waSgw==", header.Get("X-Amz-Checksum-Crc32c"), "0xE3069283, the check value of CRC-32C")
	require.Empty(t, header.Get("X-Amz-Trailer"))
	require.NotContains(t, header.Get("Content-Encoding"), "aws-chunked")
}

func TestStorageSettingsReachTheServer(t *testing.T) {
	s := start(t, s3test.Start(t), func(o *s3bucket.Options) {
		o.SSE, o.SSEKMSKeyID, o.StorageClass = "aws:kms", "key-id", "INTELLIGENT_TIERING"
	})
	var header http.Header
	s.proxy.Disturb(func(r *http.Request) s3test.Fault { header = r.Header.Clone(); return s3test.Fault{} })
	require.NoError(t, s.b.Put(t.Context(), "key", strings.NewReader("x")))
	require.Equal(t, "aws:kms", header.Get("X-Amz-Server-Side-Encryption"))
	require.Equal(t, "key-id", header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"))
	require.Equal(t, "INTELLIGENT_TIERING", header.Get("X-Amz-Storage-Class"))
}

func TestDeleteNamesWhatItCouldNotDelete(t *testing.T) {
	s := start(t, s3test.Start(t))
	partial := func(code string) s3test.Fault {
		return s3test.Fault{Status: 200, HTML: fmt.Sprintf("<DeleteResult><Error><Key>there</Key><Code>%s</Code><Message>no</Message></Error></DeleteResult>", code)}
	}
	s.proxy.Disturb(s3test.Always("", partial("AccessDenied")))
	err := s.b.Delete(t.Context(), "there", "there too")
	var some *bucket.DeleteError
	require.ErrorAs(t, err, &some)
	require.Len(t, some.Failed, 1)
	require.ErrorIs(t, some.Failed["there"], bucket.ErrAccessDenied)
	require.ErrorIs(t, err, bucket.ErrAccessDenied)
	require.Contains(t, err.Error(), "s3:DeleteObject")

	s.proxy.Take()
	s.proxy.Disturb(s3test.Times(1, "", partial("SlowDown")))
	require.NoError(t, s.b.Delete(t.Context(), "there", "there too"), "a key that was throttled is sent again")
	require.Len(t, s.proxy.Take(), 2)
	s.proxy.Disturb(s3test.Always("", partial("InternalError")))
	require.ErrorIs(t, s.b.Delete(t.Context(), "there", "there too"), bucket.ErrServer)
	s.proxy.Disturb(s3test.Always("", partial("NoSuchKey")))
	require.NoError(t, s.b.Delete(t.Context(), "there", "there too"))
}

// TestServersWithoutDeleteObjects: what MinIO of old, Backblaze, Oracle and others answer.
func TestServersWithoutDeleteObjects(t *testing.T) {
	server := s3test.Start(t)
	many := func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("delete") }
	for name, refuse := range map[string]s3test.Fault{
		"not implemented": {Status: http.StatusNotImplemented, Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented"},
		"not allowed":     {Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: "The specified method is not allowed against this resource."},
		"wants MD5":       {Status: http.StatusBadRequest, Code: "InvalidRequest", Message: "Missing required header for this request: Content-MD5"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, server)
			var refused atomic.Int64
			s.proxy.Disturb(func(r *http.Request) s3test.Fault {
				if many(r) {
					refused.Add(1)
					return refuse
				}
				return s3test.Fault{}
			})
			require.NoError(t, s.b.Delete(t.Context(), "there", "there too"))
			for _, k := range []string{"there", "there too"} {
				_, err := s.b.Head(t.Context(), k)
				require.ErrorIs(t, err, bucket.ErrNotFound)
			}
			require.NoError(t, s.b.Delete(t.Context(), "there", "there too"))
			require.EqualValues(t, 1, refused.Load(), "it is asked once")
		})
	}
	// A server that wants Content-MD5 gets it; one that says something else is not asked one by one.
	s := start(t, server)
	s.proxy.Disturb(func(r *http.Request) s3test.Fault {
		if many(r) && r.Header.Get("Content-Md5") == "" {
			return s3test.Fault{Status: http.StatusBadRequest, Code: "MissingContentMD5"}
		}
		return s3test.Fault{}
	})
	require.NoError(t, s.b.Delete(t.Context(), "there", "there too"))
	s.proxy.Take()
	s.proxy.Disturb(s3test.Always(http.MethodPost, s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}))
	require.ErrorIs(t, s.b.Delete(t.Context(), "there", "there too"), bucket.ErrAccessDenied)
	require.Len(t, s.proxy.Take(), 1)
}

// TestAcceptEncodingIsNotSigned: Google's front changes the header, and the signature would be wrong.
func TestAcceptEncodingIsNotSigned(t *testing.T) {
	s := start(t, s3test.Start(t))
	for _, name := range allCalls {
		var seen []string
		s.proxy.Disturb(func(r *http.Request) s3test.Fault {
			if strings.Contains(r.Header.Get("Authorization"), "accept-encoding") {
				seen = append(seen, r.Header.Get("Authorization"))
			}
			r.Header.Set("Accept-Encoding", "gzip,gfe")
			return s3test.Fault{}
		})
		require.NoError(t, calls(t.Context(), s.b)[name](), name)
		require.Empty(t, seen, name)
		require.NoError(t, s.b.Put(t.Context(), "there", strings.NewReader("content")))
		require.NoError(t, s.b.Put(t.Context(), "there too", strings.NewReader("content")))
	}
}

func TestListThatDoesNotSayWhereItGoesOnIsAnError(t *testing.T) {
	s := start(t, s3test.Start(t))
	s.proxy.Disturb(s3test.Always("", s3test.Fault{Status: 200, HTML: "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>k</Key><Size>1</Size></Contents></ListBucketResult>"}))
	s3test.Within(t, func() {
		var keys []string
		var last error
		for info, err := range s.b.List(t.Context(), "", "") {
			if last = err; err == nil {
				keys = append(keys, info.Key)
			}
		}
		require.Equal(t, []string{"k"}, keys)
		require.ErrorIs(t, last, bucket.ErrRejected)
	})
}

// TestHeadIsOneRequest pins what a size, a miss and an empty object cost.
func TestHeadIsOneRequest(t *testing.T) {
	s := start(t, s3test.Start(t))
	require.NoError(t, s.b.Put(t.Context(), "empty", strings.NewReader("")))
	s.proxy.Take()
	for key, size := range map[string]int64{"there": 16, "empty": 0} {
		info, err := s.b.Head(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, size, info.Size)
		require.Len(t, s.proxy.Take(), 1)
	}
	for range 3 {
		_, err := s.b.Head(t.Context(), "absent")
		require.ErrorIs(t, err, bucket.ErrNotFound)
		require.Equal(t, []string{"GET /" + s.o.Bucket + "/absent bytes=0-0: 404"}, s.proxy.Take())
	}
}

func TestMissingBucketIsNeverNotFound(t *testing.T) {
	server := s3test.Start(t)
	o := options(server.URL, "no-such-bucket")
	b := open(t, o)
	for name, call := range calls(t.Context(), b) {
		for range 2 {
			err := call()
			require.ErrorIs(t, err, bucket.ErrNoBucket, name)
			require.NotErrorIs(t, err, bucket.ErrNotFound, name)
		}
	}
}

func TestMisconfigurationIsOneLineWithTheFix(t *testing.T) {
	server := s3test.Start(t)
	name := server.NewBucket(t)
	web := s3test.NewProxy(t, server.URL)
	web.Disturb(s3test.Always("", s3test.Fault{Status: 404, HTML: "<html>\n<body>nothing here</body>\n</html>"}))
	for _, c := range []struct {
		what  string
		wrong func(*s3bucket.Options)
		kind  error
		says  []string
	}{
		{"missing bucket", func(o *s3bucket.Options) { o.Bucket = "no-such-bucket" }, bucket.ErrNoBucket, []string{"no-such-bucket", "create the bucket"}},
		{"wrong region", func(o *s3bucket.Options) { o.Region = "eu-west-1" }, bucket.ErrWrongRegion, []string{"set region to us-east-1"}},
		{"wrong secret", func(o *s3bucket.Options) { o.SecretKey = "another-secret" }, bucket.ErrAccessDenied, []string{"correct secretKey"}},
		{"unknown access key", func(o *s3bucket.Options) { o.AccessKey = "nobody" }, bucket.ErrAccessDenied, []string{"correct accessKey"}},
		{"nobody listens", func(o *s3bucket.Options) { o.Endpoint = "http://" + ports.Address(t) }, bucket.ErrUnreachable, []string{"refused", "regionEndpoint"}},
		{"no such host", func(o *s3bucket.Options) { o.Endpoint = "http://s3.invalid" }, bucket.ErrUnreachable, []string{"regionEndpoint (http://s3.invalid)"}},
		{"not S3", func(o *s3bucket.Options) { o.Endpoint = web.URL }, bucket.ErrRejected, []string{"correct regionEndpoint"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			o := options(server.URL, name)
			c.wrong(&o)
			s3test.Within(t, func() {
				err := open(t, o).Check(t.Context())
				require.ErrorIs(t, err, c.kind)
				for _, s := range c.says {
					require.Contains(t, err.Error(), s)
				}
				require.NotContains(t, err.Error(), "\n")
				require.NotContains(t, err.Error(), string(o.SecretKey))
				t.Log(err)
			})
		})
	}
}

func TestNoCredentialsIsSaidAtOnce(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	o := options(proxy.URL, server.NewBucket(t))
	o.AccessKey, o.SecretKey = "", ""
	b := open(t, o)
	s3test.Within(t, func() {
		for name, call := range calls(t.Context(), b) {
			err := call()
			require.ErrorIs(t, err, bucket.ErrNoCredentials, name)
			require.Contains(t, err.Error(), "set accessKey and secretKey, or AWS_ACCESS_KEY_ID", name)
			require.NotContains(t, err.Error(), "\n", name)
		}
		require.ErrorIs(t, b.Credentials(t.Context()), bucket.ErrNoCredentials)
	})
	require.Empty(t, proxy.Take(), "nothing is sent unsigned")
}

// TestSilentCredentialsServiceIsGivenUp stands for the metadata service, whose address swallows packets where there is none.
func TestSilentCredentialsServiceIsGivenUp(t *testing.T) {
	server := s3test.Start(t)
	silent := s3test.NewProxy(t, server.URL)
	silent.Disturb(s3test.Always("", s3test.Fault{Cut: s3test.Silence}))
	o := options(server.URL, server.NewBucket(t))
	o.AccessKey, o.SecretKey, o.CredentialsEndpoint, o.RequestTimeout = "", "", silent.URL+"/role", 200*time.Millisecond
	s3test.Within(t, func() { require.ErrorIs(t, open(t, o).Check(t.Context()), bucket.ErrNoCredentials) })
	require.Len(t, silent.Take(), 1)
}

func TestCredentialsComeFromTheDefaultChainOrAnEndpoint(t *testing.T) {
	server := s3test.Start(t)
	name := server.NewBucket(t)
	t.Run("environment", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
		o := options(server.URL, name)
		o.AccessKey, o.SecretKey = "", ""
		require.NoError(t, open(t, o).Check(t.Context()))
	})
	doc := fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":"2100-01-01T00:00:00Z"}`, s3test.AccessKey, s3test.SecretKey)
	role := s3test.NewProxy(t, server.URL)
	role.Disturb(s3test.Always("", s3test.Fault{Status: 200, HTML: doc}))
	t.Run("container role", func(t *testing.T) {
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL+"/role")
		o := options(server.URL, name)
		o.AccessKey, o.SecretKey = "", ""
		require.NoError(t, open(t, o).Check(t.Context()))
	})
	t.Run("endpoint of the settings", func(t *testing.T) {
		o := options(server.URL, name)
		o.AccessKey, o.SecretKey, o.CredentialsEndpoint = "", "", role.URL+"/role"
		require.NoError(t, open(t, o).Check(t.Context()))
	})
}

// TestRevokedCredentialsAreRenewed: the date says that the session is good, and the server refuses it.
func TestRevokedCredentialsAreRenewed(t *testing.T) {
	server := s3test.Start(t)
	for _, code := range []string{"ExpiredToken", "InvalidToken", "TokenRefreshRequired"} {
		t.Run(code, func(t *testing.T) {
			proxy := s3test.NewProxy(t, server.URL)
			var asked atomic.Int64 // the test server knows no sessions: what counts is that new keys were asked for
			role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":"2100-01-01T00:00:00Z"}`, s3test.AccessKey, s3test.SecretKey)
			}))
			t.Cleanup(role.Close)
			o := options(proxy.URL, server.NewBucket(t))
			o.AccessKey, o.SecretKey, o.CredentialsEndpoint = "", "", role.URL
			b := open(t, o)
			require.NoError(t, b.Put(t.Context(), "there", strings.NewReader("x")))
			require.NoError(t, b.Put(t.Context(), "there too", strings.NewReader("x")))

			for _, name := range []string{"put", "get", "head", "list", "delete one", "delete many"} {
				b := open(t, o)
				require.NoError(t, b.Check(t.Context()))
				before := asked.Load()
				proxy.Disturb(func(*http.Request) s3test.Fault {
					if asked.Load() == before {
						return s3test.Fault{Status: http.StatusForbidden, Code: code, Message: "The provided token has expired."}
					}
					return s3test.Fault{}
				})
				proxy.Take()
				require.NoError(t, calls(t.Context(), b)[name](), name)
				require.Len(t, proxy.Take(), 2, name)
			}
			proxy.Disturb(nil)
			require.NoError(t, b.Check(t.Context()))
			// If the new ones are refused as well the error says so.
			proxy.Disturb(s3test.Always("", s3test.Fault{Status: http.StatusForbidden, Code: code, Message: "The provided token has expired."}))
			err := b.Put(t.Context(), "there", strings.NewReader("x"))
			require.ErrorIs(t, err, bucket.ErrAccessDenied)
			require.ErrorContains(t, err, "renew")
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	s := start(t, s3test.Start(t))
	before := s.proxy.Connections()
	todo := make(chan int)
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for i := range todo {
				if err := s.b.Put(t.Context(), fmt.Sprintf("key-%d", i), strings.NewReader("x")); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			}
		})
	}
	for i := range 1000 {
		todo <- i
	}
	close(todo)
	wg.Wait()
	opened := s.proxy.Connections() - before
	t.Logf("%d connections for 1,000 puts by 128 workers", opened)
	require.LessOrEqual(t, opened, 160)
}

func TestEveryAttemptIsObserved(t *testing.T) {
	var mu sync.Mutex
	var seen []s3bucket.Request
	s := start(t, s3test.Start(t), func(o *s3bucket.Options) {
		o.Observe = func(r s3bucket.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r)
		}
	})
	seen = nil
	s.proxy.Disturb(s3test.Times(2, "", s3test.Fault{Status: 503, Code: "ServiceUnavailable"}))
	buckettest.Read(t, s.b, "there", bucket.Range{})
	require.Len(t, seen, 3)
	require.True(t, seen[0].Failed && seen[0].Throttle && seen[1].Failed)
	require.False(t, seen[2].Failed)
	require.False(t, seen[0].Retry)
	require.True(t, seen[1].Retry && seen[2].Retry)
	require.Equal(t, 200, seen[2].Status)
	require.EqualValues(t, len("content of there"), seen[2].Received)
	for _, r := range seen {
		require.Equal(t, bucket.OpGet, r.Op)
	}
}

// A request that is cancelled before it has a connection was never sent; one that waits for its answer was.
func TestOnlyWhatWasSentIsObserved(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	s := start(t, s3test.Start(t), func(o *s3bucket.Options) {
		o.Observe = func(s3bucket.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen++
		}
	})
	s.proxy.Take()
	seen = 0
	var wg sync.WaitGroup
	for i := range 64 {
		after := time.Duration(47*i) * time.Microsecond
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), after)
				body, _, err := s.b.Get(ctx, "there", bucket.Range{})
				if err == nil {
					_, _ = io.Copy(io.Discard, body) // may be cut off
					_ = body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	sent := 0
	defer func() { t.Logf("%d requests at the server, %d observed", sent, seen) }()
	require.Eventually(t, func() bool { // the proxy takes what is under way
		sent += len(s.proxy.Take())
		mu.Lock()
		defer mu.Unlock()
		return sent == seen
	}, time.Minute, 20*time.Millisecond)
	require.Less(t, sent, 64*20, "some were never sent")
	require.Positive(t, sent)
}
