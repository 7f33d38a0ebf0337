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
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/store"
)

// What is called by name has these names, and these parameters.
func TestTheRPCMethodsAreThoseOfIPFSCluster(t *testing.T) {
	for _, name := range []string{"PinTracker.Track", "PinTracker.Untrack", "PinTracker.Status", "PeerMonitor.LatestMetrics"} {
		require.Contains(t, ipfscluster.DefaultRPCPolicy, name)
	}
	require.Equal(t, ipfscluster.RPCTrusted, ipfscluster.DefaultRPCPolicy["PinTracker.Status"], "other peers may ask it: an ending peer does")
	var tracker *ipfscluster.PinTrackerRPCAPI
	var monitor *ipfscluster.PeerMonitorRPCAPI
	var _ func(context.Context, api.Pin, *struct{}) error = tracker.Track
	var _ func(context.Context, api.Pin, *struct{}) error = tracker.Untrack
	var _ func(context.Context, api.Cid, *api.PinInfo) error = tracker.Status
	var _ func(context.Context, string, *[]api.Metric) error = monitor.LatestMetrics
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
