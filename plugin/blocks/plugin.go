package blocks

import (
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/node"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	"go.uber.org/fx"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
	"github.com/ipfs-aws/ipfs-aws/plugin/adds"
	"github.com/ipfs-aws/ipfs-aws/plugin/gateway"
	"github.com/ipfs-aws/ipfs-aws/plugin/gc"
	"github.com/ipfs-aws/ipfs-aws/plugin/swap"
)

func init() { loader.Preload(fxPlugin{}) }

type fxPlugin struct{}

var _ plugin.PluginFx = fxPlugin{}

func (fxPlugin) Name() string                   { return "ipfs-aws-blocks" }
func (fxPlugin) Version() string                { return version.Version }
func (fxPlugin) Init(*plugin.Environment) error { return nil }

func (fxPlugin) Options(info core.FXNodeInfo) ([]fx.Option, error) {
	// upstream: decorators
	// upstream: pins-and-locks
	// upstream: exchange
	u := newUnread()
	return append(info.FXOptions, fx.Decorate(u.decorateBlocks), fx.Decorate(decorateRepo), fx.Decorate(gc.Locks), fx.Decorate(gc.Pinner),
		fx.Decorate(gc.MFS), fx.Decorate(u.decorateExchange)), nil
}

// decorateBlocks puts the decorators around kubo's base blockstore, the innermost
// first. The guard of gc is below the writes that adds carries out later: a block is
// touched when it goes to the store.
func (u *unread) decorateBlocks(base node.BaseBlocks, r repo.Repo) (node.BaseBlocks, error) {
	guarded, err := gc.Blocks(base, r)
	if err != nil {
		return nil, err
	}
	return unreadBlocks{adds.Blocks(guarded), u}, nil
}

// decorateRepo does the same with the repo.
func decorateRepo(base repo.Repo, lc fx.Lifecycle) (repo.Repo, error) {
	return gc.Repo(gateway.Repo(adds.Repo(swap.Repo(base, lc))), lc)
}
