package migrate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// store is what the tests look at of one store in `datastore stat`.
type store struct {
	Blockstore, Path, Bucket, Prefix, Layout string
	Blocks, Bytes, InFlight                  int64
	Requests                                 []struct{ Operation string }
}

type stat struct {
	store
	Hot, Cold *store
	Migration *struct {
		From, To, Phase, Stage string
		AtWork                 bool
		Blocks, TotalBlocks    int64
	}
	Problems []string
	Summary  string
}

func (n *node) stat() (s stat) {
	n.T.Helper()
	require.NoError(n.T, json.Unmarshal([]byte(n.Run("datastore", "stat", "--json")), &s))
	return s
}

// startLine is what the daemon that was started last says about its store.
func (n *node) startLine() string {
	n.T.Helper()
	all := regexp.MustCompile(`(?m)^Blockstore: .*$`).FindAllString(n.Logged(), -1)
	require.NotEmpty(n.T, all)
	return all[len(all)-1]
}

// TestStatOfATieredStore: one store in front of another, as the documentation has it.
func TestStatOfATieredStore(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newRepo(t)
	hot := filepath.Join(t.TempDir(), "hot")
	n.Run("config", "--json", "Datastore.Spec", `{"type": "mount", "mounts": [
		{"mountpoint": "/blocks", "type": "tiered",
		 "hot": {"type": "efsds", "path": "`+hot+`", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"},
		 "cold": {"type": "s3ds", "layout": "packs", "region": "`+s3test.Region+`", "bucket": "`+bucket+`", "rootDirectory": "node-1", "regionEndpoint": "`+s.URL+`"}},
		{"mountpoint": "/", "type": "levelds", "path": "datastore", "compression": "none"}]}`)
	conf, err := os.ReadFile(filepath.Join(n.Dir, "config"))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, conf, 0o600))

	fresh := newNode(t)
	fresh.Run("init", file)
	fresh.Run("add", "-Q", random(t, 1, 600_000))
	got := fresh.stat()
	require.Equal(t, "tiered", got.Blockstore)
	require.Equal(t, []string{"efs", hot}, []string{got.Hot.Blockstore, got.Hot.Path})
	require.Positive(t, got.Hot.Blocks)
	require.Equal(t, []string{"s3", bucket, "node-1", "packs"}, []string{got.Cold.Blockstore, got.Cold.Bucket, got.Cold.Prefix, got.Cold.Layout})
	require.Zero(t, got.Cold.Blocks)
	require.GreaterOrEqual(t, got.Bytes, got.Hot.Bytes)
	require.Nil(t, got.Migration)
	require.Empty(t, got.Problems)
	require.NotContains(t, got.Summary, "\n")
	for _, says := range []string{"tiered, ", "hot efs, files under " + hot + ": ", "cold s3, bucket " + bucket + "/node-1, region", "free on the disk", "writes and removals under way", "nothing waits to be uploaded"} {
		require.Contains(t, got.Summary, says)
	}
	out := fresh.Run("datastore", "stat")
	require.Regexp(t, `(?m)^Hot: +efs, files under`, out)
	require.Regexp(t, `(?m)^Cold, Journal: +0 blocks`, out)
	fresh.Start()
	require.Regexp(t, `^Blockstore: tiered, .+: hot efs, files under .+; cold s3, bucket `+bucket+`/node-1`, fresh.startLine())
	fresh.Stop()
}

// TestStatWhileBlocksMove: what the daemon is doing, what was broken off, and what is left to do are told.
func TestStatWhileBlocksMove(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newRepo(t)
	root := n.Run("add", "-Q", random(t, 1, 6<<20))
	n.Start()
	args := toS3(s, bucket, "node-1", "--online")
	cmd := n.Command(append(args, "--bandwidth", "500kB")...)
	require.NoError(t, cmd.Start())
	var got stat
	require.Eventually(t, func() bool {
		got = n.stat()
		return got.Migration != nil && got.Migration.AtWork && got.Migration.Stage == "copying" && got.Migration.Blocks > 0
	}, testnode.Patience, 20*time.Millisecond)
	require.Equal(t, "tiered", got.Migration.Phase)
	require.Greater(t, got.Migration.TotalBlocks, got.Migration.Blocks)
	require.Equal(t, []string{"tiered", "s3", "flatfs"}, []string{got.Blockstore, got.Hot.Blockstore, got.Cold.Blockstore})
	require.Positive(t, got.Hot.Blocks)
	require.Contains(t, got.Summary, "migration from flatfs in "+filepath.Join(n.Dir, "blocks")+" to s3://"+bucket+"/node-1: copying: ")

	require.Error(t, n.End(syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	n.Start()
	require.Regexp(t, `^Blockstore: tiered, .+; a migration from flatfs .+ was broken off: the same .+ goes on$`, n.startLine())
	require.False(t, n.stat().Migration.AtWork)

	n.Run(args...)
	got = n.stat()
	require.Equal(t, "s3", got.Blockstore)
	require.Nil(t, got.Hot)
	require.Contains(t, got.Summary, "the old store, flatfs in "+filepath.Join(n.Dir, "blocks")+", is still there: `ipfs-aws datastore migrate --delete-source`")

	// How full the repo is, is how full the new store is: kubo collects garbage by it.
	n.Run("pin", "rm", root)
	n.Run("repo", "gc", "--min-age", "0s")
	var size struct{ RepoSize int64 }
	require.NoError(t, json.Unmarshal([]byte(n.Run("repo", "stat", "--size-only", "--enc=json")), &size))
	require.Less(t, size.RepoSize, int64(3<<20))
	n.Stop()
	n.Run(command("--delete-source")...)
	got = n.stat()
	require.Nil(t, got.Migration)
	require.False(t, strings.Contains(got.Summary, "old store"))
}
