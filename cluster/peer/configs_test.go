package peer

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// configure builds the configurations from an environment, as the daemon does.
func configure(t *testing.T, env map[string]string) (*settings.Settings, *Configs) {
	base := map[string]string{
		"HOME": t.TempDir(), "CLUSTER_PEERNAME": "task-1",
		"CLUSTER_SECRET": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
	}
	for _, m := range []map[string]string{base, env} {
		for k, v := range m {
			t.Setenv(k, v)
		}
	}
	s, err := settings.Load(os.Environ())
	require.NoError(t, err)
	require.NoError(t, settings.TakeSecrets())
	c, err := NewConfigs(s)
	require.NoError(t, err)
	return s, c
}

func TestDefaultsAreOurs(t *testing.T) {
	s, c := configure(t, nil)
	require.Equal(t, s.Secret, []byte(c.Cluster.Secret))
	require.Equal(t, "task-1", c.Cluster.Peername)
	require.Equal(t, -1, c.Cluster.ReplicationFactorMin)
	require.Equal(t, -1, c.Cluster.ReplicationFactorMax)
	require.False(t, c.CRDT.TrustAll, "never everybody")
	require.Empty(t, c.CRDT.TrustedPeers)
	require.Equal(t, 5*time.Second, c.CRDT.RebroadcastInterval)
	require.Equal(t, 1000, c.CRDT.Batching.MaxBatchSize)
	require.NotNil(t, c.ownAllocation())
	require.Nil(t, c.REST.BasicAuthCredentials)
	require.Zero(t, c.REST.ReadTimeout, "an add may take long")
	require.Zero(t, c.REST.WriteTimeout)
	require.Nil(t, c.Pinning)
	require.Equal(t, []string{"tag:az", "freespace"}, c.Allocator.AllocateBy)
	require.Equal(t, map[string]string{"az": "unspecified"}, c.Tags.Tags, "a peer without the metric would never be chosen")
	require.Len(t, c.Cluster.ListenAddr, 1)
}

func TestVariablesOfIPFSClusterKeepTheirMeaning(t *testing.T) {
	_, c := configure(t, map[string]string{
		"CLUSTER_CRDT_REBROADCASTINTERVAL":      "9s",
		"CLUSTER_REPLICATIONFACTORMIN":          "2",
		"CLUSTER_REPLICATIONFACTORMAX":          "3",
		"CLUSTER_TAGS_TAGS":                     "az:us-east-1a,rack:7",
		"CLUSTER_BALANCED_ALLOCATEBY":           "tag:rack,tag:row,freespace",
		"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":     "/dns4/node/tcp/5001",
		"CLUSTER_PUBSUB_FLOODPUBLISH":           "false",
		"CLUSTER_STATELESS_CONCURRENTPINS":      "3",
		"CLUSTER_RESTAPI_MAXHEADERBYTES":        "8192",
		"CLUSTER_CONNECTIONMANAGER_GRACEPERIOD": "7s",
	})
	require.Equal(t, 9*time.Second, c.CRDT.RebroadcastInterval)
	require.Equal(t, 2, c.Cluster.ReplicationFactorMin)
	require.Equal(t, 3, c.Cluster.ReplicationFactorMax)
	require.Equal(t, map[string]string{"az": "us-east-1a", "rack": "7", "row": "unspecified"}, c.Tags.Tags)
	require.Equal(t, "/dns4/node/tcp/5001", c.IPFS.NodeAddr.String())
	require.False(t, c.Cluster.PubSub.FloodPublish)
	require.Equal(t, 3, c.Tracker.ConcurrentPins)
	require.Equal(t, 8192, c.REST.MaxHeaderBytes)
	require.Equal(t, 7*time.Second, c.Cluster.ConnMgr.GracePeriod)
}

func TestZoneAndAllocation(t *testing.T) {
	_, c := configure(t, map[string]string{"CLUSTER_ZONE": "eu-west-1b"})
	require.Equal(t, map[string]string{"az": "eu-west-1b"}, c.Tags.Tags)
	require.Equal(t, []string{"tag:az", "freespace"}, c.ownAllocation().Metrics())
	_, c = configure(t, map[string]string{"CLUSTER_BALANCED_ALLOCATEBY": "tag:rack"})
	require.Equal(t, []string{"tag:rack"}, c.ownAllocation().Metrics())
	_, c = configure(t, map[string]string{"CLUSTER_BALANCED_ALLOCATEBY": "tag:rack,tag:row,freespace"})
	require.Nil(t, c.ownAllocation(), "that is ipfs-cluster's")
	// Metrics that no peer has: pins with copies would fail, each of them.
	s, _ := configure(t, nil)
	for _, by := range []string{"pinqueue", "tag:az,pinqueue", "bogus", "tag:", "reposize"} {
		t.Setenv("CLUSTER_BALANCED_ALLOCATEBY", by)
		_, err := NewConfigs(s)
		require.ErrorContains(t, err, "CLUSTER_BALANCED_ALLOCATEBY: no peer has the metric", by)
		require.ErrorContains(t, err, "use freespace, or tag:NAME", by)
	}
	t.Setenv("CLUSTER_DISK_METRICTYPE", "reposize")
	_, c = configure(t, map[string]string{"CLUSTER_BALANCED_ALLOCATEBY": "tag:az,reposize"})
	require.Nil(t, c.ownAllocation())
}

func TestTrustIsTheComputedList(t *testing.T) {
	s, c := configure(t, map[string]string{
		"CLUSTER_SEED":  "a seed of at least thirty-two bytes",
		"CLUSTER_PEERS": "task-1=/ip4/1.2.3.4/tcp/1,task-2=/ip4/1.2.3.4/tcp/2,task-3=/dns4/three/tcp/3",
	})
	require.False(t, c.CRDT.TrustAll)
	require.Len(t, c.CRDT.TrustedPeers, 2)
	for _, p := range s.Peers[1:] {
		require.Contains(t, c.CRDT.TrustedPeers, p.ID)
	}
	require.Empty(t, c.Cluster.GetPeerstorePath(), "no file of remembered addresses")
}

func TestCredentialsReachBothAPIs(t *testing.T) {
	_, c := configure(t, map[string]string{
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS":   "admin:with:colons",
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": "/ip4/0.0.0.0/tcp/9094",
		"CLUSTER_PINSVCAPI_ENABLED":              "true",
	})
	want := map[string]string{"admin": "with:colons"}
	require.Equal(t, want, c.REST.BasicAuthCredentials)
	require.Equal(t, want, c.Pinning.BasicAuthCredentials)
}

func TestWhoMovesPins(t *testing.T) {
	_, c := configure(t, nil)
	require.True(t, c.Moves)
	require.True(t, c.Cluster.DisableRepinning, "not both")
	_, c = configure(t, map[string]string{"CLUSTER_DISABLEREPINNING": "true"})
	require.False(t, c.Moves)
	require.True(t, c.Cluster.DisableRepinning)
	_, c = configure(t, map[string]string{"CLUSTER_DISABLEREPINNING": "false"})
	require.True(t, c.Moves)
	_, c = configure(t, map[string]string{"CLUSTER_BALANCED_ALLOCATEBY": "freespace"})
	require.False(t, c.Moves, "its allocator, its way")
	require.False(t, c.Cluster.DisableRepinning)
}
