package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/allocator/balanced"
	"github.com/ipfs-cluster/ipfs-cluster/config"
	"github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	"github.com/ipfs-cluster/ipfs-cluster/informer/tags"
	"github.com/ipfs-cluster/ipfs-cluster/ipfsconn/ipfshttp"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	"github.com/ipfs/go-cid"
	logging "github.com/ipfs/go-log/v2"
	dual "github.com/libp2p/go-libp2p-kad-dht/dual"
	"github.com/libp2p/go-libp2p/core/host"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/ask"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/gate"
	"github.com/ipfs-aws/ipfs-aws/cluster/door/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinning"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/catchup"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/commit"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/consensus"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/reach"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/repair"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

var logger = logging.Logger("cluster-aws")

// never is longer than a process lives.
const never = 365 * 24 * time.Hour

// Peer is a running cluster peer.
type Peer struct {
	cluster   *ipfscluster.Cluster
	host      host.Host
	dht       *dual.DHT
	store     *store.Store
	health    *health.Health
	gates     []*gate.Gate
	consensus *commit.Consensus
	// receiver takes what is added through other peers.
	receiver *add.Receiver
	pins     *pinning.Connector
	tracker  *pinning.Tracker
	// compared is how the node's pins differed from the pinset when that was looked at last.
	compared atomic.Pointer[pinning.Difference]

	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// Start opens the store in the peer's folder and starts all components. The
// caller holds the folder's lock and has checked that the folder is this
// peer's. Start returns before the peer is ready; readiness goes to h. An IPFS
// node that does not answer is waited for, it is not an error.
func Start(s *settings.Settings, c *Configs, id identity.Identity, h *health.Health) (*Peer, error) {
	p := &Peer{health: h}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	if err := p.start(ctx, s, c, id); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *Peer) start(ctx context.Context, s *settings.Settings, c *Configs, id identity.Identity) error {
	var err error
	p.store, err = store.Open(s.Folder.StorePath(), store.Options{CacheBytes: s.StoreCacheBytes})
	if err != nil {
		return err
	}
	missing, err := p.repair(ctx, c.CRDT.DatastoreNamespace)
	if err != nil {
		return err
	}
	changes := frontier.Wrap(p.store.Deferred(), c.CRDT.DatastoreNamespace, missing)
	h, bandwidth, pubsub, dht, err := ipfscluster.NewClusterHost(ctx, &config.Identity{ID: id.ID, PrivateKey: id.Key}, c.Cluster, p.store)
	if err != nil {
		return fmt.Errorf("listen for other peers (CLUSTER_LISTENMULTIADDRESS): %w", err)
	}
	p.host, p.dht = h, dht
	if len(s.Peers) > 0 && !s.TrustAll {
		expelStrangers(h, s.Trusted)
	}
	c.Tracing.ClusterID = id.ID.String()
	tracer, err := observations.SetupTracing(c.Tracing)
	if err != nil {
		return fmt.Errorf("set up tracing: %w", err)
	}
	client, err := kubo.New(c.IPFS.NodeAddr)
	if err != nil {
		return err
	}
	inner, err := consensus.New(h, dht, pubsub, c.CRDT, changes)
	if err != nil {
		return fmt.Errorf("set up the consensus: %w", err)
	}
	others := reach.New(h, inner, changes)
	grouped := commit.Wrap(inner, c.CRDT.Batching.MaxBatchSize, others.Wait)
	p.consensus = grouped
	holds := add.NewHolds(client, keeps(grouped, id.ID))
	p.receiver = add.Receive(h, client, holds, grouped.IsTrustedPeer)
	asked := ask.Cluster{Min: c.Cluster.ReplicationFactorMin, Max: c.Cluster.ReplicationFactorMax}
	for _, other := range s.Peers {
		asked.Peers = append(asked.Peers, other.ID)
	}
	apis, front, err := openREST(ctx, c.REST, c.Cluster.Secret, asked, add.Options{ReplicationMin: c.Cluster.ReplicationFactorMin, Name: nameIn(s.Peers), Host: h, Node: client, Holds: holds})
	if err != nil {
		return fmt.Errorf("start the REST API (CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS): %w", err)
	}
	p.gates = append(p.gates, front)
	if c.Pinning != nil {
		pinning, front, err := openPinning(ctx, c.Pinning, c.Cluster.Secret, requested{grouped, inner, others})
		if err != nil {
			return fmt.Errorf("start the pinning service API (CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS): %w", err)
		}
		p.gates = append(p.gates, front)
		apis = append(apis, pinning)
	}
	connector, err := ipfshttp.NewConnector(c.IPFS)
	if err != nil {
		return fmt.Errorf("set up the connection to the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS): %w", err)
	}
	tagsInformer, err := tags.New(c.Tags)
	if err != nil {
		return fmt.Errorf("set up the tags (CLUSTER_TAGS_TAGS): %w", err)
	}
	informers := []ipfscluster.Informer{tagsInformer}
	if c.usesFreeSpace() {
		diskInformer, err := disk.NewInformer(c.Disk)
		if err != nil {
			return fmt.Errorf("set up the disk informer (CLUSTER_DISK_…): %w", err)
		}
		informers = append(informers, diskInformer)
	}
	var allocator ipfscluster.PinAllocator
	own := c.ownAllocation()
	if own != nil {
		allocator = own
	} else if allocator, err = balanced.New(c.Allocator); err != nil {
		return fmt.Errorf("set up the allocator (CLUSTER_BALANCED_ALLOCATEBY): %w", err)
	}
	p.pins, err = pinning.Connect(ctx, add.Connect(connector, client), client, p.store, p.store.Deferred(), pinning.Options{
		Slots: c.Tracker.ConcurrentPins, Stall: c.IPFS.PinTimeout, GCTimeout: c.IPFS.RepoGCTimeout, NeverUnpin: c.IPFS.UnpinDisable})
	if err != nil {
		return err
	}
	// Loading a large pinset may take long, and giving up would not make it
	// faster; readiness says that it is not done.
	// upstream: ready-timeout
	ipfscluster.ReadyTimeout = never
	c.Tracker.ConcurrentPins = p.pins.Workers()
	tracker := p.pins.Track(stateless.New(c.Tracker, id.ID, s.PeerName, grouped.State), id.ID, grouped.State)
	p.tracker = tracker
	neighbours := pinning.NewNeighbours(h, client, grouped.IsTrustedPeer)
	retryInterval := c.Cluster.PinRecoverInterval
	c.Cluster.PinRecoverInterval = never // what is tried again, and when, is the tracker's to say
	monitor, err := pubsubmon.New(ctx, c.Monitor, pubsub, nil)
	if err != nil {
		return fmt.Errorf("set up the monitor: %w", err)
	}
	placers := newPlacers(h, monitor, allocator.Metrics(), grouped.IsTrustedPeer)
	p.cluster, err = ipfscluster.NewCluster(ctx, h, bandwidth, dht, c.Cluster, p.store, grouped, apis, p.pins, tracker, patient{monitor, placers}, allocator, informers, tracer)
	if err != nil {
		return fmt.Errorf("start the cluster peer: %w", err)
	}
	w := &watcher{
		cluster: p.cluster, monitor: monitor, kubo: client, self: id.ID,
		host: h, consensus: inner, catchup: catchup.New(h, inner, changes), placers: placers,
		wanted: s.Peers, min: s.ReadyMinPeers, nudge: make(chan struct{}, 1), returned: make(chan struct{}, 1), kuboUp: true,
	}
	for _, other := range s.Peers {
		if other.ID != id.ID && other.Name != s.PeerName {
			one := &connection{host: h, peer: other, made: func() { w.greet(ctx, other.ID, c.Cluster.MonitorPingInterval) }}
			w.others = append(w.others, one)
			p.tasks.Go(func() { one.keep(ctx) })
		}
	}
	p.tasks.Go(func() { p.health.Watch(ctx, checkInterval, checkDeadline, w.checks()...) })
	if c.Moves {
		p.tasks.Go(func() { mover{p.cluster, grouped, monitor, own, h, tracker.Short()}.run(ctx, s, id.ID) })
	}
	p.tasks.Go(func() { w.introduce(ctx) })
	p.tasks.Go(func() { w.recoverPins(ctx) })
	p.tasks.Go(func() { w.sweepHolds(ctx, holds, p.health) })
	p.tasks.Go(func() { w.reconcile(ctx, tracker, p.health, &p.compared) })
	p.tasks.Go(func() {
		if w.ready(ctx) {
			tracker.Run(ctx, retryInterval, w.have(neighbours.Have))
		}
	})
	return nil
}

// requested is the pinset as the pinning service sees it.
type requested struct {
	*commit.Consensus
	inner *consensus.Consensus
	*reach.Reach
}

func (p requested) Heads(ctx context.Context) []cid.Cid { return p.inner.Heads(ctx) }

// repair puts right what the end of the last run left half done, and returns
// the changes that are still missing.
func (p *Peer) repair(ctx context.Context, namespace string) ([]string, error) {
	began := time.Now()
	report, err := repair.Run(ctx, p.store, namespace)
	if err != nil {
		return nil, err
	}
	if !report.Sound() {
		logger.Infof("the last run ended in the middle of a change; of %d changes %d are processed again, %d are fetched again, %d heads are put right",
			report.Blocks, report.Unprocessed, report.Absent, report.HeadsAdded+report.HeadsRemoved)
	}
	logger.Infof("looked through %d changes of the pinset in %s", report.Blocks, time.Since(began).Round(time.Millisecond))
	return report.Missing, nil
}

// Done is closed when the peer has ended, by Stop or by itself.
func (p *Peer) Done() <-chan struct{} { return p.cluster.Done() }

// closingShare is the part of the time for a shutdown that is kept for closing
// down after requests in flight were waited for: closing takes milliseconds to
// seconds, a fifth of the default 100 s is 20 s.
const closingShare = 5

// Stop ends the peer in order: it becomes not ready, refuses new requests with
// 503 and Retry-After and the adds of other peers, finishes what is in flight of
// both, waits until the other peers have what was written, unpins on its node what waits for
// that as far as there is time, and closes the consensus, its connections and the store. It returns when that is done or
// the context ends, whichever is first; in the latter case the process should
// exit, which loses nothing that was acknowledged. Requests in flight may take
// all but the last fifth of the context's time.
func (p *Peer) Stop(ctx context.Context) error {
	p.health.NotReady("shutting down")
	done := make(chan error, 1)
	go func() { done <- p.stop(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the shutdown was not finished in its time: %w", context.Cause(ctx))
	}
}

func (p *Peer) stop(ctx context.Context) error {
	draining, cancel := ctx, func() {}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		draining, cancel = context.WithTimeoutCause(ctx, left-left/closingShare, errors.New("their time is up"))
	}
	// All at once, so that none is left open while another waits.
	drained := make(chan error)
	for _, g := range p.gates {
		go func() { drained <- g.Drain(draining) }()
	}
	err := p.receiver.Drain(draining)
	for range p.gates {
		err = errors.Join(err, <-drained)
	}
	cancel()
	if err != nil {
		logger.Warnf("shutting down although %s", strings.ReplaceAll(err.Error(), "\n", ", and "))
	}
	handing, cancel := ctx, func() {}
	if deadline, ok := ctx.Deadline(); ok {
		handing, cancel = context.WithTimeoutCause(ctx, time.Until(deadline)/2, errors.New("it takes too long"))
	}
	if err := handOver(handing, p.host, p.consensus); err != nil {
		logger.Warnf("shutting down although %s", err)
	}
	cancel()
	unpinning, cancel := ctx, func() {}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		unpinning, cancel = context.WithTimeoutCause(ctx, left-left/closingShare, errors.New("the time is up"))
	}
	if err := p.tracker.Drain(unpinning); err != nil {
		logger.Warnf("shutting down although %s", err)
	}
	cancel()
	return errors.Join(p.cluster.Shutdown(ctx), p.close())
}

// close releases what Start acquired and the cluster does not own.
func (p *Peer) close() error {
	p.cancel()
	p.tasks.Wait()
	var errs []error
	for _, g := range p.gates {
		errs = append(errs, g.Close())
	}
	if p.dht != nil {
		errs = append(errs, p.dht.Close())
	}
	if p.host != nil {
		errs = append(errs, p.host.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}
