package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/testnode"
)

// within is a client that gives up, for what hangs without the mend.
func within(t *testing.T, n *testnode.Node, d time.Duration) client {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return client{ctx, n.API}
}

func randomFile(t *testing.T, seed uint64) file {
	return newFile(t, rand.New(rand.NewPCG(seed, 7)))
}

// missingLeaf is the file as a CAR without its last leaf.
func (f file) missingLeaf() [][]byte {
	pieces := f.car()
	at := len(pieces) - 2
	return append(pieces[:at:at], pieces[at+1])
}

// #1: a collection between the parts of an upload, or between an upload and its pin, takes nothing of it.
func TestACollectionDuringAnUpload(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"})
	n.Start()
	c := within(t, n, testnode.Patience)
	collect := func() {
		_, err := c.call("repo/gc")
		require.NoError(t, err)
	}
	for i, name := range []string{"CAR", "pinned CAR", "blocks", "add without a pin", "add"} {
		t.Run(name, func(t *testing.T) {
			f := randomFile(t, uint64(i))
			root := f.root.Cid().String()
			pinIt := true
			switch name {
			case "CAR":
				_, err := c.upload("dag/import", f.car(), collect, "pin-roots", "false")
				require.NoError(t, err)
			case "pinned CAR":
				// kubo's collection waits for the import here, which waits for the collection.
				_, err := c.upload("dag/import", f.car(), collect)
				require.NoError(t, err)
				pinIt = false
			case "blocks":
				for _, l := range f.leaves {
					_, err := c.upload("block/put", [][]byte{l.RawData()}, nil, "cid-codec", "raw")
					require.NoError(t, err)
					collect()
				}
				_, err := c.upload("block/put", [][]byte{f.root.RawData()}, nil, "cid-codec", "dag-pb")
				require.NoError(t, err)
			default:
				pin := fmt.Sprint(name == "add")
				b, err := c.upload("add", f.halves(), collect, "chunker", fmt.Sprintf("size-%d", leafSize), "cid-version", "1", "pin", pin, "progress", "false")
				require.NoError(t, err)
				var out struct{ Hash string }
				require.NoError(t, json.Unmarshal(b, &out))
				root, pinIt = out.Hash, name != "add"
			}
			collect()
			if pinIt {
				_, err := within(t, n, 20*time.Second).call("pin/add", "arg", root)
				require.NoError(t, err)
			}
			collect()
			b, err := c.call("cat", "arg", root, "offline", "true")
			require.NoError(t, err)
			require.Equal(t, f.data, b)
		})
	}
	n.Stop()
}

// #2: a pin whose content no one has stops neither collections nor other pins, and ends the daemon's life in time.
func TestAPinThatCannotBeCompleted(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"}, "IPFS_PIN_STALL=10m", "IPFS_CONFIG_Internal_ShutdownTimeout=10s")
	n.Start()
	c := within(t, n, testnode.Patience)
	f := randomFile(t, 1)
	_, err := c.upload("dag/import", f.missingLeaf(), nil, "pin-roots", "false")
	require.NoError(t, err)
	hanging := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.API+"/api/v0/pin/add?progress=true&arg="+f.root.Cid().String(), nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		hanging <- err
	}()
	// The answer has begun: the pin is under way.
	collected := make(chan error, 1)
	go func() {
		_, err := c.call("repo/gc", "stream-errors", "true")
		collected <- err
	}()
	for i := range 5 {
		good := randomFile(t, uint64(10+i))
		_, err := within(t, n, 30*time.Second).upload("dag/import", good.car(), nil)
		require.NoError(t, err, "a pin next to one that hangs")
	}
	select {
	case err := <-collected:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.Fail(t, "the collection waits for the pin")
	}
	require.Empty(t, hanging, "it still waits")
	before := time.Now()
	require.NoError(t, n.End(syscall.SIGTERM))
	require.Less(t, time.Since(before), time.Minute)
}

