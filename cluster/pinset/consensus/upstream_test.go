package consensus

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/api"
	upstream "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
)

// What is called by name has these names, and these parameters.
func TestTheRPCMethodsAreThoseOfIPFSCluster(t *testing.T) {
	for _, name := range []string{"PinTracker.Track", "PinTracker.Untrack", "PinTracker.Status", "PinTracker.StatusAll", "PeerMonitor.LatestMetrics",
		"Cluster.ID", "Cluster.Pin", "Cluster.Status", "Consensus.Peers"} {
		require.Contains(t, ipfscluster.DefaultRPCPolicy, name)
	}
	require.Equal(t, ipfscluster.RPCTrusted, ipfscluster.DefaultRPCPolicy["PinTracker.Status"], "other peers may ask it: an ending peer does")
	require.Equal(t, ipfscluster.RPCTrusted, ipfscluster.DefaultRPCPolicy["PinTracker.StatusAll"], "so does a list of the pinning service")
	require.Equal(t, ipfscluster.RPCOpen, ipfscluster.DefaultRPCPolicy["Cluster.ID"], "and what shows a pin")
	var tracker *ipfscluster.PinTrackerRPCAPI
	var monitor *ipfscluster.PeerMonitorRPCAPI
	var cluster *ipfscluster.ClusterRPCAPI
	var consensus *ipfscluster.ConsensusRPCAPI
	var _ func(context.Context, api.Pin, *struct{}) error = tracker.Track
	var _ func(context.Context, api.Pin, *struct{}) error = tracker.Untrack
	var _ func(context.Context, api.Cid, *api.PinInfo) error = tracker.Status
	var _ func(context.Context, string, *[]api.Metric) error = monitor.LatestMetrics
	var _ func(context.Context, <-chan api.TrackerStatus, chan<- api.PinInfo) error = tracker.StatusAll
	var _ func(context.Context, struct{}, *api.ID) error = cluster.ID
	var _ func(context.Context, api.Pin, *api.Pin) error = cluster.Pin
	var _ func(context.Context, api.Cid, *api.GlobalPinInfo) error = cluster.Status
	var _ func(context.Context, struct{}, *[]peer.ID) error = consensus.Peers
}

// ipfs-cluster's own component subscribes to the topic that ours does.
func TestTheTopicIsThatOfIPFSCluster(t *testing.T) {
	h := newHost(t)
	defer func() { require.NoError(t, h.Close()) }()
	ps, err := pubsub.NewGossipSub(t.Context(), h)
	require.NoError(t, err)
	kept, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, kept.Close()) }()
	cfg := &upstream.Config{}
	require.NoError(t, cfg.Default())
	cfg.ClusterName = "a cluster"
	theirs, err := upstream.New(h, nil, ps, cfg, kept)
	require.NoError(t, err)
	theirs.SetClient(rpc.NewClientWithServer(nil, "/test", rpc.NewServer(nil, "/test")))
	select {
	case <-theirs.Ready(t.Context()):
	case <-time.After(patience):
		t.Fatal("ipfs-cluster's component does not start")
	}
	topic, err := topicOf(cfg.ClusterName)
	require.NoError(t, err)
	require.Contains(t, ps.GetTopics(), topic)
	require.NoError(t, theirs.Shutdown(t.Context()))
}
