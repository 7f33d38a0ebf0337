package s3bill

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// addAll adds files of their own content and pins them, or not.
func (n *node) addAll(first, count uint64, pin bool) (acks []acknowledged) {
	n.T.Helper()
	for seed := first; seed < first+count; seed++ {
		a, err := n.upload(n.API, seed, true)
		require.NoError(n.T, err)
		if !pin {
			_, err := n.rpc("pin/rm", "arg", a.cid)
			require.NoError(n.T, err)
		}
		acks = append(acks, a)
	}
	return acks
}

func (n *node) repack() {
	n.T.Helper()
	out, err := n.rpc("datastore/repack")
	require.NoError(n.T, err)
	require.NotContains(n.T, string(out), `"Type":"error"`)
}

func copyRepo(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// TestAnotherNodeCountedOnDeadBlocks: a node collects its garbage and stops; another one adds the same files, of which nothing has to be uploaded, pins them
// and stops. The first one must not delete them, and finds what the other one added.
func TestAnotherNodeCountedOnDeadBlocks(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	settings := map[string]any{"sealAge": "200ms"}
	a, b := ours(t), ours(t)
	a.initOurs(server.URL, bucket, "node-1", settings)
	a.Start()
	a.addAll(1, 30, false)
	a.drained()
	_, err := a.rpc("repo/gc")
	require.NoError(t, err)
	a.Stop()

	b.initOurs(server.URL, bucket, "node-1", settings)
	b.Start()
	acks := b.addAll(1, 30, true)
	acks = append(acks, b.addAll(100, 5, true)...)
	b.drained()
	b.Stop()

	a.Start()
	a.repack() // what compaction does after 30 s
	a.serves(acks)
	require.Contains(t, a.Logged(), "s3ds: resynced with the bucket, for node")
	a.Stop()
	freshServes(t, server.URL, bucket, settings, acks)
}

// freshServes has a node with an empty disk read what was acknowledged.
func freshServes(t *testing.T, endpoint, bucket string, settings map[string]any, acks []acknowledged) {
	t.Helper()
	fresh := ours(t)
	fresh.initOurs(endpoint, bucket, "node-1", settings)
	fresh.Start()
	fresh.serves(acks)
	fresh.Stop()
}

// TestRestoredRepo: a repo from a backup that is older than the last merge of packs has everything, and says so.
func TestRestoredRepo(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(server.URL, bucket, "node-1", map[string]any{"sealAge": "200ms"})
	n.Start()
	var acks []acknowledged
	for i := range uint64(10) {
		acks = append(acks, n.addAll(1+i, 1, true)...)
		n.drained()
	}
	n.Stop()
	backup := filepath.Join(t.TempDir(), "backup")
	copyRepo(t, n.Dir, backup)
	n.Start()
	n.repack()
	require.NotZero(t, n.stat().Compaction.MergedPacks)
	acks = append(acks, n.addAll(100, 5, true)...)
	n.drained()
	n.Stop()
	copyRepo(t, backup, n.Dir)
	n.Start()
	n.serves(acks)
	require.Empty(t, n.stat().Problems)
	n.Stop()
}

// TestCopyOfALiveRepo: it is refused, and the one that runs goes on.
func TestCopyOfALiveRepo(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	a, twin := ours(t), ours(t)
	a.initOurs(server.URL, bucket, "node-1", map[string]any{"sealAge": "200ms"})
	a.Start()
	acks := a.addAll(1, 5, true)
	copyRepo(t, a.Dir, twin.Dir)
	require.NoError(t, os.Remove(filepath.Join(twin.Dir, "api")))
	said := twin.refused()
	require.Contains(t, said, "prefix is owned by another node")
	require.Contains(t, said, "this repo is a copy of the other one")
	require.Contains(t, said, a.stat().Owner.ID)
	acks = append(acks, a.addAll(10, 5, true)...)
	a.drained()
	a.Stop()

	twin.Start() // it was stopped in order
	twin.serves(acks)
	more := twin.addAll(20, 5, true)
	twin.drained()
	twin.Stop()
	a.Start()
	a.serves(append(acks, more...))
	a.Stop()
}

// readyz returns the answer of the health listener.
func (n *node) readyz(address string) (ready bool, detail string) {
	n.T.Helper()
	resp, err := http.Get("http://" + address + "/readyz")
	require.NoError(n.T, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(n.T, err)
	require.NoError(n.T, resp.Body.Close())
	return resp.StatusCode == http.StatusOK, string(b)
}

// TestIdleNodeIsNotReplacedSilently: init on the prefix of a node that is idle is refused; with --take-over it takes the prefix, and the other one says so at once.
func TestIdleNodeIsNotReplacedSilently(t *testing.T) {
	gate.Long(t, "waits for the lease of a minute of former releases, and for a takeover")
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	a := ours(t)
	health := ports.Address(t)
	a.Env = append(a.Env, "IPFS_HEALTH_ADDRESS="+health)
	a.initOurs(server.URL, bucket, "node-1", map[string]any{"sealAge": "200ms"})
	a.Start()
	acks := a.addAll(1, 5, true)
	a.drained()
	id := a.stat().Owner.ID
	time.Sleep(70 * time.Second) // longer than a former release waited
	require.Contains(t, initFails(ours(t), server, bucket), id)
	require.Empty(t, a.stat().Problems)
	acks = append(acks, a.addAll(10, 1, true)...)
	a.drained()

	b := ours(t)
	b.Run("init", "--take-over", "--blockstore", "s3", "--bucket", bucket, "--endpoint", server.URL, "--region", s3test.Region, "--prefix", "node-1", "--profile", "test")
	b.Start()
	b.serves(acks)
	first, _, _ := strings.Cut(a.Run("datastore", "stat"), "\n")
	require.Contains(t, first, "REPLACED")
	ready, detail := a.readyz(health)
	require.False(t, ready)
	require.Contains(t, detail, "another node has taken over the prefix")
	require.Contains(t, a.Logged(), "s3ds: another node has taken over the prefix")
	_, err := a.upload(a.API, 50, true)
	require.ErrorContains(t, err, b.stat().Owner.ID)
	require.ErrorContains(t, err, "IPFS_S3_TAKE_OVER=1")
	a.serves(acks)
	a.Stop()

	// The advice, word for word: stop the other one, which ends in order, and start this one.
	more := b.addAll(60, 3, true)
	b.drained()
	b.Stop()
	a.Start()
	a.serves(append(acks, more...))
	a.addAll(70, 1, true)
	a.Stop()
}

// TestOutage: writes go on while the bucket refuses connections, for longer than a proof of ownership is good, and are all there afterwards.
func TestOutage(t *testing.T) {
	gate.Long(t, "an outage of 75 s")
	t.Parallel()
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(proxy.URL, bucket, "node-1", map[string]any{"sealAge": "1s", "requestTimeout": "5s"})
	n.Start()
	acks := n.addAll(1, 3, true)
	n.drained()
	proxy.Disturb(s3test.Always("", s3test.Fault{Cut: s3test.Drop}))
	for until := time.Now().Add(75 * time.Second); time.Now().Before(until); time.Sleep(2 * time.Second) {
		a, err := n.upload(n.API, 100+uint64(len(acks)), false)
		require.NoError(t, err, n.Logged())
		acks = append(acks, a)
	}
	require.Contains(t, fmt.Sprint(n.stat().Problems), "cannot be asked who owns the prefix")
	proxy.Disturb(nil)
	n.drained()
	n.serves(acks)
	n.Stop()
	freshServes(t, server.URL, bucket, nil, acks)
}

// TestPackThatIsSaidToBeThere: a server answers 412 although there is no such object, or one that is cut. What was acknowledged gets to the bucket.
func TestPackThatIsSaidToBeThere(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, short := range map[string]bool{"none": false, "a part": true} {
		t.Run(name, func(t *testing.T) {
			proxy := s3test.NewProxy(t, server.URL)
			bucket := server.NewBucket(t)
			n := ours(t)
			n.initOurs(proxy.URL, bucket, "node-1", map[string]any{"sealAge": "200ms"})
			n.Start()
			var lied atomic.Int64
			proxy.Disturb(func(r *http.Request) s3test.Fault {
				if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, ".car") || r.Header.Get("If-None-Match") == "" {
					return s3test.Fault{}
				}
				if short {
					path := filepath.Join(server.Dir, filepath.FromSlash(r.URL.Path))
					if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
						return s3test.Fault{Status: http.StatusInternalServerError}
					}
				}
				lied.Add(1)
				return s3test.Fault{Status: http.StatusPreconditionFailed, Code: "PreconditionFailed", Message: "so it says"}
			})
			acks := n.addAll(1, 5, true)
			n.drained()
			require.Positive(t, lied.Load())
			proxy.Disturb(nil)
			n.serves(acks)
			n.Stop()
			freshServes(t, server.URL, bucket, nil, acks)
		})
	}
}
