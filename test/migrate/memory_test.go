package migrate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/cars"
	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// memoryBound is what 100,000 blocks may need, in bytes of resident memory.
const memoryBound = 300 << 20

// measured runs a command that must succeed, and returns the most memory that it had.
func (n *node) measured(args ...string) int64 {
	n.T.Helper()
	var errOut strings.Builder
	cmd := n.Command(args...)
	cmd.Stderr = &errOut
	require.NoError(n.T, cmd.Run(), errOut.String())
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	require.True(n.T, ok)
	return usage.Maxrss << 10 // Linux counts KiB
}

// TestMemory: 100,000 blocks out of CAR files into a bucket, into another one, and into files.
func TestMemory(t *testing.T) {
	gate.Long(t, "moves 100,000 blocks five times")
	const blocks, size = 100_000, 4 << 10
	s := s3test.Start(t)
	dir := filepath.Join(t.TempDir(), "cars")
	folder, err := cars.Create(dir, cars.Options{})
	require.NoError(t, err)
	data := bytes.Repeat([]byte("x"), size)
	for i := range blocks {
		binary.BigEndian.PutUint64(data, uint64(i))
		h, err := mh.Sum(data, mh.SHA2_256, -1)
		require.NoError(t, err)
		require.NoError(t, folder.Put(t.Context(), []migrate.Block{{Hash: h, Data: data}}))
	}
	require.NoError(t, folder.Sync(t.Context()))
	require.NoError(t, folder.Close())

	n := newNode(t)
	bucket := s.NewBucket(t)
	n.Run("init", "--profile", "test", "--blockstore", "s3", "--bucket", bucket, "--endpoint", s.URL, "--region", s3test.Region, "--prefix", "node-1")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"CARs to S3", command("--from", dir)},
		{"S3 to S3", toS3(s, bucket, "node-2")},
		{"S3 to CARs", command("--to", "cars", "--path", filepath.Join(t.TempDir(), "back"))},
		{"S3 to efs", command("--to", "efs")},
		{"efs to S3", toS3(s, bucket, "node-3")},
	} {
		most := n.measured(c.args...)
		t.Logf("%s: %d MiB", c.name, most>>20)
		require.LessOrEqual(t, most, int64(memoryBound), c.name)
	}
	require.Contains(t, n.Run("repo", "stat", "--size-only=false"), fmt.Sprint(blocks)[:3])
}
