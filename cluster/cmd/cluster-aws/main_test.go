package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

var binary string

// TestMain builds the program once; the tests run it as an operator would.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cluster-aws-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "cluster-aws")
	if out, err := proc.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build cluster-aws: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

const (
	testSecret   = "5ec2e700112233445566778899aabbccddeeff00112233445566778899aabbcc"
	testSeed     = "5eed-5eed-5eed-5eed-5eed-5eed-5eed-5eed"
	testPassword = "pa55-w0rd"
)

// peerEnv is the environment of one peer with nothing wrong in it, on free
// ports, with an IPFS node that does not exist.
type peerEnv map[string]string

func newPeerEnv(t *testing.T) peerEnv {
	swarm, rest, health, node := ports.Take(t), ports.Take(t), ports.Take(t), ports.Take(t)
	return peerEnv{
		"IPFS_CLUSTER_PATH":                      filepath.Join(t.TempDir(), "cluster"),
		"CLUSTER_PEERNAME":                       "task-1",
		"CLUSTER_SECRET":                         testSecret,
		"CLUSTER_SEED":                           testSeed,
		"CLUSTER_PEERS":                          fmt.Sprintf("task-1=/ip4/127.0.0.1/tcp/%d", swarm),
		"CLUSTER_LISTENMULTIADDRESS":             fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", swarm),
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", rest),
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":   "admin:" + testPassword,
		"CLUSTER_HEALTH_ADDRESS":                 fmt.Sprintf("127.0.0.1:%d", health),
		"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":      fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", node),
	}
}

