package s3bill

import (
	"bytes"
	"encoding/json"
	"net/http"
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

// small settings make many packs of little data.
var small = map[string]any{"packSize": "1MiB", "sealAge": "100ms", "cacheSize": "4MiB"}

// packsOf lists the files of the packs in a bucket of the server.
func packsOf(t *testing.T, server *s3test.Server, bucket, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.Dir, bucket, prefix, "*.car"))
	require.NoError(t, err)
	return files
}

// TestCommandsBesideADaemonAndWithout runs the commands as an operator does.
func TestCommandsBesideADaemonAndWithout(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(server.URL, bucket, "node-1", small)
	n.Start()
	data := file(t, 11, 5<<20)
	root := n.Run("add", "-Q", data)
	n.drained()

	require.Regexp(t, `Bucket: +`+bucket+`/node-1, layout packs\n`, n.Run("datastore", "stat"))
	require.Contains(t, n.Run("datastore", "stat", "--json"), `"Layout":"packs"`)
	require.Equal(t, n.Run("datastore", "stat", "--json")[:100], n.Run("datastore", "stat", "--enc=json")[:100])
	require.Contains(t, n.Run("datastore", "verify"), "0 that somebody would miss are damaged or missing")
	require.Contains(t, n.Run("datastore", "verify", "--sample=0.5", "--json"), `"Result"`)
	require.Contains(t, n.Run("datastore", "repack"), "0 loose objects are left")
	refusal := n.Fail("datastore", "reindex")
	require.Contains(t, refusal, "stop it first, nothing was changed")
	require.NotContains(t, refusal, "\n")

	blocks := n.stat().Blocks
	n.Stop()

	// Without a daemon: the index is lost, and made anew from the bucket.
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "s3ds", "index")))
	require.Contains(t, n.Run("datastore", "reindex"), "the index is complete")
	require.Contains(t, n.Run("datastore", "verify"), "0 that somebody would miss are damaged or missing")
	n.Start()
	require.Equal(t, blocks, n.stat().Blocks)
	n.sameOutput(data, "cat", root)

	// A flipped bit is found and named, and healed by the next put.
	victim := packsOf(t, server, bucket, "node-1")[0]
	b, err := os.ReadFile(victim)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	overwrite(t, victim, b)
	out, errOut, err := n.Try("datastore", "verify")
	require.Error(t, err)
	require.Contains(t, out, "node-1/"+filepath.Base(victim)+" at ")
	require.Contains(t, out, "(live)")
	require.Contains(t, errOut, "1 blocks or packs are damaged or missing")
	require.NotEmpty(t, n.stat().Problems)
	n.Run("add", "-Q", data)
	n.drained()
	require.Empty(t, n.stat().Problems)
	require.Contains(t, n.Run("datastore", "verify"), "0 that somebody would miss are damaged or missing")
	n.sameOutput(data, "cat", root)
}

