package cluster

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

// TestZones runs six peers in three zones, without IPFS nodes.
func TestZones(t *testing.T) {
	pins := scale(t, "CLUSTER_TEST_ZONE_PINS", 300)
	names := []string{"a-1", "a-2", "b-1", "b-2", "c-1", "c-2"}
	all := tasks(t, options{names: names, standIn: true, settings: func(name string) map[string]string {
		return map[string]string{
			"CLUSTER_ZONE":                 name[:1],
			"CLUSTER_REPLICATIONFACTORMIN": "2", "CLUSTER_REPLICATIONFACTORMAX": "2",
		}
	}})
	for _, k := range all {
		k.start()
	}
	awaitAll(t, all)
	awaitZones := func(k *task, n int) {
		require.Eventually(t, func() bool {
			_, body, err := k.request(http.MethodGet, "/monitor/metrics/freespace")
			return err == nil && n == countPeers(body)
		}, patience, poll)
	}
	awaitZones(all[0], 6)
	names2 := idNames(t, all)

	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				mh, err := multihash.Sum([]byte(fmt.Sprint(i)), multihash.SHA2_256, -1)
				if err != nil {
					t.Error(err)
				}
				code, body, err := all[0].request(http.MethodPost, "/pins/"+cid.NewCidV1(cid.Raw, mh).String())
				if err != nil || code != http.StatusOK {
					t.Error(code, string(body), err)
				}
			}
		})
	}
	for i := range pins {
		next <- i
	}
	close(next)
	wg.Wait()

	set, err := all[0].pinset()
	require.NoError(t, err)
	require.Len(t, set, pins)
	share := map[string]int{}
	for c, allocations := range set {
		require.Len(t, allocations, 2)
		require.NotEqual(t, names2[allocations[0]][:1], names2[allocations[1]][:1], "%s has two copies in a zone", c)
		for _, id := range allocations {
			share[names2[id]]++
		}
	}
	t.Logf("%d pins, two copies each: %v", pins, share)
	if pins >= 3000 {
		for _, name := range names {
			require.InEpsilon(t, pins/3, share[name], 0.15, name)
		}
	}
}

// idNames maps the peers' IDs to their names.
func idNames(t *testing.T, all []*task) map[string]string {
	out := map[string]string{}
	for _, k := range all {
		out[k.id(t)] = k.name
	}
	return out
}
