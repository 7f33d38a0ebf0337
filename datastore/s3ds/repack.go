package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

var errRepackObjects = fmt.Errorf("s3ds: repack: layout %q keeps one object per block: set %q to bring them into packs", LayoutObjects, LayoutPacks)

// deleteBatch is how many objects one request deletes.
const deleteBatch = 1000

// Repack brings blocks that are objects of their own into packs, and then merges packs that are tiny or mostly dead, without the pauses
// that it takes in the background. Blocks go into packs in the order in which their DAGs are read: a block before those it links to, and these from
// left to right. roots, which may be nil, name the DAGs that come first; of the others the roots are looked for. It may be broken off and called again: what
// is done is done. Reads and writes go on meanwhile. Blocks that are damaged are left where they are; Verify names them.
//
// Cost: 1 GET per loose object, 1 PUT per pack, 1 DELETE per 1,000 objects. Blocks under 256 KiB below none of the roots are read twice as far as
// they do not fit into the memory that is kept for them, see repackMemory. What it keeps in memory does not grow with the number of objects.
func (p *Packed) Repack(ctx context.Context, roots iter.Seq[cid.Cid], progress func(Progress)) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	defer leave()
	if p.c.Layout != LayoutPacks {
		return errRepackObjects
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := p.repackLoose(ctx, roots, progress); err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	if err := p.compactAll(ctx, 0, progress); err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	return nil
}

func (p *Packed) repackLoose(ctx context.Context, roots iter.Seq[cid.Cid], progress func(Progress)) (err error) {
	p.compact.mu.Lock()
	defer p.compact.mu.Unlock()
	r := &repacking{p: p, taken: map[string]struct{}{}, progress: progress, done: Progress{Doing: "repack", TotalObjects: p.x.Stats().LooseBlocks}}
	if r.done.TotalObjects == 0 {
		return nil
	}
	r.begin()
	defer func() { // also when it is broken off: nobody would come back to these
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, r.drop(late))
	}()
	w := newWalk(ctx, p, r)
	defer w.end()
	if err := w.all(ctx, roots); err != nil {
		return err
	}
	return r.end(ctx)
}

// repacking writes loose blocks into packs.
type repacking struct {
	p        *Packed
	done     Progress
	progress func(Progress)

	out     *memFile
	w       *pack.Writer
	entries []pack.Entry
	taken   map[string]struct{} // names of entries

	stale []name // their objects are to be deleted
}

// begin begins a pack.
func (r *repacking) begin() {
	r.out = &memFile{b: make([]byte, 0, r.p.c.PackSize+packMargin)}
	r.w, r.entries = pack.NewWriter(r.out), nil
	clear(r.taken)
}

// packMargin is room for the index of a pack of blocks of 2 KiB and more: 42 bytes for each.
const packMargin = 1 << 20

// wants reports whether a block is loose, fits into a pack, and is in none yet.
func (r *repacking) wants(n name) (l index.Location, ok bool, err error) {
	if _, done := r.taken[string(n)]; done || n.multihash() == nil {
		return l, false, nil
	}
	l, err = r.p.x.Get(n)
	if errors.Is(err, index.ErrNotFound) || err == nil && l.Kind != index.Loose {
		return l, false, nil
	} else if err != nil {
		return l, false, err
	}
	_, err = pack.SectionLen(n.multihash(), int(l.Length))
	return l, err == nil, nil
}

// add puts a block into the pack, after ending one that has no room for it.
func (r *repacking) add(ctx context.Context, n name, data []byte) error {
	size, err := pack.SectionLen(n.multihash(), len(data))
	if err != nil {
		return nil // not the size that the index says, and none for a pack
	}
	if len(r.entries) > 0 && r.w.Size()+size > r.p.c.PackSize {
		if err := r.end(ctx); err != nil {
			return err
		}
	}
	e, err := r.w.Append(pack.Block{Multihash: n.multihash(), Data: data})
	if err != nil {
		return err
	}
	e.Multihash = bytes.Clone(e.Multihash)
	r.entries = append(r.entries, e)
	r.taken[string(n)] = struct{}{}
	return nil
}

// end uploads the pack and points the index to it.
func (r *repacking) end(ctx context.Context) error {
	if len(r.entries) == 0 {
		return nil
	}
	p := r.p
	sealed, err := r.w.Seal(p.ids.Next(), p.node.id)
	if err != nil {
		return err
	}
	if err := p.publish(ctx, sealed, r.out.b, r.entries, index.Take{Loose: true}); err != nil {
		return err
	}
	for _, e := range r.entries {
		if r.stale = append(r.stale, name(e.Multihash)); len(r.stale) == deleteBatch {
			if err := r.drop(ctx); err != nil {
				return err
			}
		}
	}
	r.done.Packs++
	r.done.Objects += int64(len(r.entries))
	r.done.Blocks += int64(len(r.entries))
	r.done.Bytes += sealed.Size
	r.progress(r.done)
	r.begin()
	return nil
}

// drop deletes the objects of blocks that are in a pack now, or were deleted from there meanwhile.
func (r *repacking) drop(ctx context.Context) error {
	p, names := r.p, r.stale
	r.stale = nil
	if len(names) == 0 {
		return nil
	}
	unlock, err := p.looseKeys.lock(ctx, names)
	if err != nil {
		return err
	}
	defer unlock()
	var objects []string
	for _, n := range names {
		l, err := p.x.Get(n)
		if err == nil && l.Kind == index.Loose {
			continue
		} else if err != nil && !errors.Is(err, index.ErrNotFound) {
			return err
		}
		objects = append(objects, p.loose.object(n.key()))
	}
	if len(objects) == 0 {
		return nil
	}
	return p.deleteLoose(ctx, objects)
}
