package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

const (
	// compactDelay is how long compaction waits after the first sign of work: a gc that deletes for a while is over
	// by then, and dead packs go with one request instead of one each.
	compactDelay = 30 * time.Second
	// compactPause lies between two merges. One pack of 32 MiB in 10 s is 3 MB/s each way, a thirtieth of what a connection does.
	compactPause = 10 * time.Second

	// mergeFan packs of one size class are merged into one of the next. Classes grow by 8, so a block is written at
	// most log8(32 MiB / 4 KiB) = 5 times in its life, and no more than 7 packs of each class lie about.
	mergeFan = 8
	// deadShare: a pack is rewritten when more than 1/deadShare of it is dead, which wins back more bytes than it writes.
	deadShare = 2
)

// compaction is what is known about the tidying of packs.
type compaction struct {
	kick chan struct{}

	mu      sync.Mutex // held while packs are rewritten or removed
	state   sync.Mutex
	skip    map[index.PackID]error // packs that cannot be rewritten
	held    map[string]bool        // names of packs that are being uploaded (true) or removed (false)
	removed uint64
	merged  uint64
	written uint64 // bytes
	err     error  // of the latest round
}

func (c *compaction) init() {
	c.kick = make(chan struct{}, 1)
	c.skip = map[index.PackID]error{}
	c.held = map[string]bool{}
}

// hold keeps a pack from being removed until letGo. It reports false if it is being removed.
func (c *compaction) hold(name string) bool {
	c.state.Lock()
	defer c.state.Unlock()
	if _, busy := c.held[name]; busy {
		return false
	}
	c.held[name] = true
	return true
}

func (c *compaction) letGo(name string) {
	c.state.Lock()
	defer c.state.Unlock()
	delete(c.held, name)
}

func (c *compaction) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// compactLoop tidies up in the background, when something has changed.
func (p *Packed) compactLoop() {
	p.compact.wake() // for what a crash left
	for {
		select {
		case <-p.compact.kick:
		case <-p.life.Done():
			return
		}
		if len(p.plan()) == 0 && len(p.deadPacks()) == 0 {
			continue
		}
		if !sleep(p.life, compactDelay) {
			return
		}
		err := p.compactAll(p.life, compactPause, func(Progress) {})
		p.compact.state.Lock()
		p.compact.err = err
		p.compact.state.Unlock()
		if errors.Is(err, ErrReplaced) {
			return
		}
		if err != nil && p.life.Err() == nil {
			p.loose.health.record(p.life, err)
			if !sleep(p.life, maxPause) {
				return
			}
			p.compact.wake()
		}
	}
}

