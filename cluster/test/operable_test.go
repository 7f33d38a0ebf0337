package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// run runs a program to its end and returns its output, errors and exit code.
func run(t testing.TB, env []string, program string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := proc.Command(binary(t, program), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// TestOperable works with one task as an operator does: with ctl in the
// sidecar's environment, with `ipfs pin remote`, and with an export.
func TestOperable(t *testing.T) {
	t.Parallel()
	k := tasks(t, options{names: []string{"task-1"}, settings: func(string) map[string]string {
		return map[string]string{"CLUSTER_PINSVCAPI_ENABLED": "true"}
	}})[0]
	k.settings["CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"] = multiaddress(k.pinning)
	k.start()
	awaitAll(t, []*task{k})
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hello"), []byte("hello"), 0o600))
	cids := k.putBlocks([]string{"one", "two", "three", "four"})
	id := k.id(t)
	hello := ""

	t.Run("ctl", func(t *testing.T) {
		ctl := func(want string, args ...string) string {
			out, errOut, code := run(t, k.sidecar.env, "cluster-aws", append([]string{"ctl"}, args...)...)
			require.Equal(t, 0, code, "%v: %s", args, errOut)
			require.Contains(t, out, want, "%v", args)
			return out
		}
		ctl("task-1", "id")
		ctl(id, "peers", "ls")
		ctl("1.1.6", "version")
		hello = strings.TrimSpace(ctl("baf", "add", "-Q", "--cid-version", "1", filepath.Join(dir, "hello")))
		ctl("hello", "add", "-r", "-n", "folder", dir)
		ctl(hello, "pin", "ls")
		ctl("folder", "pin", "ls", "--filter", "all")
		ctl("PINNED", "pin", "add", "--wait", "--name", "first", "--metadata", "colour=red", cids[0])
		ctl("colour", "-enc=json", "pin", "ls", cids[0])
		ctl("PINNED", "pin", "add", "--wait", "-rmin", "-1", "-rmax", "-1", cids[1])
		ctl(cids[2], "pin", "update", "--wait", cids[1], cids[2])
		ctl("PINNED", "status", cids[2])
		ctl("PINNED", "status", "--filter", "pinned", "--local")
		ctl("UNPINNED", "pin", "rm", "--wait", cids[1])
		ctl("", "recover")
		ctl("PINNED", "recover", cids[0])
		ctl("digraph", "health", "graph")
		ctl("ping", "health", "metrics")
		ctl("task-1", "health", "metrics", "ping")
		ctl("", "health", "alerts")
		ctl("", "health", "bandwidth")
		ctl("task-1", "ipfs", "gc")
		_, errOut, code := run(t, k.sidecar.env, "cluster-aws", "ctl", "peers", "rm", id)
		require.Equal(t, 2, code)
		require.Contains(t, errOut, "cannot remove peers")
		_, errOut, code = run(t, k.sidecar.env, "cluster-aws", "ctl", "pin", "rm", cids[3])
		require.Equal(t, 2, code)
		require.Contains(t, errOut, "not part of the pinset")
	})

	t.Run("pin remote", func(t *testing.T) {
		require.Equal(t, cids[3:], k.putBlocks([]string{"four"}), "the gc took it")
		req, err := http.NewRequest(http.MethodPost, k.api+"/token", nil)
		require.NoError(t, err)
		req.SetBasicAuth(user, password)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		var issued struct{ Token string }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&issued))
		require.NoError(t, res.Body.Close())
		require.NotEmpty(t, issued.Token)
		remote := func(args ...string) string {
			out, errOut, code := run(t, k.node.env, "ipfs-aws", append([]string{"pin", "remote"}, args...)...)
			require.Equal(t, 0, code, "%v: %s", args, errOut)
			return out
		}
		remote("service", "add", "cluster", k.pinning, issued.Token)
		require.Contains(t, remote("service", "ls", "--stat"), "0/", "it answers, and nothing is queued")
		require.Contains(t, remote("add", "--service=cluster", "--name=from-afar", cids[3]), "pinned")
		require.Contains(t, remote("ls", "--service=cluster", "--name=from-afar"), cids[3])
		pins, err := k.pinset()
		require.NoError(t, err)
		require.Contains(t, pins, cids[3])
		remote("rm", "--service=cluster", "--name=from-afar")
		pins, err = k.pinset()
		require.NoError(t, err)
		require.NotContains(t, pins, cids[3])

		remote("service", "add", "wrong", k.pinning, "a"+issued.Token)
		_, errOut, code := run(t, k.node.env, "ipfs-aws", "pin", "remote", "ls", "--service=wrong")
		require.NotZero(t, code)
		require.Contains(t, errOut, "401")
	})

	t.Run("nothing without credentials", func(t *testing.T) {
		ports := listening(t, k.sidecar.cmd.Process.Pid)
		own := 0
		for _, port := range ports {
			url := fmt.Sprintf("http://127.0.0.1:%d", port)
			for _, ask := range []struct{ method, path string }{
				{http.MethodGet, "/id"}, {http.MethodGet, "/pins"}, {http.MethodPost, "/pins/" + cids[0]}, {http.MethodPost, "/add"},
				{http.MethodPost, "/token"}, {http.MethodPost, "/api/v0/id"}, {http.MethodPost, "/api/v0/pin/rm?arg=" + cids[0]}, {http.MethodGet, "/debug/pprof/"},
			} {
				req, err := http.NewRequest(ask.method, url+ask.path, nil)
				require.NoError(t, err)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					require.Equal(t, k.swarm, fmt.Sprint(port), "only the swarm speaks no HTTP: %s", err)
					continue
				}
				require.NoError(t, res.Body.Close())
				want := http.StatusUnauthorized
				if url == k.health {
					want = http.StatusNotFound
				}
				require.Equal(t, want, res.StatusCode, "%s %s%s", ask.method, url, ask.path)
			}
			switch {
			case fmt.Sprint(port) == k.swarm, url == k.api, url == k.pinning, url == k.health:
				own++
			}
		}
		require.Equal(t, 4, own, "of %v", ports)
	})

	t.Run("state", func(t *testing.T) {
		k.sidecar.end(syscall.SIGTERM)
		before := len(k.exported(t))
		require.GreaterOrEqual(t, before, 4)
		file := filepath.Join(dir, "pins.jsonl")
		_, said, code := run(t, k.sidecar.env, "cluster-aws", "state", "export", "--file", file)
		require.Equal(t, 0, code, said)
		require.Equal(t, fmt.Sprintf("exported %d pins\n", before), said)

		// Another cluster, with a pin of its own.
		other := tasks(t, options{names: []string{"other"}, standIn: true})[0]
		other.settings["CLUSTER_SEED"] = "the seed of another cluster, of more than 32 bytes"
		other.start()
		awaitAll(t, []*task{other})
		status, body, err := other.request(http.MethodPost, "/pins/"+cids[3])
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, string(body))
		other.sidecar.end(syscall.SIGTERM)
		_, said, code = run(t, other.sidecar.env, "cluster-aws", "state", "import", file)
		require.Equal(t, 0, code, said)
		require.Equal(t, fmt.Sprintf("imported %d pins\n", before), said)
		other.startSidecar()
		awaitAll(t, []*task{other})
		pins, err := other.pinset()
		require.NoError(t, err)
		require.Len(t, pins, before+1)
		require.Contains(t, pins, hello)
		require.Eventually(t, func() bool {
			on, err := other.pinnedOnNode()
			return err == nil && on[hello] && on[cids[3]]
		}, patience, poll, "what was imported is pinned")
	})
}

// exported is what the folder of a sidecar that does not run holds.
func (k *task) exported(t testing.TB) []string {
	out, errOut, code := run(t, k.sidecar.env, "cluster-aws", "state", "export")
	require.Equal(t, 0, code, errOut)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// listening returns the TCP ports on which a process listens.
func listening(t testing.TB, pid int) []int {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	own := map[string]bool{}
	for _, l := range links {
		target, err := os.Readlink(l)
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []int
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			gate.Missing(t, gate.Proc, err.Error())
		}
		raw, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for line := range strings.Lines(string(raw)) {
			const local, state, inode, listen = 1, 3, 9, "0A" // of proc(5)
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != listen || !own[fields[inode]] {
				continue
			}
			_, hex, _ := strings.Cut(fields[local], ":")
			var port int
			_, err := fmt.Sscanf(hex, "%X", &port)
			require.NoError(t, err)
			ports = append(ports, port)
		}
	}
	return ports
}
