package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

	secret   = "5ec2e700112233445566778899aabbccddeeff00112233445566778899aabbcc"
	seed     = "a seed that is only for tests, of more than 32 bytes"
	user     = "admin"
	password = "pa55-w0rd"
)

// binary is a program in bin/ of this checkout, or in CLUSTER_TEST_BIN.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	path := filepath.Join(dir, "..", "..", "bin", name)
	if other := os.Getenv("CLUSTER_TEST_BIN"); other != "" {
		path = filepath.Join(other, name)
	}
	require.FileExists(t, path, "run `make build` first")
	return path
}

// process is a program that can be killed and started again.
type process struct {
	t    testing.TB
	path string
	args []string
	env  []string
	log  string
	// group is the file of a control group that the process goes into, or "".
	group string
	attr  *syscall.SysProcAttr

	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) start() {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	cmd, done := exec.Command(p.path, p.args...), make(chan struct{})
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "AWS_EC2_METADATA_DISABLED=true"}, p.env...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = p.attr
	require.NoError(p.t, proc.Tie(cmd).Start())
	require.NoError(p.t, f.Close())
	if p.group != "" {
		require.NoError(p.t, os.WriteFile(p.group, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	}
	go func() {
		_ = cmd.Wait() // its outcome is in ProcessState
		close(done)
	}()
	p.cmd, p.done = cmd, done
}

// kill ends the process as the kernel does when memory is short.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

// end sends the process a signal and waits until it has ended.
func (p *process) end(sig os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
	select {
	case <-p.done:
	case <-time.After(patience):
		require.Fail(p.t, "the process does not end", "%s %v after %s", p.path, p.args, sig)
	}
}

func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	require.NoError(p.t, err)
	return string(b)
}

// task is a node and its sidecar.
type task struct {
	t       testing.TB
	name    string
	dir     string
	swarm   string // host:port of the sidecar for other sidecars
	api     string // URLs
	health  string
	rpc     string
	pinning string

	node     *process // nil if the node is a stand-in
	sidecar  *process
	settings map[string]string
}

// options shape a cluster for a test.
type options struct {
	names    []string
	settings func(name string) map[string]string        // more settings for the sidecars
	node     func(name string) (initArgs, env []string) // how to initialise the nodes
	standIn  bool                                       // do not run IPFS nodes, but stand-ins for them
	programs string                                     // the folder of other programs than those of this checkout
}

func three() []string { return []string{"task-1", "task-2", "task-3"} }

// tasks makes the tasks of a cluster; nothing runs yet.
func tasks(t testing.TB, o options) []*task {
	t.Helper()
	var all []*task
	var peers []string
	for _, name := range o.names {
		k := &task{
			t: t, name: name, dir: filepath.Join(t.TempDir(), name),
			swarm:   fmt.Sprint(ports.Take(t)),
			api:     fmt.Sprintf("http://127.0.0.1:%d", ports.Take(t)),
			health:  fmt.Sprintf("http://127.0.0.1:%d", ports.Take(t)),
			rpc:     fmt.Sprintf("http://127.0.0.1:%d", ports.Take(t)),
			pinning: fmt.Sprintf("http://127.0.0.1:%d", ports.Take(t)),
		}
		require.NoError(t, os.MkdirAll(k.dir, 0o700))
		peers = append(peers, fmt.Sprintf("%s=/dns4/localhost/tcp/%s", name, k.swarm))
		all = append(all, k)
	}
	for _, k := range all {
		k.settings = map[string]string{
			"IPFS_CLUSTER_PATH":                      filepath.Join(k.dir, "cluster"),
			"CLUSTER_PEERNAME":                       k.name,
			"CLUSTER_SECRET":                         secret,
			"CLUSTER_SEED":                           seed,
			"CLUSTER_PEERS":                          strings.Join(peers, ","),
			"CLUSTER_LISTENMULTIADDRESS":             "/ip4/127.0.0.1/tcp/" + k.swarm,
			"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": multiaddress(k.api),
			"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":   user + ":" + password,
			"CLUSTER_HEALTH_ADDRESS":                 strings.TrimPrefix(k.health, "http://"),
			"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":      multiaddress(k.rpc),
		}
		if o.settings != nil {
			for name, value := range o.settings(k.name) {
				k.settings[name] = value
			}
		}
		program := func(name string) string {
			if o.programs != "" {
				return filepath.Join(o.programs, name)
			}
			return binary(t, name)
		}
		k.sidecar = &process{t: t, path: program("cluster-aws"), args: []string{"daemon"}, log: filepath.Join(k.dir, "cluster.log"), group: taskProcessors(t, k.name)}
		if o.standIn {
			serveStandIn(t, strings.TrimPrefix(k.rpc, "http://"))
		} else {
			var args, env []string
			if o.node != nil {
				args, env = o.node(k.name)
			}
			k.makeNode(program("ipfs-aws"), args, env)
			k.node.group = k.sidecar.group
		}
		t.Cleanup(func() {
			if k.node != nil {
				k.node.kill()
			}
			k.sidecar.kill()
			if t.Failed() {
				out := k.sidecar.output()
				t.Logf("end of %s's log:\n%s", k.name, tail(out))
			}
		})
	}
	return all
}

func multiaddress(url string) string {
	host, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	return "/ip4/" + host + "/tcp/" + port
}

