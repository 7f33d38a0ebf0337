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
