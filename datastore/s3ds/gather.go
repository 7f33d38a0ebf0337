package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// The inner nodes of a DAG are small, and everybody reads them: who wants a byte in the middle of a file, a folder, a list of pins, or a
// garbage collection. In the packs that they arrived in, they lie 44 MiB apart, behind the leaves below them, and each costs a
// request. So they are copied, from segments that have just been uploaded, into packs that hold nothing else: those of a file
// of 10 GiB take 2 MB, and come with a request or two. The copies are what the index points to from then on; those in the first
// packs are dead, 0.02 % of a file in blocks of 256 KiB.
const (
	// gatherBytes of nodes that wait are enough for a pack of their own: the nodes of 20 GiB in blocks of 256 KiB.
	gatherBytes = 4 << 20
	// gatherPacks is from how many packs nodes are collected at most: one request more for 64.
	gatherPacks = 64
	// quietShare of the seal age without anything to upload means that a piece of work is over: 10 s of 60, within which
	// the lease of the owner object is still good.
	quietShare = 6
	// apart is the distance from which on two nodes do not come with one request for a node in any case.
	apart = 64 << 10
)

// gather holds the nodes that wait. They are in packs already: if a crash loses this, reads cost more, and nothing is lost.
type gather struct {
	mu      sync.Mutex
	nodes   []gathered
	bytes   int64 // of these: at most 2 × gatherBytes and one block
	packs   map[index.PackID]struct{}
	writing int    // nodes whose pack is being made
	settled bool   // since nodes last came it was found that a pack of them is not worth its request
	total   uint64 // nodes that were gathered
	made    uint64 // packs
	err     error
	kick    chan struct{}
}

// gathered is a node, and where the index has it.
type gathered struct {
	hash mh.Multihash
	data []byte
	at   index.Location
}

func (g *gather) init() {
	g.kick = make(chan struct{}, 1)
	g.packs = map[index.PackID]struct{}{}
}

// waiting reports whether nodes will still be put into a pack.
func (g *gather) waiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.nodes) > 0 && !g.settled
}

// stat fills in what it knows.
func (g *gather) stat(s *Stat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.NodesGathered, s.NodePacks, s.GatherFailure = g.total, g.made, g.err
	if !g.settled {
		s.NodesWaiting = len(g.nodes)
	}
	s.NodesWaiting += g.writing
}

// add takes a node, unless so many wait already, because uploads fail, that it has to stay where it is.
func (g *gather) add(n gathered) (full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bytes >= 2*gatherBytes {
		return false
	}
	g.nodes = append(g.nodes, n)
	g.bytes += int64(len(n.data))
	g.packs[n.at.Pack] = struct{}{}
	g.settled = false
	return g.bytes >= gatherBytes || len(g.packs) >= gatherPacks
}

// take empties it if its nodes are worth a pack.
func (g *gather) take(worth func([]gathered) bool) []gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !worth(g.nodes) {
		g.settled = true
		return nil
	}
	taken := g.nodes
	g.writing += len(taken)
	g.nodes, g.bytes, g.settled = nil, 0, true
	clear(g.packs)
	return taken
}

// scattered reports whether a node waits with another one that it links to and that lies far from it.
func scattered(nodes []gathered) bool {
	at := make(map[string]index.Location, len(nodes))
	for _, n := range nodes {
		at[string(n.hash)] = n.at
	}
	for _, n := range nodes {
		parsed, _ := links.Parse(n.data)
		for _, l := range parsed.Links {
			child, ok := at[string(l.Hash())]
			if ok && (child.Pack != n.at.Pack || n.at.Offset-child.Offset > apart || child.Offset-n.at.Offset > apart) {
				return true
			}
		}
	}
	return false
}

// many is what makes a pack worthwhile whatever links to what: they come in that number when something walks over all that is pinned.
func many(nodes []gathered) bool { return scattered(nodes) || len(nodes) >= gatherPacks }

