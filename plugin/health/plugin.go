package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	logging "github.com/ipfs/go-log/v2"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
	"github.com/ipfs-aws/ipfs-aws/plugin/gateway"
)

// AddressEnv names the variable with the address to listen on, host:port. It
// wins over the config; empty means no listener.
const AddressEnv = "IPFS_HEALTH_ADDRESS"

var log = logging.Logger("plugin/health")

func init() { loader.Preload(&healthPlugin{}) }

// What the listener of this process knows beside its checks.
var serving, draining atomic.Bool

// Drain makes /readyz say from now on that the node is about to end, whatever the
// checks find, and reports whether there is a node that serves.
func Drain() bool {
	draining.Store(true)
	return serving.Load()
}

type healthPlugin struct {
	repo    string
	address string
	server  *http.Server
}

var _ plugin.PluginDaemonInternal = (*healthPlugin)(nil)

func (*healthPlugin) Name() string    { return "health" }
func (*healthPlugin) Version() string { return version.Version }

// Init takes the address from the environment or the config; a wrong one fails
// every command, not only the daemon, so that it is found at once.
func (p *healthPlugin) Init(env *plugin.Environment) error {
	p.repo = env.Repo
	p.address = os.Getenv(AddressEnv)
	source := AddressEnv
	if cfg, ok := env.Config.(map[string]any); ok && p.address == "" {
		p.address, _ = cfg["Address"].(string)
		source = "config Plugins.Plugins.health.Config.Address"
	}
	if p.address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(p.address); err != nil {
		return fmt.Errorf("%s=%q is not an address: use host:port, for example 127.0.0.1:8099", source, p.address)
	}
	return nil
}

// Start opens the listener, or takes over that of Open; the daemon does not start without it.
func (p *healthPlugin) Start(node *core.IpfsNode) error {
	if p.address == "" {
		return nil
	}
	gateways, err := gateway.Addresses(node)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	checks := []check{
		{"node", func(context.Context) error { return node.Context().Err() }},
		{"repo", repoCheck(filepath.Join(p.repo, "datastore_spec"), os.Stat)},
		{"blockstore", datastoreCheck(node.Repo.Datastore())},
	}
	if len(gateways) > 0 {
		// upstream: repo-files
		checks = append(checks, check{"gateway", gatewayCheck(filepath.Join(p.repo, "gateway"))})
	}
	h := handler(checks, draining.Load)
	l := take(p.address)
	if l != nil {
		l.serve(h)
	} else if l, err = listen(p.address, h); err != nil {
		return fmt.Errorf("health: listen on %s: %w: choose a free address with %s", p.address, err, AddressEnv)
	}
	serving.Store(true)
	p.server = l.server
	return nil
}

// Close ends the listener; requests under way are cut off, since by then the
// node is gone.
func (p *healthPlugin) Close() error {
	if p.server == nil {
		return nil
	}
	return p.server.Close()
}
