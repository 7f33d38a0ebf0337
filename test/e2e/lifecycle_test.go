package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
)

// TestLifecycle takes one topology per blockstore through all that may happen
// to it: a real tree, the death of a task, the death of everything, the end.
func TestLifecycle(t *testing.T) {
	for _, blockstore := range []string{"s3", "efs", "flatfs"} {
		t.Run(blockstore, func(t *testing.T) {
			switch blockstore {
			case "efs":
				gate.NotQuick(t, "it runs s3 only")
			case "flatfs":
				gate.Long(t, "its files are those of efs, and all other tests of this package are on it")
			}
			lifecycle(t, blockstore)
		})
	}
}

func lifecycle(t *testing.T, blockstore string) {
	dir := filepath.Join(t.TempDir(), "run")
	c := up(t, dir, nil, "--blockstore", blockstore, "--tasks", "3", "--restart", "always")
	require.Len(t, c.desc.Tasks, 3)
	require.Equal(t, blockstore == "s3", c.desc.S3 != nil)
	ids := c.peerIDs(t)

	tree := goSources(t)
	start := time.Now()
	root, err := add(c.desc.API, c.desc.User, c.desc.Password, "tree", tree)
	require.NoError(t, err)
	t.Logf("%d files added through the edge in %.1f s", len(tree), time.Since(start).Seconds())
	c.awaitPinned(t, root)
	blocks := localBlocks(t, c.desc.Tasks[0], root)
	require.Greater(t, blocks, len(tree)/2)

	c.checkTree(t, root, tree)
	c.checkRanges(t, root, largest(t, tree, 5))
	c.checkFormats(t, root)
	c.checkAccess(t, root)
	c.checkSecondSupervisor(t)

	meanwhile := c.checkDeathOfOneTask(t, root, tree)
	acknowledged := c.killEverythingWhileAdding(t)
	for cid, f := range meanwhile {
		acknowledged[cid] = f
	}

	c = up(t, dir, nil, "--blockstore", blockstore)
	require.Equal(t, ids, c.peerIDs(t), "peer IDs changed")
	c.awaitPinned(t, root)
	for _, task := range c.desc.Tasks {
		require.Equal(t, blocks, localBlocks(t, task, root), task.Name)
	}
	for cid, f := range acknowledged {
		c.awaitPinned(t, cid)
		for _, task := range c.desc.Tasks {
			localBlocks(t, task, cid)
			require.NoError(t, sameFile(task.Gateway, cid, f))
		}
	}
	t.Logf("%d pins acknowledged before the kill, all there", len(acknowledged)+1)

	c.checkSecrets(t)
	c.end(t)
	checkFolderStays(t, dir, blockstore)
}

// checkTree fetches every file from every gateway and the edge.
func (c *cluster) checkTree(t *testing.T, root string, tree []file) {
	t.Helper()
	start := time.Now()
	bases := []string{c.desc.Gateway}
	for _, task := range c.desc.Tasks {
		bases = append(bases, task.Gateway)
	}
	var g errgroup.Group
	g.SetLimit(16)
	for _, base := range bases {
		for _, f := range tree {
			g.Go(func() error { return sameFile(base, root, f) })
		}
	}
	require.NoError(t, g.Wait())
	t.Logf("%d files × %d gateways, byte-identical, in %.1f s", len(tree), len(bases), time.Since(start).Seconds())
}

// get fetches from the edge with a header, without following anything.
func (c *cluster) get(t *testing.T, path, header, value string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.desc.Gateway+path, nil)
	require.NoError(t, err)
	if header != "" {
		req.Header.Set(header, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, b
}

func (c *cluster) checkRanges(t *testing.T, root string, files []file) {
	t.Helper()
	for _, f := range files {
		whole, err := f.content()
		require.NoError(t, err)
		n := len(whole)
		require.Greater(t, n, 1000)
		path := "/ipfs/" + root + "/" + escaped(f.path)
		for _, r := range []struct {
			header      string
			first, last int
		}{
			{"bytes=0-0", 0, 0},
			{fmt.Sprintf("bytes=%d-%d", n/3, n/2), n / 3, n / 2},
			{fmt.Sprintf("bytes=%d-", n-10), n - 10, n - 1},
			{"bytes=-7", n - 7, n - 1},
			{fmt.Sprintf("bytes=1-%d", n+1000), 1, n - 1},
		} {
			res, body := c.get(t, path, "Range", r.header)
			require.Equal(t, http.StatusPartialContent, res.StatusCode, r.header)
			require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, n), res.Header.Get("Content-Range"))
			require.True(t, bytes.Equal(whole[r.first:r.last+1], body), "%s of %s", r.header, f.path)
		}
		res, _ := c.get(t, path, "Range", fmt.Sprintf("bytes=%d-", n))
		require.Equal(t, http.StatusRequestedRangeNotSatisfiable, res.StatusCode)

		res, _ = c.get(t, path, "", "")
		etag := res.Header.Get("ETag")
		require.NotEmpty(t, etag)
		require.Contains(t, res.Header.Get("Cache-Control"), "immutable")
		res, body := c.get(t, path, "If-None-Match", etag)
		require.Equal(t, http.StatusNotModified, res.StatusCode)
		require.Empty(t, body)
	}
}

