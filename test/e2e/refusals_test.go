package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// refused runs `local-cluster up` and insists on one clear line and exit code
// 1, with nothing on stdout. Lines about progress may precede it.
func refused(t *testing.T, env, args []string, says ...string) {
	t.Helper()
	cmd := proc.Command(filepath.Join(bin, "local-cluster"), append([]string{"up", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.Error(t, cmd.Run())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Empty(t, stdout.String())
	lastLine(t, stderr.String(), says...)
}

func lastLine(t *testing.T, stderr string, says ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	last := lines[len(lines)-1]
	require.True(t, strings.HasPrefix(last, "local-cluster: "), stderr)
	for _, s := range says {
		require.Contains(t, last, s)
	}
	require.NotContains(t, stderr, "panic")
	require.NotContains(t, stderr, "goroutine ")
}

// secretsOf lists what must not be seen, from state.json.
func secretsOf(t *testing.T, state string) map[string]string {
	t.Helper()
	var all map[string]any
	require.NoError(t, json.Unmarshal([]byte(state), &all))
	secrets := map[string]string{}
	for _, name := range []string{"password", "clusterSecret", "seed", "secretKey"} {
		if s, _ := all[name].(string); s != "" {
			secrets[name] = s
		}
	}
	require.GreaterOrEqual(t, len(secrets), 3)
	return secrets
}

func TestRefusals(t *testing.T) {
	empty := t.TempDir()
	notADir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(notADir, nil, 0o600))
	port := ports.TakeBlock(t) + 13
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	defer taken.Close()
	base := fmt.Sprint(ports.TakeBlock(t))
	keys := []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_EC2_METADATA_DISABLED=true"}
	noKeys := []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_PROFILE=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"}
	nobody := "http://" + ports.Address(t)

	for name, c := range map[string]struct {
		args []string
		env  []string
		says []string
	}{
		"unknown blockstore": {args: []string{"--blockstore", "floppy"}, says: []string{`--blockstore "floppy"`, "s3, efs, flatfs"}},
		"no tasks":           {args: []string{"--tasks", "0"}, says: []string{"--tasks 0", "1 to 20"}},
		"privileged ports":   {args: []string{"--base-port", "80"}, says: []string{"--base-port 80", "1024"}},
		"ports beyond":       {args: []string{"--base-port", "65530"}, says: []string{"--base-port 65530"}},
		"unknown restart":    {args: []string{"--restart", "maybe"}, says: []string{`--restart "maybe"`, "never or always"}},
		"all at once":        {args: []string{"--tasks", "0", "--restart", "x"}, says: []string{"--tasks 0", `--restart "x"`}},
		"unknown flag":       {args: []string{"--blokstore", "s3"}, says: []string{"unknown flag: --blokstore"}},
		"endpoint, no bucket": {args: []string{"--s3-endpoint", nobody},
			says: []string{"--s3-endpoint and --s3-bucket go together"}},
		"endpoint without s3": {args: []string{"--s3-endpoint", nobody, "--s3-bucket", "b", "--blockstore", "flatfs"},
			says: []string{"--s3-endpoint is for --blockstore s3"}},
		"endpoint is no URL": {args: []string{"--s3-endpoint", "localhost", "--s3-bucket", "b"},
			says: []string{`--s3-endpoint "localhost"`, "http://"}},
		"missing binaries": {args: []string{"--bin-dir", empty},
			says: []string{filepath.Join(empty, "ipfs-aws") + " is missing", "cluster-aws is missing", "versitygw is missing", "make build", "--bin-dir"}},
		"folder is a file": {args: []string{"--dir", notADir, "--base-port", base}, says: []string{notADir, "--dir"}},
		"taken port": {args: []string{"--base-port", fmt.Sprint(port - 13)},
			says: []string{fmt.Sprintf("port %d, wanted by task-1's cluster API", port), "--base-port"}},
		"nobody at the endpoint": {args: []string{"--base-port", base, "--s3-endpoint", nobody, "--s3-bucket", "b"}, env: keys,
			says: []string{"no S3 server answers at " + nobody, "--s3-endpoint"}},
		"no credentials": {args: []string{"--base-port", base, "--s3-endpoint", nobody, "--s3-bucket", "b"}, env: noKeys,
			says: []string{"no credentials", "AWS_ACCESS_KEY_ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			refused(t, c.env, append([]string{"--dir", dir}, c.args...), c.says...)
			repos, err := filepath.Glob(filepath.Join(dir, "task-*"))
			require.NoError(t, err)
			require.Empty(t, repos, "nothing was made")
		})
	}
}

// binWith is a folder of the real binaries, but one of them is a shell script.
func binWith(t *testing.T, name, script string) string {
	t.Helper()
	dir := t.TempDir()
	for _, b := range []string{"ipfs-aws", "cluster-aws", "versitygw"} {
		if b == name {
			require.NoError(t, os.WriteFile(filepath.Join(dir, b), []byte("#!/bin/sh\n"+script), 0o700))
			continue
		}
		require.NoError(t, os.Symlink(filepath.Join(bin, b), filepath.Join(dir, b)))
	}
	return dir
}

func TestAChildThatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		binary, script string
		says           []string
	}{
		"init": {"ipfs-aws", "echo 'boom: no space left' >&2; exit 3\n",
			[]string{"`ipfs-aws init`", "exited with status 3", `"boom: no space left"`, "task-1-ipfs.log", "everything was ended"}},
		"sidecar": {"cluster-aws", "echo 'CLUSTER_SECRET: not good' >&2; exit 1\n",
			[]string{"task-1's cluster-aws sidecar", "exited with status 1", "CLUSTER_SECRET: not good", "task-1-cluster.log"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			refused(t, nil, []string{"--dir", dir, "--blockstore", "flatfs", "--tasks", "1", "--base-port", fmt.Sprint(ports.TakeBlock(t)),
				"--bin-dir", binWith(t, c.binary, c.script)}, c.says...)
			require.NoFileExists(t, filepath.Join(dir, "task-1", "ipfs", "repo.lock"), "no daemon is left on the repo")
		})
	}
}