func (e peerEnv) command(args ...string) *exec.Cmd {
	cmd := proc.Command(binary, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	for k, v := range e {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

// run runs a command to its end.
func (e peerEnv) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	cmd := e.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// running is a daemon in the background.
type running struct {
	*exec.Cmd
	t    *testing.T
	env  peerEnv
	log  string
	done chan struct{}
}

func (e peerEnv) start(t *testing.T) *running { return e.startAs(t, "daemon") }

func (e peerEnv) startAs(t *testing.T, command string) *running {
	r := &running{Cmd: e.command(command), t: t, env: e, log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	f, err := os.Create(r.log)
	require.NoError(t, err)
	r.Stdout, r.Stderr = f, f
	require.NoError(t, r.Start())
	require.NoError(t, f.Close())
	go func() {
		_ = r.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Log(r.output())
		}
	})
	require.Eventually(t, func() bool {
		code, _ := r.get("/livez")
		return code == http.StatusOK && strings.Contains(r.output(), "REST API: ")
	}, time.Minute, 10*time.Millisecond, "the daemon does not start")
	return r
}

func (r *running) output() string {
	raw, err := os.ReadFile(r.log)
	require.NoError(r.t, err)
	return string(raw)
}

func (r *running) get(path string) (int, string) {
	res, err := http.Get("http://" + r.env["CLUSTER_HEALTH_ADDRESS"] + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	return res.StatusCode, string(body)
}

// exit waits for the end of the daemon and returns its exit code.
func (r *running) exit() int {
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		r.t.Fatal("the daemon does not end")
	}
	return r.ProcessState.ExitCode()
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		set  map[string]string
		want []string
	}{
		{map[string]string{"CLUSTER_SEED": "short"}, []string{"CLUSTER_SEED: has 5 bytes, needs at least 32"}},
		{map[string]string{"CLUSTER_SECRET": "xyz"}, []string{"CLUSTER_SECRET: must be 64 hexadecimal digits"}},
		{map[string]string{"CLUSTER_PEERS": "a=/ip4/1.2.3.4/tcp/1,a=/ip4/1.2.3.4/tcp/1"}, []string{`names the peer "a" twice`}},
		{map[string]string{"CLUSTER_PEERS": "a=/ip4/1.2.3.4/tcp/1"}, []string{`does not name this peer, "task-1"`}},
		{map[string]string{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS": "nocolon"}, []string{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS: must be user:password"}},
		{map[string]string{"CLUSTER_LISTENMULTIADDRESS": "9096"}, []string{`CLUSTER_LISTENMULTIADDRESS="9096": must be multiaddresses`}},
		{map[string]string{"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS": "", "CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": "/ip4/0.0.0.0/tcp/9094"},
			[]string{"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS=\"/ip4/0.0.0.0/tcp/9094\": is reachable from other hosts, and there are no credentials"}},
		{map[string]string{"CLUSTER_SEED": "short", "CLUSTER_HEALTH_ADDRESS": "x", "CLUSTER_STATELESS_CONCURRENTPINS": "-1"},
			[]string{"CLUSTER_SEED: ", "CLUSTER_HEALTH_ADDRESS=", "CLUSTER_STATELESS_CONCURRENTPINS="}},
		{map[string]string{"CLUSTER_RESTAPI_SSLCERTFILE": "/nonexistent/cert", "CLUSTER_RESTAPI_SSLKEYFILE": "/nonexistent/key"}, []string{"restapi: error loading TLS certificate"}},
		{map[string]string{"IPFS_CLUSTER_PATH": "/dev/null"}, []string{`IPFS_CLUSTER_PATH="/dev/null": is a file`}},
		{map[string]string{"IPFS_CLUSTER_PATH": "/dev/null/x"}, []string{"read the cluster folder: "}},
		{map[string]string{"IPFS_CLUSTER_PATH": "/proc/x"}, []string{"create the cluster folder: "}},
	} {
		for _, command := range []string{"init", "daemon", "container", "container --check"} {
			if path := c.set["IPFS_CLUSTER_PATH"]; strings.HasPrefix(command, "container") && (path == "/dev/null/x" || path == "/proc/x") {
				continue // the volume is looked at: TestContainer
			}
			e := newPeerEnv(t)
			for k, v := range c.set {
				e[k] = v
			}
			out, errOut, code := e.run(t, "", strings.Fields(command)...)
			require.Equal(t, 1, code, "%v", c.set)
			require.Empty(t, out)
			lines := strings.Split(strings.TrimSpace(errOut), "\n")
			require.Len(t, lines, len(c.want), errOut)
			for _, want := range c.want {
				require.Contains(t, errOut, want)
			}
			for _, line := range lines {
				require.True(t, strings.HasPrefix(line, "cluster-aws: "), line)
			}
			_, err := os.Stat(e["IPFS_CLUSTER_PATH"])
			if strings.HasPrefix(e["IPFS_CLUSTER_PATH"], os.TempDir()) {
				require.ErrorIs(t, err, os.ErrNotExist, "nothing is created")
			}
		}
	}
}

func TestContainer(t *testing.T) {
	e := newPeerEnv(t)
	out, errOut, code := e.run(t, "", "container", "--check")
	require.Equal(t, 0, code, errOut)
	require.Equal(t, "all is well: peer task-1, folder "+e["IPFS_CLUSTER_PATH"]+"\n", out)
	require.NoDirExists(t, e["IPFS_CLUSTER_PATH"], "a check changes nothing")
	_, errOut, code = e.run(t, "", "health", "--live")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "cluster-aws: nothing answers at "+e["CLUSTER_HEALTH_ADDRESS"])

	r := e.startAs(t, "container")
	_, errOut, code = e.run(t, "", "health", "--live")
	require.Equal(t, 0, code, errOut)
	require.Eventually(t, func() bool {
		_, errOut, code := e.run(t, "", "health")
		return code == 1 && strings.Contains(errOut, "not ready: ipfs: ") && strings.Contains(errOut, "refused")
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, r.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, r.exit())

	other := newPeerEnv(t)
	other["IPFS_CLUSTER_PATH"], other["CLUSTER_SEED"], other["CLUSTER_PEERNAME"] = e["IPFS_CLUSTER_PATH"], testSeed+"x", "task-1"
	_, errOut, code = other.run(t, "", "container", "--check")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, `belongs to peer "task-1"`)

	bad := newPeerEnv(t)
	bad["IPFS_CLUSTER_PATH"], bad["CLUSTER_SECRET"] = "/dev/null/x", "xyz"
	_, errOut, code = bad.run(t, "", "container")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "cluster-aws: CLUSTER_SECRET: must be 64 hexadecimal digits")
	require.Contains(t, errOut, "cluster-aws: IPFS_CLUSTER_PATH: /dev/null/x cannot be a folder")
}