// compactAll removes dead packs and merges those that are tiny or mostly dead, until there is nothing left to do.
func (p *Packed) compactAll(ctx context.Context, pause time.Duration, progress func(Progress)) error {
	p.compact.mu.Lock()
	defer p.compact.mu.Unlock()
	p.compact.state.Lock()
	for id, why := range p.compact.skip {
		if errors.Is(why, bucket.ErrAccessDenied) || errors.Is(why, bucket.ErrArchived) { // it may be allowed, or restored, by now
			delete(p.compact.skip, id)
		}
	}
	p.compact.state.Unlock()
	done := Progress{Doing: "repack"}
	var err error
	var undeleted *bucket.DeleteError // some objects cannot be deleted: the rest goes on, and the next round tries again
	for {
		n := 0
		if undeleted == nil {
			if n, err = p.removeDead(ctx); err != nil && !errors.As(err, &undeleted) {
				return err
			}
		}
		if n > 0 {
			done.Packs += int64(n)
			progress(done)
		}
		group := p.plan()
		if len(group) == 0 {
			return err
		}
		blocks, size, failed := p.merge(ctx, group)
		if failed != nil {
			return failed
		}
		done.Packs += int64(len(group))
		done.Blocks += blocks
		done.Bytes += size
		progress(done)
		if pause > 0 && !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// deadPacks are those to which no entry points. They stay so: entries come into a pack only when it is added.
func (p *Packed) deadPacks() []index.Pack {
	var dead []index.Pack
	for _, k := range p.x.Packs() {
		if !k.Incomplete && k.LiveBlocks == 0 {
			dead = append(dead, k)
		}
	}
	return dead
}

// condemn returns the dead packs of which none is being uploaded, and keeps them from it until letGo.
func (p *Packed) condemn() []index.Pack {
	p.compact.state.Lock()
	defer p.compact.state.Unlock()
	var dead []index.Pack
	for _, k := range p.deadPacks() {
		if _, busy := p.compact.held[k.Name]; !busy {
			p.compact.held[k.Name] = false
			dead = append(dead, k)
		}
	}
	return dead
}

// removeDead deletes dead packs. The index is committed first, for a crash must not bring back entries whose pack is
// gone; then the chain hears of it, where an owner that was replaced finds out; and the packs leave the index last,
// so that a crash in between leaves them to be deleted again.
func (p *Packed) removeDead(ctx context.Context) (int, error) {
	dead := p.condemn()
	if len(dead) == 0 {
		return 0, nil
	}
	defer func() {
		for _, k := range dead {
			p.compact.letGo(k.Name)
		}
	}()
	if err := p.x.Commit(ctx); err != nil {
		return 0, err
	}
	objects := make([]string, len(dead))
	for i, k := range dead {
		objects[i] = p.name(k.Name)
	}
	names := make([]string, len(dead))
	for i, k := range dead {
		names[i] = k.Name
	}
	if err := p.fence.retire(ctx, names...); err != nil {
		return 0, err
	}
	err := p.b.Delete(ctx, objects...)
	var some *bucket.DeleteError
	if err != nil && !errors.As(err, &some) {
		p.fence.deleted(err, names...)
		return 0, fmt.Errorf("delete %d dead packs: %w", len(dead), err)
	}
	gone := dead[:0:0]
	for _, k := range dead {
		var failed error
		if some != nil {
			failed = some.Failed[p.name(k.Name)]
		}
		p.fence.deleted(failed, k.Name)
		if failed == nil {
			gone = append(gone, k)
		}
	}
	for _, k := range gone {
		if err := p.x.RemovePack(ctx, k.ID); err != nil {
			return 0, err
		}
		p.r.Drop(p.name(k.Name))
	}
	p.compact.state.Lock()
	defer p.compact.state.Unlock()
	p.compact.removed += uint64(len(gone))
	for _, k := range gone {
		delete(p.compact.skip, k.ID)
	}
	if err != nil {
		err = fmt.Errorf("delete dead packs: %w", err)
	}
	return len(gone), err
}

// class tells which packs may be merged with each other: packs of nodes stay by themselves.
type class struct {
	nodes bool
	size  int // 3 bits: a factor of 8
}

// plan returns packs to be made into one, in the order of their names; none if nothing is worth it.
func (p *Packed) plan() []index.Pack {
	sparse := map[bool][]index.Pack{}
	classes := map[class][]index.Pack{}
	p.compact.state.Lock()
	defer p.compact.state.Unlock()
	for _, k := range p.x.Packs() {
		if _, bad := p.compact.skip[k.ID]; bad || k.Incomplete || k.Unfit != "" || k.LiveBlocks == 0 {
			continue
		}
		nodes := pack.IsNodes(k.Name)
		switch {
		case (k.Bytes-k.LiveBytes)*deadShare > k.Bytes:
			sparse[nodes] = append(sparse[nodes], k)
		case k.Size < p.c.PackSize/mergeFan:
			c := class{nodes, bits.Len64(uint64(k.Size)) / 3}
			classes[c] = append(classes[c], k)
		}
	}
	for _, of := range sparse {
		if group := p.fill(of); len(group) > 0 {
			return group
		}
	}
	for _, alike := range classes {
		if len(alike) >= mergeFan {
			return p.fill(alike)
		}
	}
	return nil
}

// fill takes packs from the front until their live blocks make a pack.
func (p *Packed) fill(packs []index.Pack) []index.Pack {
	var size int64
	for i, k := range packs {
		// Sections have headers of up to 50 bytes; a few bytes more than the size of a pack do no harm.
		if size += k.LiveBytes; size > p.c.PackSize && i > 0 {
			return packs[:i]
		}
	}
	return packs
}

// merge writes the live blocks of packs into a new one, and points the index to it. The old ones are dead then. A crash leaves the old
// ones as they were, and perhaps a new one that nothing points to.
func (p *Packed) merge(ctx context.Context, packs []index.Pack) (blocks, size int64, err error) {
	out := &memFile{b: make([]byte, 0, p.c.PackSize+packMargin)}
	w := pack.NewWriter(out)
	var entries []pack.Entry
	from := make([]index.PackID, 0, len(packs))
	for _, k := range packs {
		before := len(entries)
		err := p.live(ctx, k, func(b pack.Block) error {
			e, err := w.Append(b)
			e.Multihash = bytes.Clone(b.Multihash)
			entries = append(entries, e)
			return err
		})
		if err != nil && ofObject(err) {
			if _, asked := p.judge(ctx, k.ID); asked != nil && !ofObject(asked) {
				return 0, 0, fmt.Errorf("compact pack %q: %w", p.name(k.Name), asked)
			}
			// Its good blocks stay where they are; readers are told about the others.
			p.compact.state.Lock()
			p.compact.skip[k.ID] = err
			p.compact.state.Unlock()
			if len(entries) == before {
				continue
			}
			return 0, 0, nil // the writer holds a part of it: plan again without it
		} else if err != nil {
			return 0, 0, fmt.Errorf("compact pack %q: %w", p.name(k.Name), err)
		}
		from = append(from, k.ID)
	}
	if len(entries) == 0 {
		p.setAside(from) // unless all of it was deleted meanwhile
		return 0, 0, nil
	}
	sealed, err := w.Seal(p.ids.Next(), p.node.id)
	if err != nil {
		return 0, 0, err
	}
	sealed.Name.Nodes = pack.IsNodes(packs[0].Name)
	if err := p.publish(ctx, sealed, out.b, entries, index.Take{Packs: from}); err != nil {
		return 0, 0, err
	}
	p.setAside(from)
	p.compact.state.Lock()
	p.compact.merged += uint64(len(from))
	p.compact.written += uint64(sealed.Size)
	p.compact.state.Unlock()
	return int64(len(entries)), sealed.Size, nil
}

// setAside keeps packs from being rewritten again and again that have live blocks although all that were found in them are elsewhere.
func (p *Packed) setAside(ids []index.PackID) {
	p.compact.state.Lock()
	defer p.compact.state.Unlock()
	for _, id := range ids {
		if k, err := p.x.Pack(id); err == nil && k.LiveBlocks > 0 {
			p.compact.skip[id] = fmt.Errorf("pack %q: %d blocks that the index puts there were not found: verify it", p.name(k.Name), k.LiveBlocks)
		}
	}
}

// live reads a pack with one GET and yields the blocks that the index points to, each verified. Blocks are valid until the next one.
func (p *Packed) live(ctx context.Context, k index.Pack, yield func(pack.Block) error) error {
	body, _, err := p.b.Get(ctx, p.name(k.Name), bucket.Range{})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for s, err := range pack.Sections(body) {
		if err != nil {
			return err
		}
		l, err := p.x.Get(s.Multihash)
		if errors.Is(err, index.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if l.Kind != index.InPack || l.Pack != k.ID || l.Offset+l.Length != s.Offset+s.Length {
			continue
		}
		if err := yield(pack.Block{Multihash: s.Multihash, Data: s.Data}); err != nil {
			return err
		}
	}
	return nil
}

// memFile is a file in memory.
type memFile struct{ b []byte }

// WriteAt implements io.WriterAt.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, io.ErrShortWrite
	}
	if need := off + int64(len(p)); need > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, need-int64(len(f.b)))...)
	}
	return copy(f.b[off:], p), nil
}
