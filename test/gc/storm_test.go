package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// stormTime is how long the storm lasts for each blockstore.
func stormTime(t *testing.T) time.Duration {
	v := os.Getenv("STORM_TIME")
	if v == "" {
		return time.Duration(gate.Rounds(3, 10, 300)) * time.Second
	}
	d, err := time.ParseDuration(v)
	require.NoError(t, err)
	return d
}

// stormProgram is the binary that is tested.
func stormProgram(t *testing.T) string {
	if p := os.Getenv("STORM_PROGRAM"); p != "" {
		return p
	}
	return testnode.Ours(t)
}

// TestStorm has adders of every kind, pins, unpins, MFS and restarts go on while garbage is collected without a pause. Then every
// acknowledged root is complete and byte-identical offline, and one more collection leaves nothing that is not needed.
func TestStorm(t *testing.T) {
	for name, store := range stores(t) {
		for _, age := range []time.Duration{2 * time.Second, 10 * time.Second} {
			t.Run(fmt.Sprintf("%s %s", name, age), func(t *testing.T) {
				storm(t, store(t), age)
			})
		}
	}
}

// TestStormWithoutProtection shows that the storm loses content where nothing protects it.
func TestStormWithoutProtection(t *testing.T) {
	if os.Getenv("STORM_CONTROL") == "" {
		gate.Long(t, "it links the program once more; STORM_CONTROL=1 runs it as well")
	}
	program := filepath.Join(t.TempDir(), "ipfs-aws")
	out, err := exec.Command("go", "build", "-tags", "gc_unprotected", "-o", program, "../../cmd/ipfs-aws").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStorm$/^flatfs_2s$", "-test.v")
	cmd.Env = append(os.Environ(), "STORM_PROGRAM="+program, "STORM_TIME=20s", "STORM_CONTROL=", "TEST_FULL=")
	out, err = cmd.CombinedOutput()
	require.Error(t, err, "nothing was lost: %s", out)
	require.Contains(t, string(out), "lost: ")
	t.Logf("%s", out)
}

func storm(t *testing.T, store []string, age time.Duration) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	n := fresh(t, stormProgram(t), store, "IPFS_GC_MIN_AGE="+age.String(), "IPFS_PIN_STALL=3s")
	n.Start()
	w := &weather{
		t: t, n: n, age: age,
		pinned: map[string][]byte{}, unpinned: map[string][]byte{}, mfs: map[string][]byte{},
		made: filepath.Join(t.TempDir(), "made"),
	}
	w.isUp()
	ctx, stop := context.WithTimeout(t.Context(), stormTime(t))
	defer stop()
	var wg sync.WaitGroup
	for i, act := range []func(*actor){
		(*actor).add, (*actor).add, (*actor).importCAR, (*actor).importPinned, (*actor).putBlocks, (*actor).useMFS, (*actor).useMFS,
		(*actor).commandLine, (*actor).unpin, (*actor).pinAgain, (*actor).collect, (*actor).collect,
	} {
		a := &actor{weather: w, ctx: ctx, id: i, r: rand.New(rand.NewPCG(seed, uint64(i)))}
		wg.Go(func() {
			for ctx.Err() == nil {
				act(a)
			}
		})
	}
	w.restarts(ctx, rand.New(rand.NewPCG(seed, 1000)))
	wg.Wait()
	w.verify()
}

// weather is the storm and what it must not lose.
type weather struct {
	t    *testing.T
	n    *testnode.Node
	age  time.Duration
	made string // a file for the command line
	up   atomic.Pointer[string]
	// ending is set from the signal to the next start.
	ending atomic.Bool

	// collected counts collections that have ended well; began is when the last of them had begun.
	collected atomic.Int64
	began     atomic.Pointer[time.Time]

	mu               sync.Mutex
	pinned, unpinned map[string][]byte // content by root
	mfs              map[string][]byte // content by path
	// moving keeps moves apart from writes that are not flushed. A move flushes / (kubo), which drops what boxo knows of open files: one that
	// is written without a flush stays as it was, and the flush that follows flushes that.
	moving       sync.RWMutex
	acknowledged int
	removed      int
	restarted    int
}

