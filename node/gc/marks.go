package gc

import (
	"hash/maphash"
	"sync"

	"github.com/ipfs/go-cid"
)

// marks is the set of reachable blocks. Hashes are seeded at random, so no content can be made to collide. One of 64 bits, by
// multihash, says that a block stays: a collision keeps garbage. What says that a node was visited, and its links need not be
// followed again, has 128 bits and the codec: a collision would lose content.
type marks struct {
	stay, nodeA, nodeB maphash.Seed

	mu    sync.RWMutex
	table []uint64 // open addressing, at most 3/4 full; 0 is empty
	n     int
	nodes map[[2]uint64]struct{}
}

func newMarks() *marks {
	return &marks{
		stay: maphash.MakeSeed(), nodeA: maphash.MakeSeed(), nodeB: maphash.MakeSeed(),
		table: make([]uint64, 1<<10), nodes: map[[2]uint64]struct{}{},
	}
}

func (m *marks) hash(c cid.Cid) uint64 {
	return max(maphash.Bytes(m.stay, c.Hash()), 1)
}

// add has a block stay.
func (m *marks) add(c cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(m.hash(c))
}

// visit has a node stay, and reports whether its links are to be followed.
func (m *marks) visit(c cid.Cid) bool {
	k := m.node(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(m.hash(c))
	if _, ok := m.nodes[k]; ok {
		return false
	}
	m.nodes[k] = struct{}{}
	return true
}

// forget has the links of a node followed when it is visited again.
func (m *marks) forget(c cid.Cid) {
	k := m.node(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, k)
}

func (m *marks) node(c cid.Cid) [2]uint64 {
	key := c.KeyString()
	if c.Version() == 0 {
		key = cid.NewCidV1(c.Type(), c.Hash()).KeyString()
	}
	return [2]uint64{maphash.String(m.nodeA, key), maphash.String(m.nodeB, key)}
}

func (m *marks) has(c cid.Cid) bool {
	h := m.hash(c)
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.table[m.slot(h)] == h
}

// slot is where h is, or would be.
func (m *marks) slot(h uint64) uint64 {
	mask := uint64(len(m.table) - 1)
	i := h & mask
	for m.table[i] != 0 && m.table[i] != h {
		i = (i + 1) & mask
	}
	return i
}

func (m *marks) put(h uint64) {
	i := m.slot(h)
	if m.table[i] == h {
		return
	}
	if (m.n+1)*4 > len(m.table)*3 {
		old := m.table
		m.table = make([]uint64, 2*len(old))
		for _, h := range old {
			if h != 0 {
				m.table[m.slot(h)] = h
			}
		}
		i = m.slot(h)
	}
	m.table[i] = h
	m.n++
}
