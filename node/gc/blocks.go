package gc

import (
	"context"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/ipfs-aws/ipfs-aws/node/touched"
)

// Blocks touches what is put into base. With found set it also touches what Has finds: for a blockservice that puts only what is
// not there.
func (g *Guard) Blocks(base blockstore.Blockstore, found bool) blockstore.Blockstore {
	return &store{base, g, found}
}

type store struct {
	blockstore.Blockstore
	guard *Guard
	found bool
}

func (s *store) Put(ctx context.Context, b blocks.Block) error {
	if err := s.guard.Touch(ctx, touched.Key(b.Cid().Hash())); err != nil {
		return err
	}
	return s.Blockstore.Put(ctx, b)
}

func (s *store) PutMany(ctx context.Context, many []blocks.Block) error {
	keys := make([]touched.Digest, len(many))
	for i, b := range many {
		keys[i] = touched.Key(b.Cid().Hash())
	}
	if err := s.guard.Touch(ctx, keys...); err != nil {
		return err
	}
	return s.Blockstore.PutMany(ctx, many)
}

func (s *store) Has(ctx context.Context, c cid.Cid) (bool, error) {
	if s.found && c.Defined() {
		if err := s.guard.Touch(ctx, touched.Key(c.Hash())); err != nil {
			return false, err
		}
	}
	return s.Blockstore.Has(ctx, c)
}

func (s *store) DeleteBlock(ctx context.Context, c cid.Cid) error {
	if !c.Defined() {
		return s.Blockstore.DeleteBlock(ctx, c)
	}
	return s.guard.remove(c, func() error { return s.Blockstore.DeleteBlock(ctx, c) })
}

// AllKeysChanWithErr implements blockstore.AllKeysChanWithErrer.
func (s *store) AllKeysChanWithErr(ctx context.Context) (<-chan cid.Cid, func() error, error) {
	return allKeys(ctx, s.Blockstore)
}

// allKeys lists keys, and says afterwards whether these were all.
func allKeys(ctx context.Context, b blockstore.Blockstore) (<-chan cid.Cid, func() error, error) {
	if e, ok := b.(blockstore.AllKeysChanWithErrer); ok {
		return e.AllKeysChanWithErr(ctx)
	}
	ch, err := b.AllKeysChan(ctx)
	return ch, ctx.Err, err
}