// A task that dies ends everything, with one line that says which and where to
// look.
func TestACrashedChildEndsEverything(t *testing.T) {
	c := up(t, filepath.Join(t.TempDir(), "run"), nil, "--blockstore", "flatfs", "--tasks", "1")
	pids := c.status(t).pids()
	require.NoError(t, syscall.Kill(c.desc.Tasks[0].PIDs.Cluster, syscall.SIGKILL))
	c.awaitExit(t, endBound)
	require.Equal(t, 1, c.cmd.ProcessState.ExitCode())
	lastLine(t, c.stderr.String(), "task-1's cluster-aws sidecar (pid "+fmt.Sprint(c.desc.Tasks[0].PIDs.Cluster)+") was killed by signal 9",
		filepath.Join(c.dir, "logs", "task-1-cluster.log"), "everything was ended", "start again")
	for _, pid := range pids {
		require.False(t, runs(pid), "process %d is left", pid)
	}
}

// A supervisor that is killed takes everything with it, and the next one starts
// at once on the same ports.
func TestNothingOutlivesTheSupervisor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	c := up(t, dir, nil, "--blockstore", "flatfs", "--tasks", "1")
	pids := c.status(t).pids()
	ids := c.peerIDs(t)
	require.NoError(t, c.cmd.Process.Kill())
	<-c.exited
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !runs(pid) }, patience, poll, "process %d is left", pid)
	}
	c = up(t, dir, nil, "--blockstore", "flatfs", "--tasks", "1")
	require.Equal(t, ids, c.peerIDs(t))
	c.end(t)
}

// A process that does not react to SIGTERM cannot hold up the end, and a second
// signal does not wait for it at all.
func TestAStuckChildCannotHoldUpTheEnd(t *testing.T) {
	for name, again := range map[string]bool{"one signal": false, "two signals": true} {
		t.Run(name, func(t *testing.T) {
			if !again {
				gate.NotQuick(t, "takes ten seconds by design")
			}
			c := up(t, filepath.Join(t.TempDir(), "run"), nil, "--blockstore", "flatfs", "--tasks", "1")
			pids := c.status(t).pids()
			require.NoError(t, proc.Stop(c.desc.Tasks[0].PIDs.Cluster))
			start := time.Now()
			require.NoError(t, c.cmd.Process.Signal(syscall.SIGINT))
			require.Eventually(t, func() bool { return strings.Contains(c.stderr.String(), "ending everything") }, patience, poll)
			if again {
				require.Eventually(t, func() bool { return !runs(c.statusEdge(pids)) }, patience, poll, "the edge ends first")
				require.NoError(t, c.cmd.Process.Signal(syscall.SIGINT))
			}
			c.awaitExit(t, endBound-time.Since(start))
			t.Logf("ended after %.1f s", time.Since(start).Seconds())
			require.Equal(t, 0, c.cmd.ProcessState.ExitCode())
			require.Contains(t, c.stderr.String(), "killed, as it did not end in time: task-1's cluster-aws sidecar")
			for _, pid := range pids {
				require.False(t, runs(pid), "process %d is left", pid)
			}
		})
	}
}

// statusEdge is the edge's pid among those of status.pids.
func (c *cluster) statusEdge(pids []int) int { return pids[1] }
