package spread

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
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

// carryOut applies changes until there are none, as the rebalancer does.
func carryOut(t require.TestingT, k []byte, allocated []peer.ID, present []Candidate, min, max int) ([]peer.ID, int) {
	moves := 0
	for range 20 {
		c := Want(k, allocated, present, min, max)
		if c.None() {
			return allocated, moves
		}
		moves += len(c.Add)
		allocated = append(slices.Clone(allocated), c.Add...)
		allocated = slices.DeleteFunc(allocated, func(id peer.ID) bool { return slices.Contains(c.Drop, id) })
	}
	require.Fail(t, "it never ends")
	return nil, 0
}

func TestAZoneGoesAndComesBack(t *testing.T) {
	all := six()
	moved := 0
	for i := range 500 {
		start := Rank(key(i), all, nil)[:3]
		less, n := carryOut(t, key(i), start, all[2:], 3, 3) // zone a is lost
		require.LessOrEqual(t, n, 1, "only the lost copy is made again")
		moved += n
		require.Len(t, less, 3)
		require.Equal(t, 2, distinct(zones(less, all)))
		back, n := carryOut(t, key(i), less, all, 3, 3)
		require.LessOrEqual(t, n, 1)
		require.Equal(t, 3, distinct(zones(back, all)), "a zone is free, so no other has two")
	}
	require.Equal(t, 500, moved)
}

func TestEnoughCopiesAreLeftAlone(t *testing.T) {
	require.True(t, Want(key(1), []peer.ID{"peer-0", "peer-2", "peer-4"}, six()[2:], 2, 3).None(), "two of two to three are left")
	require.True(t, Want(key(1), []peer.ID{"peer-0", "peer-2"}, nil, 2, 2).None(), "nobody is there")
}

func TestWantAlwaysSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var peers []Candidate
		for i := range rapid.IntRange(0, 8).Draw(t, "peers") {
			peers = append(peers, Candidate{ID: peer.ID(fmt.Sprint("p", i)), Zone: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone"), Weight: int64(rapid.IntRange(0, 3).Draw(t, "weight"))})
		}
		min := rapid.IntRange(1, 4).Draw(t, "min")
		max := rapid.IntRange(min, 5).Draw(t, "max")
		allocated := rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(0, 10), func(i int) peer.ID { return peer.ID(fmt.Sprint("p", i)) }), 0, 8, rapid.ID).Draw(t, "allocated")
		after, _ := carryOut(t, []byte("key"), allocated, peers, min, max)

		at := map[peer.ID]Candidate{}
		for _, c := range peers {
			at[c.ID] = c
		}
		here, room := 0, map[string]bool{}
		held := map[string]int{}
		for _, id := range after {
			if c, ok := at[id]; ok {
				here++
				held[c.Zone]++
			}
		}
		for _, c := range peers {
			if c.Weight > 0 && !slices.Contains(after, c.ID) {
				room[c.Zone] = true
			}
		}
		if here < min {
			require.Empty(t, room, "too few copies although there is room")
		}
		require.LessOrEqual(t, here, max)
		for zone := range maps.Keys(room) {
			if held[zone] == 0 {
				for other, n := range held {
					require.LessOrEqual(t, n, 1, "zone %s has %d copies while %s is free", other, n, zone)
				}
			}
		}
		for _, id := range allocated {
			_, was := at[id]
			if was && !slices.Contains(after, id) {
				require.GreaterOrEqual(t, here, min, "a copy was dropped although there are too few")
			}
		}
	})
}
