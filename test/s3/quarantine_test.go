package s3bill

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// blockPacks are the paths of the packs of a prefix on the disk of the server, in the order in which they were written.
func blockPacks(t *testing.T, server *s3test.Server, bucket string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(server.Dir, bucket, "node-1", "*.car"))
	require.NoError(t, err)
	var packs []string
	for _, path := range all {
		if !strings.HasSuffix(path, ".nodes.car") {
			packs = append(packs, path)
		}
	}
	return packs
}

// filled is a node without a read cache whose files are in a pack each.
func filled(t *testing.T, server *s3test.Server, url, bucket string, files int) (n *node, acks []acknowledged) {
	n = ours(t)
	n.initOurs(url, bucket, "node-1", map[string]any{"sealAge": "200ms", "cacheSize": 0, "maxAttempts": 2})
	n.Start()
	for i := range uint64(files) {
		acks = append(acks, n.addAll(1+i, 1, true)...)
		n.drained()
	}
	require.GreaterOrEqual(t, len(blockPacks(t, server, bucket)), files)
	return n, acks
}

// again adds files that were added before.
func (n *node) again(acks []acknowledged) {
	n.T.Helper()
	for _, a := range acks {
		same, err := n.upload(n.API, a.seed, true)
		require.NoError(n.T, err)
		require.Equal(n.T, a.cid, same.cid)
	}
	n.drained()
}

// TestDamagedPacksArePutAgain: one pack is deleted and one is cut. What verify advises is done, word for word, and everything reads, also on a fresh node.
func TestDamagedPacksArePutAgain(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	n, acks := filled(t, server, server.URL, bucket, 4)
	packs := blockPacks(t, server, bucket)
	require.NoError(t, os.Remove(packs[1]))
	info, err := os.Stat(packs[2])
	require.NoError(t, err)
	require.NoError(t, os.Truncate(packs[2], info.Size()/2))
	out, errOut, err := n.Try("datastore", "verify")
	require.Error(t, err)
	for _, path := range packs[1:3] {
		require.Contains(t, out, filepath.Base(path))
	}
	require.Contains(t, errOut, "put these blocks again")
	n.Stop()
	n.Start() // a note of damage outlives the process
	n.again(acks)
	n.serves(acks)
	n.Run("datastore", "verify")
	n.Stop()
	freshServes(t, server.URL, bucket, nil, acks)
}

// TestOneBadObjectStopsNothing: one pack is archived, one is cut, one is listed and missing. A fresh node starts and serves the others; verify and repack go on;
// and when the objects are restored, verify finds everything.
func TestOneBadObjectStopsNothing(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	bucket := server.NewBucket(t)
	n, acks := filled(t, server, proxy.URL, bucket, 6)
	n.Stop()
	packs := blockPacks(t, server, bucket)
	packs = packs[len(packs)-len(acks):] // before them is what init adds
	whole, err := os.ReadFile(packs[2])
	require.NoError(t, err)
	require.NoError(t, os.Truncate(packs[2], int64(len(whole)/2)))
	proxy.Disturb(func(r *http.Request) s3test.Fault {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, filepath.Base(packs[1])):
			return s3test.Fault{Status: http.StatusForbidden, Code: "InvalidObjectState", Message: "The operation is not valid for the object's storage class"}
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, filepath.Base(packs[3])):
			return s3test.Fault{Status: http.StatusNotFound, Code: "NoSuchKey", Message: "The specified key does not exist."}
		}
		return s3test.Fault{}
	})
	fresh := ours(t)
	fresh.initOurs(proxy.URL, bucket, "node-1", map[string]any{"cacheSize": 0, "maxAttempts": 2})
	fresh.Start()
	fresh.serves(append(acks[:1:1], acks[4:]...))
	require.Contains(t, fresh.Logged(), "3 packs are gone, cut or cannot be read")
	require.Contains(t, strings.Join(fresh.stat().Problems, "\n"), "3 packs are gone, cut or cannot be read")
	out, _, err := fresh.Try("datastore", "verify")
	require.Error(t, err)
	for _, path := range packs[1:4] {
		require.Contains(t, out, filepath.Base(path))
	}
	require.NotContains(t, out, filepath.Base(packs[4]))
	fresh.repack()
	fresh.serves(append(acks[:1:1], acks[4:]...))

	proxy.Disturb(nil)
	require.NoError(t, os.WriteFile(packs[2], whole, 0o600))
	fresh.Run("datastore", "verify")
	require.Empty(t, fresh.stat().Problems)
	fresh.serves(acks)
	fresh.Stop()
}

// TestBadNetworkIsNotDamage: whatever is between the node and the bucket shortens every answer. Verify says so, and calls no pack damaged.
func TestBadNetworkIsNotDamage(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	bucket := server.NewBucket(t)
	n, acks := filled(t, server, proxy.URL, bucket, 3)
	var spoiled atomic.Int64
	proxy.Disturb(func(r *http.Request) s3test.Fault {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, ".car") {
			return s3test.Fault{}
		}
		spoiled.Add(1)
		return s3test.Fault{Cut: s3test.Shorten, CutAfter: 500}
	})
	out, errOut, err := n.Try("datastore", "verify")
	require.Error(t, err)
	require.Positive(t, spoiled.Load())
	require.Contains(t, out, "could not be read")
	require.NotContains(t, out, "(live)")
	require.Contains(t, errOut, "does not mean that they are damaged")
	require.Empty(t, n.stat().Problems)
	proxy.Disturb(nil)
	n.Run("datastore", "verify")
	n.serves(acks)
	n.Stop()
}

// TestDamagedJournalIsTold: a bit of the journal is flipped, or the journal is emptied, while the node is stopped. It says so in its log, in `datastore stat` and in verify,
// and the content that is added again, as the line says, is there.
func TestDamagedJournalIsTold(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for damage, c := range map[string]struct {
		do   func(path string, b []byte) error
		says string
	}{
		"flipped": {func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) }, "of the journal is damaged"},
		"emptied": {func(path string, _ []byte) error { return os.Remove(path) }, "acknowledged blocks are not in the journal"},
	} {
		t.Run(damage, func(t *testing.T) {
			n := ours(t)
			n.initOurs(server.URL, server.NewBucket(t), "node-1", map[string]any{"sealAge": "10m"})
			n.Start()
			acks := n.addAll(1, 3, true)
			n.Stop()
			files, err := filepath.Glob(filepath.Join(n.Dir, "s3ds", "journal", "*.car"))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, path := range files {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, c.do(path, b))
			}
			n.Start()
			require.Eventually(t, func() bool {
				return strings.Contains(n.Logged(), c.says) && strings.Contains(strings.Join(n.stat().Problems, "\n"), "blocks are damaged or lost")
			}, testnode.Patience, 100*time.Millisecond, n.Logged())
			out, _, err := n.Try("datastore", "verify")
			require.Error(t, err)
			require.Contains(t, out, "(live)")
			for _, a := range acks {
				_, err := n.upload(n.API, a.seed, true)
				require.NoError(t, err)
			}
			n.serves(acks)
			n.Run("datastore", "verify")
			n.Stop()
		})
	}
}
