package s3bill

import (
	"bytes"
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// The model of S3 that the figures of the project rest on: the first byte after
// a lognormal time with these medians, then 90 MB/s per request.
const (
	medianRead     = 25 * time.Millisecond
	medianWrite    = 40 * time.Millisecond
	medianList     = 50 * time.Millisecond
	sigma          = 0.35 // p99 is 2.3 times the median
	bytesPerSecond = 90e6
)

// slow stands in front of a server and answers as late as S3 does.
func slow(t *testing.T, upstream string) string {
	t.Helper()
	to, err := url.Parse(upstream)
	require.NoError(t, err)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(25, 40))
	late := func(median time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(float64(median) * math.Exp(sigma*random.NormFloat64()))
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:     &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
		FlushInterval: -1,
		BufferPool:    &buffers{},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = &paced{ctx: resp.Request.Context(), ReadCloser: resp.Body, began: time.Now()}
			return nil
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		median := medianRead
		switch {
		case r.Method == http.MethodPut, r.Method == http.MethodPost, r.Method == http.MethodDelete:
			median = medianWrite
			r.Body = &paced{ctx: r.Context(), ReadCloser: r.Body, began: time.Now()}
		case r.URL.Query().Has("list-type"), r.URL.Query().Has("prefix"):
			median = medianList
		}
		if wait(r.Context(), late(median)) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// buffers are larger than the proxy's own 32 KiB: what the model costs is paid on the same cores as what it measures.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte {
	if buf, ok := b.Pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 256<<10)
}

func (b *buffers) Put(buf []byte) { b.Pool.Put(&buf) }

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// paced hands out bytes no faster than a connection to S3.
type paced struct {
	io.ReadCloser
	ctx   context.Context
	began time.Time
	n     int64
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.n += int64(n)
	if due := time.Duration(float64(p.n) / bytesPerSecond * float64(time.Second)); !wait(p.ctx, due-time.Since(p.began)) {
		return n, p.ctx.Err()
	}
	return n, err
}

// catTimed measures `ipfs cat`. What compares the output with the file given runs afterwards: it needs the same cores.
func (n *node) catTimed(file, root string) time.Duration {
	n.T.Helper()
	cmd := n.Command("cat", root)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	began := time.Now()
	require.NoError(n.T, cmd.Run(), "ipfs cat: %s", &errOut)
	took := time.Since(began)
	n.sameOutput(file, "cat", root)
	return took
}

// TestSpeed compares speeds under the model, as ratios of one run. It says
// nothing on a machine that is busy with other things, and so runs only when it
// is asked for.
func TestSpeed(t *testing.T) {
	if os.Getenv("S3BILL_LATENCY") == "" {
		t.Skip("S3BILL_LATENCY is not set")
	}
	server := s3test.Start(t)
	mine, theirs := ours(t), stock(t)
	mine.initOurs(slow(t, server.URL), server.NewBucket(t), "node-1", nil)
	theirs.initStock(slow(t, server.URL), server.NewBucket(t))
	big, folder := file(t, 1, 256<<20), tree(t)
	timed := func(f func()) time.Duration {
		began := time.Now()
		f()
		return time.Since(began)
	}
	took := map[*node]map[string]time.Duration{}
	for _, n := range []*node{theirs, mine} {
		took[n] = map[string]time.Duration{}
		n.Start()
		var root string
		took[n]["add 256 MiB"] = timed(func() { root = n.Run("add", "-Q", "--progress=false", big) })
		took[n]["add -r 2,000 files"] = timed(func() { n.Run("add", "-Q", "-r", "--progress=false", folder) })
		if n == mine {
			n.drained()
			n.Stop()
			require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "s3ds", "cache")))
			n.Start()
		}
		took[n]["cat 256 MiB, cold"] = n.catTimed(big, root)
		n.Stop()
	}
	for name, least := range map[string]float64{"add 256 MiB": 1, "add -r 2,000 files": 20, "cat 256 MiB, cold": 8} {
		a, b := took[theirs][name], took[mine][name]
		ratio := a.Seconds() / b.Seconds()
		t.Logf("%-20s go-ds-s3 %.1f s, ipfs-aws %.1f s: %.1f times as fast", name, a.Seconds(), b.Seconds(), ratio)
		assert.GreaterOrEqual(t, ratio, least, name)
	}
}
