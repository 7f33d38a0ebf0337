// Package node runs the built ipfs-aws binary as a user does: by its command
// line, its environment and its HTTP listeners, against a real S3 server.
package node

import (
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// binary is bin/ipfs-aws of this checkout.
func binary(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	path := filepath.Join(dir, "..", "..", "bin", "ipfs-aws")
	require.FileExists(t, path, "run `make build` first")
	return path
}

// node is a repo folder and the environment that its commands run in.
type node struct {
	t   *testing.T
	env []string
	dir string
}

func newNode(t *testing.T, env ...string) *node {
	dir := filepath.Join(t.TempDir(), "repo")
	return &node{t: t, dir: dir, env: append([]string{"HOME=" + t.TempDir(), "IPFS_PATH=" + dir, "AWS_EC2_METADATA_DISABLED=true"}, env...)}
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := proc.CommandContext(n.t.Context(), binary(n.t), args...)
	cmd.Env = n.env
	return cmd
}

// run is the standard output of a command that must succeed.
func (n *node) run(args ...string) string {
	n.t.Helper()
	var errOut strings.Builder
	cmd := n.command(args...)
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(n.t, err, "ipfs-aws %s: %s", strings.Join(args, " "), errOut.String())
	return strings.TrimSpace(string(out))
}

// fail is the standard error of a command that must not succeed.
func (n *node) fail(args ...string) string {
	n.t.Helper()
	var errOut strings.Builder
	cmd := n.command(args...)
	cmd.Stderr = &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	require.ErrorAs(n.t, err, &exit, "ipfs-aws %s", strings.Join(args, " "))
	require.NotZero(n.t, exit.ExitCode())
	return strings.TrimSpace(errOut.String())
}

// a daemon that runs until the test ends.
type daemon struct {
	*node
	cmd    *exec.Cmd
	health string
	log    string
	exited chan error
}

// daemon is one that is ready.
func (n *node) daemon(args ...string) *daemon {
	n.t.Helper()
	d := n.start(append([]string{"daemon"}, args...)...)
	d.ready()
	return d
}

// start runs a command that goes on until the test ends.
func (n *node) start(args ...string) *daemon {
	n.t.Helper()
	return n.begin(nil, args...)
}

func (n *node) begin(attr *syscall.SysProcAttr, args ...string) *daemon {
	n.t.Helper()
	d := &daemon{node: n, health: ports.Address(n.t), log: filepath.Join(n.t.TempDir(), "daemon.log"), exited: make(chan error, 1)}
	logFile, err := os.Create(d.log)
	require.NoError(n.t, err)
	d.cmd = exec.Command(binary(n.t), args...)
	d.cmd.Env = append([]string{"IPFS_HEALTH_ADDRESS=" + d.health}, n.env...)
	d.cmd.Stdout, d.cmd.Stderr = logFile, logFile
	d.cmd.SysProcAttr = attr
	proc.Tie(d.cmd)
	require.NoError(n.t, d.cmd.Start())
	require.NoError(n.t, logFile.Close())
	go func() { d.exited <- d.cmd.Wait() }()
	n.t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			d.cmd.Process.Kill()
		}
	})
	return d
}

func (d *daemon) ready() {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		code, _ := d.get("/readyz")
		return code == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "not ready: %s", d.log)
}

