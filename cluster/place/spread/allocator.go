package spread

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Allocator chooses peers for new pins. It implements ipfs-cluster's
// PinAllocator, keeps no state, and is safe for concurrent use.
type Allocator struct {
	zone, space string // names of the metrics
}

// NewAllocator returns an allocator that reads a peer's zone and its free space
// from the metrics of these names. An empty space makes all peers equal.
func NewAllocator(zone, space string) *Allocator {
	return &Allocator{zone: zone, space: space}
}

// SetClient implements ipfs-cluster's Component; the client is not needed.
func (*Allocator) SetClient(*rpc.Client) {}

// Shutdown implements ipfs-cluster's Component.
func (*Allocator) Shutdown(context.Context) error { return nil }

// Metrics names the metrics that a peer must have to be chosen.
func (a *Allocator) Metrics() []string {
	if a.space == "" {
		return []string{a.zone}
	}
	return []string{a.zone, a.space}
}

// Allocate orders the peers of priority, then those of candidates, best first.
// current are the peers that keep the pin already. An add asks before it knows
// its CID; it gets an order by chance.
func (a *Allocator) Allocate(_ context.Context, c api.Cid, current, candidates, priority api.MetricsSet) ([]peer.ID, error) {
	key := c.Bytes()
	if !c.Defined() {
		key = make([]byte, 16)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("choose peers for an add: %w", err)
		}
	}
	held := map[string]int{}
	for _, m := range current[a.zone] {
		held[m.Value]++
	}
	first := a.Candidates(priority)
	chosen := Rank(key, first, held)
	for _, one := range first {
		held[one.Zone]++
	}
	return append(chosen, Rank(key, a.Candidates(candidates), held)...), nil
}

// Candidates reads peers from their metrics, in the order of their IDs. Those
// that lack a metric are left out.
func (a *Allocator) Candidates(set api.MetricsSet) []Candidate {
	space := map[peer.ID]int64{}
	for _, m := range set[a.space] {
		space[m.Peer] = m.GetWeight()
	}
	var out []Candidate
	for _, m := range set[a.zone] {
		w, ok := space[m.Peer]
		if a.space == "" {
			w, ok = 1, true
		}
		if ok {
			out = append(out, Candidate{ID: m.Peer, Zone: m.Value, Weight: w})
		}
	}
	slices.SortFunc(out, func(x, y Candidate) int {
		switch {
		case x.ID < y.ID:
			return -1
		case x.ID > y.ID:
			return 1
		}
		return 0
	})
	return out
}

// TooFewPeers recognises the error of a pin for which there are fewer peers than it needs at this moment.
//
// upstream: too-few-peers
func TooFewPeers(message string) bool {
	return strings.HasPrefix(message, "not enough peers to allocate CID")
}
