package swap

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	lockfile "github.com/ipfs/go-fs-lock"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	plugins, err := loader.NewPluginLoader("")
	if err == nil {
		err = plugins.Initialize()
	}
	if err == nil {
		err = plugins.Inject()
	}
	if err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func spec(blocks map[string]any) map[string]any {
	blocks["mountpoint"] = "/blocks"
	return map[string]any{"type": "mount", "mounts": []any{
		blocks, map[string]any{"mountpoint": "/", "type": "levelds", "path": "datastore", "compression": "none"},
	}}
}

func flatfs(path string) map[string]any {
	return map[string]any{"type": "flatfs", "path": path, "sync": true, "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"}
}

func newRepo(t *testing.T) string {
	t.Helper()
	repo := t.TempDir()
	cfg, err := config.InitWithIdentity(config.Identity{PeerID: "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN", PrivKey: "CAESQ"})
	require.NoError(t, err)
	cfg.Datastore.Spec = spec(flatfs("blocks"))
	require.NoError(t, fsrepo.Init(repo, cfg))
	return repo
}

func opens(t *testing.T, repo, path string) {
	t.Helper()
	r, err := fsrepo.Open(repo)
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(repo, path))
	require.NoError(t, r.Close())
}

func decided(t *testing.T, path string) Decision {
	t.Helper()
	d, err := Decide(spec(flatfs(path)), Switched, map[string]any{"Datastore.StorageMax": "1PB"})
	require.NoError(t, err)
	return d
}

func TestSwitch(t *testing.T) {
	repo := newRepo(t)
	opens(t, repo, "blocks")
	require.NoError(t, (&Record{Phase: Copying}).Save(repo))
	require.NoError(t, Switch(repo, nil, decided(t, "others")))
	opens(t, repo, "others")
	r, err := Load(repo)
	require.NoError(t, err)
	require.Equal(t, Switched, r.Phase)
	require.NoFileExists(t, decisionFile(repo))
	b, err := os.ReadFile(filepath.Join(repo, "config"))
	require.NoError(t, err)
	require.Contains(t, string(b), `"StorageMax": "1PB"`)
	require.Contains(t, string(b), `"PeerID"`, "the rest is kept")
}

// Whatever a crash in the middle of a switch leaves behind, Recover makes it one that opens.
func TestCrashAtEveryStepOfASwitch(t *testing.T) {
	for _, step := range []string{"decided", "config written", "spec written", "record written"} {
		t.Run(step, func(t *testing.T) {
			repo := newRepo(t)
			require.NoError(t, (&Record{Phase: Copying}).Save(repo))
			d := decided(t, "others")
			b, err := json.Marshal(d)
			require.NoError(t, err)
			// Half-written files of each kind lie about, too.
			for _, name := range []string{decisionFile(repo), filepath.Join(repo, "config"), recordFile(repo)} {
				require.NoError(t, os.WriteFile(name+".new", []byte(`{"half`), 0o600))
			}
			require.NoError(t, os.WriteFile(decisionFile(repo), b, 0o600))
			oldSpec, err := os.ReadFile(filepath.Join(repo, specFile))
			require.NoError(t, err)
			if step != "decided" {
				require.NoError(t, d.write(repo, nil))
			}
			if step == "config written" {
				require.NoError(t, os.WriteFile(filepath.Join(repo, specFile), oldSpec, 0o600))
				_, err := fsrepo.Open(repo)
				require.Error(t, err, "kubo alone cannot open it")
			}
			if step == "record written" {
				require.NoError(t, (&Record{Phase: Switched}).Save(repo))
			}
			require.NoError(t, Recover(repo))
			opens(t, repo, "others")
			r, err := Load(repo)
			require.NoError(t, err)
			require.Equal(t, Switched, r.Phase)
			require.NoError(t, Recover(repo), "with nothing left to do")
		})
	}
}

// While another process is in the middle of it, nothing is touched.
func TestRecoverLeavesALockedRepoAlone(t *testing.T) {
	repo := newRepo(t)
	require.NoError(t, makeFolder(repo))
	require.NoError(t, os.WriteFile(decisionFile(repo), []byte("{}"), 0o600))
	lock, err := lockfile.Lock(repo, fsrepo.LockFile)
	require.NoError(t, err)
	require.NoError(t, Recover(repo))
	require.FileExists(t, decisionFile(repo))
	require.NoError(t, lock.Close())
}

func TestDecideRefusesASpecThatKuboDoesNotTake(t *testing.T) {
	_, err := Decide(spec(map[string]any{"type": "tape"}), Switched, nil)
	require.ErrorContains(t, err, "unknown datastore type: tape")
}
