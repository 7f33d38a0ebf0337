package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// post sends something to the RPC of the daemon.
func (n *node) post(path string, body []byte) ([]byte, error) {
	var buf bytes.Buffer
	contentType := ""
	if body != nil {
		form := multipart.NewWriter(&buf)
		part, err := form.CreateFormFile("file", "data")
		if err == nil {
			_, err = part.Write(body)
		}
		if err := errors.Join(err, form.Close()); err != nil {
			return nil, err
		}
		contentType = form.FormDataContentType()
	}
	resp, err := http.Post(n.API+"/api/v0/"+path, contentType, &buf)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return b, nil
}

// add puts content into the daemon, pinned or not, and returns its CID when it was acknowledged.
func (n *node) add(content []byte, pin bool) (string, error) {
	b, err := n.post(fmt.Sprintf("add?quieter=true&progress=false&chunker=size-4096&raw-leaves=true&pin=%t", pin), content)
	if err != nil {
		return "", err
	}
	var answer struct{ Hash string }
	err = json.Unmarshal(b, &answer)
	return answer.Hash, err
}

func (n *node) has(ref string) bool {
	_, err := n.post("block/stat?offline=true&arg="+ref, nil)
	return err == nil
}

// use is what clients of a daemon do all the time. What failed is noted, and what was acknowledged.
type use struct {
	n       *node
	stop    chan struct{}
	wg      sync.WaitGroup
	allowed atomic.Bool // failures, because the daemon was killed

	mu       sync.Mutex
	failures []error
	kept     map[string][]byte // acknowledged, and pinned
	gone     []string          // deleted, acknowledged
	reads    int
}

func (n *node) use(seed uint64, kept map[string][]byte) *use {
	u := &use{n: n, stop: make(chan struct{}), kept: kept}
	for w := range 2 {
		u.loop(func(r *rand.Rand) error { // reads of anything that was acknowledged
			u.mu.Lock()
			pick, i := "", r.IntN(len(u.kept))
			for ref := range u.kept {
				if pick = ref; i == 0 {
					break
				}
				i--
			}
			want := u.kept[pick]
			u.mu.Unlock()
			got, err := get(n.Gateway + "/ipfs/" + pick)
			if err != nil {
				return err
			}
			if !bytes.Equal(want, got) {
				return fmt.Errorf("%s: other bytes than were added", pick)
			}
			u.mu.Lock()
			u.reads++
			u.mu.Unlock()
			return nil
		}, seed+uint64(w))
	}
	u.loop(func(r *rand.Rand) error { // adds
		content := bytesOf(r.Uint64(), 1+r.IntN(20_000))
		content = append(content, fmt.Sprint(r.Uint64())...)
		ref, err := n.add(content, true)
		if err != nil {
			return err
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.kept[ref] = content
		return nil
	}, seed+10)
	return u
}

// loop does something until the use ends.
func (u *use) loop(do func(*rand.Rand) error, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	u.wg.Go(func() {
		for {
			select {
			case <-u.stop:
				return
			default:
			}
			if err := do(r); err != nil && !u.allowed.Load() {
				u.mu.Lock()
				u.failures = append(u.failures, err)
				u.mu.Unlock()
			}
			if u.allowed.Load() {
				select {
				case <-u.stop:
					return
				case <-time.After(10 * time.Millisecond): // the daemon is away
				}
			}
		}
	})
}

// more waits until clients have read so many more files.
func (u *use) more(t *testing.T, reads int) {
	t.Helper()
	now := func() int {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.reads
	}
	enough := now() + reads
	require.Eventually(t, func() bool { return now() >= enough }, testnode.Patience, time.Millisecond, "reads do not go on: %v", u.failures)
}

func (u *use) end() {
	close(u.stop)
	u.wg.Wait()
}

// filled is a repo with pinned files, and files that are not.
func filled(t *testing.T, n *node, files int) (kept map[string][]byte, loose []string) {
	t.Helper()
	kept = map[string][]byte{}
	for i := range files {
		content := bytesOf(uint64(i), 30_000+i)
		ref, err := n.add(content, true)
		require.NoError(t, err)
		kept[ref] = content
	}
	for i := range 60 {
		b, err := n.post("block/put?cid-codec=raw", bytesOf(uint64(5000+i), 5000+i))
		require.NoError(t, err)
		var answer struct{ Key string }
		require.NoError(t, json.Unmarshal(b, &answer))
		loose = append(loose, answer.Key)
	}
	return kept, loose
}

// readable reads everything that was acknowledged, and looks for what was deleted.
func (u *use) readable(t *testing.T) {
	t.Helper()
	u.keeps(t)
	for _, ref := range u.gone {
		require.False(t, u.n.has(ref), "%s was deleted, and is back", ref)
	}
}

// keeps reads everything that was acknowledged.
func (u *use) keeps(t *testing.T) {
	t.Helper()
	for ref, want := range u.kept {
		got, err := get(u.n.Gateway + "/ipfs/" + ref)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), ref)
	}
}

