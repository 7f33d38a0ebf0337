package node

import (
	"bytes"
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
)

// with is the same repo in an environment with more in it.
func (n *node) with(env ...string) *node {
	return &node{t: n.t, dir: n.dir, env: append(append([]string{}, n.env...), env...)}
}

func (n *node) config() string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "config"))
	require.NoError(n.t, err)
	return string(b)
}

func (d *daemon) logged() string {
	d.t.Helper()
	b, err := os.ReadFile(d.log)
	require.NoError(d.t, err)
	return string(b)
}

// settingsLines are the lines that a start has written about settings.
func (d *daemon) settingsLines() []string {
	var lines []string
	for line := range strings.SplitSeq(d.logged(), "\n") {
		if rest, ok := strings.CutPrefix(line, "settings: "); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

func (n *node) addText(text string) (cid string) {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "file")
	require.NoError(n.t, os.WriteFile(file, []byte(text), 0o600))
	return n.run("add", "-Q", file)
}

// One repo goes through everything that the settings can say, and its content
// stays.
func TestSettingsDecideTheBlockstore(t *testing.T) {
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.with("IPFS_BLOCKSTORE=flatfs").run("init", "--profile", "test")
	spec, err := os.ReadFile(filepath.Join(n.dir, "datastore_spec"))
	require.NoError(t, err)
	before := n.config()

	d := n.with("IPFS_BLOCKSTORE=flatfs").daemon()
	require.Empty(t, d.settingsLines(), "the same settings")
	require.Regexp(t, `(?m)^Blockstore: flatfs, files under `+regexp.QuoteMeta(n.dir)+`/blocks: .+ of 10 GB, .+ free on the disk; nothing waits`, d.logged())
	require.Equal(t, before, n.config())
	cid := n.addText("it stays")
	require.NoError(t, d.stop(syscall.SIGTERM))

	d = n.with("IPFS_BLOCKSTORE=efs", "IPFS_EFS_WORKERS=9").daemon()
	require.Contains(t, d.settingsLines(), `blockstore type: "flatfs" → "efsds" (IPFS_BLOCKSTORE=efs)`)
	require.Regexp(t, `(?m)^Blockstore: efs, files under .+/blocks: [1-9]\d* blocks, .+ of 1\.0 PB, .+; 0 writes and removals under way`, d.logged())
	require.Regexp(t, `(?m)^Blockstore: +efs, files under .+: [1-9]\d* blocks`, n.run("datastore", "stat"))
	require.Equal(t, "it stays", n.run("cat", cid))
	require.NoError(t, d.stop(syscall.SIGTERM))
	after, err := os.ReadFile(filepath.Join(n.dir, "datastore_spec"))
	require.NoError(t, err)
	require.Equal(t, string(spec), string(after))

	d = n.daemon()
	require.Empty(t, d.settingsLines(), "nothing set: nothing changes")
	require.NoError(t, d.stop(syscall.SIGTERM))

	before = n.config()
	toS3 := n.with("IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET="+bucket, "IPFS_S3_REGION="+s3test.Region, "IPFS_S3_ENDPOINT="+s.URL, "IPFS_S3_PREFIX=node-1",
		"IPFS_S3_ACCESS_KEY="+s3test.AccessKey, "IPFS_S3_SECRET_KEY="+s3test.SecretKey)
	line := toS3.fail("daemon")
	require.Contains(t, line, "move them with `ipfs-aws datastore migrate --to s3 --bucket "+bucket+" --region "+s3test.Region+" --prefix node-1 --endpoint "+s.URL+"`")
	require.Contains(t, line, "keep them where they are with IPFS_BLOCKSTORE=efs")
	require.NotContains(t, line, "\n")
	require.NotContains(t, line, s3test.SecretKey)
	require.Equal(t, before, n.config())
	left, err := os.ReadDir(filepath.Join(s.Dir, bucket))
	require.NoError(t, err)
	require.Empty(t, left, "the bucket was not asked")

	require.Equal(t, "it stays", n.run("cat", cid))
}

// A bucket with everything from the environment, credentials from files, and
// nothing of them on the disk.
func TestSettingsOfABucketAndItsKeys(t *testing.T) {
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(s3test.SecretKey+"\n"), 0o600))
	n := newNode(t, "IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET="+bucket, "IPFS_S3_ENDPOINT="+s.URL, "IPFS_S3_PREFIX=node-1",
		"IPFS_S3_ACCESS_KEY="+s3test.AccessKey, "IPFS_S3_SECRET_KEY_FILE="+secret)
	n.run("init", "--profile", "test", "--region", s3test.Region)
	cid := n.addText("in a bucket") // without a daemon

	d := n.with("IPFS_S3_CACHE_SIZE=64MiB", "IPFS_S3_SEAL_AGE=50ms").daemon()
	require.Equal(t, []string{`blockstore cacheSize: default → "64MiB" (IPFS_S3_CACHE_SIZE)`, `blockstore sealAge: default → "50ms" (IPFS_S3_SEAL_AGE)`}, d.settingsLines())
	require.Regexp(t, `(?m)^Blockstore: s3, bucket `+bucket+`/node-1, region `+s3test.Region+`, layout packs: [1-9]\d* blocks, .+ of 1\.0 PB; `, d.logged())
	require.Equal(t, "in a bucket", n.run("cat", cid))
	require.Eventually(t, func() bool {
		return strings.Contains(n.run("datastore", "stat"), "nothing waits to be uploaded")
	}, time.Minute, 50*time.Millisecond)
	var stat struct {
		Blockstore, Bucket, Prefix, Summary string
		Blocks                              int64
	}
	require.NoError(t, json.Unmarshal([]byte(n.run("datastore", "stat", "--json")), &stat))
	require.Equal(t, "s3", stat.Blockstore)
	require.NotZero(t, stat.Blocks)
	require.Contains(t, stat.Summary, bucket+"/node-1")
	require.NotContains(t, d.logged(), s3test.SecretKey)
	require.NoError(t, d.stop(syscall.SIGTERM))
	require.NoError(t, filepath.WalkDir(n.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		require.False(t, bytes.Contains(b, []byte(s3test.SecretKey)), path)
		return err
	}))

	require.Contains(t, n.with("IPFS_S3_PREFIX=node-2").fail("daemon"), "--prefix node-2 --endpoint "+s.URL+"`, or keep them where they are with IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET="+bucket)
	require.Contains(t, n.with("IPFS_S3_SECRET_KEY_FILE=/nowhere").fail("cat", cid), "IPFS_S3_SECRET_KEY_FILE")
}

