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

// takesOver starts daemons until one is let in, as an orchestrator does.
func (n *node) takesOver() {
	n.T.Helper()
	for deadline := time.Now().Add(testnode.Patience); ; {
		require.NoError(n.T, os.RemoveAll(n.Log()))
		n.Launch()
		again := time.NewTicker(20 * time.Millisecond)
		ended := false
		for !ended && !n.Answers() {
			select {
			case err := <-n.Exited:
				n.Cmd, ended = nil, true
				require.Error(n.T, err)
				require.Contains(n.T, n.Logged(), "prefix is owned by another node")
			case <-again.C:
			}
		}
		again.Stop()
		if !ended {
			return
		}
		require.True(n.T, time.Now().Before(deadline), "the lease does not end")
	}
}

// TestOneWriterPerPrefix: a second node is refused by name; a dead one is taken
// over when its lease has run out; one that was only asleep acknowledges nothing
// when it wakes up.
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
	for _, line := range []string{
		second.refused(),
		ours(t).Fail("init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", server.URL, "--region", s3test.Region, "--prefix", "node-1"),
	} {
		require.Contains(t, line, "prefix is owned by another node")
		require.Contains(t, line, id)
		require.Contains(t, line, host)
		require.Contains(t, line, "rootDirectory")
	}
	if !gate.Full() { // what follows waits for two leases; datastore/s3ds/owner takes over with every change
		return
	}

	require.Error(t, first.End(syscall.SIGKILL))
	require.Contains(t, second.refused(), id, "dead, but nobody knows yet")
	second.takesOver()
	second.serves([]acknowledged{a})
	b, err := second.upload(second.API, 2, true)
	require.NoError(t, err)
	epoch := second.stat().Owner.Epoch

	require.NoError(t, proc.Stop(second.Cmd.Process.Pid))
	third.takesOver()
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