// collect takes the nodes out of a segment that has become a pack of the index.
func (p *Packed) collect(ctx context.Context, s *journal.Segment, entries []pack.Entry, id index.PackID) error {
	var first [1]byte
	for _, e := range entries {
		n := e.DataLen()
		if n == 0 {
			continue
		}
		if _, err := s.ReadAt(first[:], e.Offset+e.Length-n); err != nil {
			return err
		}
		if !links.Possible(first[0]) {
			continue
		}
		at, err := p.x.Get(e.Multihash)
		if errors.Is(err, index.ErrNotFound) || err == nil && (at.Kind != index.InPack || at.Pack != id) {
			continue // it was deleted, or is somewhere else, too
		} else if err != nil {
			return err
		}
		section := make([]byte, e.Length)
		if _, err := s.ReadAt(section, e.Offset); err != nil {
			return err
		}
		decoded, err := pack.DecodeSection(section)
		if err != nil {
			return err
		}
		if _, ok := links.Parse(decoded.Data); !ok {
			continue
		}
		if p.gather.add(gathered{bytes.Clone(e.Multihash), decoded.Data, at}) {
			// If it fails, they wait on, and Stat says so: the segment itself is uploaded.
			_ = p.gatherNow(ctx, many)
		}
	}
	if p.gather.waiting() {
		select {
		case p.gather.kick <- struct{}{}:
		default:
		}
	}
	return nil
}

// gatherLoop puts the nodes that wait into a pack when a piece of work is over.
func (p *Packed) gatherLoop() {
	for {
		select {
		case <-p.gather.kick:
		case <-p.life.Done():
			return
		}
		for p.gather.waiting() {
			changed := p.up.watch()
			idle := func() bool { return p.j.Stats().Segments == 0 && p.uploading() == 0 }
			if !idle() {
				select {
				case <-changed:
				case <-p.life.Done():
					return
				}
				continue
			}
			if !sleep(p.life, p.c.SealAge/quietShare) {
				return
			}
			if !idle() {
				continue
			}
			err := p.gatherNow(p.life, scattered)
			if errors.Is(err, ErrReplaced) || err != nil && !sleep(p.life, maxPause) {
				return
			}
		}
	}
}

// gatherNow writes a pack of the nodes that wait, if that is worthwhile, and points the index to it. After an error they wait on.
func (p *Packed) gatherNow(ctx context.Context, worth func([]gathered) bool) error {
	nodes := p.gather.take(worth)
	if len(nodes) == 0 {
		return nil
	}
	n, err := p.writeNodes(ctx, nodes)
	p.loose.health.record(ctx, err)
	p.gather.over(nodes, n, err)
	return err
}

// over ends what take began.
func (g *gather) over(nodes []gathered, written int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing -= len(nodes)
	g.err = err
	if err == nil {
		g.total += uint64(written)
		g.made += uint64(min(written, 1))
		return
	}
	for _, n := range nodes {
		g.bytes += int64(len(n.data))
		g.packs[n.at.Pack] = struct{}{}
	}
	g.nodes = append(nodes, g.nodes...)
	g.settled = false
}

// writeNodes returns how many of the nodes were still there to be written.
func (p *Packed) writeNodes(ctx context.Context, nodes []gathered) (int, error) {
	out := &memFile{}
	w := pack.NewWriter(out)
	var entries []pack.Entry
	from := map[index.PackID]struct{}{}
	for _, n := range nodes {
		at, err := p.x.Get(n.hash)
		if errors.Is(err, index.ErrNotFound) || err == nil && at != n.at {
			continue // it was deleted, or compacted
		} else if err != nil {
			return 0, err
		}
		e, err := w.Append(pack.Block{Multihash: n.hash, Data: n.data})
		if err != nil {
			return 0, err
		}
		entries = append(entries, e)
		from[at.Pack] = struct{}{}
	}
	if len(entries) == 0 {
		return 0, nil
	}
	sealed, err := w.Seal(p.ids.Next(), p.node.id)
	if err != nil {
		return 0, err
	}
	sealed.Name.Nodes = true
	take := index.Take{}
	for id := range from {
		take.Packs = append(take.Packs, id)
	}
	return len(entries), p.publish(ctx, sealed, out.b, entries, take)
}

// publish uploads a pack that was put together of blocks from elsewhere, and points the index to those of its blocks that are still there. It is
// durable when it returns.
func (p *Packed) publish(ctx context.Context, sealed pack.Sealed, data []byte, entries []pack.Entry, take index.Take) error {
	name := sealed.Name.String()
	if err := p.putPack(ctx, sealed.Name, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("upload pack %s: %w", name, err)
	}
	if sealed.Name.Nodes {
		p.r.Keep(ctx, span.Pack{Key: p.name(name), End: sealed.Name.IndexOffset, Nodes: true}, bytes.NewReader(data))
	}
	info := index.PackInfo{Name: name, Size: sealed.Size, IndexOffset: sealed.Name.IndexOffset}
	if _, err := p.x.AddPack(ctx, info, packEntries(entries), take); err != nil {
		return err
	}
	return p.x.Commit(ctx)
}
