// Package s3test gives tests a real S3 server and the means to disturb it: versitygw as a process of its own, and a
// proxy in front of it that answers with errors, breaks, shortens or stalls answers, counts connections and writes down requests.
//
// The server's binary is the one that VERSITYGW_BIN names, or bin/versitygw of the checkout ("make build" puts it there). A
// test fails without it; it is not skipped. Data lives in a temporary folder and goes with the test.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// Credentials and region of every server.
const (
	AccessKey = "s3test-access-key"
	SecretKey = "s3test-secret-key-never-to-be-printed"
	Region    = "us-east-1"
)

// startTimeout bounds the start of a server: it takes 0.1 s, and a busy machine may take its time.
const startTimeout = 30 * time.Second

// Server is a running versitygw.
type Server struct {
	URL string
	// Dir holds a folder per bucket, and in it a file per object.
	Dir string

	buckets atomic.Int64
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	bin, err := binary()
	require.NoError(t, err)
	dir := t.TempDir()
	return &Server{URL: launch(t, bin, dir), Dir: dir}
}

func launch(t testing.TB, bin, dir string) (url string) {
	t.Helper()
	addr := ports.Address(t) // it does not say which port it got
	log := &buffer{}
	cmd := proc.Command(bin, "--port", addr, "--region", Region, "--health", "/health", "--keep-alive", "--quiet", "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed in the end
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended by itself
		<-exited
	})

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if healthy(ctx, "http://"+addr+"/health") {
			return "http://" + addr
		}
		select {
		case <-again.C:
		case <-exited:
			require.FailNow(t, "versitygw ended", "%s", log)
		case <-ctx.Done():
			require.FailNow(t, "versitygw does not answer", "%s", log)
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

// NewBucket makes an empty bucket and returns its name.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-bucket-%d", s.buckets.Add(1))
	client := s3.New(s3.Options{
		BaseEndpoint: &s.URL, Region: Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	})
	_, err := client.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(name)})
	require.NoError(t, err)
	return name
}

// binary finds versitygw.
func binary() (string, error) {
	if bin := os.Getenv("VERSITYGW_BIN"); bin != "" {
		return bin, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) { // a module of the repository may be below its top
		bin := filepath.Join(at, "bin", "versitygw")
		if _, err := os.Stat(bin); err == nil {
			return bin, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no S3 server to test with: there is no bin/versitygw in %s or above: run `make build`, or set VERSITYGW_BIN", dir)
		}
	}
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
