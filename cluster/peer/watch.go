package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/catchup"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/consensus"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

const (
	// Two seconds between checks: with the load balancer's own interval, a node
	// that stops answering is out of rotation within seconds.
	checkInterval = 2 * time.Second
	checkDeadline = 5 * time.Second

	// How often the IPFS nodes of the cluster are introduced to each other when
	// nothing changed. A node forgets its peerings when it restarts, and then
	// the check's return from failure triggers it too.
	introduceInterval = time.Minute
	introduceDeadline = 30 * time.Second
	dialDeadline      = 10 * time.Second
)

func asDialError(err error, target **swarm.DialError) bool { return errors.As(err, target) }

// watcher knows the state of a running peer's surroundings and acts on changes.
type watcher struct {
	cluster *ipfscluster.Cluster
	monitor ipfscluster.PeerMonitor
	kubo    *kubo.Client
	self    peer.ID
	host    host.Host
	wanted  []settings.Peer
	others  []*connection

	consensus *consensus.Consensus
	catchup   *catchup.Catchup
	placers   *placers

	min int

	nudge    chan struct{} // asks for a round of introductions
	returned chan struct{} // says that the IPFS node is back

	mu     sync.Mutex
	kuboUp bool
	asked  bool // the node was asked before
	seen   []peer.ID
}

func (w *watcher) checks() []health.Check {
	return []health.Check{
		{Name: "ipfs", Run: w.checkKubo},
		{Name: "consensus", Run: w.checkConsensus},
		{Name: "peers", Run: w.checkPeers},
		{Name: "placement", Run: w.checkPlacement},
	}
}

func (w *watcher) checkKubo(ctx context.Context) health.Result {
	version, connected, err := w.kubo.Version(ctx)
	up := err == nil
	w.mu.Lock()
	changed := w.kuboUp != up
	// A node that was away for less than the time between two checks shows only
	// in the connection. A connection that was lost for another reason costs a
	// look at what has failed.
	restarted := up && connected && w.asked
	w.kuboUp, w.asked = up, true
	w.mu.Unlock()
	if up && (changed || restarted) {
		signal(w.nudge)
		select {
		case <-w.cluster.Ready(): // it was up before: this is a return
			signal(w.returned)
		default:
		}
	}
	if !up {
		if changed {
			logger.Warnf("the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS) does not answer; this peer is not ready until it does: %s", err)
		}
		return health.Result{Detail: err.Error(), Missing: []string{"the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS)"}}
	}
	return health.Result{OK: true, Detail: "kubo " + version + " answers"}
}

// checkConsensus passes when this peer's pinset is what the other peers' is.
func (w *watcher) checkConsensus(ctx context.Context) health.Result {
	var others []catchup.Peer
	for _, c := range w.others {
		others = append(others, catchup.Peer{Name: c.peer.Name, ID: c.peer.ID, Connected: c.connected(), Tried: c.tried.Load()})
	}
	if len(w.wanted) == 0 {
		// Who the peers are is not in the settings: those that are connected.
		for _, id := range w.host.Network().Peers() {
			if w.consensus.IsTrustedPeer(ctx, id) {
				others = append(others, catchup.Peer{Name: id.String(), ID: id, Connected: true})
			}
		}
	}
	s := w.catchup.Check(ctx, others)
	return health.Result{OK: s.OK, Detail: s.Detail, Missing: s.Missing}
}

func (w *watcher) checkPeers(ctx context.Context) health.Result {
	seen := []peer.ID{w.self}
	for _, m := range w.monitor.LatestMetrics(ctx, "ping") {
		if !slices.Contains(seen, m.Peer) {
			seen = append(seen, m.Peer)
		}
	}
	w.mu.Lock()
	grew := slices.ContainsFunc(seen, func(id peer.ID) bool { return id != w.self && !slices.Contains(w.seen, id) })
	w.seen = seen
	w.mu.Unlock()
	if grew {
		signal(w.nudge)
	}
	var missing []string
	for _, p := range w.wanted {
		if !slices.Contains(seen, p.ID) {
			missing = append(missing, p.Name)
		}
	}
	detail := fmt.Sprintf("%d seen, this one included; %d needed", len(seen), w.min)
	if len(w.wanted) > 0 {
		detail = fmt.Sprintf("%d of %d seen, this one included; %d needed", len(w.wanted)-len(missing), len(w.wanted), w.min)
	}
	if len(missing) > 0 {
		detail += "; missing: " + strings.Join(missing, ", ")
	}
	return health.Result{OK: len(seen) >= w.min, Detail: detail, Missing: missing}
}