// Without the setting there is a listener in a container all the same.
func TestContainerHasAHealthListener(t *testing.T) {
	if l, err := net.Listen("tcp", defaultHealthAddress); err != nil {
		gate.Missing(t, gate.Port, "another program listens on "+defaultHealthAddress)
	} else {
		require.NoError(t, l.Close())
	}
	e := newPeerEnv(t)
	e["CLUSTER_HEALTH_ADDRESS"] = ""
	cmd := e.command("container")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		_, _, code := e.run(t, "", "health", "--live")
		return code == 0
	}, time.Minute, 10*time.Millisecond)
}

// A node that never comes is an error in one line, with the setting.
func TestDaemonGivesUpOnItsNode(t *testing.T) {
	e := newPeerEnv(t)
	e["CLUSTER_NODE_WAIT"] = "1s"
	e["CLUSTER_LOGLEVEL"], e["GOLOG_LOG_LEVEL"] = "error", "error"
	_, errOut, code := e.run(t, "", "daemon")
	require.Equal(t, 1, code)
	lines := strings.Split(strings.TrimSpace(errOut), "\n")
	last := lines[len(lines)-1]
	require.Equal(t, "cluster-aws: CLUSTER_IPFSHTTP_NODEMULTIADDRESS: the IPFS node at "+e["CLUSTER_IPFSHTTP_NODEMULTIADDRESS"]+
		" has not answered for 1s: start it, correct its address, or raise CLUSTER_NODE_WAIT", last)
}

func TestDaemonWithoutItsNode(t *testing.T) {
	e := newPeerEnv(t)
	d := e.start(t)

	code, body := d.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Eventually(t, func() bool {
		_, body = d.get("/readyz")
		return strings.Contains(body, "refused")
	}, time.Minute, 10*time.Millisecond)
	var report struct {
		Ready  bool
		Checks []struct {
			Name, Detail string
			OK           bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &report))
	require.False(t, report.Ready)
	require.Len(t, report.Checks, 4)
	require.Contains(t, body, `"missing":["the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS)"]`)
	require.Contains(t, d.output(), "the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS) does not answer")
	code, body = d.get("/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "cluster_aws_ready 0")

	// The REST API wants credentials for everything but its bare health.
	api := "http://127.0.0.1:" + regexp.MustCompile(`\d+$`).FindString(e["CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS"])
	for path, want := range map[string]int{"/id": 401, "/pins": 401, "/add": 401} {
		res, err := http.Get(api + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
	}

	// A second daemon on the same folder is told who has it.
	_, errOut, exit := e.run(t, "", "daemon")
	require.Equal(t, 1, exit)
	require.Contains(t, errOut, fmt.Sprintf("is locked by process %d", d.Process.Pid))
	_, errOut, exit = e.run(t, "", "state", "export")
	require.Equal(t, 1, exit)
	require.Contains(t, errOut, fmt.Sprintf("is locked by process %d; stop the daemon first", d.Process.Pid))

	// No secret is in the arguments, the log or the folder.
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.Process.Pid))
	if err == nil {
		noSecrets(t, string(argv))
	}
	noSecrets(t, d.output())
	require.NoError(t, filepath.WalkDir(e["IPFS_CLUSTER_PATH"], func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		noSecrets(t, string(raw))
		return err
	}))
	st, err := os.Stat(e["IPFS_CLUSTER_PATH"])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())

	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, d.exit(), d.output())
	require.Contains(t, d.output(), "shut down")
}

func noSecrets(t *testing.T, text string) {
	for _, secret := range []string{testSecret, testSeed, testPassword} {
		require.NotContains(t, text, secret)
	}
}

