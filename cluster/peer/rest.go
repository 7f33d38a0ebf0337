package peer

import (
	"context"
	"errors"
	"fmt"
	"net"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/zap"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/gate"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// innerREST is where the REST API component listens: the kernel chooses the
// port, and only the gate is told. It asks for the same credentials.
const innerREST = "/ip4/127.0.0.1/tcp/0"

// openREST starts the REST API's components, ipfs-cluster's and our own for
// adds, and the gate in front of them, on the addresses and with the limits
// that the settings give.
func openREST(ctx context.Context, cfg *rest.Config, adds add.Options) ([]ipfscluster.API, *gate.Gate, error) {
	listeners, err := listenAll(cfg.HTTPListenAddr)
	if err != nil {
		return nil, nil, err
	}
	inner := *cfg
	inner.HTTPListenAddr = []ma.Multiaddr{ma.StringCast(innerREST)}
	inner.TLS, inner.PathSSLCertFile, inner.PathSSLKeyFile = nil, "", ""
	inner.ReadTimeout, inner.WriteTimeout = 0, 0 // the gate's business
	api, err := rest.NewAPI(ctx, &inner)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(listeners))
	}
	addAPI, err := add.NewAPI(ctx, &inner, adds)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(listeners))
	}
	addrs, err := api.HTTPAddresses()
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(listeners))
	}
	addAddrs, err := addAPI.HTTPAddresses()
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(listeners))
	}
	errorLog, err := zap.NewStdLogAt(logging.Logger("restapi").Desugar(), zap.WarnLevel)
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(listeners))
	}
	for _, l := range listeners {
		logger.Infof("REST API: %s", l.Addr())
	}
	return []ipfscluster.API{api, addAPI}, gate.Open(listeners, addrs[0], gate.Options{
		TLS: cfg.TLS, ReadTimeout: cfg.ReadTimeout, ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout, MaxHeaderBytes: cfg.MaxHeaderBytes,
		Routes: map[string]string{"/add": addAddrs[0]},
		Log:    errorLog,
	}), nil
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

func listenAll(addrs []ma.Multiaddr) ([]net.Listener, error) {
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