// greet counts a peer as seen as soon as it is connected, instead of when its
// next ping comes. If none comes, it is gone two pings later like any other.
//
// upstream: ping-metric
func (w *watcher) greet(ctx context.Context, id peer.ID, ping time.Duration) {
	m := api.Metric{Name: "ping", Peer: id, Valid: true}
	m.SetTTL(2 * ping)
	if err := w.monitor.LogMetric(ctx, m); err != nil && ctx.Err() == nil {
		logger.Warnf("peer %s is connected and counts as seen only when its ping comes: %s", id, err)
	}
}

// signal asks for something that is done at least once after the last signal.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is on its way
	}
}

// recoverPins tries again everything that failed while the node was away,
// whenever it comes back, until the context ends.
func (w *watcher) recoverPins(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.returned:
			w.recoverAll(ctx)
		}
	}
}

func (w *watcher) recoverAll(ctx context.Context) {
	out := make(chan api.PinInfo, 64)
	n := make(chan int, 1)
	go func() {
		count := 0
		for range out {
			count++
		}
		n <- count
	}()
	if err := w.cluster.RecoverAllLocal(ctx, out); err != nil {
		if ctx.Err() != nil {
			return
		}
		logger.Errorf("the IPFS node is back, but pins that failed meanwhile could not be retried, the next round will: %s", err)
		return
	}
	logger.Infof("the IPFS node is back; %d pins are looked at again", <-n)
}

// introduce keeps this peer's IPFS node connected to those of the other peers,
// until the context ends.
func (w *watcher) introduce(ctx context.Context) {
	tick := time.NewTicker(introduceInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.nudge:
		}
		w.mu.Lock()
		up := w.kuboUp
		w.mu.Unlock()
		if up {
			w.introduceAll(ctx)
		}
	}
}

func (w *watcher) introduceAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, introduceDeadline)
	defer cancel()
	var dials sync.WaitGroup
	defer dials.Wait()
	out := make(chan api.ID, 16)
	go w.cluster.Peers(ctx, out)
	for id := range out {
		if id.ID == w.self || id.Error != "" || id.IPFS.Error != "" || id.IPFS.ID == "" {
			continue
		}
		var addrs []ma.Multiaddr
		for _, a := range id.IPFS.Addresses {
			if _, last := peer.SplitAddr(a.Value()); last == id.IPFS.ID {
				addrs = append(addrs, a.Value())
			}
		}
		if len(addrs) == 0 {
			continue
		}
		if err := w.kubo.Peer(ctx, addrs); err != nil && ctx.Err() == nil {
			logger.Warnf("the IPFS node was not connected to that of peer %s, will try again: %s", id.Peername, err)
			continue
		}
		// A node that lost the other one waits for up to ten minutes before it dials again.
		dials.Go(func() {
			dialing, end := context.WithTimeout(ctx, dialDeadline)
			defer end()
			if err := w.kubo.Connect(dialing, addrs); err != nil && ctx.Err() == nil {
				logger.Debugf("the IPFS node does not reach that of peer %s: %s", id.Peername, err)
			}
		})
	}
}

// have asks the other peers for blocks, and sees to it that the nodes are connected if one has any.
func (w *watcher) have(ask func(context.Context, []cid.Cid) []cid.Cid) func(context.Context, []cid.Cid) []cid.Cid {
	return func(ctx context.Context, blocks []cid.Cid) []cid.Cid {
		found := ask(ctx, blocks)
		if len(found) > 0 {
			w.introduceAll(ctx)
		}
		return found
	}
}
