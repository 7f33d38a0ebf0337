package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/observations"
	upstream "github.com/ipfs-cluster/ipfs-cluster/version"
	logging "github.com/ipfs/go-log/v2"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
	"github.com/ipfs-aws/ipfs-aws/cluster/peer"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

var logger = logging.Logger("cluster-aws")

func daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "daemon",
		Short: "Run the cluster peer",
		Long: `Runs the cluster peer until SIGTERM or SIGINT. On its first start it makes the
peer's folder, as "cluster-aws init" does.

The peer starts without its IPFS node and without the other peers, and waits for
them; /readyz of CLUSTER_HEALTH_ADDRESS says what is missing. It ends with an
error if the node has not answered once after CLUSTER_NODE_WAIT (5m).

SIGTERM ends it in order, within CLUSTER_SHUTDOWN_TIMEOUT (100s). A second signal
ends it at once, which loses nothing that was acknowledged.`,
		Example: `  CLUSTER_PEERNAME=task-1 CLUSTER_SECRET_FILE=secret CLUSTER_SEED_FILE=seed \
  CLUSTER_PEERS=task-1=/dns4/task-1.internal/tcp/9096,task-2=/dns4/task-2.internal/tcp/9096 \
  CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS=/ip4/0.0.0.0/tcp/9094 CLUSTER_RESTAPI_BASICAUTHCREDENTIALS_FILE=credentials \
  CLUSTER_HEALTH_ADDRESS=:9098 cluster-aws daemon`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return daemon(plain) },
	}
}

func daemon(r role) (err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	p, err := prepare(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.lock.Close()) }()
	if err := setLogging(p.settings.LogLevel); err != nil {
		return err
	}
	logger.Infof("cluster-aws %s (ipfs-cluster %s), peer %s (%s), folder %s",
		version.Version, upstream.Version, p.settings.PeerName, p.identity.ID, p.settings.Folder)
	if zone, task := p.settings.Zone, p.settings.TaskID; zone != "" || task != "" {
		logger.Infof("zone %s, task %s", orUnknown(zone), orUnknown(task))
	}
	if r == inImage {
		said, err := container.SetMemoryLimit(0)
		if err != nil {
			return err
		}
		if said != "" {
			logger.Infof("memory: %s", said)
		}
	}
	for _, w := range p.settings.Warnings {
		logger.Warn(w)
	}
	h := health.New("starting")
	if err := registerMetrics(h, p.settings); err != nil {
		return err
	}
	if addr := p.settings.HealthAddress; addr != "" {
		srv, serr := health.Serve(addr, h.Handler(observations.PromRegistry))
		if serr != nil {
			return fmt.Errorf("CLUSTER_HEALTH_ADDRESS: %w", serr)
		}
		defer func() { err = errors.Join(err, srv.Close()) }()
		logger.Infof("health: http://%s/readyz", addr)
	}
	running, err := peer.Start(p.settings, p.configs, p.identity, h)
	if err != nil {
		return err
	}
	if err := observations.PromRegistry.Register(running); err != nil {
		return errors.Join(fmt.Errorf("set up metrics: %w", err), running.Stop(context.Background()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	writeMetrics(ctx, p.settings)
	select {
	case err := <-absence(ctx, p.configs.IPFS.NodeAddr, p.settings.NodeWait):
		ctx, cancel := context.WithTimeout(ctx, p.settings.ShutdownTimeout)
		defer cancel()
		return errors.Join(err, running.Stop(ctx))
	case <-running.Done():
		return errors.Join(errors.New("the cluster peer ended by itself; its last log lines say why"), running.Stop(context.Background()))
	case sig := <-signals:
		logger.Infof("%s: shutting down, within %s", sig, p.settings.ShutdownTimeout)
		if r == inImage {
			h.NotReady("shutting down")
			serveOn(signals)
		}
	}
	return stop(running, p.settings.ShutdownTimeout, signals)
}

// settle is how long a peer in a container goes on taking requests after it was
// told to end. Whoever sends it requests asks for its readiness every second or
// every few, and what came meanwhile would be answered with 503.
const settle = 3 * time.Second

// serveOn waits for as long, or for a second signal, which is put back.
func serveOn(signals chan os.Signal) {
	select {
	case <-time.After(settle):
	case sig := <-signals:
		signals <- sig
	}
}

// absence tells if the IPFS node has not answered once within some time: its
// address is wrong, or it is not going to start.
func absence(ctx context.Context, addr ma.Multiaddr, within time.Duration) <-chan error {
	absent := make(chan error, 1)
	node, err := kubo.New(addr)
	if err != nil {
		absent <- fmt.Errorf("CLUSTER_IPFSHTTP_NODEMULTIADDRESS: %w", err)
		return absent
	}
	go func() {
		deadline, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		for {
			attempt, cancel := context.WithTimeout(deadline, askAgain)
			_, _, err := node.Version(attempt)
			cancel()
			if err == nil || ctx.Err() != nil {
				return
			}
			if deadline.Err() != nil {
				absent <- fmt.Errorf("CLUSTER_IPFSHTTP_NODEMULTIADDRESS: the IPFS node at %s has not answered for %s: start it, correct its address, or raise CLUSTER_NODE_WAIT", addr, within)
				return
			}
			select {
			case <-time.After(askAgain / 2):
			case <-deadline.Done():
			}
		}
	}()
	return absent
}

// askAgain is how long an IPFS node may take to say that it is there.
const askAgain = 2 * time.Second

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// stop shuts the peer down in order, unless the time is up or another signal
// comes.
func stop(running *peer.Peer, bound time.Duration, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), bound,
		fmt.Errorf("CLUSTER_SHUTDOWN_TIMEOUT is %s", bound))
	defer cancel()
	ctx, hurry := context.WithCancelCause(ctx)
	defer hurry(nil)
	go func() {
		select {
		case sig := <-signals:
			hurry(fmt.Errorf("a second signal came (%s)", sig))
		case <-ctx.Done():
		}
	}()
	if err := running.Stop(ctx); err != nil {
		return err
	}
	logger.Info("shut down")
	return nil
}