func (d *daemon) get(path string) (int, string) {
	resp, err := http.Get("http://" + d.health + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// stop ends the daemon with a signal and returns how it exited.
func (d *daemon) stop(sig os.Signal) error {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(sig))
	select {
	case err := <-d.exited:
		return err
	case <-time.After(time.Minute):
		d.t.Fatalf("the daemon did not end after %s", sig)
		return nil
	}
}

func s3Node(t *testing.T) *node {
	return newNode(t, "AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey)
}

// editStore changes the settings of the store of the blocks, in the config file.
func (n *node) editStore(edit func(map[string]any)) {
	n.t.Helper()
	path := filepath.Join(n.dir, "config")
	b, err := os.ReadFile(path)
	require.NoError(n.t, err)
	var cfg map[string]any
	require.NoError(n.t, json.Unmarshal(b, &cfg))
	edit(cfg["Datastore"].(map[string]any)["Spec"].(map[string]any)["mounts"].([]any)[0].(map[string]any))
	b, err = json.Marshal(cfg)
	require.NoError(n.t, err)
	require.NoError(n.t, os.WriteFile(path, b, 0o600))
}

func initS3(endpoint, bucket string, more ...string) []string {
	return append([]string{"init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", endpoint, "--region", s3test.Region, "--profile", "test"}, more...)
}

// with is the arguments with one flag's value replaced.
func with(args []string, flag, value string) []string {
	out := slices.Clone(args)
	out[slices.Index(out, flag)+1] = value
	return out
}

func TestVersionNamesTheDistributionAndKeepsKubosShape(t *testing.T) {
	n := newNode(t)
	require.Regexp(t, `^ipfs version 0\.43\.1\nipfs-aws version \S+ \(kubo 0\.43\.1, boxo \S+, go-libp2p \S+\)$`, n.run("version"))
	require.Equal(t, "0.43.1", n.run("version", "--number"))

	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(n.run("version", "--enc=json")), &v))
	for _, field := range []string{"Version", "Commit", "Repo", "System", "Golang"} {
		require.Contains(t, v, field)
	}
	require.Equal(t, "0.43.1", v["Version"])
	require.Equal(t, "ipfs-aws", v["Distribution"])
}

func TestUpdateDoesNotReplaceTheBinary(t *testing.T) {
	require.Contains(t, newNode(t).fail("update", "install"), "install a newer ipfs-aws release")
}

// Every mistake is one line with the fix, a non-zero exit, and nothing made.
func TestInitRefusesBadInputAndCreatesNothing(t *testing.T) {
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))

	for name, c := range map[string]struct {
		env  []string
		args []string
		want []string // what the line must name
	}{
		"unknown blockstore":    {args: []string{"init", "--blockstore", "tape"}, want: []string{`"tape"`, "flatfs, efs, s3"}},
		"no bucket":             {args: []string{"init", "--blockstore", "s3", "--region", "r"}, want: []string{"--bucket"}},
		"bucket without s3":     {args: []string{"init", "--bucket", bucket}, want: []string{"--bucket", "--blockstore s3"}},
		"no region":             {args: []string{"init", "--blockstore", "s3", "--bucket", bucket}, want: []string{"--region", "AWS_REGION"}},
		"two datastores chosen": {args: with(initS3(s.URL, bucket), "--profile", "flatfs"), want: []string{"--profile flatfs", "--blockstore s3"}},
		"unknown layout":        {args: initS3(s.URL, bucket, "--layout", "heap"), want: []string{`--layout="heap"`, `"objects" or "packs"`}},
		"layout without s3":     {args: []string{"init", "--layout", "packs"}, want: []string{"--layout", "--blockstore s3"}},
		"missing bucket":        {args: initS3(s.URL, "no-such-bucket"), want: []string{`"no-such-bucket"`, "does not exist", "create the bucket"}},
		"wrong region":          {args: with(initS3(s.URL, bucket), "--region", "eu-west-9"), want: []string{"eu-west-9", "set region to " + s3test.Region}},
		"wrong endpoint":        {args: initS3("http://127.0.0.1:1", bucket), want: []string{"unreachable", "http://127.0.0.1:1"}},
		"no credentials":        {env: []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, args: initS3(s.URL, bucket), want: []string{"no credentials", "AWS_ACCESS_KEY_ID"}},
		"wrong secret":          {env: []string{"AWS_SECRET_ACCESS_KEY=wrong-secret"}, args: initS3(s.URL, bucket), want: []string{"access denied", "AWS_SECRET_ACCESS_KEY"}},
		"unwritable repo":       {env: []string{"IPFS_PATH=/proc/ipfs-aws-test"}, args: []string{"init"}, want: []string{"/proc/ipfs-aws-test", "IPFS_PATH"}},
		"repo is a file":        {env: []string{"IPFS_PATH=" + file}, args: []string{"init"}, want: []string{file, "IPFS_PATH"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := s3Node(t)
			n.env = append(n.env, c.env...)
			line := n.fail(c.args...)
			require.NotContains(t, line, "\n", "one line")
			for _, w := range c.want {
				require.Contains(t, line, w)
			}
			require.NotContains(t, line, s3test.SecretKey)
			require.NoDirExists(t, n.dir)
		})
	}
	left, err := os.ReadDir(filepath.Join(s.Dir, bucket))
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left in the bucket")
}

