// Package testnode runs a repo's program for tests, as an operator does: commands and
// the daemon are processes.
package testnode

import (
	"errors"
	"net/http"
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

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// Patience is how long a test waits for a condition: far longer than it takes on a
// busy machine.
const Patience = 2 * time.Minute

// Node is a repo, and the program that works on it with an environment of its own.
// Its methods fail the test; it is not for several goroutines.
type Node struct {
	T       *testing.T
	Program string
	Env     []string
	Dir     string // IPFS_PATH

	// Of the daemon; Cmd is nil while there is none.
	Cmd          *exec.Cmd
	Exited       chan error
	API, Gateway string // URLs
}

// Ours is the path of the built ipfs-aws, for tests two folders below the top.
func Ours(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd() // that of the test
	require.NoError(t, err)
	bin := filepath.Join(dir, "..", "..", "bin", "ipfs-aws")
	require.FileExists(t, bin, "run `make build` first")
	return bin
}

// New is a repo that is not made yet, with the credentials of s3test. A daemon that
// still runs when the test ends is killed.
func New(t *testing.T, program string, env ...string) *Node {
	n := &Node{T: t, Program: program, Dir: filepath.Join(t.TempDir(), "repo")}
	n.Env = append([]string{
		"HOME=" + t.TempDir(), "IPFS_PATH=" + n.Dir, "IPFS_TELEMETRY=off", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey,
	}, env...)
	t.Cleanup(func() {
		if n.Cmd != nil {
			_ = n.Cmd.Process.Kill() // fails if it has ended by itself
			<-n.Exited
		}
	})
	return n
}

// Command is a command of the program, which ends with the test.
func (n *Node) Command(args ...string) *exec.Cmd {
	cmd := proc.CommandContext(n.T.Context(), n.Program, args...)
	cmd.Env = n.Env
	return cmd
}

// Try runs a command and returns what it printed, without white space at the ends.
func (n *Node) Try(args ...string) (out, errOut string, err error) {
	var o, e strings.Builder
	cmd := n.Command(args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return strings.TrimSpace(o.String()), strings.TrimSpace(e.String()), err
}

// Run is the standard output of a command that must succeed.
func (n *Node) Run(args ...string) string {
	n.T.Helper()
	out, errOut, err := n.Try(args...)
	require.NoError(n.T, err, "%s %s: %s %s", filepath.Base(n.Program), strings.Join(args, " "), out, errOut)
	return out
}

// Fail is the standard error of a command that must not succeed.
func (n *Node) Fail(args ...string) string {
	n.T.Helper()
	out, errOut, err := n.Try(args...)
	var exit *exec.ExitError
	require.ErrorAs(n.T, err, &exit, "%s %s: %s", filepath.Base(n.Program), strings.Join(args, " "), out)
	return errOut
}

// Launch starts a daemon without waiting for it.
func (n *Node) Launch() {
	n.T.Helper()
	for _, name := range []string{"api", "gateway"} { // of a daemon that was killed
		if err := os.Remove(filepath.Join(n.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			require.NoError(n.T, err)
		}
	}
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(n.T, err)
	n.Cmd = proc.Command(n.Program, "daemon")
	n.Cmd.Env, n.Cmd.Stdout, n.Cmd.Stderr = n.Env, log, log
	require.NoError(n.T, n.Cmd.Start())
	require.NoError(n.T, log.Close())
	cmd, exited := n.Cmd, make(chan error, 1)
	n.Exited = exited
	go func() { exited <- cmd.Wait() }()
}

// Log is the file of what all daemons of the repo have said; Logged is what is in it.
func (n *Node) Log() string { return filepath.Join(filepath.Dir(n.Dir), "daemon.log") }

func (n *Node) Logged() string {
	b, err := os.ReadFile(n.Log())
	require.NoError(n.T, err)
	return string(b)
}

// Start starts a daemon and waits until it answers.
func (n *Node) Start() {
	n.T.Helper()
	n.Launch()
	require.Eventually(n.T, func() bool {
		select {
		case err := <-n.Exited:
			n.Exited <- err
			require.FailNow(n.T, "the daemon ended", "%v: %s", err, n.Logged())
		default:
		}
		return n.Answers()
	}, Patience, 20*time.Millisecond, "the daemon does not answer")
}

// Answers reports whether the daemon takes requests, and notes where.
func (n *Node) Answers() bool {
	b, err := os.ReadFile(filepath.Join(n.Dir, "api"))
	if err != nil {
		return false
	}
	addr, err := multiaddr.NewMultiaddr(string(b))
	if err != nil {
		return false // half written
	}
	_, host, err := manet.DialArgs(addr)
	require.NoError(n.T, err)
	gateway, err := os.ReadFile(filepath.Join(n.Dir, "gateway"))
	if err != nil || len(gateway) == 0 {
		return false
	}
	n.API, n.Gateway = "http://"+host, strings.TrimSuffix(string(gateway), "/")
	resp, err := http.Post(n.API+"/api/v0/id", "", nil)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// End sends the daemon a signal, and returns how it exited.
func (n *Node) End(sig syscall.Signal) error {
	n.T.Helper()
	require.NoError(n.T, n.Cmd.Process.Signal(sig))
	select {
	case err := <-n.Exited:
		n.Cmd = nil
		return err
	case <-time.After(Patience):
		require.FailNow(n.T, "the daemon did not end", "%s: %s", sig, n.Logged())
		return nil
	}
}

// Stop ends the daemon in order.
func (n *Node) Stop() {
	n.T.Helper()
	require.NoError(n.T, n.End(syscall.SIGTERM))
}