func TestAFolderBelongsToOnePeer(t *testing.T) {
	e := newPeerEnv(t)
	out, _, code := e.run(t, "", "init")
	require.Equal(t, 0, code)
	require.Contains(t, out, "made folder")
	out, _, code = e.run(t, "", "init")
	require.Equal(t, 0, code)
	require.Contains(t, out, "nothing changed")
	before := snapshot(t, e["IPFS_CLUSTER_PATH"])

	for _, change := range []map[string]string{
		{"CLUSTER_SEED": testSeed + "x"},
		{"CLUSTER_PEERNAME": "task-2", "CLUSTER_PEERS": ""},
		{"CLUSTER_SEED": "", "CLUSTER_PEERS": ""},
	} {
		other := peerEnv{}
		for k, v := range e {
			other[k] = v
		}
		for k, v := range change {
			other[k] = v
		}
		_, errOut, code := other.run(t, "", "daemon")
		require.Equal(t, 1, code)
		require.Contains(t, errOut, `belongs to peer "task-1"`)
		require.Len(t, strings.Split(strings.TrimSpace(errOut), "\n"), 1)
		require.Equal(t, before, snapshot(t, e["IPFS_CLUSTER_PATH"]))
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		files[path] = string(raw)
		return err
	}))
	return files
}

func TestIdentityWithoutASeedIsGeneratedOnceAndKept(t *testing.T) {
	e := newPeerEnv(t)
	e["CLUSTER_SEED"], e["CLUSTER_PEERS"] = "", ""
	first, _, code := e.run(t, "", "init")
	require.Equal(t, 0, code)
	second, _, code := e.run(t, "", "init")
	require.Equal(t, 0, code)
	id := regexp.MustCompile(`12D3KooW\w+`)
	require.Equal(t, id.FindString(first), id.FindString(second))
	require.NotEmpty(t, id.FindString(first))
	st, err := os.Stat(filepath.Join(e["IPFS_CLUSTER_PATH"], "identity.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}

func TestState(t *testing.T) {
	e := peerEnv{"IPFS_CLUSTER_PATH": filepath.Join(t.TempDir(), "cluster")}
	_, errOut, code := e.run(t, "", "state", "ls")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "IPFS_CLUSTER_PATH")

	const one = `{"cid":"bafkreigaadmdcegwpf4dre4jlhvjcarxibles7vmr6litw4n2evt4haqoa","name":"one","replication_factor_min":-1,"replication_factor_max":-1,"type":"pin","mode":"recursive","max_depth":-1}`
	const two = `{"cid":"bafkreifnyzqiklzrk3xnlida67iiq7gr6hf4a43bz5dwddt4qppqjagayu","name":"two","replication_factor_min":-1,"replication_factor_max":-1,"type":"pin","mode":"recursive","max_depth":-1}`
	_, errOut, code = e.run(t, one+"\n{", "state", "import")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "pin 2")
	_, err := os.Stat(e["IPFS_CLUSTER_PATH"])
	require.ErrorIs(t, err, os.ErrNotExist, "a broken import changes nothing")

	_, errOut, code = e.run(t, one+"\n"+two+"\n", "state", "import")
	require.Equal(t, 0, code, errOut)
	require.Equal(t, "imported 2 pins\n", errOut)
	out, _, code := e.run(t, "", "state", "ls")
	require.Equal(t, 0, code)
	require.Contains(t, out, "bafkreigaadmdcegwpf4dre4jlhvjcarxibles7vmr6litw4n2evt4haqoa one\n")
	require.Equal(t, 2, strings.Count(out, "\n"))

	exported, errOut, code := e.run(t, "", "state", "export")
	require.Equal(t, 0, code)
	require.Equal(t, "exported 2 pins\n", errOut)
	other := peerEnv{"IPFS_CLUSTER_PATH": filepath.Join(t.TempDir(), "cluster")}
	_, _, code = other.run(t, exported, "state", "import")
	require.Equal(t, 0, code)
	again, _, _ := other.run(t, "", "state", "export")
	require.ElementsMatch(t, strings.Split(exported, "\n"), strings.Split(again, "\n"))

	_, errOut, code = e.run(t, one, "state", "import", "--replace")
	require.Equal(t, 0, code)
	require.Equal(t, "removed 2 pins\nimported 1 pins\n", errOut)
	_, errOut, code = e.run(t, "", "state", "cleanup")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "--yes")
	_, errOut, code = e.run(t, "", "state", "cleanup", "--yes")
	require.Equal(t, 0, code)
	require.Equal(t, "removed 1 pins\n", errOut)
	out, _, code = e.run(t, "", "state", "ls", "--json")
	require.Equal(t, 0, code)
	require.Empty(t, out)
}

