package efs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/core/commands"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/memdir"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
	"github.com/ipfs-aws/ipfs-aws/plugin/adds"
	_ "github.com/ipfs-aws/ipfs-aws/plugin/blocks" // where adds decorates
	_ "github.com/ipfs-aws/ipfs-aws/plugin/efs"    // the datastore type efsds
)

// beKubo makes this program kubo: the stock one, or ours.
const (
	beKubo = "EFS_TEST_KUBO"
	stock  = "stock"
	ours   = "ours"
)

// TestMain is kubo itself, in the processes that the tests start.
func TestMain(m *testing.M) {
	switch os.Getenv(beKubo) {
	case "":
		os.Exit(m.Run())
	case ours:
		adds.Extend(commands.AddCmd)
	}
	os.Exit(kubo.Start(kubo.BuildDefaultEnv))
}

const (
	flatfsType = "flatfs"
	efsType    = "efsds"
)

// repo is a kubo repo, and the kubo that works on it: stock on flatfs, ours on
// efs.
type repo struct {
	t    *testing.T
	path string
	kubo string
}

// newRepo makes an empty repo with kubo's flatfs, synced.
func newRepo(t *testing.T) *repo {
	t.Helper()
	r := &repo{t, filepath.Join(memdir.New(t), "repo"), stock} // kubo syncs each block several times
	r.ipfs("init", "--empty-repo", "--profile", "test,flatfs")
	r.blockstore(flatfsType)
	return r
}

func (r *repo) command(args ...string) *exec.Cmd {
	cmd := proc.Command("/proc/self/exe", args...)
	cmd.Args[0] = "ipfs"
	cmd.Env = append(os.Environ(), beKubo+"="+r.kubo, "IPFS_PATH="+r.path, "IPFS_TELEMETRY=off")
	return cmd
}

func (r *repo) try(args ...string) (stdout, stderr string, err error) {
	cmd := r.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

func (r *repo) ipfs(args ...string) string {
	r.t.Helper()
	stdout, stderr, err := r.try(args...)
	require.NoError(r.t, err, "ipfs %s: %s", strings.Join(args, " "), stderr)
	return strings.TrimSpace(stdout)
}

// blockstore changes the type of the blocks' datastore in the config, and nothing else.
func (r *repo) blockstore(typ string) {
	r.t.Helper()
	r.kubo = stock
	if typ == efsType {
		r.kubo = ours
	}
	path := filepath.Join(r.path, "config")
	data, err := os.ReadFile(path)
	require.NoError(r.t, err)
	var config map[string]any
	require.NoError(r.t, json.Unmarshal(data, &config))
	spec := config["Datastore"].(map[string]any)["Spec"].(map[string]any)
	changed := false
	for _, m := range spec["mounts"].([]any) {
		mount := m.(map[string]any)
		if mount["mountpoint"] != "/blocks" {
			continue
		}
		blocks := mount
		if child, measured := mount["child"].(map[string]any); measured {
			blocks = child
		}
		blocks["type"], blocks["sync"] = typ, true
		changed = true
	}
	require.True(r.t, changed)
	data, err = json.MarshalIndent(config, "", "  ")
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(path, data, 0o600))
}

// files writes a tree with small files, an empty one, and one of several blocks.
func files(t *testing.T, seed string, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	for i := range n {
		name := filepath.Join(dir, "sub", fmt.Sprintf("%04d", i))
		require.NoError(t, os.WriteFile(name, []byte(fmt.Sprintf("%s %d %s", seed, i, strings.Repeat("x", i))), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte(seed+"large"), 100_000), 0o600))
	return dir
}

func (r *repo) add(dir string) string {
	r.t.Helper()
	return r.ipfs("add", "-r", "-Q", dir)
}

// requireTree checks that a tree comes back byte for byte.
func (r *repo) requireTree(cid, dir string) {
	r.t.Helper()
	out := filepath.Join(r.t.TempDir(), "out")
	r.ipfs("get", "-o", out, cid)
	diff, err := proc.Command("diff", "-r", dir, out).CombinedOutput()
	require.NoError(r.t, err, string(diff))
}

