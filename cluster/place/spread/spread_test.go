package spread

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

const gib = 1 << 30

// six peers in three zones.
func six() []Candidate {
	var out []Candidate
	for i := range 6 {
		out = append(out, Candidate{ID: peer.ID(fmt.Sprintf("peer-%d", i)), Zone: "abc"[i/2 : i/2+1], Weight: 100 * gib})
	}
	return out
}

func key(i int) []byte { return []byte(fmt.Sprintf("cid-%d", i)) }

func zones(ids []peer.ID, of []Candidate) []string {
	var out []string
	for _, c := range of {
		if slices.Contains(ids, c.ID) {
			out = append(out, c.Zone)
		}
	}
	return out
}

func distinct(s []string) int {
	s = slices.Sorted(slices.Values(s))
	return len(slices.Compact(s))
}

func TestEveryPeerGetsItsShareAndNoZoneTwoCopies(t *testing.T) {
	const pins = 3000
	for _, copies := range []int{2, 3} {
		count := map[peer.ID]int{}
		for i := range pins {
			chosen := Rank(key(i), six(), nil)[:copies]
			require.Equal(t, copies, distinct(zones(chosen, six())))
			for _, id := range chosen {
				count[id]++
			}
		}
		share := float64(pins*copies) / 6
		for id, n := range count {
			require.InDelta(t, share, n, share*0.15, "%s of %d copies", id, copies)
		}
		require.Len(t, count, 6)
	}
}

func TestSharesFollowFreeSpace(t *testing.T) {
	peers := []Candidate{{"a", "z", 100 * gib}, {"b", "z", 200 * gib}, {"c", "z", 0}}
	count := map[peer.ID]int{}
	for i := range 3000 {
		ranked := Rank(key(i), peers, nil)
		require.Len(t, ranked, 3)
		count[ranked[0]]++
	}
	require.InDelta(t, 1000, count["a"], 150)
	require.InDelta(t, 2000, count["b"], 150)
	require.Zero(t, count["c"], "a full peer is the last resort")
}

func TestAPeerThatGoesMovesOnlyItsOwn(t *testing.T) {
	for i := range 1000 {
		before := Rank(key(i), six(), nil)[:1]
		after := Rank(key(i), six()[1:], nil)[:1]
		if before[0] != "peer-0" {
			require.Equal(t, before, after)
		}
	}
}

func metrics(cs []Candidate) api.MetricsSet {
	set := api.MetricsSet{}
	for _, c := range cs {
		set["tag:az"] = append(set["tag:az"], api.Metric{Name: "tag:az", Peer: c.ID, Value: c.Zone})
		set["freespace"] = append(set["freespace"], api.Metric{Name: "freespace", Peer: c.ID, Weight: c.Weight})
	}
	return set
}

func TestAllocatorMindsWhatIsThere(t *testing.T) {
	a := NewAllocator("tag:az", "freespace")
	require.Equal(t, []string{"tag:az", "freespace"}, a.Metrics())
	all := six()
	c, err := api.DecodeCid("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	require.NoError(t, err)
	chosen, err := a.Allocate(context.Background(), c, metrics(all[:1]), metrics(all[1:]), nil)
	require.NoError(t, err)
	require.Len(t, chosen, 5)
	require.NotContains(t, zones(chosen[:2], all), "a", "zone a has a copy")

	chosen, err = a.Allocate(context.Background(), c, nil, metrics(all[2:]), metrics(all[:2]))
	require.NoError(t, err)
	require.ElementsMatch(t, []peer.ID{"peer-0", "peer-1"}, chosen[:2], "whom the user named comes first")
	require.Equal(t, 2, distinct(zones(chosen[2:4], all)))
}

func TestAddsAreSpreadAlthoughTheirCIDIsNotKnown(t *testing.T) {
	a := NewAllocator("tag:az", "")
	require.Equal(t, []string{"tag:az"}, a.Metrics())
	count := map[peer.ID]int{}
	for range 3000 {
		chosen, err := a.Allocate(context.Background(), api.CidUndef, nil, metrics(six()), nil)
		require.NoError(t, err)
		count[chosen[0]]++
	}
	for id, n := range count {
		require.InDelta(t, 500, n, 110, id) // 5.4 standard deviations
	}
	require.Len(t, count, 6)
}