// TestOnline: the daemon serves, adds, deletes and collects garbage while its blocks move. Nothing fails, it is not
// restarted, and the old store can be taken away afterwards.
func TestOnline(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	bucket := s.NewBucket(t)
	n := newNode(t)
	n.Run("init", "--profile", "test")
	n.Start()
	pid := n.Cmd.Process.Pid
	kept, loose := filled(t, n, 150)

	u := n.use(100, kept)
	order := rand.New(rand.NewPCG(1, 1)).Perm(len(loose))
	u.loop(func(*rand.Rand) error { // deletes, one now and then
		if len(order) == 0 {
			return nil
		}
		ref := loose[order[0]]
		order = order[1:]
		b, err := n.post("block/rm?arg="+ref, nil)
		if err != nil || strings.Contains(string(b), "Error") {
			return fmt.Errorf("block rm: %s %w", b, err)
		}
		u.mu.Lock()
		u.gone = append(u.gone, ref)
		u.mu.Unlock()
		return nil
	}, 1)

	require.Contains(t, n.Fail(toS3(s, bucket, "node-1")...), "let it do the work with --online")
	estimate := events(t, n.Run(toS3(s, bucket, "node-1", "--online", "--dry-run", "--json")...))
	require.NotNil(t, estimate[len(estimate)-1].Estimate)
	r := n.result(toS3(s, bucket, "node-1", "--online", "--bandwidth", "3MB")...)
	require.Contains(t, r.Result.Text, "without a restart")
	require.Positive(t, r.Result.Copied)
	require.Equal(t, "s3ds", n.spec()["type"])
	again := n.result(toS3(s, bucket, "node-1", "--online")...)
	require.Contains(t, again.Result.Text, "nothing left to do")
	require.Contains(t, n.Fail(command("--delete-source")...), "restart it first")
	n.Run("config", "--json", "Gateway.NoFetch", "true") // kubo writes its config anew
	n.Run("bootstrap", "add", "/ip4/127.0.0.1/tcp/4001/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN")
	require.Equal(t, "s3ds", n.spec()["type"], "and does not bring back the old store")
	u.end()
	require.Empty(t, u.failures)
	require.Positive(t, u.reads)
	require.NotEmpty(t, u.gone)
	require.Equal(t, pid, n.Cmd.Process.Pid)
	require.Contains(t, n.Run("datastore", "stat"), "layout packs")
	u.readable(t)
	n.Run("repo", "gc", "--min-age", "0s")
	u.readable(t)

	require.Error(t, n.End(syscall.SIGKILL))
	require.NoError(t, os.Rename(filepath.Join(n.Dir, "blocks"), filepath.Join(n.Dir, "blocks-away")))
	n.Start()
	u.keeps(t) // the kill may undo the last deletions (package index): garbage, not loss
	require.NoError(t, os.Rename(filepath.Join(n.Dir, "blocks-away"), filepath.Join(n.Dir, "blocks")))
	require.Contains(t, n.Run(command("--delete-source")...), "is removed")
	require.NoDirExists(t, filepath.Join(n.Dir, "blocks"))
	u.readable(t)
	require.Contains(t, n.Run("repo", "verify"), "verify complete")
	n.Stop()
}

