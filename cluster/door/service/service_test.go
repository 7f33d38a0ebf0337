package service

import (
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

func TestEachRequestHasATimeOfItsOwn(t *testing.T) {
	entries := []entry{{at: 5, id: "b"}, {at: 7, id: "d"}, {at: 5, id: "a"}, {at: 6, id: "c"}, {at: 5, id: "e"}, {at: 1, id: "f"}}
	order(entries)
	var got []string
	for i, e := range entries {
		got = append(got, e.id)
		require.True(t, i == 0 || e.at < entries[i-1].at)
	}
	require.Equal(t, []string{"d", "c", "e", "b", "a", "f"}, got)
	require.Equal(t, int64(7), entries[2].at, "moved by what it takes")
	require.Equal(t, int64(5), entries[4].at)
}

func TestTheStateOfARequest(t *testing.T) {
	c, err := api.DecodeCid("bafkqaaa")
	require.NoError(t, err)
	const (
		has   = api.TrackerStatusPinned // says nothing of it
		works = api.TrackerStatusPinning
		waits = api.TrackerStatusPinQueued
		fails = api.TrackerStatusPinError
		lacks = api.TrackerStatusUnexpectedlyUnpinned
		away  = api.TrackerStatusClusterError
	)
	for _, x := range []struct {
		says  []api.TrackerStatus // self, and another
		need  int
		young bool
		want  string
		asks  bool
	}{
		{says: []api.TrackerStatus{has, has}, need: 2, want: pinned},
		{says: []api.TrackerStatus{has, has}, need: 2, young: true, want: pinned, asks: true},
		{says: []api.TrackerStatus{has, has}, need: 1, young: true, want: pinned},
		{says: []api.TrackerStatus{works, has}, need: 1, young: true, want: pinned, asks: true},
		{says: []api.TrackerStatus{works, has}, need: 1, want: pinned},
		{says: []api.TrackerStatus{has, works}, need: 1, want: pinned},
		{says: []api.TrackerStatus{has, works}, need: 2, want: pinning},
		{says: []api.TrackerStatus{waits, works}, need: 1, want: pinning},
		{says: []api.TrackerStatus{waits, fails}, need: 1, want: queued},
		{says: []api.TrackerStatus{lacks, lacks}, need: 1, want: queued},
		{says: []api.TrackerStatus{has, fails}, need: 1, want: pinned},
		{says: []api.TrackerStatus{has, fails}, need: 2, want: failed},
		{says: []api.TrackerStatus{fails, fails}, need: 1, want: failed},
		{says: []api.TrackerStatus{has, away}, need: 1, want: pinned},
		{says: []api.TrackerStatus{has, away}, need: 2, want: failed},
		{says: []api.TrackerStatus{away, away}, need: 1, young: true, want: failed},
	} {
		a := account{self: "self", members: []peer.ID{"self", "other"}, peers: map[peer.ID]map[api.Cid]peerState{}}
		for i, p := range a.members {
			switch x.says[i] {
			case away:
			case has:
				a.peers[p] = map[api.Cid]peerState{}
			default:
				a.peers[p] = map[api.Cid]peerState{c: {status: x.says[i], detail: "why"}}
			}
		}
		for _, where := range [][]peer.ID{a.members, nil} {
			st, asks := a.of(c, placement{where, x.need}, x.young)
			require.Equal(t, x.want, st.status, "%+v", x)
			require.Equal(t, x.asks, asks, "%+v", x)
			require.Equal(t, x.want == failed, x.want == failed && st.details != "", "it says why")
		}
	}
}
