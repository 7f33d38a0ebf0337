package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

const (
	patience = 2 * time.Minute // for anything that has no bound of its own
	poll     = 50 * time.Millisecond
	endBound = 20 * time.Second // what local-cluster promises for its end
)

// description is the object that `up --json` prints.
type description struct {
	Gateway  string `json:"gateway"`
	API      string `json:"api"`
	User     string `json:"user"`
	Password string `json:"password"`
	S3       *struct {
		Endpoint  string `json:"endpoint"`
		Bucket    string `json:"bucket"`
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
	} `json:"s3"`
	Tasks []taskDescription `json:"tasks"`
}

type taskDescription struct {
	Name    string `json:"name"`
	Repo    string `json:"repo"`
	Gateway string `json:"gateway"`
	RPC     string `json:"rpc"`
	API     string `json:"api"`
	PIDs    struct {
		IPFS    int `json:"ipfs"`
		Cluster int `json:"cluster"`
	} `json:"pids"`
}

// status is what the tests need of DIR/status.json.
type status struct {
	description
	Supervisor int `json:"supervisor"`
	Edge       int `json:"edge"`
	S3Server   int `json:"s3Server"`
}

func (s status) pids() []int {
	pids := []int{s.Supervisor, s.Edge}
	if s.S3Server != 0 {
		pids = append(pids, s.S3Server)
	}
	for _, t := range s.Tasks {
		pids = append(pids, t.PIDs.IPFS, t.PIDs.Cluster)
	}
	return pids
}

// buffer collects what a process writes, and may be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// cluster is a running `local-cluster up`.
type cluster struct {
	dir            string
	cmd            *exec.Cmd
	stdout, stderr buffer
	exited         chan struct{}
	desc           description
}

// launch starts `local-cluster up --json` and returns at once.
func launch(t *testing.T, dir string, env []string, args ...string) *cluster {
	t.Helper()
	c := &cluster{dir: dir, exited: make(chan struct{})}
	c.cmd = proc.Command(filepath.Join(bin, "local-cluster"), append([]string{"up", "--json", "--dir", dir}, args...)...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	require.NoError(t, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait() // its outcome is in ProcessState
		close(c.exited)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // its children follow it
		<-c.exited
		if t.Failed() {
			t.Logf("local-cluster said:\n%s", c.stderr.String())
			c.logTails(t)
		}
	})
	return c
}

// logTails shows the end of every log of a test that failed.
func (c *cluster) logTails(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "logs", "*.log"))
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		t.Logf("end of %s:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-6):], "\n"))
	}
}

// up launches a topology on ports of its own and waits until it is ready.
func up(t *testing.T, dir string, env []string, args ...string) *cluster {
	t.Helper()
	start := time.Now()
	c := launch(t, dir, env, append(args, "--base-port", fmt.Sprint(ports.TakeBlock(t)))...)
	require.Eventually(t, func() bool {
		return strings.Contains(c.stdout.String(), "\n") || c.ended()
	}, patience, poll, "not ready in time")
	require.False(t, c.ended(), "local-cluster ended instead of getting ready: %s", c.stderr.String())
	c.desc = oneObject(t, c.stdout.String())
	t.Logf("ready after %.1f s: %s", time.Since(start).Seconds(), strings.Join(args, " "))
	return c
}

// oneObject insists on exactly one JSON object of exactly the documented shape.
func oneObject(t *testing.T, out string) description {
	t.Helper()
	var d description
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&d), out)
	var more any
	require.ErrorIs(t, dec.Decode(&more), io.EOF, "more than one object on stdout")
	return d
}

func (c *cluster) ended() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

func (c *cluster) status(t *testing.T) status {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "status.json"))
	require.NoError(t, err)
	var s status
	require.NoError(t, json.Unmarshal(b, &s))
	return s
}

// end sends SIGTERM and insists on what is promised for it.
func (c *cluster) end(t *testing.T) {
	t.Helper()
	pids := c.status(t).pids()
	start := time.Now()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	c.awaitExit(t, endBound)
	t.Logf("ended after %.1f s", time.Since(start).Seconds())
	require.Equal(t, 0, c.cmd.ProcessState.ExitCode(), c.stderr.String())
	for _, pid := range pids {
		require.False(t, runs(pid), "process %d is left", pid)
	}
	oneObject(t, c.stdout.String())
	require.NoFileExists(t, filepath.Join(c.dir, "status.json"))
}

func (c *cluster) awaitExit(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(within):
		require.Fail(t, "local-cluster did not end in time", "within %s", within)
	}
}

// runs says whether a process is there and is not just waiting to be reaped.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && syscall.Kill(pid, 0) == nil
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// reaped says whether a process is gone with all its threads, and its sockets
// with it.
func reaped(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, os.ErrNotExist)
}

// call asks an API and returns the body of a 200.
func call(method, url, user, password string) ([]byte, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil, err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: the answer broke off: %w", url, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, res.Status, b)
	}
	if said := res.Trailer.Get("X-Stream-Error"); said != "" {
		return nil, fmt.Errorf("%s: %s", url, said)
	}
	return b, nil
}

// rest asks the cluster API at base.
func (c *cluster) rest(base, path string) ([]byte, error) {
	return call(http.MethodGet, base+path, c.desc.User, c.desc.Password)
}

// peerIDs are the IDs of all nodes and sidecars.
func (c *cluster) peerIDs(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, task := range c.desc.Tasks {
		var node struct{ ID string }
		b, err := call(http.MethodPost, task.RPC+"/api/v0/id", "", "")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &node))
		var sidecar struct {
			ID string `json:"id"`
		}
		b, err = c.rest(task.API, "/id")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &sidecar))
		require.NotEmpty(t, node.ID)
		require.NotEmpty(t, sidecar.ID)
		ids = append(ids, node.ID, sidecar.ID)
	}
	return ids
}

// pinStates is the state of a CID on every peer, by name, asked of the API at base.
func (c *cluster) pinStates(base, cid, query string) (map[string]string, error) {
	b, err := c.rest(base, "/pins/"+cid+query)
	if err != nil {
		return nil, err
	}
	var pin struct {
		PeerMap map[string]struct {
			Peer   string `json:"peername"`
			Status string `json:"status"`
		} `json:"peer_map"`
	}
	if err := json.Unmarshal(b, &pin); err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, s := range pin.PeerMap {
		states[s.Peer] = s.Status
	}
	return states, nil
}

// awaitPinned waits until the API at the edge says that every task has the CID.
func (c *cluster) awaitPinned(t *testing.T, cid string) {
	t.Helper()
	want := map[string]string{}
	for _, task := range c.desc.Tasks {
		want[task.Name] = "pinned"
	}
	var got map[string]string
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("%s: %v %v", cid, got, err)
		}
	}()
	require.Eventually(t, func() bool {
		got, err = c.pinStates(c.desc.API, cid, "")
		return err == nil && fmt.Sprint(got) == fmt.Sprint(want)
	}, patience, poll, "%s is not pinned everywhere", cid)
}

// localBlocks reads every block below a CID from a task's own store, without
// the network, and counts them.
func localBlocks(t *testing.T, task taskDescription, cid string) int {
	t.Helper()
	b, err := call(http.MethodPost, task.RPC+"/api/v0/dag/stat?progress=false&offline=true&arg="+cid, "", "")
	require.NoError(t, err, "%s has not got all blocks of %s", task.Name, cid)
	var stat struct {
		UniqueBlocks int
	}
	require.NoError(t, json.Unmarshal(b, &stat), string(b))
	return stat.UniqueBlocks
}
