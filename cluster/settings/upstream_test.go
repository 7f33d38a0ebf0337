package settings

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/allocator/balanced"
	"github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	"github.com/ipfs-cluster/ipfs-cluster/config"
	"github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	"github.com/ipfs-cluster/ipfs-cluster/informer/tags"
	"github.com/ipfs-cluster/ipfs-cluster/ipfsconn/ipfshttp"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	"github.com/stretchr/testify/require"
)

// The names in our table are those that ipfs-cluster looks for: of each component's
// configuration the keys, without underscores. A key that is left out of the JSON
// while it is empty cannot be seen.
func TestTheVariablesAreThoseOfIPFSCluster(t *testing.T) {
	hidden := []string{
		"CLUSTER_CRDT_DATASTORENAMESPACE", "CLUSTER_CRDT_PEERSETMETRIC", "CLUSTER_CRDT_REBROADCASTINTERVAL", "CLUSTER_FOLLOWERMODE",
		"CLUSTER_IPFSHTTP_UNPINDISABLE", "CLUSTER_PEERSTOREFILE", "CLUSTER_PINSVCAPI_ID", "CLUSTER_PINSVCAPI_LIBP2PLISTENMULTIADDRESS",
		"CLUSTER_PINSVCAPI_PRIVATEKEY", "CLUSTER_PINSVCAPI_SSLCERTFILE", "CLUSTER_PINSVCAPI_SSLKEYFILE", "CLUSTER_RESTAPI_ID",
		"CLUSTER_RESTAPI_LIBP2PLISTENMULTIADDRESS", "CLUSTER_RESTAPI_PRIVATEKEY", "CLUSTER_RESTAPI_SSLCERTFILE",
		"CLUSTER_RESTAPI_SSLKEYFILE", "CLUSTER_STATELESS_MAXPINQUEUESIZE",
	}
	real := map[string]bool{}
	for prefix, c := range map[string]config.ComponentConfig{
		"CLUSTER": &ipfscluster.Config{}, "CLUSTER_CRDT": &crdt.Config{}, "CLUSTER_RESTAPI": rest.NewConfig(),
		"CLUSTER_PINSVCAPI": pinsvcapi.NewConfig(), "CLUSTER_IPFSHTTP": &ipfshttp.Config{}, "CLUSTER_STATELESS": &stateless.Config{},
		"CLUSTER_PUBSUBMON": &pubsubmon.Config{}, "CLUSTER_BALANCED": &balanced.Config{}, "CLUSTER_DISK": &disk.Config{},
		"CLUSTER_TAGS": &tags.Config{}, "CLUSTER_TRACING": &observations.TracingConfig{},
	} {
		require.NoError(t, c.Default())
		text, err := c.ToJSON()
		require.NoError(t, err)
		var keys map[string]any
		require.NoError(t, json.Unmarshal(text, &keys))
		names(real, prefix, keys)
	}
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(upstream)) {
		if !real[name] {
			unknown = append(unknown, name)
		}
	}
	require.Equal(t, hidden, unknown)
}

func names(to map[string]bool, prefix string, keys map[string]any) {
	for key, v := range keys {
		name := prefix + "_" + strings.ToUpper(strings.ReplaceAll(key, "_", ""))
		to[name] = true
		if inner, ok := v.(map[string]any); ok {
			names(to, name, inner)
		}
	}
}