// overwrite changes a file where it is: versitygw keeps what it knows about an
// object in the attributes of the file.
func overwrite(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A repo without S3, and one in layout objects, are told so in one line.
func TestCommandsOnOtherRepos(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	flat := ours(t)
	flat.Run("init", "--profile", "test")
	objects := ours(t)
	objects.Run("init", "--blockstore", "s3", "--layout", "objects", "--bucket", server.NewBucket(t), "--endpoint", server.URL, "--region", s3test.Region, "--profile", "test")
	for command, want := range map[string]string{
		"verify": "`ipfs-aws repo verify`", "repack": `set "layout": "packs" first`, "reindex": "there is nothing to do",
	} {
		for n, want := range map[*node]string{flat: "are not in S3 but in flatfs: there is nothing to do here", objects: want} {
			line := n.Fail("datastore", command)
			require.Contains(t, line, "datastore "+command+": ")
			require.Contains(t, line, want)
			require.NotContains(t, line, "\n")
		}
	}
	require.Regexp(t, "^Blockstore: +flatfs, files under ", flat.Run("datastore", "stat"))
	require.Regexp(t, "layout objects\n", objects.Run("datastore", "stat"))
	require.Contains(t, ours(t).Fail("datastore", "stat"), "there is no repo at")
}

// TestVerifyGoesOn: broken off with Ctrl-C, it goes on behind the last pack.
func TestVerifyGoesOn(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(proxy.URL, bucket, "node-1", small)
	n.Start()
	n.Run("add", "-Q", file(t, 12, 6<<20))
	n.drained()
	packs := packsOf(t, server, bucket, "node-1")
	// The last one with leaves. One of nodes only may be dead, now that they are gathered; so may an earlier one, if its blocks
	// were so long on their way to the index that they were written once more. Dead ones are not read.
	at := len(packs) - 1
	for ; at > 0; at-- {
		if fi, err := os.Stat(packs[at]); err == nil && fi.Size() > 512<<10 {
			break
		}
	}
	require.Positive(t, at)
	held := filepath.Base(packs[at])
	reached := make(chan struct{}, 100)
	proxy.Disturb(func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, held) {
			reached <- struct{}{}
			return s3test.Fault{Cut: s3test.Silence}
		}
		return s3test.Fault{}
	})
	cmd := n.Command("datastore", "verify")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	require.NoError(t, cmd.Start())
	select {
	case <-reached:
	case <-time.After(testnode.Patience):
		require.FailNow(t, "verify does not reach the pack", out.String()+errOut.String())
	}
	note := filepath.Join(n.Dir, "s3ds", "verify.json")
	require.Eventually(t, func() bool { // several are read at the same time: one of those before the held one is over
		b, err := os.ReadFile(note)
		return err == nil && strings.Contains(string(b), ".car")
	}, testnode.Patience, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	proxy.Disturb(nil)

	var done string
	require.Eventually(t, func() bool { // the one that was broken off lets go
		var err error
		done, _, err = n.Try("datastore", "verify")
		return err == nil
	}, testnode.Patience, 20*time.Millisecond)
	var before []string
	for _, path := range packs[:at] {
		before = append(before, regexp.QuoteMeta(filepath.Base(path)))
	}
	require.Regexp(t, "behind pack ("+strings.Join(before, "|")+"),", done)
	require.NoFileExists(t, note)
	require.NotContains(t, n.Run("datastore", "verify"), "behind pack")
}

// TestBucketOfGoDsS3: what stock kubo wrote is served where it lies, and repack
// brings it into packs, also beside a daemon.
func TestBucketOfGoDsS3(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	data := file(t, 13, 8<<20)
	old := stock(t)
	old.initStock(server.URL, bucket)
	root := old.Run("add", "-Q", data)

	n := ours(t)
	n.Run("init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", server.URL, "--region", s3test.Region, "--profile", "test")
	n.Start()
	before := n.stat()
	require.GreaterOrEqual(t, before.Loose.Blocks, int64(33))
	n.sameOutput(data, "cat", root)
	n.Run("pin", "add", root)
	n.Run("datastore", "repack")
	after := n.stat()
	require.Zero(t, after.Loose.Blocks)
	require.Equal(t, before.Blocks, after.Blocks)
	left, err := filepath.Glob(filepath.Join(server.Dir, bucket, "CIQ*"))
	require.NoError(t, err)
	require.Empty(t, left, "the loose objects are gone")
	n.sameOutput(data, "cat", root)
	n.Stop()
	n.Start()
	n.sameOutput(data, "cat", root)
}