// One repo, to and fro between stock's flatfs and ours, with writes, reads, gc
// and `repo verify` on each side. Nothing but the type changes.
func TestBothWaysUnderKubo(t *testing.T) {
	r := newRepo(t)
	spec, err := os.ReadFile(filepath.Join(r.path, "datastore_spec"))
	require.NoError(t, err)
	trees := map[string]string{}
	for round, typ := range []string{flatfsType, efsType, flatfsType, efsType, flatfsType} {
		r.blockstore(typ)
		if round > 1 { // stock flatfs is at ease with the lock of ours
			require.FileExists(t, filepath.Join(r.path, "blocks", "efs.lock"))
		}
		require.Contains(t, r.ipfs("repo", "verify"), "verify complete")
		for cid, dir := range trees {
			r.requireTree(cid, dir)
		}
		dir := files(t, fmt.Sprint("round ", round), 40)
		trees[r.add(dir)] = dir

		// Something to collect.
		dead := r.ipfs("add", "-r", "-Q", "--pin=false", files(t, fmt.Sprint("dead ", round), 40))
		removed := strings.Split(r.ipfs("repo", "gc", "-q"), "\n")
		require.GreaterOrEqual(t, len(removed), 40)
		_, stderr, err := r.try("cat", "--offline", dead+"/sub/0001")
		require.Error(t, err)
		require.Contains(t, stderr, "not found")

		stat := r.ipfs("repo", "stat", "--size-only")
		require.Contains(t, stat, "RepoSize")
	}
	after, err := os.ReadFile(filepath.Join(r.path, "datastore_spec"))
	require.NoError(t, err)
	require.Equal(t, string(spec), string(after))
}

// The same keys, in the same number, are listed by both.
func TestListingsAgree(t *testing.T) {
	r := newRepo(t)
	r.add(files(t, "listed", 60))
	list := func(typ string) map[string]bool {
		r.blockstore(typ)
		set := map[string]bool{}
		for _, line := range strings.Split(r.ipfs("refs", "local"), "\n") {
			require.False(t, set[line], "%s lists %s twice", typ, line)
			set[line] = true
		}
		return set
	}
	stock := list(flatfsType)
	require.Greater(t, len(stock), 60)
	require.Equal(t, stock, list(efsType))
}

// A block that rotted on disk is found by `repo verify` under efs as under flatfs.
func TestVerifySeesDamage(t *testing.T) {
	r := newRepo(t)
	r.blockstore(efsType)
	r.add(files(t, "rotten", 10))
	require.Contains(t, r.ipfs("repo", "verify"), "verify complete")
	blocks, err := filepath.Glob(filepath.Join(r.path, "blocks", "*", "*.data"))
	require.NoError(t, err)
	for _, path := range blocks {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		if len(data) == 0 {
			continue
		}
		data[0] ^= 1
		require.NoError(t, os.WriteFile(path, data, 0o600))
		break
	}
	_, _, err = r.try("repo", "verify")
	require.Error(t, err)
}

// daemon starts an offline daemon and waits until it is ready.
func (r *repo) daemon() *exec.Cmd {
	r.t.Helper()
	cmd := r.command("daemon", "--offline")
	stdout, err := cmd.StdoutPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Daemon is ready") {
			go func() {
				for lines.Scan() {
				}
			}()
			return cmd
		}
	}
	require.FailNow(r.t, "the daemon ended before it was ready")
	return nil
}

// While a daemon has the store open, a second opener is kept out, be it efs or flatfs.
func TestRepoLockKeepsASecondOpenerOut(t *testing.T) {
	r := newRepo(t)
	r.blockstore(efsType)
	cid := r.add(files(t, "locked", 5))
	daemon := r.daemon()
	for _, typ := range []string{efsType, flatfsType} {
		r.blockstore(typ)
		_, stderr, err := r.try("daemon", "--offline")
		require.Error(t, err)
		require.Contains(t, stderr, "lock")
	}
	// The lock goes with the process, however it ends.
	require.NoError(t, daemon.Process.Kill())
	_ = daemon.Wait()
	r.blockstore(efsType)
	require.NoError(t, os.RemoveAll(filepath.Join(r.path, "api")))
	require.Contains(t, r.ipfs("repo", "verify"), "verify complete")
	r.ipfs("cat", cid+"/sub/0001")
}

// An add is killed half-way. What it had printed is there: under efs, and, left
// for stock at once, under flatfs.
func TestKilledAddLosesNothing(t *testing.T) {
	for _, typ := range []string{efsType, flatfsType} {
		t.Run("opened by "+typ, func(t *testing.T) {
			r := newRepo(t)
			r.blockstore(efsType)
			// More lines than a pipe holds (64 KiB), so that the add cannot end
			// before it is killed.
			dir := files(t, "killed", 2000)
			cmd := r.command("add", "-r", "--cid-version=1", "--raw-leaves", dir)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			var added []string
			lines := bufio.NewScanner(stdout)
			for lines.Scan() {
				fields := strings.Fields(lines.Text())
				require.GreaterOrEqual(t, len(fields), 2)
				added = append(added, fields[1])
				if len(added) == 200 {
					require.NoError(t, cmd.Process.Kill())
				}
			}
			require.Error(t, cmd.Wait())
			require.GreaterOrEqual(t, len(added), 200)

			r.blockstore(typ)
			require.Contains(t, r.ipfs("repo", "verify"), "verify complete")
			local := map[string]bool{}
			for _, line := range strings.Split(r.ipfs("refs", "local"), "\n") {
				local[line] = true
			}
			for _, cid := range added {
				require.True(t, local[cid] || !strings.HasPrefix(cid, "bafkrei"), "%s was added, and is not there", cid)
			}
		})
	}
}
