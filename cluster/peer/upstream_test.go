package peer

import (
	"context"
	"testing"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/config"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
)

// Components that do nothing, and of which the consensus is never ready.
type (
	idleConsensus struct {
		ipfscluster.Consensus
		ended chan struct{}
	}
	idleConnector struct {
		ipfscluster.IPFSConnector
	}
	idleTracker struct {
		ipfscluster.PinTracker
	}
	idleMonitor struct {
		ipfscluster.PeerMonitor
	}
	idleAllocator struct {
		ipfscluster.PinAllocator
	}
	idleInformer struct {
		ipfscluster.Informer
	}
)

func (idleConsensus) Ready(context.Context) <-chan struct{} { return nil }
func (idleConsensus) SetClient(*rpc.Client)                 {}
func (c idleConsensus) Shutdown(context.Context) error {
	close(c.ended)
	return nil
}
func (idleConnector) Ready(context.Context) <-chan struct{} { return nil }
func (idleConnector) SetClient(*rpc.Client)                 {}
func (idleConnector) Shutdown(context.Context) error        { return nil }
func (idleTracker) SetClient(*rpc.Client)                   {}
func (idleTracker) Shutdown(context.Context) error          { return nil }
func (idleMonitor) SetClient(*rpc.Client)                   {}
func (idleMonitor) Shutdown(context.Context) error          { return nil }
func (idleAllocator) SetClient(*rpc.Client)                 {}
func (idleAllocator) Shutdown(context.Context) error        { return nil }
func (idleInformer) SetClient(*rpc.Client)                  {}
func (idleInformer) Shutdown(context.Context) error         { return nil }

type idleTracer struct{}

func (idleTracer) SetClient(*rpc.Client)          {}
func (idleTracer) Shutdown(context.Context) error { return nil }

// ipfs-cluster gives up on a consensus that is not ready within ReadyTimeout, and on
// nothing else: so a pinset that takes long to load is waited for once that is long.
func TestReadyTimeoutIsWhatEndsAPeerThatLoads(t *testing.T) {
	before := ipfscluster.ReadyTimeout
	defer func() { ipfscluster.ReadyTimeout = before }()
	ipfscluster.ReadyTimeout = time.Millisecond

	_, c := configure(t, nil)
	store := dssync.MutexWrap(ds.NewMapDatastore())
	seed, err := identity.NewSeed([]byte("a seed of at least thirty-two bytes, for this test"))
	require.NoError(t, err)
	id, err := seed.Identity("task-1")
	require.NoError(t, err)
	c.Cluster.ListenAddr = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	h, bandwidth, _, dht, err := ipfscluster.NewClusterHost(t.Context(), &config.Identity{ID: id.ID, PrivateKey: id.Key}, c.Cluster, store)
	require.NoError(t, err)
	defer func() { _, _ = dht.Close(), h.Close() }()
	ended := make(chan struct{})
	_, err = ipfscluster.NewCluster(t.Context(), h, bandwidth, dht, c.Cluster, store, idleConsensus{ended: ended}, nil, idleConnector{},
		idleTracker{}, idleMonitor{}, idleAllocator{}, []ipfscluster.Informer{idleInformer{}}, idleTracer{})
	require.NoError(t, err)
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("a consensus that is never ready is waited for: ReadyTimeout has no meaning any more")
	}
}
