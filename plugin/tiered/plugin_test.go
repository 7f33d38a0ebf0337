package tiered

import (
	"os"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/stretchr/testify/require"

	_ "github.com/ipfs-aws/ipfs-aws/plugin/efs"
	_ "github.com/ipfs-aws/ipfs-aws/plugin/s3ds"
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

type spec = map[string]any

func files(path string) spec {
	return spec{"type": "efsds", "path": path, "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"}
}

func s3(prefix string, more spec) spec {
	s := spec{"type": "s3ds", "layout": "packs", "region": "us-east-1", "bucket": "blocks", "rootDirectory": prefix}
	for k, v := range more {
		s[k] = v
	}
	return s
}

func TestMistakes(t *testing.T) {
	own := spec{"journalPath": "j", "indexPath": "i", "cachePath": "c"}
	for name, c := range map[string]struct {
		spec spec
		says []string
	}{
		"nothing":         {spec{"type": "tiered"}, []string{`"hot" must be the spec of a store`, `"cold" must be`}},
		"unknown setting": {spec{"type": "tiered", "hot": files("a"), "cold": files("b"), "warm": true}, []string{`"warm" is not known`}},
		"unknown type":    {spec{"type": "tiered", "hot": spec{"type": "tape"}, "cold": files("b")}, []string{`"hot": unknown datastore type: tape`}},
		"bad child":       {spec{"type": "tiered", "hot": files("a"), "cold": spec{"type": "s3ds"}}, []string{`"cold"`, "bucket"}},
		"promote":         {spec{"type": "tiered", "hot": files("a"), "cold": files("b"), "promote": "yes"}, []string{"true or false"}},
		"same store": {spec{"type": "tiered", "hot": files("a"), "cold": spec{"type": "measure", "prefix": "x", "child": spec{
			"type": "flatfs", "path": "a", "sync": true, "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2"}}}, []string{"the same store"}},
		"same folders": {spec{"type": "tiered", "hot": s3("x", nil), "cold": s3("y", nil)}, []string{"a journalPath, indexPath and cachePath of its own"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fsrepo.AnyDatastoreConfig(c.spec)
			require.Error(t, err)
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
		})
	}
	_, err := fsrepo.AnyDatastoreConfig(spec{"type": "tiered", "hot": s3("x", nil), "cold": s3("y", own), "promote": true, "mountpoint": "/blocks"})
	require.NoError(t, err)
}

// The stores, and which of them is the hot one, are what must not change under a repo.
func TestDiskSpec(t *testing.T) {
	disk := func(s spec) string {
		c, err := fsrepo.AnyDatastoreConfig(s)
		require.NoError(t, err)
		return c.DiskSpec().String()
	}
	one := disk(spec{"type": "tiered", "hot": files("a"), "cold": s3("x", nil)})
	require.Equal(t, `{"cold":{"bucket":"blocks","layout":"packs","region":"us-east-1","rootDirectory":"x"},`+
		`"hot":{"path":"a","shardFunc":"/repo/flatfs/shard/v1/next-to-last/2","type":"flatfs"},"type":"tiered"}`, one)
	require.Equal(t, one, disk(spec{"type": "tiered", "hot": files("a"), "cold": s3("x", spec{"uploads": 8.0}), "promote": true}), "tuning is not in it")
	require.NotEqual(t, one, disk(spec{"type": "tiered", "hot": s3("x", nil), "cold": files("a")}))
}

func TestCreate(t *testing.T) {
	repo := t.TempDir()
	c, err := fsrepo.AnyDatastoreConfig(spec{"type": "tiered", "hot": files("hot"), "cold": files("cold")})
	require.NoError(t, err)
	d, err := c.Create(repo)
	require.NoError(t, err)
	s, ok := Opened(repo)
	require.True(t, ok)
	key := ds.NewKey("CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y")
	require.NoError(t, s.Cold().Put(t.Context(), key, []byte("x")))
	got, err := d.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
	require.NoError(t, d.Close())
	_, ok = Opened(repo)
	require.False(t, ok)

	require.NoError(t, os.WriteFile(filepath.Join(repo, "file"), nil, 0o600))
	c, err = fsrepo.AnyDatastoreConfig(spec{"type": "tiered", "hot": files("hot"), "cold": files("file")})
	require.NoError(t, err)
	_, err = c.Create(repo)
	require.ErrorContains(t, err, "open the cold store")
	d, err = fsrepoCreate(repo)
	require.NoError(t, err, "the hot one was closed again")
	require.NoError(t, d.Close())
}

func fsrepoCreate(repo string) (ds.Batching, error) {
	c, err := fsrepo.AnyDatastoreConfig(files("hot"))
	if err != nil {
		return nil, err
	}
	return c.Create(repo)
}
