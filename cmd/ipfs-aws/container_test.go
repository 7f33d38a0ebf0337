package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/config"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
)

// A container's gateway can be reached from outside from its first start on, and
// its RPC cannot.
func TestTheConfigOfANewRepo(t *testing.T) {
	root := filepath.Join(t.TempDir(), "repo")
	s, err := settings.Load(t.Context(), settings.Input{Default: settings.EFS})
	require.NoError(t, err)
	made := func(ctx context.Context) *config.Config {
		req, err := cmds.NewRequest(ctx, []string{"init"}, cmds.OptMap{"algorithm": "ed25519"}, nil, nil, kubo.Root)
		require.NoError(t, err)
		conf, err := initConfig(req, root, s)
		require.NoError(t, err)
		return conf
	}
	conf := made(context.WithValue(t.Context(), adjustKey{}, openGateway))
	require.Equal(t, config.Strings{"/ip4/0.0.0.0/tcp/8080"}, conf.Addresses.Gateway)
	require.Equal(t, config.Strings{"/ip4/127.0.0.1/tcp/5001"}, conf.Addresses.API)
	require.Equal(t, "efsds", settings.BlocksStore(conf.Datastore.Spec)["type"])

	require.Equal(t, config.Strings{"/ip4/127.0.0.1/tcp/8080"}, made(t.Context()).Addresses.Gateway, "and elsewhere it is kubo's")
	require.NoDirExists(t, root)
}

func TestSwarmKeyIsWrittenOnceAndReplaced(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "swarm.key")
	require.NoError(t, writeSwarmKey(root, nil))
	require.NoFileExists(t, path)
	for _, key := range []string{"one\n", "one\n", "two\n"} {
		require.NoError(t, writeSwarmKey(root, []byte(key)))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, key, string(b))
	}
}
