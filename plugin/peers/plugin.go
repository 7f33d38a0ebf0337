// Package peers lets bitswap know of peers that connect while a daemon starts.
//
// A node listens before its bitswap exists, and the bitswap of boxo 0.40 learns of a
// peer only when it connects: one that was there before is never asked for a block, as
// long as the connection lasts. Nodes of a cluster are just such peers, for they dial
// one that restarts again and again. Fixed upstream in July 2026 (ipfs/boxo#1201); this
// goes with the kubo that has it, and its test says when.
package peers

import (
	"context"
	"time"

	"github.com/ipfs/boxo/bitswap"
	logging "github.com/ipfs/go-log/v2"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/fx"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

var logger = logging.Logger("ipfs-aws")

// dialDeadline bounds a try to connect once more. The other side tries as well.
const dialDeadline = 30 * time.Second

func init() { loader.Preload(fxPlugin{}) }

type fxPlugin struct{}

var _ plugin.PluginFx = fxPlugin{}

func (fxPlugin) Name() string                   { return "ipfs-aws-peers" }
func (fxPlugin) Version() string                { return version.Version }
func (fxPlugin) Init(*plugin.Environment) error { return nil }

// Options implements plugin.PluginFx.
func (fxPlugin) Options(info core.FXNodeInfo) ([]fx.Option, error) {
	return append(info.FXOptions, fx.Invoke(reconnect)), nil
}

// parts are those of a node that is online.
type parts struct {
	fx.In
	Host    host.Host        `optional:"true"`
	Bitswap *bitswap.Bitswap `optional:"true"` // exists by now
}

// reconnect closes the connections that bitswap does not know of, and dials again.
func reconnect(p parts) {
	if p.Host == nil || p.Bitswap == nil {
		return
	}
	for _, id := range p.Host.Network().Peers() {
		again := peer.AddrInfo{ID: id, Addrs: p.Host.Peerstore().Addrs(id)}
		for _, c := range p.Host.Network().ConnsToPeer(id) {
			again.Addrs = append(again.Addrs, c.RemoteMultiaddr()) // libp2p dials from where it listens
		}
		if err := p.Host.Network().ClosePeer(id); err != nil {
			logger.Debugf("close the connection of %s, which came before bitswap: %s", id, err)
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), dialDeadline)
			defer cancel()
			if err := p.Host.Connect(ctx, again); err != nil {
				logger.Debugf("dial %s once more: %s", id, err)
			}
		}()
	}
}
