package upgrade

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// former is the ipfs-aws of the release before this one.
func former(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/former/ipfs-aws")
	require.NoError(t, err)
	gate.Long(t, "needs the release before this one")
	require.FileExists(t, path, "run `make former` first")
	return path
}

// content is what a node is given, and has to give back.
type content struct {
	pinned map[string][]byte // by CID
	files  map[string][]byte // by path in MFS
	key    string            // an IPNS name
}

// fill adds content through a running daemon and says what it was told.
func fill(n *testnode.Node, c *content, round string, random *rand.ChaCha8) {
	n.T.Helper()
	for i, size := range []int{0, 1, 1000, 300 << 10, 3 << 20} {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		name := filepath.Join(n.T.TempDir(), "f")
		require.NoError(n.T, os.WriteFile(name, data, 0o600))
		c.pinned[n.Run("add", "-Q", "--cid-version=1", name)] = data
		at := fmt.Sprintf("/%s/%d", round, i)
		n.Run("files", "write", "--create", "--parents", at, name)
		c.files[at] = data
	}
}

// holds checks that everything is there, byte for byte.
func holds(n *testnode.Node, c *content) {
	n.T.Helper()
	pins := n.Run("pin", "ls", "--type=recursive", "--quiet")
	for cid, want := range c.pinned {
		require.Contains(n.T, pins, cid)
		require.Equal(n.T, string(want), read(n, "cat", cid), cid)
	}
	for at, want := range c.files {
		require.Equal(n.T, string(want), read(n, "files", "read", at), at)
	}
	require.Contains(n.T, n.Run("key", "list", "-l"), c.key)
}

func read(n *testnode.Node, args ...string) string {
	n.T.Helper()
	var out bytes.Buffer
	cmd := n.Command(append([]string{"--offline"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	require.NoError(n.T, cmd.Run(), "%v", args)
	return out.String()
}

// A repo of the former release, whatever its blockstore and however its daemon ended,
// opens with this one; so does what the two have written in turn.
func TestAFormerRepoOpens(t *testing.T) {
	old := former(t)
	server := s3test.Start(t)
	for name, store := range map[string]func(t *testing.T) []string{
		"flatfs": func(*testing.T) []string { return []string{"--blockstore", "flatfs"} },
		"efs":    func(*testing.T) []string { return []string{"--blockstore", "efs"} },
		"tiered": func(*testing.T) []string { return []string{"--blockstore", "efs"} }, // and a bucket behind it
		"packs":  func(t *testing.T) []string { return inBucket(server, server.NewBucket(t)) },
		"objects": func(t *testing.T) []string {
			return append(inBucket(server, server.NewBucket(t)), "--layout", "objects")
		},
	} {
		for ending, sig := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
			t.Run(name+"/"+ending, func(t *testing.T) {
				seed := [32]byte{byte(len(name)), byte(sig)}
				random := rand.NewChaCha8(seed)
				n := testnode.New(t, old)
				n.Run(append([]string{"init", "--profile", "test"}, store(t)...)...)
				if name == "tiered" {
					tier(n, server, server.NewBucket(t))
				}
				require.Contains(t, n.Run("version"), "kubo 0.42.0")
				c := &content{pinned: map[string][]byte{}, files: map[string][]byte{}, key: n.Run("key", "gen", "site")}
				n.Start()
				fill(n, c, "former", random)
				_ = n.End(sig) // a killed process does not exit with 0
				id := n.Run("config", "Identity.PeerID")

				n.Program = testnode.Ours(t)
				holds(n, c) // without a daemon
				n.Start()
				require.Contains(t, n.Run("version", "--all"), "kubo 0.43.1")
				require.Contains(t, n.Run("id"), id)
				holds(n, c)
				require.Contains(t, n.Run("repo", "verify"), "verify complete")
				fill(n, c, "this", random)
				require.NotContains(t, n.Run("repo", "gc", "--quiet"), "error")
				holds(n, c)
				for cid, want := range c.pinned {
					resp, err := http.Get(n.Gateway + "/ipfs/" + cid)
					require.NoError(t, err)
					body, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					require.Equal(t, string(want), string(body), cid)
				}
				_ = n.End(sig)
				n.Start()
				holds(n, c)
				n.Stop()
			})
		}
	}
}

// A node of the former release that has a prefix keeps this one out; its own repo goes on with this release at once, whatever its lease; and
// then the former one is kept out.
func TestTheOwnerOfAPrefixAcrossReleases(t *testing.T) {
	old := former(t)
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	store := inBucket(server, bucket)
	a := testnode.New(t, old)
	a.Run(append([]string{"init", "--profile", "test"}, store...)...)
	a.Start()
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	cid := a.Run("add", "-Q", file)
	said := testnode.New(t, testnode.Ours(t), "IPFS_S3_TAKE_OVER=1").Fail(append([]string{"init"}, store...)...)
	require.Contains(t, said, "runs a former release")

	require.Error(t, a.End(syscall.SIGKILL))
	a.Program = testnode.Ours(t)
	a.Start()
	require.Equal(t, "content", read(a, "cat", cid))
	said = testnode.New(t, old).Fail(append([]string{"init"}, store...)...)
	require.Contains(t, said, "a newer release may have written it")
	a.Stop()
	said = testnode.New(t, old).Fail(append([]string{"init"}, store...)...)
	require.Contains(t, said, "a newer release may have written it", "not while it is stopped either")
	b := testnode.New(t, testnode.Ours(t))
	b.Run(append([]string{"init", "--profile", "test"}, store...)...)
	require.Equal(t, "content", read(b, "cat", cid))
}

func inBucket(s *s3test.Server, bucket string) []string {
	return strings.Fields("--blockstore s3 --bucket " + bucket + " --region " + s3test.Region + " --endpoint " + s.URL + " --prefix node")
}

// tier puts the blocks of a new repo into a folder in front of a bucket.
func tier(n *testnode.Node, s *s3test.Server, bucket string) {
	n.T.Helper()
	spec := fmt.Sprintf(`{"type": "mount", "mounts": [
		{"mountpoint": "/blocks", "type": "tiered", "promote": true,
		 "hot": {"type": "efsds", "path": %q, "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"},
		 "cold": {"type": "s3ds", "layout": "packs", "region": %q, "bucket": %q, "rootDirectory": "node", "regionEndpoint": %q}},
		{"mountpoint": "/", "type": "levelds", "path": "datastore", "compression": "none"}]}`,
		filepath.Join(n.T.TempDir(), "hot"), s3test.Region, bucket, s.URL)
	n.Run("config", "--json", "Datastore.Spec", spec)
	conf, err := os.ReadFile(filepath.Join(n.Dir, "config"))
	require.NoError(n.T, err)
	file := filepath.Join(n.T.TempDir(), "config")
	require.NoError(n.T, os.WriteFile(file, conf, 0o600))
	require.NoError(n.T, os.RemoveAll(n.Dir)) // nothing is in it yet
	n.Run("init", file)
}