// checkFormats asks for the tree's root as CAR and as a block.
func (c *cluster) checkFormats(t *testing.T, root string) {
	t.Helper()
	id, err := cid.Decode(root)
	require.NoError(t, err)
	for _, ask := range []struct{ query, header, value string }{
		{"?format=car", "", ""},
		{"", "Accept", "application/vnd.ipld.car"},
	} {
		res, body := c.get(t, "/ipfs/"+root+ask.query, ask.header, ask.value)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Contains(t, res.Header.Get("Content-Type"), "application/vnd.ipld.car")
		blocks, err := car.NewBlockReader(bytes.NewReader(body))
		require.NoError(t, err)
		require.Equal(t, []cid.Cid{id}, blocks.Roots)
		seen := map[cid.Cid]bool{}
		for {
			block, err := blocks.Next() // compares hash and content
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			seen[block.Cid()] = true
		}
		require.True(t, seen[id])
		require.Len(t, seen, localBlocks(t, c.desc.Tasks[0], root), "the CAR holds the whole DAG")
	}
	res, body := c.get(t, "/ipfs/"+root+"?format=raw", "", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "application/vnd.ipld.raw", res.Header.Get("Content-Type"))
	sum, err := id.Prefix().Sum(body)
	require.NoError(t, err)
	require.Equal(t, id, sum)
}

// checkAccess makes sure that the API is closed to whoever has no password, at
// the edge and behind it.
func (c *cluster) checkAccess(t *testing.T, root string) {
	t.Helper()
	for _, base := range []string{c.desc.API, c.desc.Tasks[0].API} {
		for _, who := range [][2]string{{"", ""}, {c.desc.User, "wrong"}} {
			_, err := call(http.MethodGet, base+"/pins/"+root, who[0], who[1])
			require.ErrorContains(t, err, "401")
		}
		_, err := c.rest(base, "/pins/"+root)
		require.NoError(t, err)
	}
}

// checkSecondSupervisor tries the folder that is in use.
func (c *cluster) checkSecondSupervisor(t *testing.T) {
	t.Helper()
	refused(t, nil, []string{"--dir", c.dir}, "another local-cluster (pid "+fmt.Sprint(c.cmd.Process.Pid)+") runs on "+c.dir, "--dir")
}

// checkDeathOfOneTask kills a task's processes and pins content while it is
// down. The edge must not let anybody notice.
func (c *cluster) checkDeathOfOneTask(t *testing.T, root string, tree []file) map[string]file {
	t.Helper()
	victim := c.status(t).Tasks[1]

	stop := make(chan struct{})
	var visitors sync.WaitGroup
	var mu sync.Mutex
	var served int
	var complaints []error
	var dead atomic.Bool // the task is
	for i := range 2 {
		visitors.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				after := dead.Load()
				err := sameFile(c.desc.Gateway, root, tree[n%len(tree)])
				if err == nil {
					after = dead.Load()
					_, err = c.rest(c.desc.API, "/allocations/"+root)
				}
				mu.Lock()
				served++
				if err != nil && after {
					complaints = append(complaints, err)
				}
				mu.Unlock()
			}
		})
	}

	require.NoError(t, syscall.Kill(victim.PIDs.IPFS, syscall.SIGKILL))
	require.NoError(t, syscall.Kill(victim.PIDs.Cluster, syscall.SIGKILL))
	killed := time.Now()
	// What is under way at a task when it is killed fails; what comes after
	// must not.
	require.Eventually(t, func() bool { return reaped(victim.PIDs.IPFS) && reaped(victim.PIDs.Cluster) }, patience, time.Millisecond)
	dead.Store(true)
	pinned := map[string]file{}
	for i := range 5 {
		f := file{path: "meanwhile.txt", text: fmt.Sprintf("made while %s was down, %d, %d", victim.Name, i, killed.UnixNano())}
		cid, err := add(c.desc.API, c.desc.User, c.desc.Password, "meanwhile", []file{f})
		require.NoError(t, err, "an add while one task is down")
		pinned[cid] = f
		if now := c.status(t).Tasks[1].PIDs; i == 0 {
			require.False(t, now.IPFS != victim.PIDs.IPFS && now.Cluster != 0 && now.Cluster != victim.PIDs.Cluster,
				"the task was back before anything was pinned: the test shows nothing")
		}
	}
	require.Eventually(t, func() bool {
		now := c.status(t).Tasks[1].PIDs
		return now.IPFS != 0 && now.IPFS != victim.PIDs.IPFS && now.Cluster != 0 && now.Cluster != victim.PIDs.Cluster
	}, patience, poll, "the task was not replaced")
	replaced := time.Now()
	for cid, f := range pinned {
		require.Eventually(t, func() bool {
			states, err := c.pinStates(victim.API, cid, "?local=true")
			return err == nil && states[victim.Name] == "pinned"
		}, patience, poll, "%s did not catch up with %s", victim.Name, cid)
		localBlocks(t, victim, cid)
		require.NoError(t, sameFile(victim.Gateway, cid, f))
	}
	close(stop)
	visitors.Wait()
	require.Empty(t, complaints, "the edge let clients notice")
	t.Logf("killed %s: caught up %.1f s after its processes were started again (%.1f s after the kill); %d visits meanwhile, all answered",
		victim.Name, time.Since(replaced).Seconds(), time.Since(killed).Seconds(), served)
	return pinned
}

