package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hsanjuan/ipfs-lite"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	upstream "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	crdt "github.com/ipfs/go-ds-crdt"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/frontier"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/history"
	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
)

// ipfs-cluster's facility, so that its log level variable applies.
var logger = logging.Logger("crdt")

const (
	// A change is at most 1 MiB and comes from a peer nearby. Its delivery takes
	// milliseconds, or does not happen because the peer died.
	fetchTimeout = 15 * time.Second

	// Changes are applied by as many workers; on the way back through a long
	// history each waits for one block at a time.
	workers = 50
)

// Consensus is the component. Its methods are safe for concurrent use.
//
// upstream: consensus
type Consensus struct {
	cfg    *upstream.Config
	host   host.Host
	pubsub *pubsub.PubSub
	store  *frontier.Store
	blocks *history.Getter

	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	trusted map[peer.ID]bool
	client  *rpc.Client
	closing bool

	loading sync.WaitGroup
	loaded  chan struct{} // closed when the rest below is set
	ready   chan struct{} // told once when loaded
	err     error         // why loading failed
	crdt    *crdt.Datastore
	pinset  *placement.State
	gossip  *gossip
}

// New makes the component. It loads the pinset when [Consensus.SetClient] has
// given it a way to reach the other components. The store must outlive it; its
// writes need not be durable before Sync.
func New(h host.Host, dht routing.Routing, ps *pubsub.PubSub, cfg *upstream.Config, store *frontier.Store) (*Consensus, error) {
	ctx, cancel := context.WithCancel(context.Background())
	blocks, err := ipfslite.New(ctx, namespace.Wrap(store, ds.NewKey(cfg.DatastoreNamespace).ChildString(upstream.BlocksNs)), nil, h, dht,
		&ipfslite.Config{ReprovideInterval: -1})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("set up the exchange of changes: %w", err)
	}
	c := &Consensus{
		cfg: cfg, host: h, pubsub: ps, store: store, ctx: ctx, cancel: cancel,
		trusted: map[peer.ID]bool{}, loaded: make(chan struct{}), ready: make(chan struct{}, 1),
	}
	c.blocks = history.New(blocks, h, c.IsTrustedPeer)
	history.Serve(ctx, h, blocks.BlockStore(), c.IsTrustedPeer)
	placement.Announce(h)
	for _, p := range cfg.TrustedPeers {
		c.trust(p)
	}
	return c, nil
}

// SetClient implements [ipfscluster.Component].
func (c *Consensus) SetClient(client *rpc.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.client != nil {
		return
	}
	c.client = client
	c.loading.Go(func() {
		c.err = c.load()
		close(c.loaded)
		if c.err != nil {
			logger.Errorf("load the pinset: %s", c.err)
			return
		}
		c.ready <- struct{}{}
	})
}

func (c *Consensus) load() error {
	topic, err := topicOf(c.cfg.ClusterName)
	if err != nil {
		return err
	}
	// Only what a trusted peer has signed is looked at or passed on.
	err = c.pubsub.RegisterTopicValidator(topic, func(ctx context.Context, _ peer.ID, msg *pubsub.Message) bool {
		return c.IsTrustedPeer(ctx, msg.GetFrom())
	})
	if err != nil {
		return fmt.Errorf("guard the announcements: %w", err)
	}
	announcements, err := crdt.NewPubSubBroadcaster(c.ctx, c.pubsub, topic)
	if err != nil {
		return fmt.Errorf("subscribe to announcements: %w", err)
	}
	c.gossip = newGossip(announcements, c.durable)
	options := crdt.DefaultOptions()
	options.Logger = logger
	options.RebroadcastInterval = c.cfg.RebroadcastInterval
	options.RepairInterval = c.cfg.RepairInterval
	options.DAGSyncerTimeout = fetchTimeout
	options.NumWorkers = workers
	options.PutHook = c.added
	options.DeleteHook = c.removed
	c.crdt, err = crdt.New(c.store, ds.NewKey(c.cfg.DatastoreNamespace), c.blocks, c.gossip, options)
	if err != nil {
		return fmt.Errorf("open the consensus state: %w", err)
	}
	c.pinset, err = placement.New(c.ctx, c.crdt)
	if err != nil {
		return fmt.Errorf("open the pinset: %w", err)
	}
	return nil
}

