package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core/commands"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
)

func s3Config(secret string) map[string]any {
	store := map[string]any{"mountpoint": "/blocks", "type": "s3ds", "bucket": "b", "region": "r", "accessKey": "AK"}
	if secret != "" {
		store["secretKey"] = secret
	}
	return map[string]any{
		"Identity": map[string]any{"PeerID": "p"},
		"Datastore": map[string]any{"Spec": map[string]any{"type": "mount", "mounts": []any{
			store,
			map[string]any{"mountpoint": "/", "type": "levelds"},
		}}},
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestHiddenTakesSecretsOutOfEveryAnswer(t *testing.T) {
	show := s3Config("topsecret")
	for name, answer := range map[string]any{
		"show":    &show,
		"get":     &commands.ConfigField{Key: "Datastore.Spec", Value: show["Datastore"].(map[string]any)["Spec"]},
		"get one": &commands.ConfigField{Key: "Datastore.Spec.secretKey", Value: "topsecret"},
		"profile": &commands.ConfigUpdateOutput{OldCfg: s3Config("topsecret"), NewCfg: s3Config("topsecret")},
	} {
		require.NotContains(t, string(encode(t, hidden(answer))), "topsecret", name)
	}
	require.Contains(t, string(encode(t, hidden(&show))), `"bucket":"b"`, "the rest is shown")
	require.Contains(t, string(encode(t, show)), "topsecret", "what was given is not changed")
}

type lastEmitted struct {
	cmds.ResponseEmitter
	v any
}

func (l *lastEmitted) Emit(v any) error { l.v = v; return nil }

func TestHidingEmitterKeepsSingle(t *testing.T) {
	cfg := s3Config("topsecret")
	to := &lastEmitted{}
	require.NoError(t, cmds.EmitOnce(&hidingEmitter{to}, &cfg))
	single, ok := to.v.(cmds.Single)
	require.True(t, ok)
	require.NotContains(t, string(encode(t, single.Value)), "topsecret")
}

func TestMergeCredentials(t *testing.T) {
	other := s3Config("")
	settings.BlocksStore(other["Datastore"].(map[string]any)["Spec"].(map[string]any))["bucket"] = "other"
	for name, c := range map[string]struct {
		old, next any
		want      string
	}{
		"left out: kept":                {s3Config("old"), s3Config(""), "old"},
		"given: the new one":            {s3Config("old"), s3Config("new"), "new"},
		"another bucket: not carried":   {s3Config("old"), other, ""},
		"there was none: there is none": {s3Config(""), s3Config(""), ""},
	} {
		var got map[string]any
		require.NoError(t, json.Unmarshal(mergeCredentials(encode(t, c.old), encode(t, c.next)), &got), name)
		secret, _ := configBlocksStore(got)["secretKey"].(string)
		require.Equal(t, c.want, secret, name)
	}
	require.Equal(t, "not json", string(mergeCredentials(encode(t, s3Config("old")), []byte("not json"))))
}

// Every profile that touches the datastore is refused on a repo that has
// another one, and no other profile is.
func TestCheckProfileRefusesWhateverChangesTheDatastore(t *testing.T) {
	root := t.TempDir()
	conf, err := config.InitWithIdentity(config.Identity{PeerID: "p"})
	require.NoError(t, err)
	blocks := settings.Blocks{Name: settings.S3, Spec: map[string]any{"type": "s3ds", "bucket": "b", "region": "r"}}
	require.NoError(t, blocks.Use(conf))
	require.NoError(t, os.WriteFile(filepath.Join(root, "config"), encode(t, conf), 0o600))

	refused := 0
	for name, p := range config.Profiles {
		err := checkProfile(root, name)
		if p.InitOnly {
			refused++
			require.ErrorContains(t, err, "nothing was changed", name)
			require.ErrorContains(t, err, "ipfs-aws init --profile "+name, name)
			require.ErrorContains(t, err, "s3ds", name)
		} else {
			require.NoError(t, err, name)
		}
	}
	require.NotZero(t, refused)
	require.NoError(t, checkProfile(root, "no-such-profile"), "left to kubo's own message")
}

func TestCheckProfileAllowsTheDatastoreTheRepoHas(t *testing.T) {
	root := t.TempDir()
	conf, err := config.InitWithIdentity(config.Identity{PeerID: "p"})
	require.NoError(t, err)
	require.NoError(t, config.Profiles["pebbleds"].Transform(conf))
	require.NoError(t, os.WriteFile(filepath.Join(root, "config"), encode(t, conf), 0o600))
	require.NoError(t, checkProfile(root, "pebbleds"))
	require.Error(t, checkProfile(root, "flatfs"))
}

func TestClaimFolderUndoesOnlyWhatInitMade(t *testing.T) {
	base := t.TempDir()

	absent := filepath.Join(base, "a", "repo")
	c, err := claimFolder(absent)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(absent, "config"), nil, 0o600))
	require.NoError(t, c.undo())
	require.NoDirExists(t, absent)

	empty := filepath.Join(base, "empty")
	require.NoError(t, os.Mkdir(empty, 0o700))
	c, err = claimFolder(empty)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(empty, "config"), nil, 0o600))
	require.NoError(t, c.undo())
	left, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Empty(t, left)

	used := filepath.Join(base, "used")
	require.NoError(t, os.MkdirAll(used, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(used, "mine"), nil, 0o600))
	c, err = claimFolder(used)
	require.NoError(t, err)
	require.NoError(t, c.undo())
	left, err = os.ReadDir(used)
	require.NoError(t, err)
	require.Len(t, left, 1, "what was there, and nothing else")
	require.Equal(t, "mine", left[0].Name())
}

// A process that dies while it makes a repo leaves something that kubo takes for
// a repo and does not open. The next attempt begins anew.
func TestAClaimThatWasBrokenOffIsNoObstacle(t *testing.T) {
	root := filepath.Join(t.TempDir(), "repo")
	_, err := claimFolder(root)
	require.NoError(t, err)
	for _, name := range []string{"config", "datastore_spec", "kept"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte("{}"), 0o600))
	}
	require.True(t, halfMade(root))

	c, err := claimFolder(root)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(root, "config"))
	require.NoFileExists(t, filepath.Join(root, "datastore_spec"))
	require.FileExists(t, filepath.Join(root, "kept"))
	require.NoError(t, c.done())
	require.False(t, halfMade(root))
}

func TestCheckFolder(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, checkFolder(filepath.Join(base, "x", "y")))
	left, err := os.ReadDir(base)
	require.NoError(t, err)
	require.Empty(t, left, "leaves no trace")

	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, checkFolder(file), "not a folder")
	require.ErrorContains(t, checkFolder(filepath.Join(file, "repo")), "IPFS_PATH")
}