// killEverythingWhileAdding kills every process at once, the supervisor
// included, in the middle of adds. It returns what had been acknowledged.
func (c *cluster) killEverythingWhileAdding(t *testing.T) map[string]file {
	t.Helper()
	const enough = 15
	var mu sync.Mutex
	acknowledged := map[string]file{}
	reached := make(chan struct{})
	var adders errgroup.Group
	for i := range 3 {
		adders.Go(func() error {
			for n := 0; ; n++ {
				f := file{path: "precious.txt", text: strings.Repeat(fmt.Sprintf("add %d of adder %d. ", n, i), 100)}
				cid, err := add(c.desc.API, c.desc.User, c.desc.Password, "precious", []file{f})
				if err != nil {
					return err // the kill
				}
				mu.Lock()
				acknowledged[cid] = f
				if len(acknowledged) == enough {
					close(reached)
				}
				mu.Unlock()
			}
		})
	}
	failed := make(chan error, 1)
	go func() { failed <- adders.Wait() }()
	select {
	case <-reached:
	case <-c.exited:
		require.Fail(t, "local-cluster ended by itself")
	case <-time.After(patience):
		require.Fail(t, "the adds are too slow, or all adders failed")
	}
	pids := c.status(t).pids()
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.Error(t, <-failed)
	<-c.exited
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !runs(pid) }, patience, poll)
	}
	return acknowledged
}

// checkSecrets looks for every secret where none may be.
func (c *cluster) checkSecrets(t *testing.T) {
	t.Helper()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	statePath := filepath.Join(c.dir, "state.json")
	state := string(read(statePath))
	secrets := secretsOf(t, state)
	places := map[string][]byte{"local-cluster's messages": []byte(c.stderr.String())}
	for _, pid := range c.status(t).pids() {
		args := read(fmt.Sprintf("/proc/%d/cmdline", pid))
		require.NotEmpty(t, args)
		places[fmt.Sprintf("the arguments of %q", bytes.ReplaceAll(args, []byte{0}, []byte{' '}))] = args
	}
	logs, err := filepath.Glob(filepath.Join(c.dir, "logs", "*"))
	require.NoError(t, err)
	specs, err := filepath.Glob(filepath.Join(c.dir, "task-*", "ipfs", "datastore_spec"))
	require.NoError(t, err)
	configs, err := filepath.Glob(filepath.Join(c.dir, "task-*", "ipfs", "config"))
	require.NoError(t, err)
	require.Len(t, specs, len(c.desc.Tasks))
	require.Len(t, configs, len(c.desc.Tasks))
	require.GreaterOrEqual(t, len(logs), 2*len(c.desc.Tasks)+1)
	for _, path := range append(append(logs, specs...), configs...) {
		places[path] = read(path)
	}
	for place, content := range places {
		for name, secret := range secrets {
			require.NotContains(t, string(content), secret, "%s is in %s", name, place)
		}
	}
	for _, path := range append(logs, statePath, filepath.Join(c.dir, "status.json")) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
	}
}

// checkFolderStays tries to make something else of a folder.
func checkFolderStays(t *testing.T, dir, blockstore string) {
	t.Helper()
	other := "flatfs"
	if blockstore == other {
		other = "efs"
	}
	before, err := exec.Command("find", dir, "-type", "f", "-not", "-name", "lock", "-printf", "%p %s %T@\n").Output()
	require.NoError(t, err)
	base := fmt.Sprint(ports.TakeBlock(t))
	refused(t, nil, []string{"--dir", dir, "--base-port", base, "--blockstore", other},
		"keeps its blocks in "+blockstore+", not "+other, "nothing was changed", "--blockstore "+blockstore)
	refused(t, nil, []string{"--dir", dir, "--base-port", base, "--blockstore", blockstore, "--tasks", "2"},
		"has 3 tasks, not 2", "nothing was changed", "--tasks 3")
	after, err := exec.Command("find", dir, "-type", "f", "-not", "-name", "lock", "-printf", "%p %s %T@\n").Output()
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}
