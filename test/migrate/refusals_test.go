package migrate

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// unchanged notes what names the store of a repo, and requires later that it is as it was.
func (n *node) unchanged() (check func()) {
	n.T.Helper()
	read := func() (all string) {
		for _, name := range []string{"config", "datastore_spec"} {
			b, err := os.ReadFile(filepath.Join(n.Dir, name))
			require.NoError(n.T, err)
			all += string(b)
		}
		return all
	}
	before := read()
	return func() {
		n.T.Helper()
		require.Equal(n.T, before, read())
	}
}

// Every mistake is one line with the fix, and nothing is changed.
func TestMistakes(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	n.Run("add", "-Q", random(t, 1, 100<<10))
	file := random(t, 2, 10)
	unchanged := n.unchanged()
	for name, c := range map[string]struct {
		env  []string
		args []string
		want []string
	}{
		"nothing":               {args: command(), want: []string{"say where to", "--to s3 --bucket NAME"}},
		"unknown target":        {args: command("--to", "tape"), want: []string{`"tape"`, "flatfs, efs, s3, cars"}},
		"no bucket":             {args: command("--to", "s3"), want: []string{"needs --bucket"}},
		"bucket without s3":     {args: command("--to", "efs", "--bucket", bucket), want: []string{"--bucket", "only with --to s3"}},
		"path with s3":          {args: toS3(s, bucket, "p", "--path", "x"), want: []string{"--path", "--prefix"}},
		"cars without a path":   {args: command("--to", "cars"), want: []string{"needs --path"}},
		"to and from":           {args: command("--to", "efs", "--from", "x"), want: []string{"give one of them"}},
		"from with a bucket":    {args: command("--from", "x", "--bucket", bucket), want: []string{"leave"}},
		"abandon with a target": {args: command("--abandon", "--to", "efs"), want: []string{"--abandon goes with no other flag"}},
		"delete with cars":      {args: command("--to", "cars", "--path", "x", "--delete-source"), want: []string{"nothing to remove"}},
		"bandwidth":             {args: toS3(s, bucket, "p", "--bandwidth", "fast"), want: []string{`--bandwidth "fast"`, "50MB"}},
		"max-requests":          {args: toS3(s, bucket, "p", "--max-requests", "0"), want: []string{"--max-requests 0", "more than 0"}},
		"layout":                {args: toS3(s, bucket, "p", "--layout", "heap"), want: []string{`"heap"`, `"objects" or "packs"`}},
		"same folder":           {args: command("--to", "flatfs"), want: []string{"the same store"}},
		"same folder, efs":      {args: command("--to", "efs"), want: []string{"one layout", "change the type", "--path"}},
		"same folder by a link": {args: command("--to", "efs", "--path", filepath.Join(n.Dir, "keystore", "..", "blocks")), want: []string{"one layout"}},
		"missing bucket":        {args: toS3(s, "no-such-bucket", "p"), want: []string{"does not exist", "nothing was copied"}},
		"wrong region":          {args: command("--to", "s3", "--bucket", bucket, "--endpoint", s.URL, "--region", "eu-west-9"), want: []string{"eu-west-9"}},
		"nobody there":          {args: toS3At("http://127.0.0.1:1", bucket, "p"), want: []string{"unreachable"}},
		"no credentials":        {env: []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, args: toS3(s, bucket, "p"), want: []string{"no credentials"}},
		"wrong secret":          {env: []string{"AWS_SECRET_ACCESS_KEY=wrong"}, args: toS3(s, bucket, "p"), want: []string{"access denied"}},
		"not mounted":           {args: command("--to", "efs", "--path", "/nowhere/efs/blocks"), want: []string{"/nowhere/efs is not there", "nothing was copied", "mount"}},
		"path is a file":        {args: command("--to", "efs", "--path", file), want: []string{"cannot be written to", "it is a file"}},
		"path is no place":      {args: command("--to", "flatfs", "--path", "/proc/blocks"), want: []string{"/proc/blocks", "nothing was copied"}},
		"cars in no place":      {args: command("--to", "cars", "--path", "/proc/backup"), want: []string{"cannot be written to"}},
		"no backup":             {args: command("--from", filepath.Join(t.TempDir(), "missing")), want: []string{"no such file"}},
		"empty backup":          {args: command("--from", t.TempDir()), want: []string{"no file *.car"}},
		"nothing to delete":     {args: command("--delete-source"), want: []string{"there is no old store"}},
		"nothing to abandon":    {args: command("--abandon"), want: []string{"no migration to abandon"}},
		"online without daemon": {args: toS3(s, bucket, "p", "--online"), want: []string{"no daemon is running"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := n.with(t, c.env...)
			line := strings.TrimSpace(n.Fail(c.args...))
			for _, w := range c.want {
				require.Contains(t, line, w)
			}
			require.NotContains(t, line, s3test.SecretKey)
			require.NotContains(t, strings.TrimPrefix(line, "listing the source"), "\n", "one line")
			unchanged()
			require.NoFileExists(t, filepath.Join(n.Dir, "migrate", "state.json"))
		})
	}
	require.Empty(t, objects(t, s, bucket, "p", "*"))
	require.Contains(t, newNode(t).Fail(toS3(s, bucket, "p")...), "there is no repo at")
}

