package s3ds

import (
	"container/list"
	"sync"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// What a node says about the blocks that it links to is what reads of them are planned with. kubo asks for few blocks at a time, and
// from where a store stands, 32 walkers over one file look like readers at 32 places. But who has read a node of a file, and then one of its
// leaves, goes on with the next leaves; and who has read two entries of a folder that are neighbours is walking over it.
const (
	// fileWindow is what is expected to be read of a file from the first leaf on, in bytes. For a Range of 1 MiB, which touches 5 leaves,
	// kubo asks for 10 (go-ipld-format preloads them), 2.5 MiB in blocks of 256 KiB, and for 10 more when it comes to the seventh. So
	// Ranges of up to 3 MiB stay below the half of the window, at which the next one is fetched. 8 MiB take 90 ms of a
	// connection, and the first block is there after 30.
	fileWindow = 8 << 20
	// folderWindow is what is expected of a folder when fewEntries of it were read, or two that are neighbours; it doubles with each
	// further one up to fileWindow.
	folderWindow = 256 << 10
	fewEntries   = 3
	// manyEntries are a walk: whoever goes through a folder goes through the next one, too.
	manyEntries = 6
	// beside is how far apart two entries are that count as neighbours.
	beside = 4
	// lately is how many reads it takes until what was read of a folder is no sign any more. kubo walks with 32 at once, a page
	// of a web site loads some ten files.
	lately = 64
	// manyLeaves of a file below one node, 8 MiB in blocks of 256 KiB, are a walk over the file: it goes on below the next node.
	manyLeaves = 32
	// maxKin is how many links are remembered. A node has up to 174 in files and some thousands in folders, so this is the last
	// 100 nodes that were read, in 3 MB.
	maxKin = 16 << 10
)

// family is a node that was read, with links.
type family struct {
	node  links.Node
	name  string        // of the node
	place *list.Element // in kinship.recent
	last  int           // the child that was read last; -1 before the first
	row   int           // how many were read beside the one before
	since int64         // on kinship.clock
	read  int           // how many children since then
	below int           // how many leaves below its children, of a file
	ends  []uint64      // of a file: how many bytes it and all before it have, for each child; nil if it does not say
	child bool          // it was known which node leads to it
}

// kin is a child in a family.
type kin struct {
	f  *family
	at int
}

// kinship remembers the nodes that were read last. Safe for concurrent use.
type kinship struct {
	mu     sync.Mutex
	of     map[string]kin // by name of the child
	nodes  map[string]*family
	recent list.List // of families; the one read last at the back
	links  int
	clock  int64 // reads
	walked int64 // when somebody was last seen to walk over folders; 0 for never
}

func (k *kinship) init() {
	k.of, k.nodes = map[string]kin{}, map[string]*family{}
}

// learn takes note of a block that was read, if it is a node.
func (k *kinship) learn(n name, value []byte) {
	if len(value) == 0 || !links.Possible(value[0]) {
		return
	}
	k.mu.Lock()
	if f, ok := k.nodes[string(n)]; ok {
		k.recent.MoveToBack(f.place)
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	node, ok := links.Parse(value)
	if !ok || len(node.Links) > maxKin {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.nodes[string(n)]; ok {
		return
	}
	f := &family{node: node, name: string(n), last: -1, ends: ends(node)}
	_, f.child = k.of[f.name]
	f.place = k.recent.PushBack(f)
	k.nodes[f.name] = f
	for i, l := range node.Links {
		k.of[string(l.Hash())] = kin{f, i}
	}
	for k.links += len(node.Links); k.links > maxKin; {
		k.forget(k.recent.Front().Value.(*family))
	}
}

// ends adds up the sizes of a file's children.
func ends(node links.Node) []uint64 {
	if node.Kind != links.File {
		return nil
	}
	out := make([]uint64, len(node.Links))
	sum := uint64(0)
	for i, l := range node.Links {
		if sum += l.Size; l.Size == 0 || sum > maxFile {
			return nil
		}
		out[i] = sum
	}
	return out
}

// maxFile is more than anybody stores in one file, in bytes: what a node says beyond is not believed.
const maxFile = 1 << 50

// left returns how many bytes of a file there are from a leaf on; 0 if that is not known. Nodes above are remembered as long as what is below.
func (k *kinship) left(f *family, at int) int64 {
	sum := f.node.Links[at].Size
	for {
		if f.ends == nil {
			return 0
		}
		sum += f.ends[len(f.ends)-1] - f.ends[at]
		k.recent.MoveToBack(f.place)
		above, ok := k.of[f.name]
		if !ok && f.child {
			return 0 // there was more
		}
		if !ok || above.f.node.Kind != links.File {
			return int64(sum)
		}
		f, at = above.f, above.at
	}
}

func (k *kinship) forget(f *family) {
	k.recent.Remove(f.place)
	delete(k.nodes, f.name)
	k.links -= len(f.node.Links)
	for _, l := range f.node.Links {
		if k.of[string(l.Hash())].f == f {
			delete(k.of, string(l.Hash()))
		}
	}
}

// expectation is what is known of a block that is about to be read.
type expectation struct {
	siblings []links.Link
	at       int   // of the block among them
	window   int64 // bytes that are expected to be read from here on; 0 if nothing is known
	whole    bool  // all siblings are expected to be read, in some order
	beyond   bool  // and what comes after them
	left     int64 // bytes of the file from here on; 0 if that is not known, or if more than the file is expected to be read
}

// expect takes note that a block of some length is about to be read.
func (k *kinship) expect(n name, length int64) expectation {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clock++
	c, ok := k.of[string(n)]
	if !ok {
		return expectation{}
	}
	f := c.f
	folder := f.node.Kind != links.File
	k.touch(f, c.at)
	walking := k.walked > 0 && k.clock-k.walked <= lately
	x := expectation{siblings: f.node.Links, at: c.at, beyond: walking || k.fileWalk(f)}
	if !folder && !walking {
		x.left = k.left(f, c.at)
	}
	switch signs := max(f.row, f.read-fewEntries+1); {
	case f.node.Links[c.at].Size > uint64(length):
		// There is something below it: it is, or will be, in a pack of nodes, where each brings its neighbours.
	case !folder && !x.beyond:
		x.window, x.whole = fileWindow, true
	case x.beyond:
		x.window, x.whole = maxWindow, true
	case signs > 0:
		x.window = min(fileWindow, int64(folderWindow)<<min(signs-1, 10))
	}
	return x
}

// touch counts the reads of children.
func (k *kinship) touch(f *family, at int) {
	if d := at - f.last; d != 0 {
		if f.last < 0 || d > beside || -d > beside {
			f.row = 0
		} else {
			f.row++
		}
		if k.clock-f.since > lately {
			f.since, f.read = k.clock, 0
		}
		f.read++
	}
	f.last = at
	if f.node.Kind == links.Directory && f.read >= manyEntries {
		k.walked = k.clock
	}
}

// fileWalk notes that a leaf of a file is read, and reports whether many were read below other nodes beside this one.
func (k *kinship) fileWalk(f *family) bool {
	above, ok := k.of[f.name]
	if !ok || f.node.Kind != links.File || above.f.node.Kind != links.File {
		return false
	}
	f.below++
	above.f.below++
	return above.f.below-f.below >= manyLeaves
}

// near tells span what lies around a block, in the same pack and without much in between, that is expected.
func (p *Packed) near(x expectation, k index.Pack, l index.Location) span.Expected {
	out := span.Expected{Window: x.window, Whole: x.whole}
	if l.Length == 0 {
		return span.Expected{}
	}
	if x.beyond {
		out.Before, out.After = l.Offset, k.IndexOffset-l.Offset-l.Length
		return out
	}
	// A pack ends among siblings, so the farthest one that is here is looked for by halving the distance.
	reach := func(step, most int) (distance int64) {
		for n := most; n > 0; n /= 2 {
			o, err := p.x.Get(x.siblings[x.at+step*n].Hash())
			if err != nil || o.Kind != index.InPack || o.Pack != l.Pack {
				continue
			}
			d := int64(step) * (o.Offset - l.Offset)
			if d > 0 && d <= 2*int64(n)*l.Length+folderWindow {
				return d
			}
		}
		return 0
	}
	farthest := int(min(int64(len(x.siblings)), 1+2*fileWindow/l.Length))
	if d := reach(1, min(farthest, len(x.siblings)-1-x.at)); d > 0 {
		out.After = d
	}
	out.Before = reach(-1, min(farthest, x.at))
	return out
}
