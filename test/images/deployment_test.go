package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/local/compose"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// deployment is all of a compose file, under a name of its own.
type deployment struct {
	compose.Deployment
	tasks  []task
	doors  *compose.Doors
	client *http.Client
}

func (d *deployment) compose(t *testing.T, args ...string) {
	t.Helper()
	var said bytes.Buffer
	d.Out = &said
	cmd, err := d.Command(t.Context(), args...)
	require.NoError(t, err)
	require.NoError(t, cmd.Run(), "%s", &said)
}

// task is the services of a task: what has its network, and the two containers.
type task struct{ name, host, node, sidecar string }

// description is where a compose file comes from.
type description struct {
	template string // in infra/templates; empty is docker/compose.yaml
	tasks    []task
}

var ours = description{"", []task{
	{"task-1", "task-1.internal", "ipfs-1", "cluster-1"},
	{"task-2", "task-2.internal", "ipfs-2", "cluster-2"},
	{"task-3", "task-3.internal", "ipfs-3", "cluster-3"},
}}

func ofTemplate(name string) description {
	d := description{template: name}
	for _, node := range []string{"node-a", "node-b", "node-c"} {
		d.tasks = append(d.tasks, task{node, node + ".ipfs.internal", node + "-ipfs", node + "-cluster"})
	}
	return d
}

// files is the folder of the compose file; that of a template is made.
func (of description) files(t *testing.T) string {
	t.Helper()
	if of.template == "" {
		files, err := filepath.Abs(filepath.Join(top, "docker"))
		require.NoError(t, err)
		return files
	}
	files := t.TempDir()
	cmd := proc.Command("go", "run", "./cmd/compose", "templates/"+of.template+".json", files)
	cmd.Dir = filepath.Join(top, "infra")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return files
}

// deploy starts it with images of a version and waits until it serves.
func deploy(t *testing.T, of description, version, blockstore string) *deployment {
	t.Helper()
	d := &deployment{tasks: of.tasks, Deployment: compose.Deployment{
		Files: of.files(t), Dir: filepath.Join(t.TempDir(), "state"), Project: fmt.Sprintf("ipfsawstest%d%s%s", os.Getpid(), of.template, blockstore), Version: version,
		Blockstore: blockstore, GatewayPort: ports.Take(t), APIPort: ports.Take(t), Timeout: patience, Out: io.Discard,
	}}
	t.Cleanup(func() {
		if t.Failed() {
			if cmd, err := d.Command(context.Background(), "logs", "--no-color", "--tail", "15"); err == nil {
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				_ = cmd.Run()
				t.Logf("the containers said:\n%s", &out)
			}
		}
		d.Out = io.Discard
		start := time.Now()
		if err := d.Down(context.Background(), true); err != nil {
			t.Errorf("down: %v", err)
		}
		t.Logf("down after %.1f s", time.Since(start).Seconds())
	})
	start := time.Now()
	var err error
	d.doors, err = d.Up(t.Context())
	require.NoError(t, err)
	t.Logf("up after %.1f s", time.Since(start).Seconds())
	d.client, err = d.doors.Client()
	require.NoError(t, err)
	d.client.Timeout = 30 * time.Second
	return d
}

// id is the container of a service.
func (d *deployment) id(t *testing.T, service string) string {
	t.Helper()
	ids := docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+d.Project, "--filter", "label=com.docker.compose.service="+service)
	require.NotEmpty(t, ids, "there is no container of %s", service)
	require.NotContains(t, ids, "\n")
	return ids
}

// ready waits until all containers of tasks are healthy and ready, and the edge is.
func (d *deployment) ready(t *testing.T, tasks ...task) {
	t.Helper()
	programs := map[string]string{"edge": "local-cluster"}
	for _, of := range tasks {
		programs[of.node], programs[of.sidecar] = "ipfs-aws", "cluster-aws"
	}
	for service, program := range programs {
		id := d.id(t, service)
		eventually(t, patience, service+" healthy and ready", func() error {
			state, err := try(nil, "inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", id)
			if err != nil {
				return err
			}
			if state != "running healthy" {
				return errors.New(state)
			}
			_, err = try(nil, "exec", id, program, "health")
			return err
		})
	}
}

