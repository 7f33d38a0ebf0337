package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// TestRunbooks does what infra/RUNBOOKS.md says, on the containers of the template s3, in that order. Where AWS has a command of
// its own, the counterpart of compose is run.
func TestRunbooks(t *testing.T) {
	gate.Long(t, "runbooks change seldom")
	d, root, tr := inUse(t, ofTemplate("s3"), current)
	a, b, c := d.tasks[0], d.tasks[1], d.tasks[2]

	t.Run("a command with a node's storage", func(t *testing.T) {
		d.stop(t, a)
		d.hands(t, a.node, "datastore", "verify")
		require.Contains(t, d.hands(t, a.node, "pin", "ls", "--type=recursive"), root)
		require.Contains(t, d.hands(t, a.sidecar, "state", "export"), root)
		d.start(t, a)
		d.awaitPinned(t, root)
	})
	t.Run("a zone's file system is lost", func(t *testing.T) {
		d.stop(t, b)
		d.lose(t, b)
		d.start(t, b)
		d.awaitPinned(t, root)
		d.check(t, root, tr)
		// The node is a new one over its old prefix: it does not remove what it knows no pins of, until it is told.
		d.stop(t, b)
		_, err := d.tryHands(t, b.node, "repo", "gc", "--dry-run")
		require.ErrorContains(t, err, "holds blocks of other repos")
		d.hands(t, b.node, "repo", "gc", "--adopt", "--dry-run")
		d.hands(t, b.node, "repo", "gc", "--adopt")
		d.start(t, b)
		d.check(t, root, tr)
	})
	t.Run("a backup is restored", func(t *testing.T) {
		backup := t.TempDir()
		for _, kind := range volumesOf(c) { // while it runs, as AWS Backup does
			copyTree(t, d.folder(t, kind), filepath.Join(backup, kind))
		}
		later := someTree(7, 20)
		laterRoot, err := d.add("later", later)
		require.NoError(t, err)
		d.awaitPinned(t, laterRoot)
		d.stop(t, c)
		for _, kind := range volumesOf(c) {
			to := d.folder(t, kind)
			entries, err := os.ReadDir(to)
			require.NoError(t, err)
			for _, e := range entries {
				require.NoError(t, os.RemoveAll(filepath.Join(to, e.Name())))
			}
			copyTree(t, filepath.Join(backup, kind), to)
		}
		d.start(t, c)
		d.awaitPinned(t, root)
		d.awaitPinned(t, laterRoot) // what came after the backup is had from the others
		d.check(t, laterRoot, later)
	})
	t.Run("the stack is deleted and launched again", func(t *testing.T) {
		before := d.peers(t)
		require.NoError(t, d.Down(t.Context(), false))
		doors, err := d.Up(t.Context())
		require.NoError(t, err)
		d.doors = doors
		d.ready(t, d.tasks...)
		require.Equal(t, before, d.peers(t), "the same peers")
		d.awaitPinned(t, root)
		d.check(t, root, tr)
	})
	t.Run("content moves from another cluster", func(t *testing.T) {
		old := d.Project + "-old"
		docker(t, "run", "--detach", "--name", old, "--network", d.Project+"_default", "--volume", old+":/data/ipfs", "--env", "IPFS_BLOCKSTORE=flatfs", "ipfs-aws:"+current)
		t.Cleanup(func() {
			_, _ = try(nil, "rm", "--force", "--volumes", old)
			_, _ = try(nil, "volume", "rm", old)
		})
		eventually(t, patience, "the old node is ready", func() error { _, err := try(nil, "exec", old, "ipfs-aws", "health"); return err })
		content := bytes.Repeat([]byte("what the other cluster has\n"), 100_000)
		cid, err := try(bytes.NewReader(content), "exec", "--interactive", old, "ipfs-aws", "add", "-Q", "--cid-version=1")
		require.NoError(t, err)
		var id struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(docker(t, "exec", old, "ipfs-aws", "id")), &id))
		d.post(t, "/pins/"+cid+"?"+url.Values{"origins": {"/dns4/" + old + "/tcp/4001/p2p/" + id.ID}}.Encode())
		d.awaitPinned(t, cid)
		docker(t, "stop", old)
		for _, of := range d.tasks {
			got, err := fetch(plain, d.gateway(t, of)+"/ipfs/"+cid)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
		}
	})
}

// stop ends a task, as a service with a desired count of 0 does.
func (d *deployment) stop(t *testing.T, of task) {
	t.Helper()
	for _, s := range []string{of.sidecar, of.node, of.name} {
		id := d.id(t, s)
		docker(t, "stop", "--time", "120", id)
		docker(t, "rm", "--volumes", id)
	}
}

func (d *deployment) start(t *testing.T, of task) {
	t.Helper()
	d.compose(t, "up", "--detach", of.name, of.node, of.sidecar)
	d.ready(t, of)
}

// tryHands runs a command in a task of its own with a node's storage.
func (d *deployment) tryHands(t *testing.T, service string, args ...string) (string, error) {
	t.Helper()
	cmd, err := d.Command(t.Context(), append([]string{"run", "--rm", "--no-deps", "-T", service + "-hands"}, args...)...)
	require.NoError(t, err)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &said)
	}
	return out.String(), nil
}

func (d *deployment) hands(t *testing.T, service string, args ...string) string {
	t.Helper()
	out, err := d.tryHands(t, service, args...)
	require.NoError(t, err)
	return out
}

func volumesOf(of task) []string { return []string{of.name + "-repo", of.name + "-pinset"} }

// lose removes what a node has on EFS.
func (d *deployment) lose(t *testing.T, of task) {
	t.Helper()
	for _, v := range volumesOf(of) {
		docker(t, "volume", "rm", d.Project+"_"+v)
	}
}

// folder is where a volume is on this machine.
func (d *deployment) folder(t *testing.T, volume string) string {
	t.Helper()
	return docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", d.Project+"_"+volume)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o700))
	out, err := exec.Command("cp", "--archive", from+"/.", to).CombinedOutput()
	require.NoError(t, err, string(out))
}

func (d *deployment) post(t *testing.T, path string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.doors.API+path, nil)
	require.NoError(t, err)
	req.SetBasicAuth(d.doors.User, d.doors.Password)
	res, err := d.client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, string(said))
}

// peers are the IDs of all peers, by name.
func (d *deployment) peers(t *testing.T) map[string]string {
	t.Helper()
	text, err := fetch(d.client, strings.Replace(d.doors.API, "://", "://"+d.doors.User+":"+d.doors.Password+"@", 1)+"/peers")
	require.NoError(t, err)
	all := map[string]string{}
	for lines := json.NewDecoder(bytes.NewReader(text)); lines.More(); {
		var p struct{ ID, Peername string }
		require.NoError(t, lines.Decode(&p))
		all[p.Peername] = p.ID
	}
	require.Len(t, all, len(d.tasks))
	return all
}