func TestAPinSaysWhatIsMissing(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"}, "IPFS_PIN_STALL=1s")
	n.Start()
	c := within(t, n, testnode.Patience)
	f := randomFile(t, 1)
	missing := f.leaves[len(f.leaves)-1].Cid().String()
	_, err := c.upload("dag/import", f.missingLeaf(), nil, "pin-roots", "false")
	require.NoError(t, err)
	for _, progress := range []string{"true", "false"} {
		_, err = c.call("pin/add", "arg", f.root.Cid().String(), "progress", progress)
		require.ErrorContains(t, err, "no new block for 1s; first missing "+missing)
	}
	other := randomFile(t, 2) // of which nothing is here
	_, err = c.call("pin/add", "arg", other.root.Cid().String())
	require.ErrorContains(t, err, "first missing "+other.root.Cid().String())
	// A pin that is there stays when another one in its place fails.
	good := randomFile(t, 3)
	_, err = c.upload("dag/import", good.car(), nil)
	require.NoError(t, err)
	_, err = c.call("pin/update", "arg", good.root.Cid().String(), "arg", f.root.Cid().String())
	require.ErrorContains(t, err, missing)
	b, err := c.call("pin/ls", "type", "recursive")
	require.NoError(t, err)
	require.Contains(t, string(b), good.root.Cid().String())
	require.NotContains(t, string(b), f.root.Cid().String())
	n.Stop()
	require.Contains(t, n.Fail("pin", "add", f.root.Cid().String()), missing, "without a daemon")
}

// #4: a CAR with a missing block is no pin, at once.
func TestACARThatIsNotWhole(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"})
	n.Start()
	f := randomFile(t, 1)
	b, err := within(t, n, 30*time.Second).upload("dag/import", f.missingLeaf(), nil)
	missing := f.leaves[len(f.leaves)-1].Cid().String()
	require.ErrorContains(t, err, missing, "%s", b)
	require.Contains(t, string(b), missing, "and in the answer of the root, as kubo has it")
	b, err = within(t, n, 30*time.Second).call("pin/ls", "type", "recursive")
	require.NoError(t, err)
	require.NotContains(t, string(b), f.root.Cid().String())
	path := filepath.Join(t.TempDir(), "f.car")
	require.NoError(t, os.WriteFile(path, bytes.Join(f.missingLeaf(), nil), 0o600))
	require.Contains(t, n.Fail("dag", "import", path), missing)
	n.Stop()
	require.Contains(t, n.Fail("dag", "import", path), missing, "without a daemon")
}

// #5: a collection does not take what other repos have pinned in the same store.
func TestAStoreOfOthers(t *testing.T) {
	for name, store := range map[string]func(t *testing.T) []string{
		"s3 packs": func(t *testing.T) []string {
			s := s3test.Start(t)
			return []string{"--blockstore", "s3", "--bucket", s.NewBucket(t), "--prefix", "p", "--endpoint", s.URL, "--region", s3test.Region}
		},
		"s3 objects": func(t *testing.T) []string {
			s := s3test.Start(t)
			return []string{"--blockstore", "s3", "--layout", "objects", "--bucket", s.NewBucket(t), "--endpoint", s.URL, "--region", s3test.Region}
		},
		"efs": func(t *testing.T) []string {
			return []string{"--blockstore", "efs", "--path", filepath.Join(t.TempDir(), "blocks")}
		},
		"flatfs": func(t *testing.T) []string {
			return []string{"--blockstore", "flatfs", "--path", filepath.Join(t.TempDir(), "blocks")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			where := store(t)
			a := fresh(t, stormProgram(t), where)
			root := add(t, a, "of a")
			require.NotContains(t, a.Run("repo", "gc", "--min-age", "0s"), root)

			b := fresh(t, stormProgram(t), where)
			refusal := b.Fail("repo", "gc", "--min-age", "0s")
			require.Contains(t, refusal, "--adopt")
			require.Contains(t, b.Fail("repo", "gc", "--dry-run"), "--adopt")
			require.Contains(t, b.Run("repo", "gc", "--adopt", "--dry-run", "--min-age", "0s"), "would remove")
			mine := add(t, b, "of b")
			require.Contains(t, b.Fail("repo", "gc", "--min-age", "0s"), "--adopt")

			require.Contains(t, a.Fail("repo", "gc", "--min-age", "0s"), "--adopt", "b has written since")
			require.Equal(t, "of a", a.Run("cat", root))
			require.Equal(t, "of b", b.Run("cat", mine))

			a.Run("repo", "gc", "--adopt", "--min-age", "0s")
			require.Equal(t, "of a", a.Run("cat", root))
			require.Contains(t, a.Fail("cat", "--offline", mine), "not", "what a has not pinned is gone")
			a.Run("repo", "gc", "--min-age", "0s")
		})
	}
}

