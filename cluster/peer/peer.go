package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/allocator/balanced"
	"github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	"github.com/ipfs-cluster/ipfs-cluster/config"
	"github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	"github.com/ipfs-cluster/ipfs-cluster/informer/tags"
	"github.com/ipfs-cluster/ipfs-cluster/ipfsconn/ipfshttp"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	logging "github.com/ipfs/go-log/v2"
	dual "github.com/libp2p/go-libp2p-kad-dht/dual"
	"github.com/libp2p/go-libp2p/core/host"

	"github.com/ipfs-aws/ipfs-aws/cluster/add"
	"github.com/ipfs-aws/ipfs-aws/cluster/commit"
	"github.com/ipfs-aws/ipfs-aws/cluster/gate"
	"github.com/ipfs-aws/ipfs-aws/cluster/health"
	"github.com/ipfs-aws/ipfs-aws/cluster/identity"
	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
	"github.com/ipfs-aws/ipfs-aws/cluster/repair"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
	"github.com/ipfs-aws/ipfs-aws/cluster/store"
)

var logger = logging.Logger("cluster-aws")

// Peer is a running cluster peer.
type Peer struct {
	cluster *ipfscluster.Cluster
	host    host.Host
	dht     *dual.DHT
	store   store.Datastore
	health  *health.Health
	gate    *gate.Gate

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
	if err := p.repair(ctx, c.CRDT.DatastoreNamespace); err != nil {
		return err
	}
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
	apis, front, err := openREST(ctx, c.REST, add.Options{ReplicationMin: c.Cluster.ReplicationFactorMin, Name: nameIn(s.Peers)})
	if err != nil {
		return fmt.Errorf("start the REST API (CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS): %w", err)
	}
	p.gate = front
	if c.Pinning != nil {
		pinning, err := pinsvcapi.NewAPI(ctx, c.Pinning)
		if err != nil {
			return fmt.Errorf("start the pinning service API (CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS): %w", err)
		}
		apis = append(apis, pinning)
	}
	connector, err := ipfshttp.NewConnector(c.IPFS)
	if err != nil {
		return fmt.Errorf("set up the connection to the IPFS node (CLUSTER_IPFSHTTP_NODEMULTIADDRESS): %w", err)
	}
	client, err := kubo.New(c.IPFS.NodeAddr)
	if err != nil {
		return err
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
	if own := c.ownAllocation(); own != nil {
		allocator = own
	} else if allocator, err = balanced.New(c.Allocator); err != nil {
		return fmt.Errorf("set up the allocator (CLUSTER_BALANCED_ALLOCATEBY): %w", err)
	}
	inner, err := crdt.New(h, dht, pubsub, c.CRDT, p.store)
	if err != nil {
		return fmt.Errorf("set up the consensus: %w", err)
	}
	consensus := commit.Wrap(inner, c.CRDT.Batching.MaxBatchSize)
	// Loading a large pinset may take long, and giving up would not make it
	// faster; readiness says that it is not done.
	ipfscluster.ReadyTimeout = 365 * 24 * time.Hour
	tracker := stateless.New(c.Tracker, id.ID, s.PeerName, consensus.State)
	monitor, err := pubsubmon.New(ctx, c.Monitor, pubsub, nil)
	if err != nil {
		return fmt.Errorf("set up the monitor: %w", err)
	}
	p.cluster, err = ipfscluster.NewCluster(ctx, h, bandwidth, dht, c.Cluster, p.store, consensus, apis, add.Connect(connector, client), tracker, monitor, allocator, informers, tracer)
	if err != nil {
		return fmt.Errorf("start the cluster peer: %w", err)
	}
	w := &watcher{
		cluster: p.cluster, monitor: monitor, kubo: client, self: id.ID,
		wanted: s.Peers, min: s.ReadyMinPeers, nudge: make(chan struct{}, 1), returned: make(chan struct{}, 1), kuboUp: true,
	}
	for _, other := range s.Peers {
		if other.ID != id.ID && other.Name != s.PeerName {
			p.tasks.Go(func() { keepConnected(ctx, h, other) })
		}
	}
	p.tasks.Go(func() { p.health.Watch(ctx, checkInterval, checkDeadline, w.checks()...) })
	p.tasks.Go(func() { w.introduce(ctx) })
	p.tasks.Go(func() { w.recoverPins(ctx) })
	return nil
}

// repair puts right what the end of the last run left half done.
func (p *Peer) repair(ctx context.Context, namespace string) error {
	report, err := repair.Run(ctx, p.store, namespace)
	if err != nil {
		return err
	}
	if !report.Sound() {
		logger.Infof("the last run ended in the middle of a change; of %d changes %d are processed again, %d are fetched again, %d heads are put right",
			report.Blocks, report.Unprocessed, report.Absent, report.HeadsAdded+report.HeadsRemoved)
	}
	return nil
}

// Done is closed when the peer has ended, by Stop or by itself.
func (p *Peer) Done() <-chan struct{} { return p.cluster.Done() }

// closingShare is the part of the time for a shutdown that is kept for closing
// down after requests in flight were waited for: closing takes milliseconds to
// seconds, a fifth of the default 100 s is 20 s.
const closingShare = 5

// Stop ends the peer in order: it becomes not ready, refuses new requests with
// 503 and Retry-After, finishes those in flight, writes what is left, and closes
// the consensus, its connections and the store. It returns when that is done or
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
	err := p.gate.Drain(draining)
	cancel()
	if err != nil {
		logger.Warnf("shutting down although %s", err)
	}
	return errors.Join(p.cluster.Shutdown(ctx), p.close())
}

// close releases what Start acquired and the cluster does not own.
func (p *Peer) close() error {
	p.cancel()
	p.tasks.Wait()
	var errs []error
	if p.gate != nil {
		errs = append(errs, p.gate.Close())
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
