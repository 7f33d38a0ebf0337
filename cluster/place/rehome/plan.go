package rehome

import (
	"slices"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

// kind is what a step is for.
type kind int

const (
	nothing  kind = iota
	replace       // copies are lost: new ones elsewhere
	complete      // it has fewer peers than it should have: more of them
	approach      // copies at the peers where it belongs, besides those there are
	arrive        // no copies elsewhere any more; after all peers of the step hold the pin
)

// step is what is to be done with a pin: to be allocated as pin says.
type step struct {
	kind kind
	pin  api.Pin
}

// target is how many copies of a pin are kept. Its minimum only says how many peers must be
// there for the pin to be accepted.
func target(pin api.Pin) int { return max(pin.ReplicationFactorMax, pin.ReplicationFactorMin) }

// plan returns the next step for a pin. It depends on nothing but the pin and
// the view, so all peers with the same view make the same plan.
func (v *view) plan(pin api.Pin) step {
	if pin.ReplicationFactorMin <= 0 || len(pin.Allocations) == 0 {
		return step{} // it belongs everywhere, or is no content
	}
	home := v.home(pin)
	if home != nil && v.allOpen(home) {
		goal := v.goal(pin, home)
		if missing := without(goal, pin.Allocations); len(missing) > 0 {
			return step{approach, allocated(pin, append(slices.Clone(pin.Allocations), missing...), goal)}
		}
		return step{arrive, allocated(pin, goal, nil)}
	}
	if s := v.replace(pin, home); s.kind != nothing {
		return s
	}
	if s := v.complete(pin, home); s.kind != nothing {
		return s
	}
	if home != nil {
		return step{}
	}
	if s := v.trim(pin); s.kind != nothing {
		return s
	}
	return v.respread(pin)
}

// may says whether this peer is the one that makes a step, and sees enough peers for it.
func (v *view) may(s step) bool {
	key := s.pin.Cid.Bytes()
	switch s.kind {
	case nothing:
		return false
	case complete:
		return v.most && v.responsible(key, v.there)
	default:
		return v.majority && v.responsible(key, v.open)
	}
}

// replace gives a pin new copies if some are lost and too few are left.
func (v *view) replace(pin api.Pin, home []peer.ID) step {
	var kept, lost []peer.ID
	for _, id := range pin.Allocations {
		if v.of(id) == gone {
			lost = append(lost, id)
		} else {
			kept = append(kept, id)
		}
	}
	wanted := target(pin) - len(kept)
	if len(lost) == 0 || wanted <= 0 {
		return step{}
	}
	ranked := spread.Rank(pin.Cid.Bytes(), candidatesWithout(v.open, pin.Allocations), v.zones(kept))
	chosen := ranked[:min(wanted, len(ranked))]
	if len(chosen) == 0 {
		return step{} // there is nobody left to take it
	}
	if home == nil {
		home = pin.Allocations
	}
	next := append(kept, chosen...)
	// Where nobody can take over for a lost peer, it stays responsible.
	next = append(next, lost[:max(0, min(len(lost), len(pin.Allocations)-len(next)))]...)
	return step{replace, allocated(pin, next, home)}
}

// complete gives a pin more peers if it has fewer than copies are to be kept: its maximum was
// raised, or it was accepted when this or another peer did not know of enough others. It
// needs no delay, because nothing has gone: whoever is there could be given a new pin as well.
func (v *view) complete(pin api.Pin, home []peer.ID) step {
	wanted := target(pin) - len(pin.Allocations)
	if wanted <= 0 {
		return step{}
	}
	ranked := spread.Rank(pin.Cid.Bytes(), candidatesWithout(v.there, pin.Allocations), v.zones(pin.Allocations))
	if len(ranked) == 0 {
		return step{}
	}
	next := append(slices.Clone(pin.Allocations), ranked[:min(wanted, len(ranked))]...)
	return step{complete, allocated(pin, next, home)}
}

// trim takes a pin from peers if it has more than copies are to be kept: those that are gone
// first, then those in zones with several.
func (v *view) trim(pin api.Pin) step {
	live := slices.DeleteFunc(slices.Clone(pin.Allocations), func(id peer.ID) bool { return v.of(id) == gone })
	if len(live) < target(pin) || len(pin.Allocations) == target(pin) || !v.allOpen(live) {
		return step{}
	}
	return step{arrive, allocated(pin, v.pick(pin.Cid.Bytes(), live, target(pin)), nil)}
}

// goal is where a pin is at home: with as many peers as copies are to be kept. If its home
// has fewer, some of those where it is belong to it from now on.
func (v *view) goal(pin api.Pin, home []peer.ID) []peer.ID {
	if len(home) >= target(pin) {
		return v.pick(pin.Cid.Bytes(), home, target(pin))
	}
	var also []spread.Candidate
	for _, id := range without(pin.Allocations, home) {
		if v.isOpen(id) {
			also = append(also, spread.Candidate{ID: id, Zone: v.zone[id], Weight: 1})
		}
	}
	ranked := spread.Rank(pin.Cid.Bytes(), also, v.zones(home))
	return append(slices.Clone(home), ranked[:min(len(ranked), target(pin)-len(home))]...)
}

// pick returns n of some peers, spread over their zones, in the order given.
func (v *view) pick(key []byte, from []peer.ID, n int) []peer.ID {
	var equal []spread.Candidate
	for _, id := range from {
		equal = append(equal, spread.Candidate{ID: id, Zone: v.zone[id], Weight: 1})
	}
	ranked := spread.Rank(key, equal, nil)
	best := ranked[:min(n, len(ranked))]
	return slices.DeleteFunc(slices.Clone(from), func(id peer.ID) bool { return !slices.Contains(best, id) })
}

// zones counts peers by zone.
func (v *view) zones(ids []peer.ID) map[string]int {
	held := map[string]int{}
	for _, id := range ids {
		held[v.zone[id]]++
	}
	return held
}

func (v *view) allOpen(ids []peer.ID) bool {
	return !slices.ContainsFunc(ids, func(id peer.ID) bool { return !v.isOpen(id) })
}

// respread finds a better home for a pin with two copies in a zone while
// another has none. It waits until all who hold it are there.
func (v *view) respread(pin api.Pin) step {
	better := slices.Clone(pin.Allocations)
	if !v.allOpen(better) {
		return step{}
	}
	held := v.zones(better)
	for {
		ranked := spread.Rank(pin.Cid.Bytes(), candidatesWithout(v.open, better), held)
		i := slices.IndexFunc(ranked, func(id peer.ID) bool { return held[v.zone[id]] == 0 && v.hasRoom(id) })
		crowded := v.crowded(pin.Cid.Bytes(), better, held)
		if i < 0 || crowded == "" {
			break
		}
		better[slices.Index(better, crowded)] = ranked[i]
		held[v.zone[crowded]]--
		held[v.zone[ranked[i]]]++
	}
	if missing := without(better, pin.Allocations); len(missing) > 0 {
		return step{approach, allocated(pin, append(slices.Clone(pin.Allocations), missing...), better)}
	}
	return step{}
}

// hasRoom says whether a peer has free space.
func (v *view) hasRoom(id peer.ID) bool {
	return slices.ContainsFunc(v.open, func(c spread.Candidate) bool { return c.ID == id && c.Weight > 0 })
}

// crowded is the last in rank among the holders in zones with several, or "".
func (v *view) crowded(key []byte, holders []peer.ID, held map[string]int) peer.ID {
	var in []spread.Candidate
	for _, c := range v.open {
		if slices.Contains(holders, c.ID) && held[c.Zone] > 1 {
			in = append(in, spread.Candidate{ID: c.ID, Weight: 1})
		}
	}
	if len(in) == 0 {
		return ""
	}
	ranked := spread.Rank(key, in, nil)
	return ranked[len(ranked)-1]
}

func candidatesWithout(of []spread.Candidate, ids []peer.ID) []spread.Candidate {
	var out []spread.Candidate
	for _, c := range of {
		if !slices.Contains(ids, c.ID) {
			out = append(out, c)
		}
	}
	return out
}

// home is where a pin belongs if that is somewhere else, or nil. A home with
// a peer that nobody expects any more is none.
func (v *view) home(pin api.Pin) []peer.ID {
	text := pin.Metadata[placement.HomeKey]
	if text == "" {
		return nil
	}
	var home []peer.ID
	for _, one := range strings.Split(text, ",") {
		id, err := peer.Decode(one)
		if err != nil {
			return nil // somebody else's
		}
		if _, known := v.state[id]; v.listed && !known {
			return nil
		}
		home = append(home, id)
	}
	return home
}

// allocated returns a copy of a pin with other allocations, and with a home or
// without.
func allocated(pin api.Pin, ids, home []peer.ID) api.Pin {
	pin.Allocations = slices.Clone(ids)
	pin.Metadata = placement.Homed(pin.Metadata, placement.Home(home))
	return pin
}

// without returns the ids that are not among others.
func without(ids, others []peer.ID) []peer.ID {
	var out []peer.ID
	for _, id := range ids {
		if !slices.Contains(others, id) {
			out = append(out, id)
		}
	}
	return out
}
