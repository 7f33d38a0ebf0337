package add

import (
	"cmp"
	"slices"

	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

const (
	// maxTracked is how many blocks and links of a CAR file are kept in mind: 24 bytes
	// each and the map's own, some 50 MiB in all. They are 256 GiB of 256 KiB blocks. Of a
	// larger file the nodes alone say whether it is complete.
	maxTracked = 1 << 20

	// maxOpen is how many links that the file does not resolve are looked up at each
	// destination. A file that adds to a large DAG has one for each block it builds on.
	maxOpen = 10_000
)

// key is the end of a multihash. Two blocks with the same one have the same digest
// in 128 bits.
type key [16]byte

func keyOf(id cid.Cid) (k key) {
	mh := id.Hash()
	copy(k[:], mh[max(0, len(mh)-len(k)):])
	return k
}

// links knows which links of the blocks of a CAR file lead out of it. Blocks may
// come in any order.
type links struct {
	seen  map[key]struct{}
	open  map[key]open
	count int
	lost  bool // there were too many
}

// open is a link to a block that has not come; at is its place among all links.
type open struct {
	id cid.Cid
	at int
}

func newLinks() *links {
	return &links{seen: map[key]struct{}{}, open: map[key]open{}}
}

// add takes note of a block.
func (l *links) add(node format.Node) error {
	if l.lost {
		return nil
	}
	k := keyOf(node.Cid())
	delete(l.open, k)
	if _, again := l.seen[k]; again {
		return nil
	}
	l.seen[k] = struct{}{}
	below, err := kubo.LinksOf(node)
	if err != nil {
		return err
	}
	for _, id := range below {
		l.want(id)
	}
	if len(l.seen)+len(l.open) > maxTracked {
		*l = links{lost: true}
	}
	return nil
}

func (l *links) want(id cid.Cid) {
	k := keyOf(id)
	if _, came := l.seen[k]; came {
		return
	}
	if _, known := l.open[k]; !known {
		l.count++
		l.open[k] = open{id, l.count}
	}
}

// tooMany says that it is not known whether links lead out of the file.
func (l *links) tooMany() bool { return l != nil && l.lost }

// has reports whether a block came.
func (l *links) has(id cid.Cid) bool {
	if _, inline := kubo.Inline(id); inline {
		return true
	}
	_, came := l.seen[keyOf(id)]
	return came
}

// unresolved returns the links that lead out of the file, its root first if that is
// not in it. Call it when all blocks have come.
func (l *links) unresolved(root cid.Cid) []cid.Cid {
	if l == nil || l.lost {
		return nil
	}
	if !l.has(root) {
		return []cid.Cid{root} // what the blocks of the file link to need not be below it
	}
	var left []open
	for _, o := range l.open {
		left = append(left, o)
	}
	slices.SortFunc(left, func(a, b open) int { return cmp.Compare(a.at, b.at) })
	var out []cid.Cid
	for _, o := range left[:min(len(left), maxOpen)] {
		out = append(out, o.id)
	}
	return out
}