// makeNode initialises a private node that listens on loopback only.
func (k *task) makeNode(program string, args, env []string) {
	env = append([]string{"IPFS_PATH=" + filepath.Join(k.dir, "ipfs"), "AWS_EC2_METADATA_DISABLED=true"}, env...)
	run := func(args ...string) {
		cmd := proc.Command(program, args...)
		cmd.Env = append([]string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}, env...)
		out, err := cmd.CombinedOutput()
		require.NoError(k.t, err, string(out))
	}
	run(append([]string{"init", "--profile", "test"}, args...)...)
	run("config", "Addresses.API", multiaddress(k.rpc))
	run("config", "--json", "Addresses.Swarm", fmt.Sprintf(`["/ip4/127.0.0.1/tcp/%d"]`, ports.Take(k.t)))
	run("config", "--json", "Addresses.Gateway", "[]")
	k.node = &process{t: k.t, path: program, args: []string{"daemon"}, env: env, log: filepath.Join(k.dir, "ipfs.log")}
}

// start starts what does not run.
func (k *task) start() {
	k.t.Helper()
	if k.node != nil {
		k.node.start()
	}
	k.startSidecar()
}

func (k *task) startSidecar() {
	k.t.Helper()
	k.sidecar.env = nil
	for name, value := range k.settings {
		k.sidecar.env = append(k.sidecar.env, name+"="+value)
	}
	k.sidecar.start()
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool
	Checks []struct {
		Name   string
		OK     bool
		Detail string
	}
}

func (r readiness) detail(check string) string {
	for _, c := range r.Checks {
		if c.Name == check {
			return c.Detail
		}
	}
	return ""
}

func (k *task) readiness() readiness {
	var r readiness
	res, err := http.Get(k.health + "/readyz")
	if err != nil {
		return r
	}
	defer res.Body.Close()
	_ = json.NewDecoder(res.Body).Decode(&r) // what does not parse is not ready
	return r
}

// sees says whether the task is ready and knows of n peers, itself included.
func (k *task) sees(n, of int) bool {
	r := k.readiness()
	return r.Ready && strings.HasPrefix(r.detail("peers"), fmt.Sprintf("%d of %d seen", n, of))
}

func awaitAll(t testing.TB, all []*task) {
	t.Helper()
	for _, k := range all {
		require.Eventually(t, func() bool { return k.sees(len(all), len(all)) }, patience, poll, "%s: %+v", k.name, k.readiness())
	}
}

// request asks a task's REST API and returns the status and the body.
func (k *task) request(method, path string) (int, []byte, error) {
	req, err := http.NewRequest(method, k.api+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// pinset is what the task's own copy of the pinset holds: allocations by CID.
func (k *task) pinset() (map[string][]string, error) {
	pins, err := k.allocations()
	if pins == nil || err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, pin := range pins {
		out[pin.Cid] = pin.Allocations
	}
	return out, nil
}

// allocation is a pin as /allocations gives it.
type allocation struct {
	Cid         string            `json:"cid"`
	Allocations []string          `json:"allocations"`
	Metadata    map[string]string `json:"metadata"`
}

func (k *task) allocations() ([]allocation, error) {
	code, body, err := k.request(http.MethodGet, "/allocations")
	if err != nil || code == http.StatusNoContent {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("/allocations: %d %s", code, body)
	}
	var out []allocation
	for dec := json.NewDecoder(bytes.NewReader(body)); dec.More(); {
		var pin allocation
		if err := dec.Decode(&pin); err != nil {
			return nil, err
		}
		out = append(out, pin)
	}
	return out, nil
}

// pinnedOnNode is what the task's IPFS node itself says that it pins.
func (k *task) pinnedOnNode() (map[string]bool, error) {
	res, err := http.Post(k.rpc+"/api/v0/pin/ls?type=recursive&stream=true", "", nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out := map[string]bool{}
	dec := json.NewDecoder(res.Body)
	for {
		var one struct{ Cid string }
		err := dec.Decode(&one)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out[one.Cid] = true
	}
}

// putBlocks stores raw blocks on the task's node and returns their CIDs.
func (k *task) putBlocks(texts []string) []string {
	k.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, text := range texts {
		part, err := form.CreateFormFile("data", "block")
		require.NoError(k.t, err)
		_, err = io.WriteString(part, text)
		require.NoError(k.t, err)
	}
	require.NoError(k.t, form.Close())
	res, err := http.Post(k.rpc+"/api/v0/block/put?cid-codec=raw&pin=false", form.FormDataContentType(), &body)
	require.NoError(k.t, err)
	defer res.Body.Close()
	require.Equal(k.t, http.StatusOK, res.StatusCode)
	var cids []string
	for dec := json.NewDecoder(res.Body); dec.More(); {
		var one struct{ Key string }
		require.NoError(k.t, dec.Decode(&one))
		cids = append(cids, one.Key)
	}
	require.Len(k.t, cids, len(texts))
	return cids
}

// tail is the end of a log, without the requests.
func tail(log string) string {
	var kept []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "restapilog") && strings.TrimSpace(line) != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-25):], "")
}

// id is the sidecar's peer ID.
func (k *task) id(t testing.TB) string {
	t.Helper()
	var id struct{ ID string }
	_, body, err := k.request(http.MethodGet, "/id")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(body, &id))
	require.NotEmpty(t, id.ID)
	return id.ID
}

// countPeers counts the metrics in an answer.
func countPeers(body []byte) int {
	var all []struct{}
	if json.Unmarshal(body, &all) != nil {
		return 0
	}
	return len(all)
}