// A repo of the former release knows nothing of lists, and goes on.
func TestARepoOfTheFormerRelease(t *testing.T) {
	where := []string{"--blockstore", "efs", "--path", filepath.Join(t.TempDir(), "blocks")}
	n := fresh(t, stormProgram(t), where)
	root := add(t, n, "old")
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "gc")))
	require.NoError(t, os.Remove(filepath.Join(where[3], "ipfs-aws-repos")))
	n.Run("repo", "gc", "--min-age", "0s")
	require.Equal(t, "old", n.Run("cat", root))
	require.FileExists(t, filepath.Join(where[3], "ipfs-aws-repos"))
}

func TestTwoNodesOnOneFolder(t *testing.T) {
	where := []string{"--blockstore", "efs", "--path", filepath.Join(t.TempDir(), "blocks")}
	a := fresh(t, stormProgram(t), where)
	b := fresh(t, stormProgram(t), where)
	a.Start()
	refusal := b.Fail("repo", "stat")
	require.Contains(t, refusal, where[3])
	require.Contains(t, refusal, fmt.Sprintf("process %d", a.Cmd.Process.Pid))
	require.Error(t, a.End(syscall.SIGKILL))
	b.Run("repo", "stat") // a holder that was killed holds nothing
	a.Start()             // nor does a command that has ended
	a.Stop()
}

func add(t *testing.T, n *testnode.Node, content string) string {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return n.Run("add", "-Q", path)
}

func TestDryRun(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"})
	content := strings.Repeat("x", 1000)
	root := add(t, n, content)
	n.Run("pin", "rm", root)
	said := n.Run("repo", "gc", "--dry-run")
	require.Contains(t, said, "would remove 0 blocks, 0 bytes")
	require.Contains(t, said, "touches are known for", "the history is too short for an hour")
	said = n.Run("repo", "gc", "--dry-run", "--min-age", "0s")
	require.Contains(t, said, "would remove 2 blocks, 1104 bytes") // the file, and the folder that an add makes around it
	var sizes, blocks int64
	for line := range strings.SplitSeq(n.Run("repo", "gc", "--dry-run", "--min-age", "0s", "--enc", "json"), "\n") {
		var e struct {
			Size    int64
			Summary *struct{ Blocks, Bytes int64 }
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		sizes += e.Size
		if e.Summary != nil {
			blocks = e.Summary.Blocks
			require.Equal(t, sizes, e.Summary.Bytes)
		}
	}
	require.EqualValues(t, 2, blocks)
	require.Equal(t, content, n.Run("cat", root), "nothing was removed")
	require.Contains(t, n.Fail("repo", "gc", "--min-age", "100h"), "IPFS_GC_MIN_AGE")
	require.Contains(t, n.Fail("repo", "gc", "--min-age", "soon"), "duration")
	require.Equal(t, 2, strings.Count(n.Run("repo", "gc", "--min-age", "0s"), "removed "))
	require.Contains(t, n.Fail("cat", "--offline", root), "not")
}

func TestAPinThatIsNotWholeEndsACollection(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"})
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), 0o600))
	root := n.Run("add", "-Q", "--raw-leaves=false", "--chunker=size-100000", path)
	garbage := add(t, n, "garbage")
	n.Run("pin", "rm", garbage)
	leaf := strings.Fields(n.Run("refs", root))[0]
	c, err := cid.Decode(leaf)
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(n.Dir, "blocks", "*", dshelp.MultihashToDsKey(c.Hash()).Name()+".data"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.Remove(files[0]))
	said := n.Fail("repo", "gc", "--min-age", "0s")
	require.Contains(t, said, root)
	require.Contains(t, said, leaf)
	require.Equal(t, "garbage", n.Run("cat", garbage), "nothing was removed")
}

