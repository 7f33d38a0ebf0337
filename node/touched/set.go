package touched

// maxExact is how many digests a Set holds one by one: some 40 MB as a map.
const maxExact = 1 << 20

// bloomBits is the size of the filter that takes over from there, 32 MiB: with 20 million digests, 10,000 touches a
// second for half an hour, less than one absent digest in 1,000 is taken for present.
const bloomBits = 1 << 28

const bloomHashes = 6

// Set holds digests. Beyond a million of them it may say yes to others as well, never no to one of its own; its memory is
// bounded. It is not for concurrent use.
type Set struct {
	exact map[Digest]struct{}
	bits  []uint64
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{exact: map[Digest]struct{}{}} }

// Add puts a digest in.
func (s *Set) Add(d Digest) {
	if s.bits != nil {
		s.mark(d)
		return
	}
	s.exact[d] = struct{}{}
	if len(s.exact) < maxExact {
		return
	}
	s.bits = make([]uint64, bloomBits/64)
	for d := range s.exact {
		s.mark(d)
	}
	s.exact = nil
}

// Has reports whether a digest was put in.
func (s *Set) Has(d Digest) bool {
	if s.bits == nil {
		_, ok := s.exact[d]
		return ok
	}
	a, b := spread(d)
	for i := range uint64(bloomHashes) {
		at := (a + i*b) % bloomBits
		if s.bits[at/64]&(1<<(at%64)) == 0 {
			return false
		}
	}
	return true
}

func (s *Set) mark(d Digest) {
	a, b := spread(d)
	for i := range uint64(bloomHashes) {
		at := (a + i*b) % bloomBits
		s.bits[at/64] |= 1 << (at % 64)
	}
}

// spread makes two numbers of one (double hashing; the finalizer of splitmix64).
func spread(d Digest) (uint64, uint64) {
	mix := func(x uint64) uint64 {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	return mix(uint64(d)), mix(uint64(d)+0x9e3779b97f4a7c15) | 1
}
