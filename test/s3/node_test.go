package s3bill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3test"
)

// patience is how long a test waits for a condition: far longer than it takes
// on a busy machine.
const patience = 2 * time.Minute

// node is a repo and the program that works on it.
type node struct {
	t   *testing.T
	bin string
	env []string
	dir string // IPFS_PATH

	cmd    *exec.Cmd // the daemon, nil when there is none
	exited chan error
	api    string // URL
}

// ours is the built ipfs-aws.
func ours(t *testing.T) *node {
	dir, err := os.Getwd()
	require.NoError(t, err)
	bin := filepath.Join(dir, "..", "..", "bin", "ipfs-aws")
	require.FileExists(t, bin, "run `make build` first")
	return newNode(t, bin)
}

// stock is kubo with go-ds-s3.
func stock(t *testing.T) *node {
	bin, err := os.Executable()
	require.NoError(t, err)
	return newNode(t, bin, roleEnv+"="+roleKubo)
}

func newNode(t *testing.T, bin string, env ...string) *node {
	n := &node{t: t, bin: bin, dir: filepath.Join(t.TempDir(), "repo")}
	n.env = append([]string{
		"HOME=" + t.TempDir(), "IPFS_PATH=" + n.dir, "IPFS_TELEMETRY=off", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey,
	}, env...)
	t.Cleanup(func() {
		if n.cmd != nil {
			_ = n.cmd.Process.Kill() // fails if it has ended by itself
			<-n.exited
		}
	})
	return n
}

// s3Store are settings of a store that both programs understand.
func s3Store(endpoint, bucket, prefix string) map[string]any {
	return map[string]any{
		"type": "s3ds", "mountpoint": "/blocks", "region": s3test.Region, "bucket": bucket, "rootDirectory": prefix,
		"regionEndpoint": endpoint, "accessKey": s3test.AccessKey, "secretKey": s3test.SecretKey,
	}
}

// initOurs makes a repo in the bucket as a user does.
func (n *node) initOurs(endpoint, bucket, prefix string, edit map[string]any) {
	n.t.Helper()
	n.run("init", "--blockstore", "s3", "--bucket", bucket, "--endpoint", endpoint, "--region", s3test.Region, "--prefix", prefix, "--profile", "test")
	n.edit(func(store map[string]any) {
		for k, v := range edit {
			store[k] = v
		}
	})
}

// initStock makes a repo, and moves its empty store into the bucket.
func (n *node) initStock(endpoint, bucket string) {
	n.t.Helper()
	n.run("init", "--profile", "test", "--empty-repo")
	store := s3Store(endpoint, bucket, "")
	n.edit(func(old map[string]any) {
		clear(old)
		for k, v := range store {
			old[k] = v
		}
	})
	spec, err := os.ReadFile(filepath.Join(n.dir, "datastore_spec"))
	require.NoError(n.t, err)
	var disk map[string]any
	require.NoError(n.t, json.Unmarshal(spec, &disk))
	disk["mounts"].([]any)[0] = map[string]any{"mountpoint": "/blocks", "region": s3test.Region, "bucket": bucket, "rootDirectory": ""}
	spec, err = json.Marshal(disk)
	require.NoError(n.t, err)
	require.NoError(n.t, os.WriteFile(filepath.Join(n.dir, "datastore_spec"), spec, 0o600))
}

// edit changes the settings of the store of the blocks, in the config file.
func (n *node) edit(change func(store map[string]any)) {
	n.t.Helper()
	path := filepath.Join(n.dir, "config")
	b, err := os.ReadFile(path)
	require.NoError(n.t, err)
	var cfg map[string]any
	require.NoError(n.t, json.Unmarshal(b, &cfg))
	store := cfg["Datastore"].(map[string]any)["Spec"].(map[string]any)["mounts"].([]any)[0].(map[string]any)
	require.Equal(n.t, "/blocks", store["mountpoint"])
	change(store)
	b, err = json.Marshal(cfg)
	require.NoError(n.t, err)
	require.NoError(n.t, os.WriteFile(path, b, 0o600))
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(n.t.Context(), n.bin, args...)
	cmd.Env = n.env
	return cmd
}

// run is the standard output of a command that must succeed.
func (n *node) run(args ...string) string {
	n.t.Helper()
	out, errOut, err := n.try(args...)
	require.NoError(n.t, err, "ipfs %s: %s", strings.Join(args, " "), errOut)
	return out
}

// fail is the standard error of a command that must not succeed.
func (n *node) fail(args ...string) string {
	n.t.Helper()
	_, errOut, err := n.try(args...)
	var exit *exec.ExitError
	require.ErrorAs(n.t, err, &exit, "ipfs %s", strings.Join(args, " "))
	return errOut
}