// isUp notes where the daemon answers: each start is another string, wherever it listens.
func (w *weather) isUp() {
	url := w.n.API
	w.up.Store(&url)
}

// restarts ends the daemon now and then, by a kill or in order, and starts it again.
func (w *weather) restarts(ctx context.Context, r *rand.Rand) {
	pause := max(stormTime(w.t)/20, 5*time.Second)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + time.Duration(r.Int64N(int64(pause)))):
		}
		sig := syscall.SIGKILL
		if i%3 == 2 {
			sig = syscall.SIGTERM
		}
		w.ending.Store(true)
		err := w.n.End(sig)
		// kubo gives commands that are under way 5 s, and then ends with an error.
		if said := w.n.Logged(); sig == syscall.SIGTERM && !strings.HasSuffix(strings.TrimSpace(said), "Error: context deadline exceeded") {
			assert.NoError(w.t, err, "%s", said[max(0, len(said)-2000):])
		}
		w.n.Start()
		w.isUp()
		w.ending.Store(false)
		w.restarted++
	}
}

type actor struct {
	*weather
	ctx context.Context
	id  int
	r   *rand.Rand
}

func (a *actor) client() client { return client{a.ctx, *a.up.Load()} }

// collections waits until some more collections have ended, or the daemon has.
func (a *actor) collections(n int64) {
	until := a.collected.Load() + n
	url := a.up.Load()
	for a.collected.Load() < until && a.up.Load() == url && !a.ending.Load() && a.ctx.Err() == nil {
		select {
		case <-a.ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// aged waits until a collection has ended that began when everything from before was older than the age.
func (a *actor) aged() {
	from, url := time.Now().Add(a.age), a.up.Load()
	for a.up.Load() == url && !a.ending.Load() && a.ctx.Err() == nil {
		if b := a.began.Load(); b != nil && b.After(from) {
			return
		}
		select {
		case <-a.ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// between is what an upload does between two of its pieces, now and then.
func (a *actor) between() func() {
	switch a.r.IntN(8) {
	case 0:
		return func() { a.collections(1) }
	case 1:
		once := sync.Once{}
		return func() { once.Do(a.aged) }
	}
	return nil
}

func (a *actor) pinnedNow(root string, data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pinned[root] = data
	delete(a.unpinned, root)
	a.acknowledged++
}

// add is what the sidecar's and other programs' adds are: a stream.
func (a *actor) add() {
	f := newFile(a.t, a.r)
	b, err := a.client().upload("add", f.halves(), a.between(), "chunker", fmt.Sprintf("size-%d", leafSize), "raw-leaves", "true", "cid-version", "1", "quieter", "true", "progress", "false")
	if err != nil {
		return
	}
	var out struct{ Hash string }
	if json.Unmarshal(bytes.TrimSpace(b), &out) == nil && out.Hash != "" {
		a.pinnedNow(out.Hash, f.data)
	}
}

// importCAR imports as the sidecar does, and pins then.
func (a *actor) importCAR() {
	f := newFile(a.t, a.r)
	if _, err := a.client().upload("dag/import", f.car(), a.between(), "pin-roots", "false"); err != nil {
		return
	}
	root := f.root.Cid().String()
	if _, err := a.client().call("pin/add", "arg", root); err == nil {
		a.pinnedNow(root, f.data)
	}
}

func (a *actor) importPinned() {
	f := newFile(a.t, a.r)
	if b, err := a.client().upload("dag/import", f.car(), a.between()); err == nil && !bytes.Contains(b, []byte(`PinErrorMsg":"`)) {
		a.pinnedNow(f.root.Cid().String(), f.data)
	} else if err == nil && bytes.Contains(b, []byte(`"PinErrorMsg":""`)) {
		a.pinnedNow(f.root.Cid().String(), f.data)
	}
}

func (a *actor) putBlocks() {
	f := newFile(a.t, a.r)
	c := a.client()
	for _, l := range f.leaves {
		if _, err := c.upload("block/put", [][]byte{l.RawData()}, nil, "cid-codec", "raw"); err != nil {
			return
		}
	}
	if _, err := c.upload("block/put", [][]byte{f.root.RawData()}, nil, "cid-codec", "dag-pb"); err != nil {
		return
	}
	root := f.root.Cid().String()
	if _, err := c.call("pin/add", "arg", root); err == nil {
		a.pinnedNow(root, f.data)
	}
}

// commandLine is `ipfs add`, which talks to the daemon.
func (a *actor) commandLine() {
	f := newFile(a.t, a.r)
	if err := os.WriteFile(a.made, f.data, 0o600); err != nil {
		a.t.Error(err)
		return
	}
	cmd := a.n.Command("add", "-Q", "--cid-version=1", "--chunker", fmt.Sprintf("size-%d", leafSize), a.made)
	// Without a daemon, in the middle of a restart, it would take the repo from the next one.
	cmd.Args = append(cmd.Args, "--api", apiAddr(*a.up.Load()))
	if out, err := cmd.Output(); err == nil {
		a.pinnedNow(strings.TrimSpace(string(out)), f.data)
	}
}

func apiAddr(u string) string {
	parsed, err := url.Parse(u)
	if err != nil {
		return u
	}
	return "/ip4/" + parsed.Hostname() + "/tcp/" + parsed.Port()
}

// useMFS changes files in a folder of its own; what fails in the middle is not known any more.
func (a *actor) useMFS() {
	c := a.client()
	dir := fmt.Sprintf("/a%d", a.id)
	if a.r.IntN(10) == 0 {
		dir = fmt.Sprintf("/a%d/d%d", a.id, a.r.IntN(5))
	}
	if _, err := c.call("files/mkdir", "arg", dir, "parents", "true"); err != nil {
		return
	}
	path := fmt.Sprintf("%s/f%d", dir, a.r.IntN(1000))
	f := newFile(a.t, a.r)
	a.mu.Lock()
	var from string // a file of this actor
	for p := range a.mfs {
		if strings.HasPrefix(p, fmt.Sprintf("/a%d/", a.id)) {
			from = p
			break
		}
	}
	old := a.mfs[from]
	delete(a.mfs, path)
	a.mu.Unlock()
	var err error
	data := f.data
	switch a.r.IntN(7) {
	case 6: // what is written without a flush is acknowledged by the flush
		a.moving.RLock()
		defer a.moving.RUnlock()
		_, err = c.upload("files/write", f.halves(), nil, "arg", path, "create", "true", "truncate", "true", "raw-leaves", "true", "flush", "false")
		if err == nil {
			a.collections(1)
			_, err = c.call("files/flush", "arg", path)
		}
	case 0, 1:
		_, err = c.upload("files/write", f.halves(), a.between(), "arg", path, "create", "true", "truncate", "true", "raw-leaves", "true", "flush", "true")
	case 2: // an add that is linked there
		_, _ = c.call("files/rm", "arg", path, "force", "true")
		_, err = c.upload("add", f.halves(), a.between(), "pin", "false", "to-files", path, "chunker", fmt.Sprintf("size-%d", leafSize), "cid-version", "1", "progress", "false")
	case 3: // a copy of what was imported
		_, _ = c.call("files/rm", "arg", path, "force", "true")
		if _, err = c.upload("dag/import", f.car(), nil, "pin-roots", "false"); err == nil {
			_, err = c.call("files/cp", "arg", "/ipfs/"+f.root.Cid().String(), "arg", path)
		}
	case 4: // a copy, or another name
		if from == "" || from == path {
			return
		}
		data = old
		command := "files/cp"
		if a.r.IntN(2) == 0 {
			command = "files/mv"
			a.moving.Lock()
			defer a.moving.Unlock()
			a.mu.Lock()
			delete(a.mfs, from)
			a.mu.Unlock()
		}
		_, _ = c.call("files/rm", "arg", path, "force", "true")
		_, err = c.call(command, "arg", from, "arg", path)
	case 5:
		a.mu.Lock()
		delete(a.mfs, from)
		a.mu.Unlock()
		if from != "" {
			_, _ = c.call("files/rm", "arg", from)
		}
		return
	}
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mfs[path] = data
	a.acknowledged++
}

func (a *actor) some(from map[string][]byte) (string, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for root, data := range from {
		return root, data
	}
	return "", nil
}

func (a *actor) unpin() {
	a.collections(1)
	root, data := a.some(a.pinned)
	if root == "" {
		return
	}
	a.mu.Lock()
	delete(a.pinned, root)
	a.mu.Unlock()
	_, _ = a.client().call("pin/rm", "arg", root)
	// Now, so that no one pins it again before it is unpinned.
	a.mu.Lock()
	a.unpinned[root] = data
	a.mu.Unlock()
}

// pinAgain pins what was unpinned, whether it is still there or not.
func (a *actor) pinAgain() {
	a.collections(1)
	root, data := a.some(a.unpinned)
	if root == "" {
		return
	}
	a.mu.Lock()
	delete(a.unpinned, root)
	a.mu.Unlock()
	if _, err := a.client().call("pin/add", "arg", root, "progress", "true"); err == nil {
		a.pinnedNow(root, data)
	}
}

func (a *actor) collect() {
	began, url := time.Now(), a.up.Load()
	b, err := a.client().call("repo/gc")
	if err != nil {
		if a.ctx.Err() == nil && !a.ending.Load() && a.up.Load() == url {
			assert.NoError(a.t, err)
		}
		return
	}
	a.began.Store(&began)
	a.collected.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.removed += bytes.Count(b, []byte(`"Key":{`))
}

// verify looks at everything that was acknowledged, offline, and then at what is left.
func (w *weather) verify() {
	t := w.t
	w.n.Stop()
	w.n.Env = append(w.n.Env, "IPFS_CONFIG_Internal_ShutdownTimeout=20s")
	w.n.Start()
	c := client{t.Context(), w.n.API}
	lost := 0
	check := func(what string, want []byte, path string, args ...string) {
		b, err := c.call(path, append(args, "offline", "true")...)
		if err != nil || !bytes.Equal(b, want) {
			if lost++; lost <= 5 {
				t.Errorf("lost: %s: %d bytes of %d, %v", what, len(b), len(want), err)
			}
		}
	}
	b, err := c.call("pin/ls", "type", "recursive")
	require.NoError(t, err)
	for root, data := range w.pinned {
		if !bytes.Contains(b, []byte(root)) {
			if lost++; lost <= 5 {
				t.Errorf("lost: the pin %s", root)
			}
		}
		check(root, data, "cat", "arg", "/ipfs/"+root)
	}
	for path, data := range w.mfs {
		check(path, data, "files/read", "arg", path)
	}
	t.Logf("%d acknowledged, %d collections that removed %d blocks, %d restarts, %d lost", w.acknowledged, w.collected.Load(), w.removed, w.restarted, lost)
	require.Positive(t, w.acknowledged)
	require.Positive(t, w.collected.Load())
	if lost > 0 {
		return
	}
	needed := stay(t, c)
	var left int
	require.Eventually(t, func() bool {
		_, err := c.call("repo/gc")
		require.NoError(t, err)
		b, err := c.call("refs/local")
		require.NoError(t, err)
		here := keys(t, b)
		left = 0
		for k := range here {
			if !needed[k] {
				left++
			}
		}
		return left == 0
	}, testnode.Patience, 200*time.Millisecond, "blocks that nothing needs are left")
	w.n.Stop()
}