// durable makes everything durable that was written before.
func (c *Consensus) durable(ctx context.Context) error {
	return c.store.Sync(ctx, ds.NewKey(c.cfg.DatastoreNamespace))
}

// topicOf is the gossip topic of a cluster, as ipfs-cluster names it.
//
// upstream: gossip-topic
func topicOf(cluster string) (string, error) {
	mh, err := multihash.Sum([]byte(cluster), multihash.MD5, -1)
	if err != nil {
		return "", fmt.Errorf("hash the cluster's name: %w", err)
	}
	return mh.B58String(), nil
}

// added tells the tracker what this peer has to see to from now on. The value is not in the
// store yet.
func (c *Consensus) added(key ds.Key, value []byte) {
	if _, err := c.State(c.ctx); err != nil {
		return // the tracker of a peer that ends has nothing to do
	}
	of, placed := placement.Split(key)
	if !placed {
		c.track(key, value, c.get(placement.Of(key)))
		return
	}
	// Without its pin a placement says nothing. The pin may come later.
	if record := c.get(of); record != nil {
		c.track(of, record, value)
	}
}

// removed tells the tracker that a pin is gone, or which one took its place. It is called
// when the store has it.
func (c *Consensus) removed(key ds.Key) {
	if _, err := c.State(c.ctx); err != nil {
		return
	}
	of, placed := placement.Split(key)
	if record := c.get(of); record != nil {
		c.track(of, record, c.get(placement.Of(of)))
		return
	}
	if placed {
		return // the pin went with it, or before
	}
	raw, err := dshelp.BinaryFromDsKey(key)
	if err != nil {
		logger.Errorf("the removed pin %s has no CID: %s", key, err)
		return
	}
	id, err := api.CastCid(raw)
	if err != nil {
		logger.Errorf("the removed pin %s has no CID: %s", key, err)
		return
	}
	logger.Debugf("pin removed: %s", id)
	c.tell("Untrack", api.PinCid(id))
}

// get returns a value of the pinset, or nil.
func (c *Consensus) get(key ds.Key) []byte {
	value, err := c.crdt.Get(c.ctx, key)
	if err != nil {
		if !errors.Is(err, ds.ErrNotFound) && c.ctx.Err() == nil {
			logger.Errorf("read %s in the pinset: %s", key, err)
		}
		return nil
	}
	return value
}

func (c *Consensus) track(key ds.Key, record, placed []byte) {
	pin, _, err := placement.Read(record, placed)
	if err != nil {
		logger.Errorf("the pin %s in the pinset cannot be read: %s", key, err)
		return
	}
	logger.Debugf("new pin: %s", pin.Cid)
	c.tell("Track", pin)
}

func (c *Consensus) tell(method string, pin api.Pin) {
	// upstream: rpc-methods
	if err := c.client.CallContext(c.ctx, "", "PinTracker", method, pin, &struct{}{}); err != nil && c.ctx.Err() == nil {
		logger.Errorf("pin %s: %s: %s", pin.Cid, method, err)
	}
}

// Shutdown implements [ipfscluster.Component].
func (c *Consensus) Shutdown(context.Context) error {
	c.mu.Lock()
	again := c.closing
	c.closing = true
	c.mu.Unlock()
	if again {
		return nil
	}
	c.cancel()
	c.loading.Wait()
	if c.crdt == nil {
		return nil
	}
	return c.crdt.Close()
}

// Ready implements [ipfscluster.Consensus]: the channel is told once, when the
// pinset is loaded.
func (c *Consensus) Ready(context.Context) <-chan struct{} { return c.ready }