// Nothing has to be copied when the layout changes, and both files of the repo
// say so.
func TestTheLayoutChangesByASetting(t *testing.T) {
	s := s3test.Start(t)
	n := s3Node(t).with("IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET="+s.NewBucket(t), "IPFS_S3_REGION="+s3test.Region, "IPFS_S3_ENDPOINT="+s.URL, "IPFS_S3_PREFIX=/node-1/")
	n.with("IPFS_S3_LAYOUT=objects").run("init", "--profile", "test")
	cid := n.addText("in either layout")
	for _, layout := range []string{"packs", "objects"} {
		d := n.with("IPFS_S3_LAYOUT=" + layout).daemon()
		require.NotEmpty(t, d.settingsLines())
		require.Contains(t, d.logged(), "/node-1, region "+s3test.Region+", layout "+layout)
		require.Equal(t, "in either layout", n.run("cat", cid))
		require.NoError(t, d.stop(syscall.SIGTERM))
		d = n.daemon()
		require.Empty(t, d.settingsLines(), "what is not set is the repo's")
		require.NoError(t, d.stop(syscall.SIGTERM))
	}
}

// Every command that opens the repo tells a config that does not match in words.
func TestAMismatchIsToldInWords(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	n.editStore(func(store map[string]any) { store["path"] = "elsewhere" })
	want := "says that the blocks are in files under elsewhere, but they are in files under blocks (its file datastore_spec says so), and nothing was changed: start with IPFS_BLOCKSTORE=efs"
	for _, args := range [][]string{{"daemon"}, {"cat", "bafkqaaa"}, {"config", "Addresses.API"}, {"datastore", "stat"}, {"pin", "ls"}} {
		line := n.fail(args...)
		require.Contains(t, line, want, args)
		require.NotContains(t, line, "does not match the repo's datastore_spec file", args)
	}
	// And what it says helps.
	d := n.with("IPFS_BLOCKSTORE=efs").daemon()
	require.Contains(t, d.settingsLines(), `blockstore path: "elsewhere" → "blocks" (IPFS_BLOCKSTORE=efs)`)
}

func TestAllProblemsAtOnceAndNothingTouched(t *testing.T) {
	n := newNode(t, "IPFS_BLOCKSTORE=s3", "IPFS_S3_BUKET=x", "IPFS_S3_WORKERS=0", "IPFS_S3_REGION=r", "IPFS_CONFIG_Gateway_NoFetch=maybe", "IPFS_HEALTH_ADDRESS=8099")
	for _, args := range [][]string{{"init"}, {"daemon"}, {"daemon", "--init"}, {"container"}, {"container", "--check"}} {
		out := n.fail(args...)
		for _, line := range []string{
			"5 things are wrong, and nothing was changed:", "IPFS_S3_BUKET: no setting has this name; did you mean IPFS_S3_BUCKET?",
			`IPFS_S3_WORKERS="0": use a whole number from 1 on`, "IPFS_S3_BUCKET: not set", `IPFS_CONFIG_Gateway_NoFetch="maybe": must be true or false`, `IPFS_HEALTH_ADDRESS="8099": must be host:port`,
		} {
			require.Contains(t, out, line, args)
		}
		require.NoDirExists(t, n.dir, args)
	}
}

// While another process has the repo, its config is not changed under it.
func TestSettingsWaitForTheRepo(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	d := n.daemon()
	before := n.config()
	next := n.with("IPFS_CONFIG_Datastore_StorageMax=1TB")
	require.Contains(t, next.fail("daemon"), "another process uses the repo at "+n.dir)
	require.Equal(t, before, n.config())

	waiting := next.with("IPFS_WAIT_REPO_LOCK=60s").start("daemon")
	require.NoError(t, d.stop(syscall.SIGTERM))
	waiting.ready()
	require.Equal(t, []string{`Datastore.StorageMax: "10GB" → "1TB" (IPFS_CONFIG_Datastore_StorageMax)`}, waiting.settingsLines())
}
