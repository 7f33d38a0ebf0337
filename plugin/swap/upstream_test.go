package swap

import (
	"io"
	"testing"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/repo"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
)

// closing notes when it is closed.
type closing struct {
	*dssync.MutexDatastore
	name  string
	order *[]string
}

func (c closing) Close() error {
	*c.order = append(*c.order, c.name)
	return nil
}

// kubo builds its node on the repo that the decorator returns, and closes what the
// decorator has opened before it closes the repo itself.
func TestWhatIsKeptIsClosedBeforeTheRepo(t *testing.T) {
	var order []string
	store := func(name string) closing {
		return closing{dssync.MutexWrap(ds.NewMapDatastore()), name, &order}
	}
	core.RegisterFXOptionFunc(func(info core.FXNodeInfo) ([]fx.Option, error) {
		return append(info.FXOptions, fx.Decorate(Repo)), nil
	})
	identity, err := config.CreateIdentity(io.Discard, []options.KeyGenerateOption{options.Key.Type(options.Ed25519Key)})
	require.NoError(t, err)
	base := &repo.Mock{D: store("repo"), C: config.Config{Identity: identity}}
	n, err := core.NewNode(t.Context(), &core.BuildCfg{Repo: base})
	require.NoError(t, err)
	require.IsType(t, live{}, n.Repo)
	l, ok := Opened(base.Path())
	require.True(t, ok)
	l.Keep(store("kept"))
	require.NoError(t, n.Close())
	require.Equal(t, []string{"kept", "repo"}, order)
	_, ok = Opened(base.Path())
	require.False(t, ok)
}