// #6: what an upload leaves that was given up is gone with the next collection after the age.
func TestAnUploadThatIsGivenUp(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"})
	n.Start()
	c := within(t, n, testnode.Patience)
	ctx, cancel := context.WithCancel(t.Context())
	r := rand.New(rand.NewPCG(1, 1))
	half := make([]byte, 8<<20)
	fill(half, r.Uint64())
	aborted := client{ctx, n.API}
	_, err := aborted.upload("add", [][]byte{half, half}, func() {
		require.Eventually(t, func() bool {
			b, err := c.call("refs/local")
			return err == nil && bytes.Count(b, []byte("\n")) > 8
		}, testnode.Patience, 20*time.Millisecond)
		cancel()
	}, "progress", "false")
	require.Error(t, err)
	require.Eventually(t, func() bool {
		_, err := c.call("repo/gc", "min-age", "0s")
		require.NoError(t, err)
		b, err := c.call("refs/local")
		require.NoError(t, err)
		return len(keys(t, b)) <= len(stay(t, c))
	}, testnode.Patience, 20*time.Millisecond, "the add may still be ending")
	n.Stop()
}

func TestADaemonThatCollects(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"}, "IPFS_GC=on", "IPFS_STORAGE_MAX=4MB", "IPFS_GC_MIN_AGE=1s")
	n.Run("config", "Datastore.GCPeriod", "200ms")
	n.Start()
	c := within(t, n, testnode.Patience)
	b, err := c.call("repo/stat", "size-only", "true")
	require.NoError(t, err)
	require.Contains(t, string(b), `"StorageMax":4000000`)
	_, err = c.upload("add", [][]byte{bytes.Repeat([]byte("kept"), 1000)}, nil)
	require.NoError(t, err)
	big := make([]byte, 3900_000)
	fill(big, 3)
	_, err = c.upload("add", [][]byte{big}, nil, "pin", "false")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b, err := c.call("refs/local")
		require.NoError(t, err)
		return len(keys(t, b)) < 10
	}, time.Minute, 100*time.Millisecond, "what is above the watermark and not pinned goes")
	n.Stop()
}

// #7: whatever hangs, the daemon ends within its stop time.
func TestADaemonThatHangsEnds(t *testing.T) {
	n := fresh(t, stormProgram(t), []string{"--blockstore", "flatfs"}, "IPFS_PIN_STALL=10m", "IPFS_CONFIG_Internal_ShutdownTimeout=5s")
	n.Start()
	c := within(t, n, testnode.Patience)
	f := randomFile(t, 1)
	// A folder whose child no one has.
	dir := new(merkledag.ProtoNode)
	dir.SetData([]byte{8, 1})
	require.NoError(t, dir.AddNodeLink("child", f.root))
	_, err := c.upload("block/put", [][]byte{dir.RawData()}, nil, "cid-codec", "dag-pb")
	require.NoError(t, err)
	_, err = c.call("files/cp", "arg", "/ipfs/"+dir.Cid().String(), "arg", "/lazy")
	require.NoError(t, err)
	for _, hangs := range [][]string{
		{"files/stat", "arg", "/lazy/child"},
		{"files/mkdir", "arg", "/lazy/child/below"},
		{"files/ls", "arg", "/lazy", "long", "true"},
		{"pin/add", "arg", f.root.Cid().String()},
		{"files/cp", "arg", "/ipfs/" + f.root.Cid().String(), "arg", "/other"},
	} {
		go func() { _, _ = client{t.Context(), n.API}.call(hangs[0], hangs[1:]...) }()
	}
	_, err = within(t, n, 90*time.Second).call("repo/gc")
	if err != nil {
		require.ErrorContains(t, err, "MFS") // an operation holds it: nothing is removed
	}
	before := time.Now()
	// It may not say that all is well: something had to be given up.
	err = n.End(syscall.SIGTERM)
	t.Logf("ended after %s: %v", time.Since(before).Round(time.Millisecond), err)
	require.Less(t, time.Since(before), time.Minute)
}
