package images

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// load reads and adds without a pause.
type load struct {
	d    *deployment
	stop chan struct{}
	all  sync.WaitGroup

	mu                sync.Mutex
	reads, failedAdds int
	failedReads       []error
	added             map[string]tree // what was acknowledged
}

func (d *deployment) load(root string, tr tree) *load {
	l := &load{d: d, stop: make(chan struct{}), added: map[string]tree{}}
	paths := slices.Sorted(maps.Keys(tr))
	for i := range 3 {
		l.all.Go(func() {
			for n := i; l.going(); n++ {
				path := paths[n%len(paths)]
				err := same(d.client, d.doors.Gateway, root, path, tr[path])
				l.mu.Lock()
				l.reads++
				if err != nil {
					l.failedReads = append(l.failedReads, fmt.Errorf("%s: %w", time.Now().UTC().Format(time.TimeOnly), err))
				}
				l.mu.Unlock()
				l.pause(10 * time.Millisecond) // the machine has other work: what is tested
			}
		})
	}
	l.all.Go(func() {
		for n := 0; l.going(); n++ {
			made := tree{"a.txt": fmt.Appendf(nil, "add %d at %d", n, time.Now().UnixNano()), "b/c.bin": bytes.Repeat([]byte{byte(n)}, 3000*n)}
			cid, err := d.add("added", made)
			l.mu.Lock()
			if err == nil {
				l.added[cid] = made
			} else {
				l.failedAdds++
			}
			l.mu.Unlock()
			l.pause(200 * time.Millisecond)
		}
	})
	return l
}

func (l *load) going() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

func (l *load) pause(d time.Duration) {
	select {
	case <-l.stop:
	case <-time.After(d):
	}
}

// counts is what was done so far.
func (l *load) counts() (reads, failedReads, adds int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads, len(l.failedReads), len(l.added)
}

func (l *load) failuresSince(n int) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failedReads[n:])
}

// goesOn waits until as much has succeeded as shows that clients are served.
func (l *load) goesOn(t *testing.T, when string) {
	t.Helper()
	reads, failed, adds := l.counts()
	start := time.Now()
	eventually(t, patience, "reads and adds go on "+when, func() error {
		r, f, a := l.counts()
		if (r-f)-(reads-failed) < 20 || a <= adds {
			return fmt.Errorf("%d reads, %d of them failed, %d adds", r-reads, f-failed, a-adds)
		}
		return nil
	})
	t.Logf("%s: 20 reads and an add after %.1f s", when, time.Since(start).Seconds())
}

// end stops it, and makes sure that everything that was acknowledged is pinned on every
// task and is what was added.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.all.Wait()
	for cid, made := range l.added {
		l.d.awaitPinned(t, cid)
		for path, want := range made {
			require.NoError(t, same(l.d.client, l.d.doors.Gateway, cid, path, want))
		}
	}
	t.Logf("%d reads, %d failed; %d adds acknowledged, none lost, %d not acknowledged", l.reads, len(l.failedReads), len(l.added), l.failedAdds)
}

// replace ends a task in order and starts another in its place, as ECS does, with the
// images of the deployment's version.
func (d *deployment) replace(t *testing.T, of task) {
	t.Helper()
	start := time.Now()
	for _, s := range []string{of.sidecar, of.node, of.name} {
		at := time.Now()
		id := d.id(t, s)
		docker(t, "stop", "--time", "120", id)
		require.Equal(t, "0", docker(t, "inspect", "--format", "{{.State.ExitCode}}", id), s)
		docker(t, "rm", "--volumes", id) // those without a name: the disk of the task
		t.Logf("%s ended after %.1f s", s, time.Since(at).Seconds())
	}
	d.compose(t, "up", "--detach", of.name, of.node, of.sidecar)
	d.ready(t, of)
	t.Logf("%s replaced after %.1f s", of.name, time.Since(start).Seconds())
}

// TestDeployment takes one deployment through all of its life: made with the images of
// an earlier version, used, replaced task by task by the current ones under load. The faults
// are those of TestTemplate, which meets them with every change.
func TestDeployment(t *testing.T) {
	d, root, tr := inUse(t, ours, before)
	d.upgrade(t, root, tr)
	if gate.Full() {
		d.faults(t, root, tr)
	}
}

// TestTemplate does the same with the task definitions of the templates in infra/. The upgrade is
// that of TestDeployment, which goes through it with every change.
func TestTemplate(t *testing.T) {
	t.Run("s3", func(t *testing.T) {
		if !gate.Full() {
			d, root, tr := inUse(t, ofTemplate("s3"), current)
			d.faults(t, root, tr)
			return
		}
		d, root, tr := inUse(t, ofTemplate("s3"), before)
		d.upgrade(t, root, tr)
		d.faults(t, root, tr)
	})
	for _, name := range []string{"onezone", "standard"} {
		t.Run(name, func(t *testing.T) {
			gate.Long(t, "the template s3 has the same containers; its volumes are infra's tests")
			need(t)
			d := deploy(t, ofTemplate(name), current, "s3") // the blockstore is in the file
			d.use(t, someTree(3, 60))
			d.replace(t, d.tasks[1])
		})
	}
}

