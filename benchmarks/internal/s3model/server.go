package s3model

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
)

// Keys of the local server. They open nothing else.
const (
	accessKey = "benchmark-access-key"
	secretKey = "benchmark-secret-key"
	Region    = "us-east-1"
)

// startTimeout bounds the start of the server: it takes 0.1 s, and a busy machine may take its time.
const startTimeout = 30 * time.Second

// Server is a versitygw of our own, with its data in a folder.
type Server struct {
	URL  string
	proc *process.Process
}

// StartServer starts the program bin with its data under dir.
func StartServer(ctx context.Context, bin, dir string) (*Server, error) {
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the S3 server: %w", err)
	}
	// versitygw does not say which port it got, so one is looked for; another process may take it
	// before the server does, which then ends.
	const tries = 3
	for try := 1; ; try++ {
		s, err := startServer(ctx, bin, dir, data)
		if err == nil || try == tries || ctx.Err() != nil {
			return s, err
		}
	}
}

func startServer(ctx context.Context, bin, dir, data string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for the S3 server: %w", err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	proc, err := process.Start(process.Spec{
		Name: "the S3 server", Path: bin, Log: filepath.Join(dir, "versitygw.log"),
		Args: []string{"--port", addr, "--region", Region, "--health", "/health", "--keep-alive", "--quiet", "posix", data},
		Env:  append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey),
	})
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + addr, proc: proc}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for again := time.NewTicker(10 * time.Millisecond); ; {
		if healthy(ctx, s.URL+"/health") {
			again.Stop()
			return s, nil
		}
		select {
		case <-again.C:
		case <-proc.Done():
			return nil, proc.Err()
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("the S3 server does not answer"), s.Stop())
		}
	}
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// Stop ends the server. Its data is what a run may throw away.
func (s *Server) Stop() error {
	s.proc.Kill()
	<-s.proc.Done()
	return nil
}

// Upstream is the server as a proxy wants it.
func (s *Server) Upstream() Upstream {
	return Upstream{Endpoint: s.URL, Region: Region, Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")}
}

func (u Upstream) client() *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: &u.Endpoint, Region: u.Region, UsePathStyle: true, Credentials: u.Credentials})
}

// MakeBucket makes an empty bucket.
func (u Upstream) MakeBucket(ctx context.Context, name string) error {
	if _, err := u.client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		return fmt.Errorf("make bucket %s: %w", name, err)
	}
	return nil
}

// Check asks whether the bucket is there and may be written to, under a prefix; it leaves nothing behind. The error is one line that says
// what to do.
func (u Upstream) Check(ctx context.Context, bucket, prefix string) error {
	c, key := u.client(), prefix+"/.probe"
	if _, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)}); err != nil {
		return fmt.Errorf("list bucket %s: %w: give these credentials s3:ListBucket on it, or correct --bucket and --s3-endpoint", bucket, err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return fmt.Errorf("write %s to bucket %s: %w: give these credentials s3:PutObject, s3:GetObject and s3:DeleteObject on it", key, bucket, err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w: give these credentials s3:DeleteObject on it", key, bucket, err)
	}
	return nil
}

// Remove deletes everything under a prefix.
func (u Upstream) Remove(ctx context.Context, bucket, prefix string) error {
	c := u.client()
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String(prefix + "/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list what the run left under %s in bucket %s: %w", prefix, bucket, err)
		}
		var ids []types.ObjectIdentifier
		for _, o := range page.Contents {
			ids = append(ids, types.ObjectIdentifier{Key: o.Key})
		}
		if len(ids) == 0 {
			continue
		}
		out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
		if err != nil {
			return fmt.Errorf("delete what the run left under %s in bucket %s: %w", prefix, bucket, err)
		}
		if len(out.Errors) > 0 {
			return fmt.Errorf("delete %s from bucket %s: %s", aws.ToString(out.Errors[0].Key), bucket, aws.ToString(out.Errors[0].Message))
		}
	}
	return nil
}
