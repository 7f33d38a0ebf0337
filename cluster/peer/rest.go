package peer

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	logging "github.com/ipfs/go-log/v2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/zap"

	"github.com/ipfs-aws/ipfs-aws/cluster/gate"
)

// innerREST is where the REST API component listens: the kernel chooses the
// port, and only the gate is told. It asks for the same credentials.
const innerREST = "/ip4/127.0.0.1/tcp/0"

// openREST starts the REST API component and the gate in front of it, on the
// addresses and with the limits that the settings give.
func openREST(ctx context.Context, cfg *rest.Config) (*rest.API, *gate.Gate, error) {
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
	addrs, err := api.HTTPAddresses()
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
	return api, gate.Open(listeners, addrs[0], gate.Options{
		TLS: cfg.TLS, ReadTimeout: cfg.ReadTimeout, ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout, MaxHeaderBytes: cfg.MaxHeaderBytes,
		Log: errorLog,
	}), nil
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
