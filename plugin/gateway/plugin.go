package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corehttp"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"
	"github.com/ipfs/kubo/repo"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

func init() { loader.Preload(&gatewayPlugin{}) }

type gatewayPlugin struct {
	node      *core.IpfsNode
	listeners []manet.Listener
	serving   sync.WaitGroup
}

var _ plugin.PluginDaemonInternal = (*gatewayPlugin)(nil)

func (*gatewayPlugin) Name() string                   { return "gateway" }
func (*gatewayPlugin) Version() string                { return version.Version }
func (*gatewayPlugin) Init(*plugin.Environment) error { return nil }

// Repo is a repo whose config may be without the gateway's addresses.
//
// upstream: gateway
func Repo(base repo.Repo) repo.Repo { return &fronted{Repo: base} }

// fronted is a repo whose gateway is served by this package.
type fronted struct {
	repo.Repo
	mu    sync.Mutex
	taken bool
}

// frontOf finds it below other decorators.
func frontOf(r repo.Repo) *fronted {
	for {
		switch one := r.(type) {
		case *fronted:
			return one
		case interface{ Unwrap() repo.Repo }:
			r = one.Unwrap()
		default:
			return nil
		}
	}
}

// Addresses are the gateway's addresses in the config of a node, also when they were taken from it.
func Addresses(node *core.IpfsNode) ([]string, error) {
	r := node.Repo
	if f := frontOf(r); f != nil {
		r = f.Repo
	}
	cfg, err := r.Config()
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return cfg.Addresses.Gateway, nil
}

// take has the config be without the gateway's addresses from now on.
func (f *fronted) take() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = true
}

// Config implements repo.Repo. Only the daemon looks for the gateway's addresses in the config of
// the node's repo; commands that change the config open the repo by themselves.
func (f *fronted) Config() (*config.Config, error) {
	cfg, err := f.Repo.Config()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || !f.taken {
		return cfg, err
	}
	without := *cfg
	without.Addresses.Gateway = nil
	return &without, nil
}

// Start listens on the gateway's addresses. It fails if one cannot be had, as kubo does.
//
// upstream: gateway
func (p *gatewayPlugin) Start(node *core.IpfsNode) error {
	cfg, err := node.Repo.Config()
	if err != nil {
		return fmt.Errorf("gateway: read the config: %w", err)
	}
	front := frontOf(node.Repo)
	if front == nil {
		return errors.New("gateway: the repo has no gateway to be taken: this is a fault of ipfs-aws, please report it")
	}
	var listeners []manet.Listener
	for _, addr := range cfg.Addresses.Gateway {
		maddr, err := ma.NewMultiaddr(addr)
		if err != nil {
			return fmt.Errorf("gateway: Addresses.Gateway: %q is not a multiaddr: %w", addr, err)
		}
		l, err := manet.Listen(maddr)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return fmt.Errorf("gateway: listen on %s (Addresses.Gateway): %w", addr, err)
		}
		listeners = append(listeners, l)
	}
	p.node, p.listeners = node, listeners
	front.take()
	options := []corehttp.ServeOption{
		outermost, corehttp.MetricsCollectionOption("gateway"), corehttp.HostnameOption(), corehttp.GatewayOption("/ipfs", "/ipns"),
		corehttp.VersionOption(), corehttp.CheckVersionOption(),
	}
	if cfg.Experimental.P2pHttpProxy {
		options = append(options, corehttp.P2PProxyOption())
	}
	if cfg.Gateway.ExposeRoutingAPI.WithDefault(config.DefaultExposeRoutingAPI) {
		options = append(options, corehttp.RoutingOption())
	}
	if cfg.Gateway.RootRedirect != "" {
		options = append(options, corehttp.RedirectOption("", cfg.Gateway.RootRedirect))
	}
	for _, l := range listeners {
		fmt.Printf("Gateway server listening on %s\n", l.Multiaddr())
		ready := make(chan struct{})
		ended := make(chan error, 1)
		p.serving.Go(func() {
			err := corehttp.ServeWithReady(node, manet.NetListener(l), ready, options...)
			if err != nil && node.Context().Err() == nil {
				log.Errorf("the gateway on %s ended: %s", l.Multiaddr(), err)
			}
			ended <- err
		})
		select {
		case <-ready:
		case err := <-ended:
			return fmt.Errorf("gateway: serve on %s: %w", l.Multiaddr(), err)
		}
	}
	if len(listeners) == 0 {
		return nil
	}
	at, err := reachable(listeners[0].Multiaddr())
	if err == nil {
		err = node.Repo.SetGatewayAddr(at)
	}
	if err != nil {
		return fmt.Errorf("gateway: write down the address of the gateway: %w", err)
	}
	return nil
}

// reachable is an address that a program on this machine can ask.
func reachable(addr ma.Multiaddr) (net.Addr, error) {
	at, err := manet.ToNetAddr(addr)
	if tcp, ok := at.(*net.TCPAddr); err == nil && ok && tcp.IP.IsUnspecified() {
		loopback := net.IPv4(127, 0, 0, 1)
		if tcp.IP.To4() == nil {
			loopback = net.IPv6loopback
		}
		return &net.TCPAddr{IP: loopback, Port: tcp.Port}, nil
	}
	return at, err
}

// outermost is the outermost part of the gateway's handler.
func outermost(_ *core.IpfsNode, _ net.Listener, mux *http.ServeMux) (*http.ServeMux, error) {
	inner := http.NewServeMux()
	mux.Handle("/", honest(inner))
	return inner, nil
}

// Close waits until the gateway has ended, which the end of the node brings about: it finishes what
// is under way. If the node goes on, since another plugin could not be started, the gateway ends at once.
func (p *gatewayPlugin) Close() error {
	if p.node != nil && p.node.Context().Err() == nil {
		for _, l := range p.listeners {
			_ = l.Close() // it serves nothing any more in either case
		}
	}
	p.serving.Wait()
	return nil
}
