package s3ds

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// What is known to be damaged is noted in the index, where it outlives the process and takes no memory: a block by
// itself, a pack that is gone, cut or cannot be read as a whole. Such blocks stay in the index, so that nobody takes
// them for absent, and the next put of one is a real put. One bad object keeps nothing else from working.

const (
	missing  = "it is not in the bucket"
	archived = "it is archived: restore it, and exclude the prefix from the lifecycle rule that archived it"
)

// damaged takes note of a block that has to be written again.
func (p *Packed) damaged(ctx context.Context, n name, l index.Location) {
	if n.multihash() == nil {
		return
	}
	if known, err := p.x.IsDamaged(n); err != nil || known {
		return
	}
	// If it fails, the next reader finds the damage again.
	_ = p.x.NoteDamage(context.WithoutCancel(ctx), index.Entry{Key: n, Location: l})
	p.unsynced.Store(true)
}

// sound takes back what is noted about a block that was just read.
func (p *Packed) sound(ctx context.Context, n name) {
	if known, err := p.x.IsDamaged(n); err == nil && known {
		_ = p.x.Sound(context.WithoutCancel(ctx), n) // or at the next read
		p.unsynced.Store(true)
	}
}

// judge asks the bucket about a pack that could not be read, and marks it as unfit if it is gone, cut or archived. It
// returns why, "" if the pack is as it should be, and an error if the bucket could not be asked. Cost: 1 HEAD.
func (p *Packed) judge(ctx context.Context, id index.PackID) (why string, err error) {
	k, err := p.x.Pack(id)
	if errors.Is(err, index.ErrNotFound) {
		return missing, nil // compacted
	} else if err != nil {
		return "", err
	}
	info, err := p.b.Head(ctx, p.name(k.Name))
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		why = missing
	case errors.Is(err, bucket.ErrArchived):
		why = archived
	case err != nil:
		return "", err
	case info.Size < k.Size:
		why = cutTo(info.Size, k.Size)
	default:
		return "", nil
	}
	return why, p.mark(ctx, k.ID, why)
}

func cutTo(is, was int64) string { return fmt.Sprintf("it has %d bytes instead of %d", is, was) }

// mark notes why a pack is unfit, durably, or with "" that it is not, unless it was removed meanwhile.
func (p *Packed) mark(ctx context.Context, id index.PackID, why string) error {
	k, err := p.x.Pack(id)
	if errors.Is(err, index.ErrNotFound) || err == nil && k.Unfit == why {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := p.x.SetUnfit(ctx, id, why); err != nil && !errors.Is(err, index.ErrNotFound) {
		return err
	}
	switch {
	case why == "":
		p.fence.tell("pack %q is whole again", p.name(k.Name))
	default:
		p.fence.tell("pack %q cannot be relied on: %s: its %d blocks are written when they are put again; `ipfs-aws datastore verify` names what is lost",
			p.name(k.Name), why, k.LiveBlocks)
	}
	return p.x.Commit(ctx)
}

// ofObject reports whether an error is about one object, so that others can be gone on with, and not about the bucket.
func ofObject(err error) bool {
	return errors.Is(err, pack.ErrCorrupt) || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrInvalidRange) ||
		errors.Is(err, bucket.ErrArchived) || errors.Is(err, bucket.ErrAccessDenied)
}

// reason is why a pack is unfit, in one line.
func reason(err error) string {
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return missing
	case errors.Is(err, bucket.ErrArchived):
		return archived
	}
	return bucket.OneLine(err.Error())
}