// phase is how far a migration has come, as the repo has it written down.
func (n *node) phase() string {
	n.T.Helper()
	b, err := os.ReadFile(filepath.Join(n.Dir, "migrate", "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	require.NoError(n.T, err)
	var r struct{ Phase string }
	require.NoError(n.T, json.Unmarshal(b, &r))
	return r.Phase
}

// TestOnlineKilled: the daemon is killed in the middle of it, again and again, with clients at work. After each start it serves
// what was acknowledged, and in the end it has moved.
func TestOnlineKilled(t *testing.T) {
	t.Parallel()
	kills := gate.Rounds(1, 2, 8)
	s := s3test.Start(t)
	for name, c := range map[string]struct {
		init, to func(bucket string) []string
		want     string
		offline  bool // the daemon is stopped for the end
	}{
		"flatfs to s3": {
			func(string) []string { return []string{"init", "--profile", "test"} },
			func(bucket string) []string { return toS3(s, bucket, "node-1") }, "s3ds", false,
		},
		"s3 to efs": {
			func(bucket string) []string {
				return []string{"init", "--profile", "test", "--blockstore", "s3", "--bucket", bucket, "--endpoint", s.URL, "--region", s3test.Region}
			},
			func(string) []string { return command("--to", "efs") }, "efsds", false,
		},
		"efs to s3, the end without a daemon": {
			func(string) []string { return []string{"init", "--profile", "test", "--blockstore", "efs"} },
			func(bucket string) []string { return toS3(s, bucket, "node-1") }, "s3ds", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bucket := s.NewBucket(t)
			n := newNode(t)
			n.Run(c.init(bucket)...)
			n.Start()
			kept, loose := filled(t, n, 100)
			random := gate.Random(t)
			args := append(c.to(bucket), "--online")
			var gone []string
			phases := map[string]int{}
			for kill := range kills {
				u := n.use(uint64(1000*kill), kept)
				cmd := n.Command(append(args, "--bandwidth", "500kB")...)
				var errOut bytes.Buffer
				cmd.Stderr = &errOut
				require.NoError(t, cmd.Start())
				ref := loose[kill]
				_, err := n.post("block/rm?arg="+ref, nil)
				require.NoError(t, err)
				// Most kills come while it copies; some before. Clients measure the time: by what they have read meanwhile.
				if kill == 0 || random.IntN(4) > 0 {
					require.Eventually(t, func() bool { return n.phase() != "" }, testnode.Patience, time.Millisecond)
				}
				u.more(t, random.IntN(150))
				_, err = n.post("repo/stat?size-only=true", nil) // a Sync of deletes is what gc ends with
				require.NoError(t, err)
				u.allowed.Store(true)
				require.Error(t, n.End(syscall.SIGKILL))
				require.Error(t, cmd.Wait(), "it had ended before: %s", errOut.String())
				u.end()
				require.Empty(t, u.failures)
				gone = append(gone, ref)
				phases[n.phase()]++
				n.Start()
				u.gone = nil // a crash may undo a delete that nothing has synced
				u.readable(t)
			}
			require.Positive(t, phases["tiered"], "no kill came while it copied: %v", phases)
			if c.offline {
				n.Stop()
				require.Contains(t, n.Run(c.to(bucket)...), "the repo uses")
				n.Start()
			} else {
				require.Contains(t, n.Run(args...), "without a restart")
			}
			require.Equal(t, c.want, n.spec()["type"])
			require.Contains(t, n.Run(args...), "nothing left to do")
			(&use{n: n, kept: kept}).readable(t)
			n.Stop()
			n.Start()
			(&use{n: n, kept: kept}).readable(t)
			require.Contains(t, n.Run("repo", "verify"), "verify complete")
			require.NotEmpty(t, gone)
			n.Stop()
		})
	}
}
