package migrate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// TestBackupAndRestore: beside a daemon and without one, brought up to date, and back into a new repo with all pins and
// their names; and with stock tools alone.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.Run("init", "--profile", "test")
	n.Start()
	first, second := random(t, 1, 900_000), random(t, 2, 700_000)
	a := n.Run("add", "-Q", "--pin-name=a name with spaces", first)
	leaf := strings.Fields(n.Run("refs", a))[0]
	n.Run("pin", "add", "--recursive=false", leaf)
	n.Run("files", "cp", "/ipfs/"+a, "/in-mfs")
	mfs := n.Run("files", "stat", "--hash", "/")
	backup := filepath.Join(t.TempDir(), "backup")

	allPins := func() int {
		return len(strings.Fields(n.Run("pin", "ls", "--type=recursive", "--quiet"))) + len(strings.Fields(n.Run("pin", "ls", "--type=direct", "--quiet")))
	}
	before := allPins()
	busy := n.use(1, map[string][]byte{a: nil}) // others add, and pin, meanwhile
	busy.allowed.Store(true)
	r := n.result(command("--to", "cars", "--path", backup, "--bandwidth", "5MB")...) // beside the daemon
	busy.end()
	require.Equal(t, r.Result.Blocks, r.Result.Copied)
	require.GreaterOrEqual(t, r.Result.Pins, before+1, "and the root of MFS")
	require.LessOrEqual(t, r.Result.Pins, allPins()+1)
	n.Stop()

	b := n.Run("add", "-Q", second)
	gone := n.Run("add", "-Q", "--pin=false", random(t, 3, 1000))
	r = n.result(command("--to", "cars", "--path", backup)...)
	require.Less(t, r.Result.Copied, r.Result.Blocks, "only what is new")
	require.Positive(t, r.Result.Copied)
	n.Run("repo", "gc", "--min-age", "0s")
	r = n.result(command("--to", "cars", "--path", backup)...)
	require.Zero(t, r.Result.Copied)
	require.Zero(t, r.Result.Removed, "what was deleted stays in the backup")

	sameFiles := func(n *node) {
		t.Helper()
		for ref, file := range map[string]string{a: first, b: second} {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got, err := n.Command("cat", ref).Output()
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		}
	}
	fresh := newNode(t)
	fresh.Run("init", "--profile", "test")
	estimate := events(t, fresh.Run(command("--from", backup, "--dry-run", "--json")...))
	require.Greater(t, estimate[len(estimate)-1].Estimate.Blocks, r.Result.Blocks, "with what was deleted")
	out := fresh.Run(command("--from", backup)...)
	require.Contains(t, out, "ipfs-aws files cp /ipfs/"+mfs)
	sameFiles(fresh)
	require.Contains(t, fresh.Run("pin", "ls", "--type=recursive", "--names"), a+" recursive a name with spaces")
	require.Contains(t, fresh.Run("pin", "ls", "--type=direct"), leaf)
	require.Contains(t, fresh.Run("pin", "ls", "--type=recursive"), b)
	fresh.Run("files", "cp", "/ipfs/"+mfs, "/restored")
	require.Contains(t, fresh.Run("files", "ls", "/restored"), "in-mfs")
	fresh.Run("cat", gone)

	// Into a daemon, which remembers that it has not got these blocks.
	serving := newNode(t)
	serving.Run("init", "--profile", "test")
	serving.Start()
	require.NotEmpty(t, serving.Fail("block", "stat", "--offline", a))
	serving.Run(command("--from", backup)...)
	sameFiles(serving)
	require.Contains(t, serving.Run("pin", "ls", "--type=recursive", "--names"), a+" recursive a name with spaces")
	serving.Run("repo", "gc", "--min-age", "0s")
	sameFiles(serving)
	serving.Stop()

	// Without us: kubo's own import brings back blocks and recursive pins.
	stock := newNode(t)
	stock.Run("init", "--profile", "test")
	stock.Run(append([]string{"dag", "import"}, glob(t, filepath.Join(backup, "*.car"))...)...)
	sameFiles(stock)
	pinned := stock.Run("pin", "ls", "--type=recursive")
	require.Contains(t, pinned, a)
	require.Contains(t, pinned, b)
}

