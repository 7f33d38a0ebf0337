package efs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	kuboconfig "github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/plugin"
	flatfs "github.com/ipfs/kubo/plugin/plugins/flatfs"
	"github.com/stretchr/testify/require"
)

func params(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	return m
}

// A repo changes type and nothing else, so kubo must find the same words in datastore_spec.
func TestDiskSpecIsThatOfFlatfs(t *testing.T) {
	for _, shardFunc := range []string{
		"/repo/flatfs/shard/v1/next-to-last/2",
		"/repo/flatfs/shard/v1/prefix/3",
		" /repo/flatfs/shard/v1/suffix/1\n",
	} {
		p := map[string]any{"path": "blocks", "shardFunc": shardFunc, "sync": true}
		stock, err := flatfs.Plugins[0].(plugin.PluginDatastore).DatastoreConfigParser()(p)
		require.NoError(t, err)
		p["workers"], p["indexPath"], p["cachePath"], p["cacheSize"] = 16.0, "/var/i", "/var/c", "1GiB"
		ours, err := datastorePlugin{}.DatastoreConfigParser()(p)
		require.NoError(t, err)
		require.Equal(t, stock.DiskSpec().String(), ours.DiskSpec().String())
	}
}

func TestSettings(t *testing.T) {
	c, err := parse(params(t, `{
		"type": "efsds", "mountpoint": "/blocks", "path": "blocks", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2",
		"sync": true, "workers": 16, "indexPath": "/var/i", "cachePath": "/var/c", "cacheSize": "10GiB"}`))
	require.NoError(t, err)
	require.Equal(t, "blocks", c.Path)
	require.Equal(t, 16, c.Workers)
	require.Equal(t, "/var/i", c.IndexPath)
	require.Equal(t, "/var/c", c.CachePath)
	require.EqualValues(t, 10<<30, c.CacheBytes)

	c, err = parse(params(t, `{"path": "blocks", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2", "cacheSize": 67108864, "cachePath": "/var/c"}`))
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, c.CacheBytes)
}

// What kubo writes for flatfs is taken as it is, but for the type.
func TestKubosOwnFlatfsConfigIsTaken(t *testing.T) {
	for _, m := range kuboconfig.DefaultDatastoreConfig().Spec["mounts"].([]any) {
		if mount := m.(map[string]any); mount["mountpoint"] == "/blocks" {
			_, err := parse(mount)
			require.NoError(t, err)
			return
		}
	}
	t.Fatal("kubo mounts nothing at /blocks")
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	const good = `"path": "blocks", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"`
	for _, test := range []struct {
		json string
		want []string
	}{
		{`{}`, []string{`"path"`, `"shardFunc"`}},
		{`{"path": 1, "shardFunc": true}`, []string{`"path": is 1`, `"shardFunc": is true`}},
		{`{"path": "blocks", "shardFunc": "/repo/flatfs/shard/v1/prefix/-1"}`, []string{`"shardFunc"`, "prefix/-1"}},
		{`{"path": "blocks", "shardFunc": "next-to-last/2"}`, []string{`"shardFunc"`}},
		{`{` + good + `, "sync": 1, "wrokers": 3}`, []string{`"sync": is 1`, `"wrokers": is not known`}},
		{`{` + good + `, "workers": 1025, "indexPath": "i", "cacheSize": "10GiB"}`, []string{`"workers": is 1025`, `"indexPath": is "i"`, `"cachePath": is missing`}},
		{`{` + good + `, "workers": 0}`, []string{`"workers": is 0`}},
		{`{` + good + `, "workers": 1.5}`, []string{`"workers": is 1.5`}},
		{`{` + good + `, "cachePath": "/c"}`, []string{`"cacheSize": is missing`}},
		{`{` + good + `, "cachePath": "/c", "cacheSize": "1MiB"}`, []string{`"cacheSize": is 1048576`}},
		{`{` + good + `, "cachePath": "/c", "cacheSize": "lots"}`, []string{`"cacheSize": is "lots"`}},
		{`{` + good + `, "cachePath": "/c", "cacheSize": "1GiB", "indexPath": "/c/i"}`, []string{`"indexPath": is /c/i`}},
		{`{"path": "/b", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2", "cachePath": "/b/c", "cacheSize": "1GiB"}`, []string{`"cachePath": is /b/c`}},
		{`{"path": "/b", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2", "indexPath": "/b/AA/i"}`, []string{`"indexPath": is /b/AA/i`}},
	} {
		_, err := parse(params(t, test.json))
		for _, want := range test.want {
			require.ErrorContains(t, err, want, test.json)
		}
	}
}

func TestCreateMakesTheStoreInTheRepo(t *testing.T) {
	c, err := parse(params(t, `{"path": "blocks", "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"}`))
	require.NoError(t, err)
	repo := t.TempDir()
	d, err := c.Create(repo)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	sharding, err := os.ReadFile(filepath.Join(repo, "blocks", "SHARDING"))
	require.NoError(t, err)
	require.Equal(t, "/repo/flatfs/shard/v1/next-to-last/2\n", string(sharding))
}