// State returns the pinset, a [*placement.State]. It waits until it is loaded.
func (c *Consensus) State(ctx context.Context) (state.ReadOnly, error) {
	select {
	case <-c.loaded:
		if c.err != nil {
			return nil, fmt.Errorf("the pinset could not be loaded: %w", c.err)
		}
		return c.pinset, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

// errLoading is what is said until the pinset is loaded.
var errLoading = errors.New("the pinset is not loaded yet")

// Loaded returns nil when the pinset is loaded, and otherwise why it is not.
func (c *Consensus) Loaded() error {
	select {
	case <-c.loaded:
		return c.err
	default:
		return errLoading
	}
}

// Heads returns the newest changes, or none before the pinset is loaded.
func (c *Consensus) Heads(ctx context.Context) []cid.Cid {
	if c.Loaded() != nil {
		return nil
	}
	return c.crdt.InternalStats(ctx).Heads
}

// Announce makes this peer's consensus look at changes as if another peer had
// announced them: it fetches and applies those that are not applied, and what
// is before them. It fails if those of the last call still wait.
func (c *Consensus) Announce(changes []cid.Cid) error {
	if err := c.Loaded(); err != nil {
		return err
	}
	return c.gossip.announce(changes)
}

// LogPin adds one pin. Package commit adds many at once.
func (c *Consensus) LogPin(ctx context.Context, pin api.Pin) error {
	return c.log(ctx, func(pins *placement.State) error { return pins.Add(ctx, pin) })
}

// LogUnpin removes one pin. Package commit removes many at once.
func (c *Consensus) LogUnpin(ctx context.Context, pin api.Pin) error {
	return c.log(ctx, func(pins *placement.State) error { return pins.Rm(ctx, pin.Cid) })
}

func (c *Consensus) log(ctx context.Context, change func(*placement.State) error) error {
	if _, err := c.State(ctx); err != nil {
		return err
	}
	if err := change(c.pinset); err != nil {
		return err
	}
	return c.pinset.Commit(ctx)
}

// Peers returns the peers that live, this one included.
func (c *Consensus) Peers(ctx context.Context) ([]peer.ID, error) {
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	if client == nil {
		return []peer.ID{c.host.ID()}, nil
	}
	var metrics []api.Metric
	// upstream: rpc-methods
	if err := client.CallContext(ctx, "", "PeerMonitor", "LatestMetrics", c.cfg.PeersetMetric, &metrics); err != nil {
		return nil, fmt.Errorf("ask the monitor for the peers: %w", err)
	}
	peers := []peer.ID{c.host.ID()}
	for _, m := range metrics {
		if !slices.Contains(peers, m.Peer) {
			peers = append(peers, m.Peer)
		}
	}
	slices.Sort(peers)
	return peers, nil
}

// IsTrustedPeer reports whether a peer may change the pinset.
func (c *Consensus) IsTrustedPeer(_ context.Context, id peer.ID) bool {
	if c.cfg.TrustAll || id == c.host.ID() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trusted[id]
}

// Trust implements [ipfscluster.Consensus].
func (c *Consensus) Trust(_ context.Context, id peer.ID) error {
	c.trust(id)
	return nil
}

func (c *Consensus) trust(id peer.ID) {
	c.mu.Lock()
	c.trusted[id] = true
	c.mu.Unlock()
	c.host.ConnManager().Protect(id, "trusted")
}

// Distrust implements [ipfscluster.Consensus].
func (c *Consensus) Distrust(_ context.Context, id peer.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.trusted, id)
	return nil
}

// AddPeer implements [ipfscluster.Consensus]. A peer belongs to the cluster
// while it lives; nobody keeps a list.
func (c *Consensus) AddPeer(context.Context, peer.ID) error { return nil }

// RmPeer implements [ipfscluster.Consensus]; see [Consensus.AddPeer].
func (c *Consensus) RmPeer(context.Context, peer.ID) error { return upstream.ErrRmPeer }

// Leader implements [ipfscluster.Consensus]. There is none.
func (c *Consensus) Leader(context.Context) (peer.ID, error) { return "", upstream.ErrNoLeader }

// WaitForSync implements [ipfscluster.Consensus]. Readiness waits, in package
// catchup; the peer itself is of use before.
func (c *Consensus) WaitForSync(context.Context) error { return nil }

// Clean removes the pinset from the store.
func (c *Consensus) Clean(ctx context.Context) error { return upstream.Clean(ctx, c.cfg, c.store) }