// CARs that other tools wrote are restored as well; damaged ones are named.
func TestRestoreOfExportedCARs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.Run("init", "--profile", "test")
	file := random(t, 1, 800_000)
	root := n.Run("add", "-Q", file)
	car, err := n.Command("dag", "export", "--progress=false", root).Output()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.car"), car, 0o600))

	fresh := newNode(t)
	fresh.Run("init", "--profile", "test")
	fresh.Run(command("--from", dir)...)
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	got, err := fresh.Command("cat", root).Output()
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.car"), car[:len(car)-7], 0o600))
	line := newRepo(t).Fail(command("--from", dir)...)
	require.Contains(t, line, "b.car is damaged at byte")
	require.Contains(t, line, "--skip-damaged")
	other := newRepo(t)
	require.Contains(t, other.Run(command("--from", dir, "--skip-damaged")...), "b.car is damaged at byte")
	other.Run("cat", root)

	// A pin whose blocks are not all there is told, and not made.
	pins := fmt.Sprintf(`{"cid":%q,"kind":"recursive"}`+"\n"+`{"cid":%q,"kind":"recursive"}`+"\n", root, "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	require.NoError(t, os.Remove(filepath.Join(dir, "b.car")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pins.jsonl"), []byte(pins), 0o600))
	out, errOut, err := newRepo(t).Try(command("--from", dir)...)
	require.Error(t, err)
	require.Contains(t, out, "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy is not made")
	require.Contains(t, errOut, "1 pins could not be made")
}

func newRepo(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.Run("init", "--profile", "test")
	return n
}

// A repo whose blocks and everything else are in one store, as kubo's profile pebbleds has it, moves as well.
func TestFromOneStoreForEverything(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	n := newNode(t)
	n.Run("init", "--profile", "test,pebbleds")
	file := random(t, 1, 400_000)
	root := n.Run("add", "-Q", file)
	refs := n.refs()
	n.Run(toS3(s, s.NewBucket(t), "node-1")...)
	require.Equal(t, "s3ds", n.spec()["type"])
	n.sound(refs, map[string]string{root: file})
	n.Run(command("--delete-source")...)
	n.sound(refs, map[string]string{root: file})
	n.Run(command("--to", "flatfs")...)
	n.sound(refs, map[string]string{root: file})
}

// TestRequests: one PUT for each pack, and what is asked of the bucket is what the estimate said.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	proxy := s3test.NewProxy(t, s.URL)
	bucket := s.NewBucket(t)
	n := newRepo(t)
	n.Run("add", "-Q", random(t, 1, 100<<20))
	args := toS3At(proxy.URL, bucket, "node-1")
	all := events(t, n.Run(append(args, "--dry-run", "--json")...))
	estimate := all[len(all)-1].Estimate
	require.NotNil(t, estimate)
	require.Positive(t, estimate.Dollars)
	require.Positive(t, estimate.Hours)
	require.Empty(t, proxy.Take(), "an estimate asks the target nothing")

	r := n.result(args...)
	packs := objects(t, s, bucket, "node-1", "*.car")
	puts := 0
	for _, line := range proxy.Take() {
		if strings.HasPrefix(line, "PUT ") && strings.Contains(line, ".car:") {
			puts++
		}
	}
	require.Equal(t, len(packs), puts, "one PUT per pack")
	require.LessOrEqual(t, puts, 5, "100 MiB in packs of 32 MiB, and one of nodes")
	require.LessOrEqual(t, r.Result.Requests, int64(puts)+5, "and nothing for each block")
	require.InDelta(t, puts+7, float64(estimate.Requests["put"]), 2, "with five of the probe and two of the owner")

	// Back: neighbours come together, in how many requests depends on how fast they are asked for. 401 blocks are never
	// a tenth as many.
	r = n.result(command("--to", "flatfs", "--path", "back")...)
	t.Logf("back: %d requests", r.Result.Requests)
	require.LessOrEqual(t, r.Result.Requests, int64(40))
	b, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(b), `"Dollars":0.0000`)

	// And again into objects, which are throttled.
	r = n.result(toS3At(proxy.URL, bucket, "node-2", "--layout", "objects", "--max-requests", "300")...)
	require.GreaterOrEqual(t, r.Result.Requests, r.Result.Blocks)
	require.GreaterOrEqual(t, r.Result.Seconds, float64(r.Result.Requests)/300-1.5)
}