// gateway is that of a task, past the edge.
func (d *deployment) gateway(t *testing.T, of task) string {
	t.Helper()
	return "http://" + docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", d.id(t, of.name)) + ":8080"
}

// plain asks over HTTP.
var plain = &http.Client{Timeout: 30 * time.Second}

func fetch(client *http.Client, url string, header ...string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, bytes.TrimSpace(b))
	}
	return b, err
}

// tree is content by path.
type tree map[string][]byte

// someTree has files of all sizes from none to some MiB, two folders deep.
func someTree(seed byte, files int) tree {
	r := rand.NewChaCha8([32]byte{seed})
	tr := tree{}
	for i := range files {
		b := make([]byte, i*i*7)
		_, _ = r.Read(b) // never fails
		tr[fmt.Sprintf("d%d/f %d.bin", i%5, i)] = b
	}
	big := make([]byte, 3<<20)
	_, _ = r.Read(big)
	tr["big.bin"] = big
	return tr
}

// add sends a tree through the cluster API at the edge, as one streamed form.
func (d *deployment) add(name string, tr tree) (root string, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for path, b := range tr {
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%s"`, url.QueryEscape(name+"/"+path))},
			"Content-Type":        {"application/octet-stream"},
		})
		if err != nil {
			return "", err
		}
		if _, err := part.Write(b); err != nil {
			return "", err
		}
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodPost, d.doors.API+"/add?"+url.Values{"name": {name}, "cid-version": {"1"}}.Encode(), &body)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(d.doors.User, d.doors.Password)
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := d.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		return "", fmt.Errorf("add: %s: %s", res.Status, b)
	}
	for lines := json.NewDecoder(res.Body); ; {
		var a struct{ Name, CID string }
		if err := lines.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("add: the answer broke off: %w", err)
		}
		if a.Name == name {
			root = a.CID
		}
	}
	if said := res.Trailer.Get("X-Stream-Error"); said != "" || root == "" {
		return "", fmt.Errorf("add: no root: %s", said)
	}
	return root, nil
}

// pinned returns nil if every task has a CID.
func (d *deployment) pinned(cid string) error {
	b, err := fetch(d.client, strings.Replace(d.doors.API, "://", "://"+d.doors.User+":"+d.doors.Password+"@", 1)+"/pins/"+cid)
	if err != nil {
		return err
	}
	var pin struct {
		PeerMap map[string]struct{ Peername, Status, Error string } `json:"peer_map"`
	}
	if err := json.Unmarshal(b, &pin); err != nil {
		return err
	}
	states, want := map[string]string{}, map[string]string{}
	for _, s := range pin.PeerMap {
		states[s.Peername] = s.Status
	}
	for _, of := range d.tasks {
		want[of.name] = "pinned"
	}
	if !maps.Equal(states, want) {
		var why []string
		for _, s := range pin.PeerMap {
			if s.Error != "" {
				why = append(why, s.Peername+": "+s.Error)
			}
		}
		return fmt.Errorf("%s: %v %s", cid, states, strings.Join(why, "; "))
	}
	return nil
}

func (d *deployment) awaitPinned(t *testing.T, cid string) {
	t.Helper()
	eventually(t, patience, "pinned on every task", func() error { return d.pinned(cid) })
}

// same fetches a file and compares it.
func same(client *http.Client, base, root, path string, want []byte) error {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	got, err := fetch(client, base+"/ipfs/"+root+"/"+strings.Join(parts, "/"))
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s at %s: %d bytes that are not the %d that were added", path, base, len(got), len(want))
	}
	return err
}

// check reads a whole tree from the edge and from every task.
func (d *deployment) check(t *testing.T, root string, tr tree) {
	t.Helper()
	for path, want := range tr {
		require.NoError(t, same(d.client, d.doors.Gateway, root, path, want))
	}
	for _, of := range d.tasks {
		base := d.gateway(t, of)
		for path, want := range tr {
			require.NoError(t, same(plain, base, root, path, want), of.name)
		}
	}
}

// mib is what a service's container uses, MiB, as docker stats says.
func (d *deployment) mib(t *testing.T, service string) float64 {
	t.Helper()
	out := docker(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", d.id(t, service))
	used, _, _ := strings.Cut(out, "MiB")
	n, err := strconv.ParseFloat(used, 64)
	require.NoError(t, err, out)
	return n
}