func TestInitLeavesAnExistingRepoAlone(t *testing.T) {
	n := newNode(t)
	n.run("init")
	before, err := os.ReadFile(filepath.Join(n.dir, "config"))
	require.NoError(t, err)
	require.Contains(t, n.fail("init", "--blockstore", "efs"), "nothing was changed")
	after, err := os.ReadFile(filepath.Join(n.dir, "config"))
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestEveryBlockstoreKeepsWhatWasAddedOverAKill(t *testing.T) {
	s := s3test.Start(t)
	for _, blockstore := range []string{"flatfs", "efs", "s3", "s3 objects"} {
		t.Run(blockstore, func(t *testing.T) {
			n := s3Node(t)
			switch blockstore {
			case "s3":
				n.run(initS3(s.URL, s.NewBucket(t), "--prefix", "node-1")...)
			case "s3 objects":
				n.run(initS3(s.URL, s.NewBucket(t), "--prefix", "node-1", "--layout", "objects")...)
			default:
				n.run("init", "--blockstore", blockstore, "--profile", "test")
			}
			d := n.daemon()
			data := strings.Repeat(blockstore+" 0123456789abcdef", 40_000)
			file := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.WriteFile(file, []byte(data), 0o600))
			cid := n.run("add", "-Q", "--chunker=size-65536", file)
			require.Error(t, d.stop(syscall.SIGKILL))

			n.daemon()
			require.Equal(t, data, n.run("cat", cid))
			require.Contains(t, n.run("pin", "ls", "--type=recursive"), cid)
			require.Contains(t, n.run("repo", "verify"), "verify complete")
		})
	}
}

func TestDaemonIdentifiesItselfAndSendsNoTelemetry(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	d := n.daemon()
	require.Regexp(t, `^kubo/0\.43\.1/ipfs-aws/\d+\.\d+\.\d+`, n.run("id", "-f", "<aver>"))
	require.NoFileExists(t, filepath.Join(n.dir, "telemetry_uuid"), "kubo writes its telemetry id as soon as telemetry is on")
	require.NoError(t, d.stop(syscall.SIGTERM))

	n.env = append(n.env, `IPFS_CONFIG_Plugins_Plugins_telemetry_Config_Endpoint=http://127.0.0.1:1`)
	n.daemon()
	require.FileExists(t, filepath.Join(n.dir, "telemetry_uuid"), "and it can be switched on")
}

func TestProfilesDoNotSwapTheDatastoreOfARepo(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	before, err := os.ReadFile(filepath.Join(n.dir, "config"))
	require.NoError(t, err)
	refuse := func() {
		line := n.fail("config", "profile", "apply", "pebbleds")
		require.Contains(t, line, "nothing was changed")
		require.Contains(t, line, "ipfs-aws init --profile pebbleds")
		after, err := os.ReadFile(filepath.Join(n.dir, "config"))
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	}
	refuse()
	n.daemon()
	refuse() // through the daemon's RPC
}