// relayout sets the layout as docs/s3ds.md says.
func (n *node) relayout(layout string) {
	n.T.Helper()
	n.edit(func(store map[string]any) {
		store["layout"] = layout
		delete(store, "sealAge")
	})
	name := filepath.Join(n.Dir, "datastore_spec")
	b, err := os.ReadFile(name)
	require.NoError(n.T, err)
	var disk map[string]any
	require.NoError(n.T, json.Unmarshal(b, &disk))
	for _, m := range disk["mounts"].([]any) {
		store := m.(map[string]any)
		if delete(store, "layout"); store["mountpoint"] == "/blocks" && layout == "packs" {
			store["layout"] = layout
		}
	}
	b, err = json.Marshal(disk)
	require.NoError(n.T, err)
	require.NoError(n.T, os.WriteFile(name, b, 0o600))
}

// TestLayoutIsChanged, from packs to objects and back: nothing is copied, and all is served.
func TestLayoutIsChanged(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	n := ours(t)
	n.initOurs(server.URL, bucket, "node-1", small)
	one, two, three := file(t, 21, 3<<20), file(t, 22, 2<<20), file(t, 23, 1<<20)
	first := n.Run("add", "-Q", one)
	n.relayout("objects")
	second := n.Run("add", "-Q", two)
	loose, err := filepath.Glob(filepath.Join(server.Dir, bucket, "node-1", "CIQ*"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(loose), 9)
	n.Start()
	require.Regexp(t, "layout objects\n", n.Run("datastore", "stat"))
	n.sameOutput(one, "cat", "--offline", first)
	n.sameOutput(two, "cat", "--offline", second)
	require.Contains(t, n.Run("datastore", "verify"), "0 that somebody would miss are damaged or missing")
	require.Contains(t, n.Fail("datastore", "repack"), `set "packs"`)
	n.Run("pin", "rm", first)
	n.Run("repo", "gc", "-q", "--min-age", "0s")
	n.Stop()
	require.Contains(t, n.Run("datastore", "reindex"), "the index is complete")
	n.relayout("packs")
	n.Start()
	third := n.Run("add", "-Q", three)
	n.sameOutput(two, "cat", "--offline", second)
	n.Run("datastore", "repack")
	require.Zero(t, n.stat().Loose.Blocks)
	n.sameOutput(two, "cat", "--offline", second)
	n.sameOutput(three, "cat", "--offline", third)
}

// TestPacksGoIntoStockKubo: what a daemon uploaded, downloaded by hand, is a CAR
// that stock kubo imports.
func TestPacksGoIntoStockKubo(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	bucket := server.NewBucket(t)
	data := file(t, 14, 3<<20)
	n := ours(t)
	n.initOurs(server.URL, bucket, "node-1", small)
	n.Start()
	root := n.Run("add", "-Q", data)
	n.drained()
	n.Stop()

	to := stock(t)
	to.Run("init", "--profile", "test")
	packs := packsOf(t, server, bucket, "node-1")
	require.Greater(t, len(packs), 2)
	for _, p := range packs {
		to.Run("dag", "import", p)
	}
	to.sameOutput(data, "cat", "--offline", root)
}

// TestIndexIsMadeAnewUntilASignalComes: a daemon that lists a bucket before it
// is ready still ends when it is told to, and the next one goes on.
func TestIndexIsMadeAnewUntilASignalComes(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	n := ours(t)
	n.initOurs(proxy.URL, server.NewBucket(t), "node-1", small)
	n.Start()
	data := file(t, 15, 2<<20)
	root := n.Run("add", "-Q", data)
	n.drained()
	n.Stop()
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "s3ds", "index")))

	listed := make(chan struct{}, 100)
	proxy.Disturb(func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodGet && r.URL.Query().Get("prefix") == "node-1/" {
			listed <- struct{}{}
			return s3test.Fault{Cut: s3test.Silence}
		}
		return s3test.Fault{}
	})
	n.Launch()
	select {
	case <-listed:
	case <-time.After(testnode.Patience):
		require.FailNow(t, "the bucket is not listed", n.Logged())
	}
	require.Error(t, n.End(syscall.SIGTERM))
	require.Contains(t, n.Logged(), "make the index from the bucket")
	proxy.Disturb(nil)
	n.Start()
	n.sameOutput(data, "cat", "--offline", root)
}
