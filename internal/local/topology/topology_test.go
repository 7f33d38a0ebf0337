package topology

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

func options(dir string) Options {
	return Options{Dir: dir, Blockstore: "s3", Tasks: 3, BasePort: 18080, Restart: RestartNever, StartTimeout: time.Minute, Progress: func(string) {}}
}

// Every port is its own, and all are in the range that the options check.
func TestPortsAreDistinctAndInRange(t *testing.T) {
	const base = 20000
	seen := map[int]string{}
	for _, w := range layout(base, MaxTasks).wanted(true) {
		require.Empty(t, seen[w.port], "%d is wanted by %s too", w.port, w.by)
		seen[w.port] = w.by
		require.GreaterOrEqual(t, w.port, base)
		require.Less(t, w.port, base+portsOfTask*(MaxTasks+1))
	}
	require.Len(t, seen, 4+7*MaxTasks)
	require.Len(t, layout(base, 1).wanted(false), 3+7)
}

func TestTakenPortIsNamed(t *testing.T) {
	port := ports.Take(t)
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	require.NoError(t, err)
	p := Ports{EdgeGateway: port}
	err = p.check(t.Context(), false, 0)
	require.ErrorContains(t, err, "port "+strconv.Itoa(port)+", wanted by the edge's gateway")
	require.ErrorContains(t, err, "--base-port")
	// One that becomes free within the grace is no problem.
	released := time.AfterFunc(20*time.Millisecond, func() { _ = l.Close() })
	defer released.Stop()
	require.NoError(t, p.check(t.Context(), false, time.Minute))
}

func TestFolderIsOneSupervisors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "run")
	f, err := openFolder(dir)
	require.NoError(t, err)
	_, err = openFolder(dir)
	require.ErrorContains(t, err, "another local-cluster (pid "+strconv.Itoa(os.Getpid())+") runs on "+dir)
	f.close()
	f, err = openFolder(dir)
	require.NoError(t, err)
	f.close()
}

func TestStateStays(t *testing.T) {
	given := func(o *Options) { o.S3Endpoint, o.S3Bucket = "http://127.0.0.1:1", "mine" }
	for name, c := range map[string]struct {
		made, asked func(*Options)
		says        string // empty: accepted
	}{
		"same":               {nil, nil, ""},
		"more tasks":         {nil, func(o *Options) { o.Tasks = 5 }, ""},
		"other ports":        {nil, func(o *Options) { o.BasePort = 30000 }, ""},
		"fewer tasks":        {nil, func(o *Options) { o.Tasks = 2 }, "has 3 tasks, not 2; nothing was changed: use --tasks 3"},
		"other blockstore":   {nil, func(o *Options) { o.Blockstore = "efs" }, "keeps its blocks in s3, not efs; nothing was changed: use --blockstore s3"},
		"other server":       {nil, given, "started with it"},
		"own server":         {given, nil, "bucket mine"},
		"other bucket":       {given, func(o *Options) { given(o); o.S3Bucket = "b" }, "in the bucket mine, not b"},
		"server that moved":  {given, func(o *Options) { given(o); o.S3Endpoint = "http://127.0.0.1:2" }, ""},
		"efs stays efs":      {func(o *Options) { o.Blockstore = "efs" }, func(o *Options) { o.Blockstore = "flatfs" }, "keeps its blocks in efs, not flatfs"},
		"everything differs": {nil, func(o *Options) { o.Blockstore = "efs"; o.Tasks = 1 }, "keeps its blocks in s3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := openFolder(dir)
			require.NoError(t, err)
			defer f.close()
			made, asked := options(dir), options(dir)
			if c.made != nil {
				c.made(&made)
			}
			if c.asked != nil {
				c.asked(&asked)
			}
			before, err := f.loadState(&made)
			require.NoError(t, err)
			require.NoFileExists(t, f.path(stateFile))
			require.NoError(t, f.saveState(before))
			after, err := f.loadState(&asked)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, "--dir")
				return
			}
			require.NoError(t, err)
			require.Equal(t, asked.Tasks, after.Tasks)
			after.Tasks = before.Tasks
			require.Equal(t, before, after, "credentials stay")
		})
	}
}