func TestHealthListener(t *testing.T) {
	s := s3test.Start(t)
	proxy := s3test.NewProxy(t, s.URL)
	n := s3Node(t)
	n.run(initS3(proxy.URL, s.NewBucket(t))...)
	n.editStore(func(store map[string]any) { store["sealAge"] = "50ms" })
	d := n.daemon()
	require.Eventually(t, func() bool { // what starting has written
		_, body := d.get("/metrics")
		return strings.Contains(body, "s3ds_journal_bytes 0\n")
	}, time.Minute, 50*time.Millisecond)

	code, _ := d.get("/livez")
	require.Equal(t, http.StatusOK, code)
	proxy.Take()
	for range 10 {
		_, body := d.get("/readyz")
		require.JSONEq(t, `{"ready":true,"checks":[{"name":"node","ok":true},{"name":"repo","ok":true},{"name":"blockstore","ok":true},{"name":"gateway","ok":true}]}`, body)
	}
	require.Empty(t, proxy.Take(), "readiness of a healthy node asks S3 nothing")
	_, body := d.get("/metrics")
	require.Contains(t, body, `s3ds_bucket_requests_total{op="put",outcome="ok"}`)
	require.Contains(t, body, "ipfs_")

	proxy.Disturb(s3test.Always("", s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "gone"}))
	file := filepath.Join(t.TempDir(), "block")
	require.NoError(t, os.WriteFile(file, []byte("to be uploaded"), 0o600))
	n.run("block", "put", file) // the journal has it
	require.Eventually(t, func() bool {
		code, body := d.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "access denied")
	}, time.Minute, 50*time.Millisecond, "what waits there is not taken")
	code, _ = d.get("/livez")
	require.Equal(t, http.StatusOK, code, "alive all the same")

	proxy.Disturb(nil)
	require.Eventually(t, func() bool {
		code, _ := d.get("/readyz")
		return code == http.StatusOK
	}, time.Minute, 100*time.Millisecond, "ready again by itself")
}

func TestHealthAddressThatIsWrongOrTaken(t *testing.T) {
	n := newNode(t)
	n.run("init", "--profile", "test")
	n.env = append(n.env, "IPFS_HEALTH_ADDRESS=8099")
	require.Contains(t, n.fail("daemon"), `IPFS_HEALTH_ADDRESS="8099": must be host:port`)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	n.env = append(n.env, "IPFS_HEALTH_ADDRESS="+l.Addr().String())
	require.Contains(t, n.fail("daemon"), "address already in use")
}

func TestDaemonOnAMissingBucketSaysSo(t *testing.T) {
	s := s3test.Start(t)
	n := s3Node(t)
	bucket := s.NewBucket(t)
	n.run(initS3(s.URL, bucket)...)
	require.NoError(t, os.RemoveAll(filepath.Join(s.Dir, bucket)))
	require.Contains(t, n.fail("daemon"), "bucket does not exist")
}

// With static keys in the settings, as go-ds-s3 demands them: they work, and
// they are shown nowhere.
func TestStaticKeysAreNeverShown(t *testing.T) {
	s := s3test.Start(t)
	n := s3Node(t)
	n.run(initS3(s.URL, s.NewBucket(t))...)
	n.env = append(n.env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")

	n.editStore(func(store map[string]any) {
		require.NotContains(t, store, "secretKey", "init writes no credentials")
		require.Equal(t, "packs", store["layout"])
		store["accessKey"], store["secretKey"] = s3test.AccessKey, s3test.SecretKey
	})

	d := n.daemon()
	shown := n.run("config", "show")
	require.Contains(t, shown, s3test.AccessKey)
	for _, out := range []string{shown, n.run("config", "Datastore.Spec"), n.run("config", "Datastore"), n.run("config", "profile", "apply", "--dry-run", "server")} {
		require.NotContains(t, out, s3test.SecretKey)
	}

	edited := filepath.Join(t.TempDir(), "edited")
	require.NoError(t, os.WriteFile(edited, []byte(shown), 0o600))
	n.run("config", "replace", edited)
	require.NoError(t, d.stop(syscall.SIGTERM))
	d = n.daemon() // opens the bucket with the kept key
	require.NoError(t, d.stop(syscall.SIGTERM))

	require.NoError(t, filepath.WalkDir(n.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "config") {
			return err
		}
		b, err := os.ReadFile(p)
		require.NotContains(t, string(b), s3test.SecretKey, p)
		return err
	}))
	log, err := os.ReadFile(d.log)
	require.NoError(t, err)
	require.NotContains(t, string(log), s3test.SecretKey)
}
