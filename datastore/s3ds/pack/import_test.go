package pack_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// node runs commands of a kubo binary on a repo of its own, without a daemon.
type node struct {
	t   *testing.T
	bin string
	dir string
}

func newNode(t *testing.T) *node {
	bin := os.Getenv("IPFS_BIN")
	if bin == "" {
		dir, err := os.Getwd()
		require.NoError(t, err)
		for ; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			require.NotEqual(t, filepath.Dir(dir), dir, "no go.mod above the test")
		}
		bin = filepath.Join(dir, "bin", "ipfs-aws")
	}
	_, err := os.Stat(bin)
	require.NoError(t, err, "no kubo binary: run make build, or set IPFS_BIN")
	n := &node{t, bin, t.TempDir()}
	n.ok(nil, "init", "--profile=test")
	return n
}

func (n *node) run(stdin []byte, args ...string) (stdout, stderr string, err error) {
	cmd := proc.CommandContext(n.t.Context(), n.bin, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+n.dir, "IPFS_TELEMETRY=off")
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (n *node) ok(stdin []byte, args ...string) string {
	n.t.Helper()
	out, errs, err := n.run(stdin, args...)
	require.NoError(n.t, err, "ipfs %s: %s", strings.Join(args, " "), errs)
	return out
}

// Leaving this software costs nothing: a pack goes into kubo as it is, with
// roots pinned (there are none) and without, and a DAG in it is whole again.
func TestKuboImportsPacks(t *testing.T) {
	file := make([]byte, 1<<20+12345)
	_, err := rand.NewChaCha8([32]byte{2}).Read(file)
	require.NoError(t, err)

	from := newNode(t)
	root := strings.TrimSpace(from.ok(file, "add", "-Q", "--pin=false", "--chunker=size-100000"))
	var blocks []pack.Block
	for _, s := range append(strings.Fields(from.ok(nil, "refs", "-r", "--unique", root)), root) {
		c, err := cid.Decode(s)
		require.NoError(t, err)
		blocks = append(blocks, pack.Block{Multihash: c.Hash(), Data: []byte(from.ok(nil, "block", "get", s))})
	}
	require.Greater(t, len(blocks), 10)
	// Blocks of other DAGs share the pack, the empty one among them.
	blocks = append(blocks, blockOf(t, nil), blockOf(t, []byte("somebody else's")))
	b, name, _ := build(t, blocks...)
	path := filepath.Join(t.TempDir(), name.String())
	require.NoError(t, os.WriteFile(path, b, 0o644))

	for _, flags := range [][]string{nil, {"--pin-roots=false"}, {"--pin-roots=true"}} {
		t.Run(strings.Join(flags, ""), func(t *testing.T) {
			to := newNode(t)
			out := to.ok(nil, append(append([]string{"dag", "import", "--stats"}, flags...), path)...)
			require.Contains(t, out, "Imported "+strconv.Itoa(len(blocks))+" blocks")
			got := to.ok(nil, "cat", "--offline", root)
			require.True(t, bytes.Equal(file, []byte(got)), "the file comes back as it was")
			require.NotContains(t, to.ok(nil, "pin", "ls", "--type=recursive"), root, "nothing is pinned behind the user's back")
		})
	}

	t.Run("damaged", func(t *testing.T) {
		bad := append([]byte(nil), b...)
		bad[len(b)/2] ^= 1
		path := filepath.Join(t.TempDir(), name.String())
		require.NoError(t, os.WriteFile(path, bad, 0o644))
		_, errs, err := newNode(t).run(nil, "dag", "import", path)
		require.Error(t, err)
		require.Contains(t, errs, "mismatch in content integrity")
	})
}