// A bucket that may be read and not written to is found out before anything is copied.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	proxy := s3test.NewProxy(t, s.URL)
	proxy.Disturb(s3test.Always(http.MethodPut, s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "not yours"}))
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	unchanged := n.unchanged()
	line := n.Fail(toS3At(proxy.URL, bucket, "p")...)
	require.Contains(t, line, "nothing was copied")
	require.Contains(t, line, "s3:PutObject")
	unchanged()
	require.Empty(t, objects(t, s, bucket, "p", "*"))
}

func TestTargetWithOtherContent(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	other := newNode(t)
	other.Run("init", "--profile", "test", "--blockstore", "s3", "--bucket", bucket, "--endpoint", s.URL, "--region", s3test.Region, "--prefix", "node-1")
	theirs := other.Run("add", "-Q", random(t, 1, 10_000))
	other.Run(command("--to", "flatfs")...) // the bucket has everything now, and no owner
	n := newNode(t)
	n.Run("init", "--profile", "test")
	file := random(t, 2, 300_000)
	ours := n.Run("add", "-Q", file)
	refs := n.refs()

	unchanged := n.unchanged()
	line := n.Fail(toS3(s, bucket, "node-1")...)
	require.Contains(t, line, "the target is not empty")
	require.Contains(t, line, "--merge")
	unchanged()
	n.sound(refs, map[string]string{ours: file})

	require.Contains(t, n.Fail(command("--abandon")...), "no migration to abandon", "nothing has begun")
	n.Run(toS3(s, bucket, "node-1", "--merge")...)
	require.Subset(t, n.refs(), refs)
	n.Run("cat", theirs)
	n.Run("cat", ours)
}

// A damaged block is named. The repo moves without it only if it is told to.
func TestDamagedSource(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	file := random(t, 3, 2<<20)
	root := n.Run("add", "-Q", file)
	var victim string
	for _, path := range glob(t, filepath.Join(n.Dir, "blocks", "*", "*.data")) {
		if fi, err := os.Stat(path); err == nil && fi.Size() >= 256<<10 {
			victim = path
		}
	}
	require.NotEmpty(t, victim)
	good, err := os.ReadFile(victim)
	require.NoError(t, err)
	bad := append([]byte{}, good...)
	bad[1000] ^= 1
	require.NoError(t, os.WriteFile(victim, bad, 0o600))

	unchanged := n.unchanged()
	out, errOut, err := n.Try(toS3(s, bucket, "node-1")...)
	require.Error(t, err)
	require.Contains(t, out, "damaged: block 1220")
	require.Contains(t, errOut, "1 of")
	require.Contains(t, errOut, "--skip-damaged")
	unchanged()

	// Another target meanwhile is refused, until this one is given up.
	require.Contains(t, n.Fail(toS3(s, bucket, "node-2")...), "is under way")
	require.Contains(t, n.Run(command("--abandon")...), "forgotten")

	require.NoError(t, os.WriteFile(victim, good, 0o600))
	require.Contains(t, n.Run("cat", root)[:4], string(bytesOf(3, 4)))
	require.NoError(t, os.WriteFile(victim, bad, 0o600))
	all := events(t, n.Run(toS3(s, bucket, "node-1", "--skip-damaged", "--json")...))
	last := all[len(all)-1].Result
	require.EqualValues(t, 1, last.Damaged)
	require.Contains(t, last.Text, "1 DAMAGED blocks are left out")
	require.Zero(t, last.Copied, "all others were copied before")
	found := 0
	for _, e := range all {
		if e.Finding != nil {
			found++
			require.NotEmpty(t, e.Finding.Multihash)
		}
	}
	require.Equal(t, 1, found)
	require.Equal(t, "s3ds", n.spec()["type"])
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	require.NoError(t, err)
	return all
}

// The settings that go with a store are set, where nothing else was chosen.
func TestSettingsThatGoWithTheStore(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	n.Run("config", "Datastore.StorageMax", "77GB")
	n.Run(toS3(s, s.NewBucket(t), "node-1")...)
	require.Equal(t, "77GB", n.Run("config", "Datastore.StorageMax"), "chosen before")
	require.Equal(t, "roots", n.Run("config", "Provide.Strategy"))
	require.Equal(t, "0", n.Run("config", "Datastore.BlockKeyCacheSize"))
	spec, err := os.ReadFile(filepath.Join(n.Dir, "datastore_spec"))
	require.NoError(t, err)
	require.True(t, json.Valid(spec))
	require.Contains(t, string(spec), `"layout":"packs"`)
}
