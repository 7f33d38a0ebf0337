package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Repack brings blocks that are objects of their own into packs, and then merges packs that are tiny or mostly dead, without the pauses
// that it takes in the background. Blocks go into packs in the order in which order names them, which should be that of the DAGs, and
// the rest in the order of their multihashes; order may be nil. It may be broken off and called again: what is done is done. Reads
// and writes go on meanwhile. Blocks that are damaged are left where they are; Verify names them.
func (p *Packed) Repack(ctx context.Context, order iter.Seq[mh.Multihash], progress func(Progress)) error {
	ctx, leave, err := p.enter(ctx)
	if err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	defer leave()
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := p.repackLoose(ctx, order, progress); err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	if err := p.compactAll(ctx, 0, progress); err != nil {
		return fmt.Errorf("s3ds: repack: %w", err)
	}
	return nil
}

// looseBlocks yields the blocks that are objects of their own: first those in order, then the others.
func (p *Packed) looseBlocks(order iter.Seq[mh.Multihash]) iter.Seq2[name, error] {
	return func(yield func(name, error) bool) {
		if order != nil {
			for h := range order {
				if l, err := p.lookup(name(h)); err == nil && l.Kind == index.Loose && !yield(name(h), nil) {
					return
				}
			}
		}
		for e, err := range p.x.Entries(nil) {
			if err != nil {
				yield(nil, err)
				return
			}
			if e.Kind == index.Loose && name(e.Key).multihash() != nil && !yield(e.Key, nil) {
				return
			}
		}
	}
}

func (p *Packed) repackLoose(ctx context.Context, order iter.Seq[mh.Multihash], progress func(Progress)) error {
	p.compact.mu.Lock()
	defer p.compact.mu.Unlock()
	done := Progress{Doing: "repack"}
	var (
		out     *memFile
		w       *pack.Writer
		entries []pack.Entry
	)
	begin := func() {
		out = &memFile{}
		w, entries = pack.NewWriter(out), nil
	}
	end := func() error {
		if len(entries) == 0 {
			return nil
		}
		sealed, err := w.Seal(p.ids.Next(), p.node.id)
		if err != nil {
			return err
		}
		if err := p.putPack(ctx, sealed.Name, bytes.NewReader(out.b)); err != nil {
			return fmt.Errorf("upload pack %s: %w", sealed.Name, err)
		}
		info := index.PackInfo{Name: sealed.Name.String(), Size: sealed.Size, IndexOffset: sealed.Name.IndexOffset}
		if _, err := p.x.AddPack(ctx, info, packEntries(entries), index.Take{Loose: true}); err != nil {
			return err
		}
		if err := p.x.Commit(ctx); err != nil {
			return err
		}
		if err := p.dropLoose(ctx, entries); err != nil {
			return err
		}
		done.Packs++
		done.Objects += int64(len(entries))
		done.Blocks += int64(len(entries))
		done.Bytes += sealed.Size
		progress(done)
		begin()
		return nil
	}
	begin()
	taken := map[string]struct{}{} // in the pack that is being made
	for n, err := range p.looseBlocks(order) {
		if err != nil {
			return err
		}
		if _, twice := taken[string(n)]; twice {
			continue
		}
		l, err := p.lookup(n)
		if errors.Is(err, index.ErrNotFound) || err == nil && l.Kind != index.Loose {
			continue // it was deleted, or is done
		} else if err != nil {
			return err
		}
		size, err := pack.SectionLen(n.multihash(), int(l.Length))
		if err != nil {
			continue // it fits into no pack
		}
		if len(entries) > 0 && w.Size()+size > p.c.PackSize {
			if err := end(); err != nil {
				return err
			}
			clear(taken)
		}
		data, err := p.get(ctx, n)
		switch {
		case errors.Is(err, index.ErrNotFound), errors.Is(err, ErrCorrupt), errors.Is(err, ErrLost):
			continue
		case err != nil:
			return err
		}
		e, err := w.Append(pack.Block{Multihash: n.multihash(), Data: data})
		if errors.Is(err, pack.ErrTooLarge) {
			continue // not the size that the index says
		} else if err != nil {
			return err
		}
		e.Multihash = bytes.Clone(e.Multihash)
		entries = append(entries, e)
		taken[string(n)] = struct{}{}
	}
	return end()
}

// dropLoose deletes the objects of blocks that are in a pack now.
func (p *Packed) dropLoose(ctx context.Context, entries []pack.Entry) error {
	if err := p.lockLoose(ctx); err != nil {
		return err
	}
	defer p.unlockLoose()
	var objects []string
	for _, e := range entries {
		l, err := p.lookup(name(e.Multihash))
		if err == nil && l.Kind != index.Loose {
			objects = append(objects, p.loose.object(name(e.Multihash).key()))
		} else if err != nil && !errors.Is(err, index.ErrNotFound) {
			return err
		}
	}
	if len(objects) == 0 {
		return nil
	}
	if err := p.owner.Hold(ctx); err != nil {
		return err
	}
	late, cancel := context.WithDeadline(ctx, p.owner.Until())
	defer cancel()
	return p.b.Delete(late, objects...)
}
