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

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

func TestMain(m *testing.M) { s3test.Main(m) }

// node is a repo and the program that works on it.
type node struct{ *testnode.Node }

func newNode(t *testing.T) *node { return &node{testnode.New(t, testnode.Ours(t))} }

// with is the same repo for another test, with more in its environment.
func (n *node) with(t *testing.T, env ...string) *node {
	return &node{&testnode.Node{T: t, Program: n.Program, Env: append(slices.Clone(n.Env), env...), Dir: n.Dir}}
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
	n.T.Helper()
	all := events(n.T, n.Run(append(args, "--json")...))
	require.NotEmpty(n.T, all)
	last := all[len(all)-1]
	require.NotNil(n.T, last.Result)
	return last
}

// killed runs a command and kills it after a time. It returns what it answered
// until then, and whether it had ended by itself, well.
func (n *node) killed(after time.Duration, args ...string) (answers []event, ended bool) {
	n.T.Helper()
	cmd := n.Command(append(args, "--json")...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	require.NoError(n.T, err)
	require.NoError(n.T, cmd.Start())
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
	if strings.Contains(errOut.String(), "prefix is owned by another node") {
		// The run before was killed when it had the prefix and had not kept its node's name: the
		// next one has to wait until the lease, of a minute, is over.
		<-time.After(5 * time.Second)
		return n.killed(after, args...)
	}
	var exit *exec.ExitError
	require.ErrorAs(n.T, err, &exit)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(n.T, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "it failed by itself: %s", errOut.String())
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
	n.T.Helper()
	all := strings.Fields(n.Run("refs", "local"))
	slices.Sort(all)
	return all
}

// sound compares what the repo has with what it should have, and reads all of it.
func (n *node) sound(refs []string, contents map[string]string) {
	n.T.Helper()
	require.Equal(n.T, refs, n.refs())
	for root, file := range contents {
		want, err := os.ReadFile(file)
		require.NoError(n.T, err)
		got := n.Run("cat", root)
		require.True(n.T, bytes.Equal(bytes.TrimSpace(want), []byte(got)), "%s has other bytes than were added", root)
		require.Contains(n.T, n.Run("pin", "ls", "--type=recursive"), root)
	}
	out := n.Run("repo", "verify")
	require.Contains(n.T, out, "verify complete")
}

// spec is the store of the blocks, as the config names it.
func (n *node) spec() map[string]any {
	n.T.Helper()
	b, err := os.ReadFile(filepath.Join(n.Dir, "config"))
	require.NoError(n.T, err)
	var cfg struct {
		Datastore struct {
			Spec struct{ Mounts []map[string]any }
		}
	}
	require.NoError(n.T, json.Unmarshal(b, &cfg))
	for _, m := range cfg.Datastore.Spec.Mounts {
		if m["mountpoint"] == "/blocks" {
			return m
		}
	}
	require.FailNow(n.T, "no store of the blocks in the config")
	return nil
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