// use adds a tree, and reads it in every way.
func (d *deployment) use(t *testing.T, tr tree) (root string) {
	t.Helper()
	d.ready(t, d.tasks...)
	root, err := d.add("tree", tr)
	require.NoError(t, err)
	d.awaitPinned(t, root)
	d.check(t, root, tr)
	d.checkAtTheEdge(t, root, tr)
	return root
}

// inUse is a deployment on S3, made with images of a version, that has content.
func inUse(t *testing.T, of description, version string) (d *deployment, root string, tr tree) {
	t.Helper()
	need(t)
	if version == before {
		require.NoError(t, builtBefore())
	}
	d = deploy(t, of, version, "s3")
	tr = someTree(1, 60)
	root = d.use(t, tr)
	return d, root, tr
}

// upgrade replaces task by task by the current version under load.
func (d *deployment) upgrade(t *testing.T, root string, tr tree) {
	t.Helper()
	pair := d.mib(t, d.tasks[0].node) + d.mib(t, d.tasks[0].sidecar)
	t.Logf("memory of an idle pair: %.0f MiB", pair)
	require.Less(t, pair, 350.0)

	l := d.load(root, tr)
	l.goesOn(t, "before anything is replaced")
	d.Version = current
	for _, of := range d.tasks {
		d.replace(t, of)
		l.goesOn(t, "with "+of.name+" replaced")
	}
	l.end(t)
	require.Empty(t, l.failedReads, "a client noticed")
	for _, of := range d.tasks {
		require.NotContains(t, docker(t, "exec", d.id(t, of.node), "ipfs-aws", "version"), "before")
	}
	d.awaitPinned(t, root)
	d.check(t, root, tr)
}

// checkAtTheEdge asks for parts, for formats, and without credentials.
func (d *deployment) checkAtTheEdge(t *testing.T, root string, tr tree) {
	t.Helper()
	part, err := fetch(d.client, d.doors.Gateway+"/ipfs/"+root+"/big.bin", "Range", "bytes=1000000-2000000")
	require.NoError(t, err)
	require.True(t, bytes.Equal(tr["big.bin"][1000000:2000001], part))
	checkCAR(t, d, root)
	res, err := d.client.Get(d.doors.API + "/pins/" + root)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	res, err = http.Get("http" + d.doors.Gateway[len("https"):] + "/ipfs/bafkqaaa")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusBadRequest, res.StatusCode, "the door is HTTPS only")
	published := docker(t, "ps", "--filter", "label=com.docker.compose.project="+d.Project, "--format", `{{.Label "com.docker.compose.service"}} {{.Ports}}`)
	for line := range strings.Lines(published) {
		service, ports, _ := strings.Cut(strings.TrimSpace(line), " ")
		require.Equal(t, service == "edge", strings.Contains(ports, "->"), line)
	}
}

// faults stops, kills and cuts off each kind of container while content is added and
// read.
func (d *deployment) faults(t *testing.T, root string, tr tree) {
	l := d.load(root, tr)
	network := d.Project + "_default"
	cut := d.tasks[1]
	all := func() {
		start := time.Now()
		d.ready(t, d.tasks...)
		t.Logf("all ready %.1f s later", time.Since(start).Seconds())
	}
	for _, service := range []string{cut.node, d.tasks[2].sidecar, "s3", "edge"} {
		for _, how := range []string{"stop", "kill"} {
			_, failed, _ := l.counts()
			docker(t, how, d.id(t, service))
			if service != "edge" && service != "s3" { // without the door, or what is behind all three, nobody is served
				l.goesOn(t, "after "+how+" of "+service)
			}
			docker(t, "start", d.id(t, service))
			l.goesOn(t, "after "+how+" and start of "+service)
			_, now, _ := l.counts()
			t.Logf("%s of %s: %d reads failed", how, service, now-failed)
			if how == "stop" && service != "edge" && service != "s3" {
				require.Equal(t, failed, now, "a client noticed an end in order: %v", l.failuresSince(failed))
			}
			all()
		}
	}
	for _, service := range []string{cut.name, "s3", "edge"} {
		id := d.id(t, service)
		docker(t, "network", "disconnect", network, id)
		alias := service
		if service == cut.name {
			l.goesOn(t, "without the network of "+service)
			alias = cut.host
		}
		docker(t, "network", "connect", "--alias", alias, network, id)
		l.goesOn(t, "with the network of "+service+" again")
		all()
	}
	l.end(t)
	d.awaitPinned(t, root)
	d.check(t, root, tr)
}

func TestDeploymentOnVolumes(t *testing.T) {
	need(t)
	d := deploy(t, ours, current, "efs")
	tr := someTree(2, 20)
	root, err := d.add("tree", tr)
	require.NoError(t, err)
	d.awaitPinned(t, root)
	d.check(t, root, tr)
	require.Contains(t, docker(t, "exec", d.id(t, d.tasks[1].node), "ipfs-aws", "config", "Datastore.Spec"), `"type": "efsds"`)
	require.Empty(t, docker(t, "ps", "--quiet", "--filter", "label=com.docker.compose.project="+d.Project, "--filter", "label=com.docker.compose.service=s3"))

	d.Out = t.Output()
	require.NoError(t, d.Down(t.Context(), false))
	_, err = d.Up(t.Context())
	require.NoError(t, err)
	d.awaitPinned(t, root)
	d.check(t, root, tr)
}