func (n *node) try(args ...string) (out, errOut string, err error) {
	var o, e strings.Builder
	cmd := n.command(args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return strings.TrimSpace(o.String()), strings.TrimSpace(e.String()), err
}

// launch starts a daemon without waiting for it.
func (n *node) launch() {
	n.t.Helper()
	for _, name := range []string{"api", "gateway"} { // of a daemon that was killed
		if err := os.Remove(filepath.Join(n.dir, name)); !errors.Is(err, os.ErrNotExist) {
			require.NoError(n.t, err)
		}
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(n.t, err)
	n.cmd = exec.Command(n.bin, "daemon")
	n.cmd.Env, n.cmd.Stdout, n.cmd.Stderr = n.env, log, log
	require.NoError(n.t, n.cmd.Start())
	require.NoError(n.t, log.Close())
	cmd, exited := n.cmd, make(chan error, 1)
	n.exited = exited
	go func() { exited <- cmd.Wait() }()
}

func (n *node) log() string { return filepath.Join(filepath.Dir(n.dir), "daemon.log") }

func (n *node) logged() string {
	b, err := os.ReadFile(n.log())
	require.NoError(n.t, err)
	return string(b)
}

// start starts a daemon and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	require.Eventually(n.t, func() bool {
		select {
		case err := <-n.exited:
			n.exited <- err
			require.FailNow(n.t, "the daemon ended", "%v: %s", err, n.logged())
		default:
		}
		return n.answers()
	}, patience, 20*time.Millisecond, "the daemon does not answer")
}

// answers reports whether the daemon takes requests, and notes where.
func (n *node) answers() bool {
	b, err := os.ReadFile(filepath.Join(n.dir, "api"))
	if err != nil {
		return false
	}
	addr, err := multiaddr.NewMultiaddr(string(b))
	if err != nil {
		return false // half written
	}
	_, host, err := manet.DialArgs(addr)
	require.NoError(n.t, err)
	n.api = "http://" + host
	resp, err := http.Post(n.api+"/api/v0/id", "", nil)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK && n.gatewayURL() != ""
}

func (n *node) gatewayURL() string {
	b, err := os.ReadFile(filepath.Join(n.dir, "gateway"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "/")
}

// end sends the daemon a signal, and returns how it exited.
func (n *node) end(sig syscall.Signal) error {
	n.t.Helper()
	require.NoError(n.t, n.cmd.Process.Signal(sig))
	select {
	case err := <-n.exited:
		n.cmd = nil
		return err
	case <-time.After(patience):
		require.FailNow(n.t, "the daemon did not end", "%s: %s", sig, n.logged())
		return nil
	}
}

func (n *node) stop() {
	n.t.Helper()
	require.NoError(n.t, n.end(syscall.SIGTERM))
}

// rpc posts to the daemon and returns the answer.
func (n *node) rpc(path string, args ...string) ([]byte, error) {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Add(args[i], args[i+1])
	}
	resp, err := http.Post(n.api+"/api/v0/"+path+"?"+q.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, nil
}

// stat is what the tests look at of `datastore stat`.
type stat struct {
	Layout        string
	Blocks, Bytes int64
	Packs         struct{ Objects, LiveBlocks, DeadBytes int64 }
	Loose         struct{ Blocks int64 }
	Journal       struct{ Blocks int64 }
	Nodes         struct{ Waiting int }
	Compaction    struct{ RemovedPacks, MergedPacks int64 }
	Owner         struct {
		ID    string
		Epoch int64
	}
	Dollars  float64
	Problems []string
}

func (n *node) stat() stat {
	n.t.Helper()
	b, err := n.rpc("datastore/stat")
	require.NoError(n.t, err)
	var s stat
	require.NoError(n.t, json.Unmarshal(b, &s))
	return s
}

// drained waits until the bucket has everything.
func (n *node) drained() {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		s := n.stat()
		return s.Journal.Blocks == 0 && s.Nodes.Waiting == 0
	}, patience, 100*time.Millisecond, "the journal is not uploaded")
}

// swallow reads a URL and returns how many bytes there were.
func swallow(t *testing.T, rawURL string, header ...string) int64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, rawURL, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Less(t, resp.StatusCode, 300)
	size, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return size
}

// sameOutput runs a command whose standard output must be the content of a file.
func (n *node) sameOutput(file string, args ...string) {
	n.t.Helper()
	f, err := os.Open(file)
	require.NoError(n.t, err)
	defer func() { _ = f.Close() }()
	cmd := n.command(args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, cmd.Start())
	same := equalReaders(f, out)
	_, err = io.Copy(io.Discard, out)
	require.NoError(n.t, err)
	require.NoError(n.t, cmd.Wait(), "ipfs %s: %s", strings.Join(args, " "), errOut.String())
	require.True(n.t, same, "ipfs %s: other bytes than were added", strings.Join(args, " "))
}

func equalReaders(a, b io.Reader) bool {
	var x, y [64 << 10]byte
	for {
		n, errA := io.ReadFull(a, x[:])
		m, errB := io.ReadFull(b, y[:])
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil
		}
	}
}
