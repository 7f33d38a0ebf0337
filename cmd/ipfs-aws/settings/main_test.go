package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/kubo/config"
	kuboplugins "github.com/ipfs/kubo/plugin/loader"
	kuborepo "github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/stretchr/testify/require"
)

// kubo's parsers of datastore specs are plugins.
func TestMain(m *testing.M) {
	plugins, err := kuboplugins.NewPluginLoader("")
	for _, step := range []func() error{func() error { return err }, plugins.Initialize, plugins.Inject} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := fsrepo.AddDatastoreConfigHandler("both", parseBoth); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// both is a datastore that is made of two.
type both struct{ a, b fsrepo.DatastoreConfig }

func parseBoth(m map[string]any) (fsrepo.DatastoreConfig, error) {
	a, err := fsrepo.AnyDatastoreConfig(m["a"].(map[string]any))
	if err != nil {
		return nil, err
	}
	b, err := fsrepo.AnyDatastoreConfig(m["b"].(map[string]any))
	return both{a, b}, err
}

func (d both) DiskSpec() fsrepo.DiskSpec {
	return fsrepo.DiskSpec{"type": "both", "a": map[string]any(d.a.DiskSpec()), "b": map[string]any(d.b.DiskSpec())}
}

func (both) Create(string) (kuborepo.Datastore, error) { return nil, errors.New("not for opening") }

// awsSaysNothing takes the machine's own AWS settings out of the test.
func awsSaysNothing(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, os.DevNull)
	}
}

func load(t *testing.T, in Input) *Settings {
	t.Helper()
	s, err := Load(t.Context(), in)
	require.NoError(t, err)
	return s
}

// env is settings for a bucket and what is given besides.
func env(more ...string) []string {
	return append([]string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks", "IPFS_S3_REGION=eu-west-1"}, more...)
}

// repo is a folder with config and datastore_spec as `init` leaves them.
func repo(t *testing.T, environ ...string) string {
	t.Helper()
	root := t.TempDir()
	conf, err := config.InitWithIdentity(config.Identity{PeerID: "p", PrivKey: "k"})
	require.NoError(t, err)
	s := load(t, Input{Environ: environ, Default: Flatfs})
	require.NoError(t, s.Blocks.Use(conf))
	m, err := config.ToMap(conf)
	require.NoError(t, err)
	require.NoError(t, WriteConfig(root, m))
	spec, err := diskSpec(conf.Datastore.Spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, specFile), []byte(spec), 0o600))
	return root
}

// start plans with an environment and applies it, and returns what was changed.
func start(t *testing.T, root string, environ ...string) []string {
	t.Helper()
	p, err := planFor(t, root, environ...)
	require.NoError(t, err)
	require.NoError(t, p.Write(root))
	lines := []string{}
	for _, c := range p.Changes {
		lines = append(lines, c.String())
	}
	return lines
}

func planFor(t *testing.T, root string, environ ...string) (*Plan, error) {
	t.Helper()
	return load(t, Input{Environ: environ, Repo: root}).Plan(root)
}

// edit changes the config file as a user does.
func edit(t *testing.T, root string, change func(conf map[string]any)) {
	t.Helper()
	conf, err := ReadConfig(root)
	require.NoError(t, err)
	change(conf)
	b, err := json.Marshal(conf)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "config"), b, 0o600))
}

func read(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "config"))
	require.NoError(t, err)
	return string(b)
}
