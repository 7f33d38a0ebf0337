package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/requests"
)

// idle is how long the index is kept after the last request for it. kubo's client asks for one page
// of ten pins after another, and these requests share an index.
const idle = time.Minute

// entry is one request, as far as a list needs it to choose.
type entry struct {
	at  int64 // milliseconds since 1970, no two the same
	cid api.Cid
	id  string    // of the request
	of  placement // of the pin
}

// placement is where a pin is to be.
type placement struct {
	peers []peer.ID // none: on every peer
	need  int       // how many make it pinned
}

func placed(pin api.Pin) placement {
	p := placement{need: max(1, pin.ReplicationFactorMin)}
	if !pin.IsPinEverywhere() {
		p.peers = pin.Allocations
	}
	return p
}

// index has all requests, from the newest to the oldest, as of some changes of the pinset.
type index struct {
	pins    Pins
	mu      sync.Mutex
	heads   []cid.Cid
	entries []entry
	forget  *time.Timer
}

// all returns every request of the pinset as it is now. The slice must not be changed.
func (x *index) all(ctx context.Context) ([]entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	// Changes count as applied after their pins are in the pinset. So a list that is read
	// after the changes were looked at has at least their pins.
	heads := x.pins.Heads(ctx)
	slices.SortFunc(heads, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
	if x.entries == nil || !slices.Equal(heads, x.heads) {
		entries, err := x.read(ctx)
		if err != nil {
			return nil, err
		}
		x.entries, x.heads = entries, heads
	}
	if x.forget == nil {
		x.forget = time.AfterFunc(idle, func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.entries = nil
		})
	}
	x.forget.Reset(idle)
	return x.entries, nil
}

func (x *index) read(ctx context.Context) ([]entry, error) {
	st, err := x.pins.State(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pins := make(chan api.Pin, 1024)
	listed := make(chan error, 1)
	go func() { listed <- st.List(ctx, pins) }()
	entries := []entry{}
	places := map[string][]peer.ID{} // the same few, again and again
	for p := range pins {
		if p.Type != api.DataType {
			continue
		}
		where := placed(p)
		key := fmt.Sprint(where.peers)
		if _, known := places[key]; !known {
			places[key] = where.peers
		}
		where.peers = places[key]
		if entries, err = appendRequests(entries, p, where); err != nil {
			return nil, err
		}
	}
	if err := <-listed; err != nil {
		return nil, fmt.Errorf("list the pinset: %w", err)
	}
	order(entries)
	return entries, nil
}

func appendRequests(to []entry, p api.Pin, where placement) ([]entry, error) {
	all, err := requests.Of(p)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		to = append(to, entry{at: r.At, cid: p.Cid, id: r.ID, of: where})
	}
	return to, nil
}

// order sorts requests, the newest first. Those that came in the same millisecond get the next ones that are
// free, because clients find the next page by a time.
func order(entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.id, b.id)) })
	for i := 1; i < len(entries); i++ {
		entries[i].at = max(entries[i].at, entries[i-1].at+1)
	}
	slices.Reverse(entries)
}
