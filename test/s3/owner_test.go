package s3bill

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// refused starts a daemon that must not start, and returns what it said.
func (n *node) refused() string {
	n.T.Helper()
	require.NoError(n.T, os.RemoveAll(n.Log()))
	n.Launch()
	select {
	case err := <-n.Exited:
		n.Cmd = nil
		require.Error(n.T, err)
		return n.Logged()
	case <-time.After(testnode.Patience):
		require.FailNow(n.T, "the daemon neither starts nor ends", n.Logged())
		return ""
	}
}

// move points a repo to another prefix, which init would have refused.
func (n *node) move(prefix string) {
	n.T.Helper()
	n.edit(func(store map[string]any) { store["rootDirectory"] = prefix })
	path := filepath.Join(n.Dir, "datastore_spec")
	b, err := os.ReadFile(path)
	require.NoError(n.T, err)
	var spec map[string]any
	require.NoError(n.T, json.Unmarshal(b, &spec))
	spec["mounts"].([]any)[0].(map[string]any)["rootDirectory"] = prefix
	b, err = json.Marshal(spec)
	require.NoError(n.T, err)
	require.NoError(n.T, os.WriteFile(path, b, 0o600))
}

// forgetOwner removes what says whose a prefix is, so that a test whose node is dead for certain need not wait as a takeover does.
func forgetOwner(t *testing.T, prefix string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(filepath.Join(prefix, ".ipfs-aws")))
	require.NoError(t, os.Remove(filepath.Join(prefix, ".ipfs-aws-owner")))
}

// TestOneWriterPerPrefix: a second node is refused, by the name of the first, alive, idle or dead; one that is told to takes over; and one that was only
// asleep acknowledges nothing when it wakes up.
func TestOneWriterPerPrefix(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	settings := map[string]any{"durability": "bucket", "sealAge": "200ms"}
	first, second, third := ours(t), ours(t), ours(t)
	for n, prefix := range map[*node]string{first: "node-1", second: "node-2", third: "node-3"} {
		n.initOurs(server.URL, bucket, prefix, settings)
	}
	for _, n := range []*node{second, third} {
		n.move("node-1")
	}
	host, err := os.Hostname()
	require.NoError(t, err)

	first.Start()
	a, err := first.upload(first.API, 1, true)
	require.NoError(t, err)
	id := first.stat().Owner.ID
	require.NotEmpty(t, id)
	for _, line := range []string{second.refused(), initFails(ours(t), server, bucket)} {
		require.Contains(t, line, "prefix is owned by another node")
		for _, part := range []string{id, host, "rootDirectory", "IPFS_S3_TAKE_OVER=1", "--take-over"} {
			require.Contains(t, line, part)
		}
	}
	require.Error(t, first.End(syscall.SIGKILL))
	require.Contains(t, second.refused(), id, "dead, but nobody knows")
	first.Start() // its own successor
	require.Equal(t, id, first.stat().Owner.ID)
	first.Stop()
	second.Start()
	second.serves([]acknowledged{a})
	if !gate.Full() { // what follows waits for a lease; datastore/s3ds takes over with every change
		second.Stop()
		return
	}

	b, err := second.upload(second.API, 2, true)
	require.NoError(t, err)
	epoch := second.stat().Owner.Epoch
	require.NoError(t, proc.Stop(second.Cmd.Process.Pid))
	third.Env = append(third.Env, "IPFS_S3_TAKE_OVER=1")
	third.Start()
	require.Greater(t, third.stat().Owner.Epoch, epoch)
	c, err := third.upload(third.API, 3, true)
	require.NoError(t, err)
	require.NoError(t, second.Cmd.Process.Signal(syscall.SIGCONT))
	for seed := range uint64(3) {
		_, err = second.upload(second.API, 100+seed, seed == 0)
		require.ErrorContains(t, err, "another node has taken over the prefix")
		require.ErrorContains(t, err, third.stat().Owner.ID)
	}
	require.NotEmpty(t, second.stat().Problems)
	third.serves([]acknowledged{a, b, c})
	second.Stop()
	third.Stop()
}

func initFails(n *node, server *s3test.Server, bucket string) string {
	n.T.Helper()
	return n.Fail("init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", server.URL, "--region", s3test.Region, "--prefix", "node-1")
}