func TestStateThatCannotBeReadIsNeverReplaced(t *testing.T) {
	for name, c := range map[string]struct{ content, says string }{
		"damaged": {`{"format":1,`, "is damaged"},
		"newer":   {`{"format":2}`, "format 2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := openFolder(dir)
			require.NoError(t, err)
			defer f.close()
			require.NoError(t, os.WriteFile(f.path(stateFile), []byte(c.content), 0o600))
			o := options(dir)
			_, err = f.loadState(&o)
			require.ErrorContains(t, err, c.says)
			left, err := os.ReadFile(f.path(stateFile))
			require.NoError(t, err)
			require.Equal(t, c.content, string(left))
		})
	}
}

func TestNewStatesShareNothing(t *testing.T) {
	o := options("")
	a, b := newState(&o), newState(&o)
	for _, pair := range [][2]string{{a.Password, b.Password}, {a.Seed, b.Seed}, {a.ClusterSecret, b.ClusterSecret}, {a.AccessKey, b.AccessKey}, {a.SecretKey, b.SecretKey}} {
		require.NotEqual(t, pair[0], pair[1])
		require.GreaterOrEqual(t, len(pair[0]), 20)
	}
	require.Len(t, a.ClusterSecret, 64)
}

func TestWriteJSONIsPrivateAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	require.NoError(t, writeJSON(path, map[string]int{"a": 1}))
	require.NoError(t, writeJSON(path, map[string]int{"a": 2}))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Error(t, writeJSON(path, func() {}))
	require.Error(t, writeJSON(filepath.Join(dir, "absent", "x.json"), 1))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

const kuboConfig = `{
  "Identity": {"PeerID": "12D3KooWme", "PrivKey": "kept"},
  "Bootstrap": ["auto"],
  "Datastore": {"StorageGCWatermark": 90, "Spec": {"type": "mount", "mounts": [
    {"mountpoint": "/blocks", "type": "measure", "child": {"type": "s3ds", "bucket": "blocks", "regionEndpoint": "http://old"}},
    {"mountpoint": "/", "type": "levelds", "path": "datastore"}]}},
  "Big": 9007199254740993,
  "Routing": {"Methods": {"kept": true}},
  "Swarm": null
}`

