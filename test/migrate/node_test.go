// Package migrate runs `ipfs-aws datastore migrate` as an operator does, against a
// real S3 server, and kills it.
package migrate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/s3test"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// patience is how long a test waits for a condition: far longer than it takes
// on a busy machine.
const patience = 2 * time.Minute

func program(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	path := filepath.Join(dir, "..", "..", "bin", "ipfs-aws")
	require.FileExists(t, path, "run `make build` first")
	return path
}

// node is a repo and the environment that its commands run in.
type node struct {
	t   *testing.T
	env []string
	dir string

	cmd    *exec.Cmd // the daemon, nil when there is none
	exited chan error
	api    string // URL
	gw     string // URL
}

func newNode(t *testing.T) *node {
	n := &node{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	n.env = []string{
		"HOME=" + t.TempDir(), "IPFS_PATH=" + n.dir, "IPFS_TELEMETRY=off", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey,
	}
	t.Cleanup(func() {
		if n.cmd != nil {
			_ = n.cmd.Process.Kill() // fails if it has ended by itself
			<-n.exited
		}
	})
	return n
}

func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(n.t.Context(), program(n.t), args...)
	cmd.Env = n.env
	return cmd
}

func (n *node) try(args ...string) (out, errOut string, err error) {
	var o, e strings.Builder
	cmd := n.command(args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return strings.TrimSpace(o.String()), strings.TrimSpace(e.String()), err
}

// run is the standard output of a command that must succeed.
func (n *node) run(args ...string) string {
	n.t.Helper()
	out, errOut, err := n.try(args...)
	require.NoError(n.t, err, "ipfs-aws %s: %s %s", strings.Join(args, " "), out, errOut)
	return out
}

// fail is the standard error of a command that must not succeed.
func (n *node) fail(args ...string) string {
	n.t.Helper()
	out, errOut, err := n.try(args...)
	var exit *exec.ExitError
	require.ErrorAs(n.t, err, &exit, "ipfs-aws %s: %s", strings.Join(args, " "), out)
	return errOut
}

// command is `ipfs-aws datastore migrate` with flags.
func command(args ...string) []string { return append([]string{"datastore", "migrate"}, args...) }

func toS3(s *s3test.Server, bucket, prefix string, more ...string) []string {
	return toS3At(s.URL, bucket, prefix, more...)
}

func toS3At(url, bucket, prefix string, more ...string) []string {
	return command(append([]string{"--to", "s3", "--bucket", bucket, "--endpoint", url, "--region", s3test.Region, "--prefix", prefix}, more...)...)
}

// event is what the tests look at of an answer in JSON.
type event struct {
	Progress *struct {
		Stage                                 string
		Blocks, Bytes, RunBlocks, TotalBlocks int64
		Requests                              int64
	}
	Finding  *struct{ Multihash, Error string }
	Estimate *struct {
		Blocks, Bytes  int64
		Requests       map[string]int64
		Dollars, Hours float64
	}
	Note   string
	Result *struct {
		Text                                                 string
		Blocks, Bytes, Copied, CopiedBytes, Removed, Damaged int64
		Pins                                                 int
		Requests                                             int64
		Dollars, Seconds                                     float64
	}
}

func events(t *testing.T, out string) (all []event) {
	t.Helper()
	for line := range strings.Lines(out) {
		var e event
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		all = append(all, e)
	}
	return all
}

// result is what a migration that must succeed answers in the end.
func (n *node) result(args ...string) event {
	n.t.Helper()
	all := events(n.t, n.run(append(args, "--json")...))
	require.NotEmpty(n.t, all)
	last := all[len(all)-1]
	require.NotNil(n.t, last.Result)
	return last
}

// killed runs a command and kills it after a time. It returns what it answered
// until then, and whether it had ended by itself, well.
func (n *node) killed(after time.Duration, args ...string) (answers []event, ended bool) {
	n.t.Helper()
	cmd := n.command(append(args, "--json")...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(syscall.SIGKILL) }) // fails if it has ended
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil { // the last line may be cut off
			answers = append(answers, e)
		}
	}
	err = cmd.Wait()
	if err == nil {
		return answers, true
	}
	var exit *exec.ExitError
	require.ErrorAs(n.t, err, &exit)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(n.t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "it failed by itself: %s", errOut.String())
	return answers, false
}

// random makes a file of a size, the same for the same seed.
func random(t *testing.T, seed uint64, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("random-%d", seed))
	require.NoError(t, os.WriteFile(path, bytesOf(seed, size), 0o600))
	return path
}

func bytesOf(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// refs is every block of the repo, sorted.
func (n *node) refs() []string {
	n.t.Helper()
	all := strings.Fields(n.run("refs", "local"))
	slices.Sort(all)
	return all
}

// sound compares what the repo has with what it should have, and reads all of it.
func (n *node) sound(refs []string, contents map[string]string) {
	n.t.Helper()
	require.Equal(n.t, refs, n.refs())
	for root, file := range contents {
		want, err := os.ReadFile(file)
		require.NoError(n.t, err)
		got := n.run("cat", root)
		require.True(n.t, bytes.Equal(bytes.TrimSpace(want), []byte(got)), "%s has other bytes than were added", root)
		require.Contains(n.t, n.run("pin", "ls", "--type=recursive"), root)
	}
	out := n.run("repo", "verify")
	require.Contains(n.t, out, "verify complete")
}

// spec is the store of the blocks, as the config names it.
func (n *node) spec() map[string]any {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "config"))
	require.NoError(n.t, err)
	var cfg struct {
		Datastore struct {
			Spec struct{ Mounts []map[string]any }
		}
	}
	require.NoError(n.t, json.Unmarshal(b, &cfg))
	for _, m := range cfg.Datastore.Spec.Mounts {
		if m["mountpoint"] == "/blocks" {
			return m
		}
	}
	require.FailNow(n.t, "no store of the blocks in the config")
	return nil
}

// start starts a daemon and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	for _, name := range []string{"api", "gateway"} { // of a daemon that was killed
		if err := os.Remove(filepath.Join(n.dir, name)); !errors.Is(err, os.ErrNotExist) {
			require.NoError(n.t, err)
		}
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(n.t, err)
	n.cmd = exec.Command(program(n.t), "daemon")
	n.cmd.Env, n.cmd.Stdout, n.cmd.Stderr = n.env, log, log
	require.NoError(n.t, n.cmd.Start())
	require.NoError(n.t, log.Close())
	cmd, exited := n.cmd, make(chan error, 1)
	n.exited = exited
	go func() { exited <- cmd.Wait() }()
	require.Eventually(n.t, func() bool {
		select {
		case err := <-exited:
			exited <- err
			require.FailNow(n.t, "the daemon ended", "%v: %s", err, n.logged())
		default:
		}
		return n.answers()
	}, patience, 20*time.Millisecond, "the daemon does not answer")
}

func (n *node) log() string { return filepath.Join(filepath.Dir(n.dir), "daemon.log") }

func (n *node) logged() string {
	b, err := os.ReadFile(n.log())
	require.NoError(n.t, err)
	return string(b)
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
	gw, err := os.ReadFile(filepath.Join(n.dir, "gateway"))
	if err != nil {
		return false
	}
	n.gw = strings.TrimSuffix(string(gw), "/")
	resp, err := http.Post(n.api+"/api/v0/id", "", nil)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
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

// get reads a URL.
func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, resp.Status, b)
	}
	return b, nil
}

// objects are the files of a bucket, under a prefix.
func objects(t *testing.T, s *s3test.Server, bucket, prefix, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(s.Dir, bucket, prefix, pattern))
	require.NoError(t, err)
	return all
}
