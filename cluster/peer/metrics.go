package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
)

// metricsProtocol is how a peer asks another one for what pins are placed by: it opens a
// stream, and the other one sends one JSON array of its own metrics and closes it.
//
// Peers publish their metrics at intervals, 15 s by default. A peer that has just started
// would not know for as long where pins can go.
const metricsProtocol = protocol.ID("/ipfs-aws/cluster/metrics/1")

const (
	// metricsWithin bounds a question, which is answered from memory.
	metricsWithin = 2 * time.Second

	// metricsWait is how long a peer that has just started waits for what others do not tell: they
	// have published it by then if they ever do, at the default intervals.
	metricsWait = 20 * time.Second

	// maxMetrics bounds an answer, in bytes: a handful of metrics of some 300 bytes.
	maxMetrics = 64 << 10
)

// placers knows by which metrics pins are placed, and gets those of peers that have not
// published them yet. It is safe for concurrent use.
type placers struct {
	host    host.Host
	monitor ipfscluster.PeerMonitor
	names   []string
	trusted func(context.Context, peer.ID) bool

	began time.Time
	once  sync.Once
	known chan struct{} // closed when enough is known
}

func newPlacers(h host.Host, monitor ipfscluster.PeerMonitor, names []string, trusted func(context.Context, peer.ID) bool) *placers {
	p := &placers{host: h, monitor: monitor, names: names, trusted: trusted, began: time.Now(), known: make(chan struct{})}
	h.SetStreamHandler(metricsProtocol, p.answer)
	return p
}

// answer sends this peer's own metrics.
func (p *placers) answer(s network.Stream) {
	ctx, cancel := context.WithTimeout(context.Background(), metricsWithin)
	defer cancel()
	if !p.trusted(ctx, s.Conn().RemotePeer()) || s.SetDeadline(time.Now().Add(metricsWithin)) != nil {
		_ = s.Reset() // the peer asks again
		return
	}
	own := []api.Metric{}
	for _, name := range p.names {
		for _, m := range p.monitor.LatestMetrics(ctx, name) {
			if m.Peer == p.host.ID() {
				own = append(own, m)
			}
		}
	}
	_ = json.NewEncoder(s).Encode(own) // the peer asks again
	_ = s.Close()
}

// ask gets a peer's metrics into the monitor.
//
// upstream: ping-metric
func (p *placers) ask(ctx context.Context, id peer.ID) error {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "metrics"), metricsWithin)
	defer cancel()
	s, err := p.host.NewStream(ctx, id, metricsProtocol)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	defer s.Close()
	var all []api.Metric
	if err := json.NewDecoder(io.LimitReader(s, maxMetrics)).Decode(&all); err != nil {
		return err
	}
	for _, m := range all {
		if m.Peer != id || !slices.Contains(p.names, m.Name) {
			continue // it speaks for itself only
		}
		if err := p.monitor.LogMetric(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// unknown returns those of some peers that lack a metric.
func (p *placers) unknown(ctx context.Context, ids []peer.ID) []peer.ID {
	count := map[peer.ID]int{}
	for _, name := range p.names {
		for _, m := range p.monitor.LatestMetrics(ctx, name) {
			count[m.Peer]++
		}
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id peer.ID) bool { return count[id] >= len(p.names) })
}

// learn asks those of some peers for their metrics that have not published them, and
// returns those that still lack some.
func (p *placers) learn(ctx context.Context, ids []peer.ID) []peer.ID {
	var asking sync.WaitGroup
	for _, id := range p.unknown(ctx, ids) {
		if id == p.host.ID() {
			continue
		}
		asking.Go(func() {
			if err := p.ask(ctx, id); err != nil {
				logger.Debugf("peer %s was asked for its metrics: %s", id, err)
			}
		})
	}
	asking.Wait()
	return p.unknown(ctx, ids)
}

// enough says that what is known is enough to place pins.
func (p *placers) enough() { p.once.Do(func() { close(p.known) }) }

// checkPlacement passes when this peer knows of all peers that are connected whether pins
// can go there, and then for good: what is missing later is asked for, and a pin that has too
// few peers gets more of them.
func (w *watcher) checkPlacement(ctx context.Context) health.Result {
	ids, untried := []peer.ID{w.self}, 0
	for _, c := range w.others {
		switch {
		case c.connected():
			ids = append(ids, c.peer.ID)
		case !c.tried.Load():
			untried++
		}
	}
	if len(w.wanted) == 0 {
		for _, id := range w.host.Network().Peers() {
			if w.consensus.IsTrustedPeer(ctx, id) {
				ids = append(ids, id)
			}
		}
	}
	lacking := w.placers.learn(ctx, ids)
	detail := fmt.Sprintf("pins can go to %d of %d connected peers, this one included", len(ids)-len(lacking), len(ids))
	if len(lacking) == 0 && untried == 0 || time.Since(w.placers.began) >= metricsWait {
		w.placers.enough()
	}
	var missing []string
	for _, id := range lacking {
		missing = append(missing, "metrics of peer "+w.name(id))
	}
	select {
	case <-w.placers.known:
		return health.Result{OK: true, Detail: detail, Missing: missing}
	default:
		return health.Result{Detail: detail, Missing: missing}
	}
}

// name is a peer's name, or its ID.
func (w *watcher) name(id peer.ID) string {
	for _, p := range w.wanted {
		if p.ID == id {
			return p.Name
		}
	}
	return id.String()
}

// patient is the monitor as ipfs-cluster places pins by it. Until this peer knows the others
// it lets a pin wait, instead of having it placed on those that are known by chance.
type patient struct {
	ipfscluster.PeerMonitor
	placers *placers
}

// LatestMetrics implements [ipfscluster.PeerMonitor].
func (m patient) LatestMetrics(ctx context.Context, name string) []api.Metric {
	if slices.Contains(m.placers.names, name) {
		select {
		case <-m.placers.known:
		case <-ctx.Done():
		case <-time.After(metricsWait):
		}
	}
	return m.PeerMonitor.LatestMetrics(ctx, name)
}
