package peer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

const (
	// How often a missing peer is dialed: five peers away cost one packet a
	// second, and a peer that comes up is found within this time.
	redialInterval = 2 * time.Second
	// How long one attempt may take, name resolution included.
	dialTimeout = 8 * time.Second
	// How often a peer that stays away is mentioned in the log.
	remindInterval = 5 * time.Minute
)

// connection is what this peer knows of its connection to another one.
type connection struct {
	host  host.Host
	peer  settings.Peer
	made  func()      // called whenever the connection is there anew; nil for nothing
	tried atomic.Bool // to connect, whatever came of it
}

func (c *connection) connected() bool {
	return c.host.Network().Connectedness(c.peer.ID) == network.Connected
}

// keep holds the connection until the context ends.
func (c *connection) keep(ctx context.Context) {
	h, p := c.host, c.peer
	// The peerstore keeps the name, not what it resolved to, so gossip and the
	// components' own dials resolve it again too.
	h.Peerstore().AddAddr(p.ID, p.Addr, peerstore.PermanentAddrTTL)
	h.ConnManager().Protect(p.ID, "cluster-aws peer")
	tick := time.NewTicker(redialInterval)
	defer tick.Stop()
	var awaySince, mentioned time.Time
	was := false
	for {
		now := c.connected()
		if now && !was && c.made != nil {
			c.made()
		}
		was = now
		if now {
			if !awaySince.IsZero() {
				logger.Infof("connected to peer %s (%s)", p.Name, p.ID)
				awaySince, mentioned = time.Time{}, time.Time{}
			}
		} else {
			if awaySince.IsZero() {
				awaySince = time.Now()
			}
			err := dial(ctx, h, p)
			c.tried.Store(true)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				continue
			case mentioned.IsZero() || time.Since(mentioned) >= remindInterval:
				logger.Warnf("peer %s is not reachable at %s, trying again every %s: %s", p.Name, p.Addr, redialInterval, rootCause(err))
				mentioned = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func dial(ctx context.Context, h host.Host, p settings.Peer) error {
	// The swarm refuses to dial a peer for a growing time after each failure;
	// this loop has its own pace.
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return h.Connect(ctx, peer.AddrInfo{ID: p.ID, Addrs: []ma.Multiaddr{p.Addr}})
}

// rootCause shortens libp2p's many-lined dial errors to one line.
func rootCause(err error) string {
	var de *swarm.DialError
	if asDialError(err, &de) {
		if len(de.DialErrors) > 0 {
			return de.DialErrors[0].Cause.Error()
		}
		if de.Cause != nil {
			return de.Cause.Error()
		}
	}
	return err.Error()
}
