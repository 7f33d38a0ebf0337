package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"
)

const (
	// answerTimeout is how long a peer may take to say what it has not pinned: it has that in memory.
	// lookTimeout is for a comparison of its node's pins with the pinset.
	answerTimeout = 5 * time.Second
	lookTimeout   = 30 * time.Second

	// lookInterval is how often peers compare their nodes' pins with the pinset for lists. A pin that
	// a node lost without the cluster shows in lists after as long at most.
	lookInterval = 30 * time.Second

	// fresh is how old a pin may be of which another peer has perhaps not heard, so that it does not say
	// that it is not pinned yet. Peers nearby hear of it within milliseconds.
	fresh = 10 * time.Second

	// exactly is how many statuses are asked for at a time.
	exactly = 16
)

// notPinned are the states in which a peer has a pin to see to.
const notPinned = api.TrackerStatusPinQueued | api.TrackerStatusPinning | api.TrackerStatusError

// state is the state of a request and what there is to say about it.
type state struct {
	status  string
	details string
}

// peerState is what one peer says of a CID.
type peerState struct {
	status api.TrackerStatus
	detail string
}

// statuses knows what peers have pinned. It is safe for concurrent use.
type statuses struct {
	rpc *rpc.Client

	mu      sync.Mutex
	looked  time.Time
	lacking map[peer.ID]map[api.Cid]peerState // what a comparison found
}

// account is what the peers that answer say.
type account struct {
	self    peer.ID
	members []peer.ID
	peers   map[peer.ID]map[api.Cid]peerState // what is not pinned; no entry for a peer that does not answer
}

// ask asks the peers for what they have not pinned.
func (s *statuses) ask(ctx context.Context) (account, error) {
	a := account{self: s.rpc.ID(), peers: map[peer.ID]map[api.Cid]peerState{}}
	if err := s.rpc.CallContext(ctx, "", "Consensus", "Peers", struct{}{}, &a.members); err != nil {
		return a, fmt.Errorf("ask who the peers are: %w", err)
	}
	s.look(ctx, a.members)
	a.peers = s.gather(ctx, a.members, notPinned, answerTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, lacks := range s.lacking {
		for c, st := range lacks {
			if said, answers := a.peers[p]; answers {
				if _, known := said[c]; !known {
					said[c] = st
				}
			}
		}
	}
	return a, nil
}

// look asks the peers, once in lookInterval, for pins that their nodes lack unexpectedly. A pin may be
// in place by the time the answer arrives, so each one found is asked for a second time.
func (s *statuses) look(ctx context.Context, members []peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.looked) < lookInterval {
		return
	}
	s.lacking = s.gather(ctx, members, api.TrackerStatusUnexpectedlyUnpinned, lookTimeout)
	s.looked = time.Now()
	for p, lacks := range s.lacking {
		if len(lacks) > maxLimit {
			continue // it will not be a coincidence
		}
		for c := range lacks {
			var info api.PinInfo
			err := s.rpc.CallContext(ctx, p, "PinTracker", "Status", c, &info)
			if err == nil && info.Status != api.TrackerStatusUnexpectedlyUnpinned {
				delete(lacks, c)
			}
		}
	}
}

// gather asks peers at once for the pins in some states.
func (s *statuses) gather(ctx context.Context, peers []peer.ID, filter api.TrackerStatus, timeout time.Duration) map[peer.ID]map[api.Cid]peerState {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex
	out := map[peer.ID]map[api.Cid]peerState{}
	var asked sync.WaitGroup
	for _, p := range peers {
		asked.Go(func() {
			in := make(chan api.TrackerStatus, 1)
			in <- filter
			close(in)
			infos := make(chan api.PinInfo, 1024)
			ended := make(chan error, 1)
			go func() { ended <- s.rpc.Stream(ctx, p, "PinTracker", "StatusAll", in, infos) }()
			said := map[api.Cid]peerState{}
			for info := range infos {
				said[info.Cid] = peerState{info.Status, info.Error}
			}
			if err := <-ended; err != nil {
				logger.Warnf("peer %s does not say what it has not pinned; a list counts it as absent: %s", p, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[p] = said
		})
	}
	asked.Wait()
	return out
}

// of returns the state of a pin, and whether that rests on the silence of peers that may not know of it yet.
func (a account) of(c api.Cid, where placement, young bool) (st state, unsure bool) {
	peers := where.peers
	if peers == nil {
		peers = a.members
	}
	have, sure := 0, 0
	for _, p := range peers {
		said, answers := a.peers[p]
		if _, open := said[c]; open || !answers {
			continue
		}
		have++
		if !young || p == a.self {
			sure++
		}
	}
	if have >= where.need {
		return state{status: pinned}, sure < where.need
	}
	says := map[peer.ID]peerState{}
	for _, p := range peers {
		said, answers := a.peers[p]
		one, open := said[c]
		switch {
		case !answers:
			one = peerState{api.TrackerStatusClusterError, "it does not answer"}
		case !open:
			one.status = api.TrackerStatusPinned
		}
		says[p] = one
	}
	return sum(says, where.need), false
}

// sum makes one state of what peers say.
func sum(says map[peer.ID]peerState, need int) state {
	var have, works, waits int
	var reasons []string
	for _, p := range slices.Sorted(maps.Keys(says)) {
		st := says[p]
		switch {
		case st.status.Match(api.TrackerStatusPinned):
			have++
		case st.status.Match(api.TrackerStatusPinning):
			works++
		case st.status.Match(api.TrackerStatusPinQueued | api.TrackerStatusUnexpectedlyUnpinned):
			waits++
		case st.status.Match(api.TrackerStatusError):
			reasons = append(reasons, fmt.Sprintf("%s: %s", p, st.detail))
		}
	}
	details := strings.Join(reasons, "; ")
	switch {
	case have >= need:
		return state{status: pinned}
	case works > 0:
		return state{pinning, details}
	case waits > 0 || len(reasons) == 0:
		return state{queued, details}
	}
	return state{failed, details}
}

// exact asks the peers that keep a pin about it. ok is false if it is in the pinset no more.
func (s *statuses) exact(ctx context.Context, c api.Cid, where placement) (st state, ok bool, err error) {
	var info api.GlobalPinInfo
	if err := s.rpc.CallContext(ctx, "", "Cluster", "Status", c, &info); err != nil {
		return st, false, fmt.Errorf("ask the peers for the status of %s: %w", c, err)
	}
	says := map[peer.ID]peerState{}
	for text, one := range info.PeerMap {
		id, err := peer.Decode(text)
		if err != nil {
			return st, false, err
		}
		switch one.Status {
		case api.TrackerStatusUnpinned:
			return st, false, nil
		case api.TrackerStatusRemote: // none of its business
		default:
			says[id] = peerState{one.Status, one.Error}
		}
	}
	return sum(says, where.need), true, nil
}

// each returns the states of the requests of a list.
func (s *statuses) each(ctx context.Context, entries []entry) ([]state, error) {
	a, err := s.ask(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]state, len(entries))
	young := time.Now().Add(-fresh).UnixMilli()
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(exactly)
	for i, e := range entries {
		var unsure bool
		if out[i], unsure = a.of(e.cid, e.of, e.at > young); unsure {
			asking.Go(func() error {
				st, ok, err := s.exact(ctx, e.cid, e.of)
				if ok {
					out[i] = st
				}
				return err
			})
		}
	}
	return out, asking.Wait()
}