func TestVersionAndID(t *testing.T) {
	e := peerEnv{"CLUSTER_SEED": testSeed, "CLUSTER_PEERS": "a=/ip4/1.2.3.4/tcp/1,b=/ip4/1.2.3.4/tcp/1"}
	out, _, code := e.run(t, "", "version")
	require.Equal(t, 0, code)
	require.Regexp(t, `^cluster-aws \S+ \(ipfs-cluster 1\.1\.6\)\n$`, out)
	out, _, _ = e.run(t, "", "version", "--json")
	var v map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.Equal(t, "cluster-aws", v["name"])
	require.Equal(t, "1.1.6", v["ipfsCluster"])
	for _, field := range []string{"version", "commit", "go"} {
		require.Contains(t, v, field)
	}

	out, _, code = e.run(t, "", "id", "--json")
	require.Equal(t, 0, code)
	var ids []idReport
	require.NoError(t, json.Unmarshal([]byte(out), &ids))
	require.Len(t, ids, 2)
	require.NotEqual(t, ids[0].ID, ids[1].ID)
	out, _, _ = e.run(t, "", "id", "b")
	require.Equal(t, "b "+ids[1].ID+"\n", out)
	_, errOut, code := peerEnv{}.run(t, "", "id", "b")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "CLUSTER_SEED")
}

func TestEveryCommandHasAnExample(t *testing.T) {
	for _, args := range [][]string{{}, {"container"}, {"health"}, {"init"}, {"daemon"}, {"state"}, {"state", "export"}, {"state", "import"}, {"state", "ls"}, {"state", "cleanup"}, {"id"}, {"version"}} {
		out, _, code := peerEnv{}.run(t, "", append(args, "--help")...)
		require.Equal(t, 0, code, args)
		require.Contains(t, out, "Examples:\n", args)
	}
}

func TestCtlFindsItsPeerByItself(t *testing.T) {
	e := newPeerEnv(t)
	e.start(t)
	out, errOut, code := e.run(t, "", "ctl", "-enc=json", "version")
	require.Equal(t, 0, code, errOut)
	require.JSONEq(t, `{"version":"1.1.6"}`, out)
	out, errOut, code = e.run(t, "", "ctl", "id")
	require.Equal(t, 0, code, errOut)
	require.Contains(t, out, " | task-1 | Sees 0 other peers\n")
	out, errOut, code = e.run(t, "", "ctl", "pin", "ls")
	require.Equal(t, 0, code, errOut)
	require.Empty(t, out)

	_, errOut, code = e.run(t, "", "ctl", "--basic-auth", "admin:wrong", "id")
	require.Equal(t, 2, code, "the API said no")
	require.Contains(t, errOut, "unauthorized")
	require.NotContains(t, errOut, testPassword)
	_, errOut, code = e.run(t, "", "ctl", "--host", "/ip4/127.0.0.1/tcp/1", "id")
	require.Equal(t, 1, code, "nobody there")
	require.Contains(t, errOut, "refused")
	for _, bad := range [][]string{{"pin", "add"}, {"peers", "rm", "x"}, {"--encoding", "xml", "id"}, {"pin", "ls", "x"}, {"status", "--filter", "x"}, {"pin", "add", "--metadata", "x", "y"}} {
		_, errOut, code = e.run(t, "", append([]string{"ctl"}, bad...)...)
		require.NotZero(t, code, "%v", bad)
		require.True(t, strings.HasPrefix(errOut, "cluster-aws: "), errOut)
	}
}

func TestNameAndZoneFromTheTasksMetadata(t *testing.T) {
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v4/1/task" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"ServiceName":"task-1","TaskARN":"arn:aws:ecs:eu-west-1:1:task/c/77aa","AvailabilityZone":"eu-west-1b"}`)
	}))
	t.Cleanup(metadata.Close)
	e := newPeerEnv(t)
	delete(e, "CLUSTER_PEERNAME")
	e["ECS_CONTAINER_METADATA_URI_V4"] = metadata.URL + "/v4/1"
	d := e.start(t)
	require.Contains(t, d.output(), "peer task-1 (")
	require.Contains(t, d.output(), "zone eu-west-1b, task 77aa")
	_, metrics := d.get("/metrics")
	require.Contains(t, metrics, `cluster_aws_info{peer="task-1",task="77aa",zone="eu-west-1b"} 1`)
}
