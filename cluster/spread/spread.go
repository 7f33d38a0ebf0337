package spread

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Candidate is a peer that can keep pins.
type Candidate struct {
	ID peer.ID
	// Zone is where it stands; peers with the same zone fail together.
	Zone string
	// Weight is its free space in any unit; peers without any come last.
	Weight int64
}

// Rank orders candidates for a key (a CID's bytes), best first. held counts the
// copies that each zone has already; it may be nil and is not changed.
func Rank(key []byte, candidates []Candidate, held map[string]int) []peer.ID {
	type scored struct {
		Candidate
		score float64
	}
	left := make([]scored, len(candidates))
	for i, c := range candidates {
		left[i] = scored{c, score(key, c)}
	}
	slices.SortFunc(left, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.ID, b.ID))
	})
	copies := map[string]int{}
	for zone, n := range held {
		copies[zone] = n
	}
	ranked := make([]peer.ID, 0, len(left))
	for len(left) > 0 {
		best := 0
		for i := range left {
			full, bestFull := left[i].Weight <= 0, left[best].Weight <= 0
			if bestFull && !full || full == bestFull && copies[left[i].Zone] < copies[left[best].Zone] {
				best = i
			}
		}
		ranked = append(ranked, left[best].ID)
		copies[left[best].Zone]++
		left = slices.Delete(left, best, best+1)
	}
	return ranked
}

// score is -ln(u)/w: exponentially distributed with rate w, so the chance that
// a peer has the lowest of all is its share of the weights.
func score(key []byte, c Candidate) float64 {
	h := sha256.New()
	h.Write(key)
	h.Write([]byte(c.ID))
	// 53 bits fill a float64's mantissa; the half keeps u off 0 and 1.
	bits := binary.BigEndian.Uint64(h.Sum(nil)) >> 11
	u := (float64(bits) + 0.5) / (1 << 53)
	return -math.Log(u) / float64(max(c.Weight, 1))
}

// Change is what should become of a pin's allocations. The zero Change means
// that they are right.
type Change struct {
	// Add are peers that should get a copy.
	Add []peer.ID
	// Drop are peers that should give theirs up, but only when the peers in Add,
	// and all that stay, hold the content.
	Drop []peer.ID
}

// None reports whether there is nothing to do.
func (c Change) None() bool { return len(c.Add) == 0 && len(c.Drop) == 0 }

// Want compares a pin's allocations with the peers that are there. It
//
//   - replaces peers that are not there, if the rest are fewer than min copies;
//   - moves a copy to a zone that has none, if another zone has two;
//   - drops copies beyond max, peers that are not there first, then from the
//     zones with the most.
//
// Otherwise copies stay where they are: balance among peers of a zone is not
// worth moving data. Applied again and again, with its changes carried out, it
// ends with no change.
func Want(key []byte, allocated []peer.ID, present []Candidate, min, max int) Change {
	at := map[peer.ID]Candidate{}
	for _, c := range present {
		at[c.ID] = c
	}
	var here, gone []peer.ID
	held := map[string]int{}
	for _, id := range allocated {
		if c, ok := at[id]; ok {
			here = append(here, id)
			held[c.Zone]++
		} else {
			gone = append(gone, id)
		}
	}
	var free []Candidate // peers that could take a copy and have room for it
	for _, c := range present {
		if c.Weight > 0 && !slices.Contains(here, c.ID) {
			free = append(free, c)
		}
	}
	ranked := Rank(key, free, held)
	var change Change
	take := func() bool {
		if len(ranked) == 0 {
			return false
		}
		change.Add = append(change.Add, ranked[0])
		held[at[ranked[0]].Zone]++
		ranked = ranked[1:]
		return true
	}
	for len(here) < min && len(here)+len(change.Add) < max {
		if !take() {
			break
		}
	}
	crowded := func() bool {
		for _, n := range held {
			if n > 1 {
				return true
			}
		}
		return false
	}
	for crowded() && len(ranked) > 0 && held[at[ranked[0]].Zone] == 0 && len(change.Add) < len(here) {
		take()
	}
	if len(here)+len(change.Add) < min {
		return change // copies that may come back are better than none
	}
	excess := len(here) + len(gone) + len(change.Add) - max
	for ; excess > 0 && len(gone) > 0; excess-- {
		change.Drop = append(change.Drop, gone[0])
		gone = gone[1:]
	}
	// From the fullest zone, the peer that ranks last there.
	byZone := Rank(key, onlyIn(present, here), nil)
	for ; excess > 0 && len(byZone) > 0; excess-- {
		worst := len(byZone) - 1
		for i := worst; i >= 0; i-- {
			if held[at[byZone[i]].Zone] > held[at[byZone[worst]].Zone] {
				worst = i
			}
		}
		change.Drop = append(change.Drop, byZone[worst])
		held[at[byZone[worst]].Zone]--
		byZone = slices.Delete(byZone, worst, worst+1)
	}
	return change
}

func onlyIn(all []Candidate, ids []peer.ID) []Candidate {
	var out []Candidate
	for _, c := range all {
		if slices.Contains(ids, c.ID) {
			out = append(out, c)
		}
	}
	return out
}
