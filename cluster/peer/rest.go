package peer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api/common"
	"github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/zap"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/ask"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/gate"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/pass"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/service"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// loopback is where an API component listens: the kernel chooses the port, and only
// its gate is told. It asks for the same credentials.
const loopback = "/ip4/127.0.0.1/tcp/0"

// behindGate is the configuration of a component that answers behind a gate. Its users have passwords
// that only this process knows. The gate writes the log of requests, and package ask what is the
// cluster's fault; the component would write each mistake of a client as an error.
//
// upstream: loopback-api
func behindGate(c common.Config) common.Config {
	if c.BasicAuthCredentials != nil {
		inner := map[string]string{}
		for user := range c.BasicAuthCredentials {
			inner[user] = rand.Text()
		}
		c.BasicAuthCredentials = inner
	}
	c.HTTPLogFile, c.RequestLogger, c.Logger = "", silent(), silent()

	c.HTTPListenAddr = []ma.Multiaddr{ma.StringCast(loopback)}
	c.TLS, c.PathSSLCertFile, c.PathSSLKeyFile = nil, "", ""
	c.ReadTimeout, c.WriteTimeout = 0, 0 // the gate's business
	return c
}

// openGate puts a gate in front of a component, on the addresses and with the
// limits that the settings give. The listeners are its own from then on.
func openGate(c, behind common.Config, listeners []net.Listener, component *common.API, opts gate.Options) (*gate.Gate, error) {
	var err error
	if opts.Requests, err = c.LogWriter(); err != nil {
		return nil, fmt.Errorf("open the log of requests: %w", err)
	}
	opts.Inner = behind.BasicAuthCredentials
	addrs, err := component.HTTPAddresses()
	if err != nil {
		return nil, err
	}
	if opts.Log, err = zap.NewStdLogAt(logging.Logger(c.ConfigKey).Desugar(), zap.WarnLevel); err != nil {
		return nil, err
	}
	opts.TLS, opts.MaxHeaderBytes = c.TLS, c.MaxHeaderBytes
	opts.ReadTimeout, opts.ReadHeaderTimeout, opts.WriteTimeout, opts.IdleTimeout = c.ReadTimeout, c.ReadHeaderTimeout, c.WriteTimeout, c.IdleTimeout
	return gate.Open(listeners, addrs[0], opts), nil
}

// guard returns who decides about the users of an API, or nil if it has none.
func guard(c common.Config, secret []byte, scope string) *pass.Guard {
	if c.BasicAuthCredentials == nil {
		return nil
	}
	return pass.New(c.BasicAuthCredentials, secret, scope)
}

// silent is a logger that says nothing. Its level is set when it is used, after that of all others was.
func silent() *logging.ZapEventLogger {
	const name = "cluster-aws-silent"
	l := logging.Logger(name)
	_ = logging.SetLogLevel(name, "fatal") // it exists
	return l
}

// openREST starts the REST API's components, ipfs-cluster's and our own for
// adds, and the gate in front of them.
func openREST(ctx context.Context, cfg *rest.Config, secret []byte, asked ask.Cluster, adds add.Options) (apis []ipfscluster.API, g *gate.Gate, err error) {
	listeners, err := listenAll("REST API", cfg.HTTPListenAddr)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(listeners))
		}
	}()
	behind := *cfg
	behind.Config = behindGate(cfg.Config)
	api, err := rest.NewAPI(ctx, &behind)
	if err != nil {
		return nil, nil, err
	}
	addAPI, addBodies, err := add.NewAPI(ctx, &behind, adds)
	if err != nil {
		return nil, nil, err
	}
	addAddrs, err := addAPI.HTTPAddresses()
	if err != nil {
		return nil, nil, err
	}
	g, err = openGate(cfg.Config, behind.Config, listeners, api.API, gate.Options{
		Routes: map[string]string{"/add": addAddrs[0]},
		Bodies: map[string]http.Handler{"/add": addBodies},
		Check:  asked.Check,
		Answer: asked.Answer,
		Guard:  guard(cfg.Config, secret, ""),
	})
	return []ipfscluster.API{api, addAPI}, g, err
}

// openPinning starts the pinning service API, and the gate in front of it.
func openPinning(ctx context.Context, cfg *pinsvcapi.Config, secret []byte, pins service.Pins) (api ipfscluster.API, g *gate.Gate, err error) {
	listeners, err := listenAll("pinning service API", cfg.HTTPListenAddr)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(listeners))
		}
	}()
	behind := *cfg
	behind.Config = behindGate(cfg.Config)
	pinning, err := service.New(ctx, &behind, pins)
	if err != nil {
		return nil, nil, err
	}
	g, err = openGate(cfg.Config, behind.Config, listeners, pinning, gate.Options{Guard: guard(cfg.Config, secret, pass.Pinning), Failure: service.Failure})
	return pinning, g, err
}

// nameIn returns a function that gives the name of a peer on the list, or "".
func nameIn(peers []settings.Peer) func(peer.ID) string {
	return func(id peer.ID) string {
		for _, p := range peers {
			if p.ID == id {
				return p.Name
			}
		}
		return ""
	}
}

// listenAll listens on all addresses, or on none.
func listenAll(what string, addrs []ma.Multiaddr) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, a := range addrs {
		network, address, err := manet.DialArgs(a)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", a, err), closeAll(listeners))
		}
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, errors.Join(err, closeAll(listeners))
		}
		logger.Infof("%s: %s", what, l.Addr())
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
