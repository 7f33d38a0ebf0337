package rehome

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

// state is what is settled about a peer.
type state int

const (
	unsettled state = iota // not known, or not for long enough
	present
	gone
)

// members knows which peers are there, with a delay that keeps it from
// following every blink. It is not safe for concurrent use.
type members struct {
	delay  time.Duration
	listed bool // the peers were named, nobody else is expected
	known  map[peer.ID]*member
	looked time.Time
}

type member struct {
	spread.Candidate // as last seen
	settled          state
	seen             bool
	since            time.Time // of seen being what it is
}

// lookGap is after how long without a look a member must begin anew to be
// there or not: this process was stopped, and what it saw before says nothing.
const lookGap = 10 * lookInterval

func newMembers(delay time.Duration, wanted []peer.ID, now time.Time) *members {
	m := &members{delay: delay, listed: len(wanted) > 0, known: map[peer.ID]*member{}, looked: now}
	for _, id := range wanted {
		m.known[id] = &member{Candidate: spread.Candidate{ID: id}, since: now}
	}
	return m
}

// look takes note of who is there now, and reports whether that settled
// something, and whether a peer came that was not there before.
func (m *members) look(now time.Time, there []spread.Candidate) (changed, came bool) {
	stopped := now.Sub(m.looked) > lookGap
	m.looked = now
	for _, c := range there {
		if m.known[c.ID] == nil {
			m.known[c.ID] = &member{since: now}
		}
	}
	for id, k := range m.known {
		i := slices.IndexFunc(there, func(c spread.Candidate) bool { return c.ID == id })
		if seen := i >= 0; seen != k.seen || stopped {
			came = came || seen && !k.seen
			k.seen, k.since = seen, now
		}
		should := gone
		if k.seen {
			should = present
			if k.Zone != there[i].Zone && k.settled == present {
				changed = true
			}
			k.Candidate = there[i]
		}
		if k.settled != should && now.Sub(k.since) >= m.delay {
			k.settled, changed = should, true
		}
	}
	return changed, came
}

// view is what the members are at a moment, for plans.
type view struct {
	self  peer.ID
	state map[peer.ID]state
	zone  map[peer.ID]string
	// open are the peers that can take pins, in the order of their IDs: those that
	// are settled as present and seen right now.
	open []spread.Candidate
	// there are the peers that are seen right now, settled or not: those that a new pin
	// could be given to.
	there    []spread.Candidate
	stranger state // what a peer is that is not known
	listed   bool
	majority bool // more than half of all are open
	most     bool // more than half of all are there
}

func (m *members) view(self peer.ID) *view {
	v := &view{self: self, state: map[peer.ID]state{}, zone: map[peer.ID]string{}, listed: m.listed, stranger: gone}
	for id, k := range m.known {
		v.state[id], v.zone[id] = k.settled, k.Zone
		if k.seen {
			v.there = append(v.there, k.Candidate)
			if k.settled == present {
				v.open = append(v.open, k.Candidate)
			}
		}
		if k.settled == unsettled {
			v.stranger = unsettled // it is too early to say who is not there
		}
	}
	byID := func(a, b spread.Candidate) int { return strings.Compare(string(a.ID), string(b.ID)) }
	slices.SortFunc(v.open, byID)
	slices.SortFunc(v.there, byID)
	v.majority = 2*len(v.open) > len(m.known)
	v.most = 2*len(v.there) > len(m.known)
	return v
}

func (v *view) of(id peer.ID) state {
	if s, ok := v.state[id]; ok {
		return s
	}
	return v.stranger
}

func (v *view) isOpen(id peer.ID) bool {
	return slices.ContainsFunc(v.open, func(c spread.Candidate) bool { return c.ID == id })
}

// responsible says whether this peer is the one among some that makes a step with a key's
// pin.
func (v *view) responsible(key []byte, among []spread.Candidate) bool {
	var equal []spread.Candidate
	for _, c := range among {
		equal = append(equal, spread.Candidate{ID: c.ID, Weight: 1})
	}
	ranked := spread.Rank(append([]byte("rehome"), key...), equal, nil)
	return len(ranked) > 0 && ranked[0] == v.self
}
