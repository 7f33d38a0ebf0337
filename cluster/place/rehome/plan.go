package rehome

import (
	"maps"
	"slices"
	"strings"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
)

// HomeKey is the key of a pin's metadata that names the peers where it belongs
// while it is somewhere else: peer IDs, separated by commas. It goes when the pin
// is home, and when a client pins the CID again, which makes where it is its home.
const HomeKey = "cluster-aws-home"

// kind is what a step is for.
type kind int

const (
	nothing  kind = iota
	replace       // copies are missing: new ones elsewhere
	approach      // copies at the peers where it belongs, besides those there are
	arrive        // no copies elsewhere any more; after all peers of the step hold the pin
)

// step is what is to be done with a pin: to be allocated as pin says.
type step struct {
	kind kind
	pin  api.Pin
}

// plan returns the next step for a pin. It depends on nothing but the pin and
// the view, so all peers with the same view make the same plan.
func (v *view) plan(pin api.Pin) step {
	if pin.ReplicationFactorMin <= 0 || len(pin.Allocations) == 0 {
		return step{} // it belongs everywhere, or is no content
	}
	home := v.home(pin)
	if home != nil && !slices.ContainsFunc(home, func(id peer.ID) bool { return !v.isOpen(id) }) {
		if missing := without(home, pin.Allocations); len(missing) > 0 {
			return step{approach, allocated(pin, append(slices.Clone(pin.Allocations), missing...), home)}
		}
		return step{arrive, allocated(pin, home, nil)}
	}
	if s := v.replace(pin, home); s.kind != nothing {
		return s
	}
	if home == nil {
		return v.respread(pin)
	}
	return step{}
}

// replace gives a pin new copies if too few are left.
func (v *view) replace(pin api.Pin, home []peer.ID) step {
	var kept, lost []peer.ID
	held := map[string]int{}
	for _, id := range pin.Allocations {
		if v.of(id) == gone {
			lost = append(lost, id)
			continue
		}
		kept = append(kept, id)
		held[v.zone[id]]++
	}
	if len(kept) >= pin.ReplicationFactorMin {
		return step{}
	}
	ranked := spread.Rank(pin.Cid.Bytes(), v.openWithout(pin.Allocations), held)
	wanted := max(pin.ReplicationFactorMax, pin.ReplicationFactorMin) - len(kept)
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

// respread finds a better home for a pin with two copies in a zone while
// another has none. It waits until all who hold it are there.
func (v *view) respread(pin api.Pin) step {
	better := slices.Clone(pin.Allocations)
	held := map[string]int{}
	for _, id := range better {
		if !v.isOpen(id) {
			return step{}
		}
		held[v.zone[id]]++
	}
	for {
		ranked := spread.Rank(pin.Cid.Bytes(), v.openWithout(better), held)
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

func (v *view) openWithout(ids []peer.ID) []spread.Candidate {
	var out []spread.Candidate
	for _, c := range v.open {
		if !slices.Contains(ids, c.ID) {
			out = append(out, c)
		}
	}
	return out
}

// home is where a pin belongs if that is somewhere else, or nil. A home with
// a peer that nobody expects any more is none.
func (v *view) home(pin api.Pin) []peer.ID {
	text := pin.Metadata[HomeKey]
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
	pin.Metadata = maps.Clone(pin.Metadata)
	delete(pin.Metadata, HomeKey)
	if home != nil {
		var texts []string
		for _, id := range home {
			texts = append(texts, id.String())
		}
		if pin.Metadata == nil {
			pin.Metadata = map[string]string{}
		}
		pin.Metadata[HomeKey] = strings.Join(texts, ",")
	}
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