func TestLocaliseKeepsTheNodeOnLoopbackAndTheRestAsItWas(t *testing.T) {
	repo := t.TempDir()
	path := filepath.Join(repo, "config")
	require.NoError(t, os.WriteFile(path, []byte(kuboConfig), 0o600))
	c, err := readRepoConfig(repo)
	require.NoError(t, err)
	id, err := c.peerID()
	require.NoError(t, err)
	require.Equal(t, "12D3KooWme", id)
	c.localise(layout(20000, 2).Tasks[0], []neighbour{{"12D3KooWother", 20022}}, "http://127.0.0.1:20002")
	require.NoError(t, writeJSON(path, c))

	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"Big": 9007199254740993`)
	require.NotContains(t, string(raw), `"auto"`)
	require.NotContains(t, string(raw), "http://old")
	require.NotContains(t, string(raw), "0.0.0.0")
	var got struct {
		Identity  map[string]string
		Addresses struct {
			API, Gateway string
			Swarm        []string
		}
		Peering struct {
			Peers []struct {
				ID    string
				Addrs []string
			}
		}
		Routing   struct{ Methods map[string]bool }
		Datastore struct {
			StorageGCWatermark int
			Spec               struct{ Mounts []map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &got))
	require.Equal(t, "kept", got.Identity["PrivKey"])
	require.Equal(t, "/ip4/127.0.0.1/tcp/20011", got.Addresses.API)
	require.Equal(t, "/ip4/127.0.0.1/tcp/20010", got.Addresses.Gateway)
	require.Equal(t, []string{"/ip4/127.0.0.1/tcp/20012"}, got.Addresses.Swarm)
	require.Len(t, got.Peering.Peers, 1)
	require.Equal(t, "12D3KooWother", got.Peering.Peers[0].ID)
	require.Equal(t, []string{"/ip4/127.0.0.1/tcp/20022"}, got.Peering.Peers[0].Addrs)
	require.True(t, got.Routing.Methods["kept"])
	require.Equal(t, 90, got.Datastore.StorageGCWatermark)
	child := got.Datastore.Spec.Mounts[0]["child"].(map[string]any)
	require.Equal(t, "http://127.0.0.1:20002", child["regionEndpoint"])
	require.Equal(t, "blocks", child["bucket"])
	require.NotContains(t, got.Datastore.Spec.Mounts[1], "regionEndpoint")
}

func TestChildrenDoNotSeeTheCallersSettings(t *testing.T) {
	o := Options{Env: []string{"PATH=/bin", "HOME=/h", "IPFS_PATH=/theirs", "CLUSTER_SECRET=theirs", "AWS_PROFILE=theirs",
		"AWS_ACCESS_KEY_ID=theirs", "VGW_PORT=1", "ROOT_SECRET_KEY=theirs", "LOGFILE=x", "GOLOG_LOG_LEVEL=debug"}}
	require.Equal(t, []string{"PATH=/bin", "HOME=/h", "GOLOG_LOG_LEVEL=debug", "A=b"}, o.childEnv("", "A=b"))
	require.Contains(t, o.childEnv("AWS_"), "AWS_PROFILE=theirs")
	require.NotContains(t, o.childEnv("AWS_"), "IPFS_PATH=/theirs")
}

// No argument of any child holds a secret, and an S3 server of the caller's
// gets the caller's credentials.
func TestSpecs(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	o.Env = []string{"AWS_ACCESS_KEY_ID=callers"}
	u := &up{opt: o, folder: &folder{dir: dir}, state: newState(&o), ports: layout(o.BasePort, o.Tasks), s3Endpoint: "http://x", region: "us-east-1"}
	for i, p := range u.ports.Tasks {
		u.tasks = append(u.tasks, &task{name: taskName(i), ports: p, repo: u.folder.path(taskName(i), "ipfs")})
	}
	task := u.tasks[1]
	s := u.state
	var args []string
	for _, a := range [][]string{u.s3Spec().Args, u.edgeSpec("edge.json").Args, u.initSpec(task, "r").Args, u.nodeSpec(task).Args, u.sidecarSpec(task).Args} {
		args = append(args, a...)
	}
	for _, secret := range []string{s.Password, s.Seed, s.ClusterSecret, s.AccessKey, s.SecretKey} {
		require.NotContains(t, strings.Join(args, " "), secret)
	}
	require.Contains(t, u.initSpec(task, "r").Args, "task-2", "the prefix in the bucket")
	require.Contains(t, u.sidecarSpec(task).Env, "CLUSTER_PEERS=task-1=/ip4/127.0.0.1/tcp/18094,task-2=/ip4/127.0.0.1/tcp/18104,task-3=/ip4/127.0.0.1/tcp/18114")
	require.Contains(t, u.nodeSpec(task).Env, "AWS_SECRET_ACCESS_KEY="+s.SecretKey)
	require.NotContains(t, u.nodeSpec(task).Env, "AWS_ACCESS_KEY_ID=callers")
	require.NotContains(t, strings.Join(u.edgeSpec("edge.json").Env, " "), "AWS_")

	s.ExternalS3 = true
	require.Contains(t, u.nodeSpec(task).Env, "AWS_ACCESS_KEY_ID=callers")
	require.NotContains(t, strings.Join(u.sidecarSpec(task).Env, " "), "AWS_")
}

func TestAskPeersCountsPeersThatAnswer(t *testing.T) {
	answer := ""
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "u" || password != "p" || r.URL.Path != "/peers" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer s.Close()
	u := &up{state: &State{User: "u", Password: "p"}, tasks: make([]*task, 2)}
	ask := u.askPeers(&task{ports: TaskPorts{API: s.Listener.Addr().(*net.TCPAddr).Port}})
	for body, says := range map[string]string{
		`{"id":"a","error":""}` + "\n" + `{"id":"b"}`:            "",
		`{"id":"a"}{"id":"b","error":"context deadline exceed"}`: "1 of 2",
		`{"id":"a"}`:        "1 of 2",
		``:                  "0 of 2",
		`not json`:          "not json",
		`{"id":"a"}{"id":"`: "it answers",
	} {
		answer = body
		if says == "" {
			require.NoError(t, ask(t.Context()))
		} else {
			require.ErrorContains(t, ask(t.Context()), says, body)
		}
	}
	status, answer = http.StatusInternalServerError, "oh   no\n"
	require.ErrorContains(t, ask(t.Context()), "it answers 500: oh no")
}

func TestStatusOfWhatDoesNotRun(t *testing.T) {
	_, err := ReadStatus(t.TempDir())
	require.ErrorContains(t, err, "no local-cluster runs on")
	require.ErrorContains(t, err, "local-cluster up --dir")
}
