package adds

import (
	"context"
	"slices"
	"sync"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/sync/semaphore"
)

const (
	// maxWrites is how many writes are under way at once, of all sessions
	// together: the slots of an NFS session, which are the workers of efs. More
	// would wait there, and for an S3 journal 64 share one fsync as well as more.
	maxWrites = 64
	// maxBytes bounds the memory of the writes under way. It is 64 writes of
	// 512 KiB; two chunks of a file, as large as most people have them.
	maxBytes = 32 << 20
)

// Blocks lets the Puts of a session be written behind the adder's back; see the
// package. Everything else goes to base.
func Blocks(base blockstore.Blockstore) blockstore.Blockstore {
	return &store{
		Blockstore: base,
		room:       semaphore.NewWeighted(maxBytes),
		flights:    map[string][]flight{},
	}
}

type store struct {
	blockstore.Blockstore
	room *semaphore.Weighted

	mu sync.RWMutex
	// flights holds the blocks whose writes have not ended, by multihash. Its
	// slices are replaced, never changed.
	flights map[string][]flight
}

// flight is one block in one write.
type flight struct {
	block blocks.Block
	of    *write
}

type write struct {
	session *session
	number  uint64
	weight  int64
	blocks  []blocks.Block
	ended   chan struct{}
}

func (b *store) Put(ctx context.Context, block blocks.Block) error {
	s := sessionOf(ctx)
	if s == nil {
		return b.Blockstore.Put(ctx, block)
	}
	return b.take(ctx, s, []blocks.Block{block})
}

func (b *store) PutMany(ctx context.Context, many []blocks.Block) error {
	s := sessionOf(ctx)
	if s == nil {
		return b.Blockstore.PutMany(ctx, many)
	}
	return b.take(ctx, s, many)
}

// take accepts blocks for a session as one write, when there is room for it.
func (b *store) take(ctx context.Context, s *session, many []blocks.Block) error {
	// What the session has under way need not be written once more: if that write
	// fails, so does the session.
	many = b.without(s, many)
	if len(many) == 0 {
		return nil
	}
	w := &write{session: s, blocks: many, ended: make(chan struct{})}
	for i, block := range many {
		// kubo's nodes are blocks, and a directory's node goes on changing after it
		// was put. Its bytes and CID of this moment do not.
		data := block.RawData()
		frozen, err := blocks.NewBlockWithCid(data, block.Cid())
		if err != nil {
			return err
		}
		many[i] = frozen
		w.weight += int64(len(data))
	}
	w.weight = min(max(w.weight, maxBytes/maxWrites), maxBytes)
	if err := b.room.Acquire(ctx, w.weight); err != nil {
		return err
	}
	var err error
	w.number, err = s.accept()
	if w.number == 0 {
		b.room.Release(w.weight)
		if err != nil {
			return err
		}
		return b.put(ctx, many)
	}
	b.enter(w)
	go b.carryOut(w)
	return nil
}

func (b *store) carryOut(w *write) {
	// Without the session, so that nothing below waits for it: it would wait for
	// this write.
	err := b.put(context.WithValue(w.session.ctx, sessionKey{}, nil), w.blocks)
	// Before the block is gone from here: its session must not take it for one
	// that was never put.
	w.session.tell(w.number, err)
	b.leave(w)
	b.room.Release(w.weight)
	w.session.finish()
	close(w.ended)
}

// put avoids a batch where there is one block: stores take it faster so.
func (b *store) put(ctx context.Context, many []blocks.Block) error {
	if len(many) == 1 {
		return b.Blockstore.Put(ctx, many[0])
	}
	return b.Blockstore.PutMany(ctx, many)
}

// without is a copy of many, without what s has under way.
func (b *store) without(s *session, many []blocks.Block) []blocks.Block {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(many), func(block blocks.Block) bool {
		return slices.ContainsFunc(b.flights[key(block.Cid())], func(f flight) bool { return f.of.session == s })
	})
}

func (b *store) enter(w *write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range w.blocks {
		k := key(block.Cid())
		b.flights[k] = append(slices.Clip(b.flights[k]), flight{block, w})
	}
}

func (b *store) leave(w *write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range w.blocks {
		k := key(block.Cid())
		rest := slices.DeleteFunc(slices.Clone(b.flights[k]), func(f flight) bool { return f.of == w })
		if len(rest) == 0 {
			delete(b.flights, k)
		} else {
			b.flights[k] = rest
		}
	}
}

// inFlight is the block with c that ctx's session has under way, or nil. A block
// that only others have under way is waited for: what becomes of it is then in
// the base. A session that has failed is told so instead.
func (b *store) inFlight(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if !c.Defined() {
		return nil, nil // an error of the base's
	}
	b.mu.RLock()
	flights := b.flights[key(c)]
	b.mu.RUnlock()
	if s := sessionOf(ctx); s != nil {
		for _, f := range flights {
			if f.of.session == s {
				return f.block, nil
			}
		}
		if err := s.failure(); err != nil {
			return nil, err
		}
	}
	return nil, landed(ctx, flights)
}

// landed returns when the writes have ended.
func landed(ctx context.Context, flights []flight) error {
	for _, f := range flights {
		select {
		case <-f.of.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *store) Has(ctx context.Context, c cid.Cid) (bool, error) {
	if block, err := b.inFlight(ctx, c); block != nil || err != nil {
		return block != nil, err
	}
	return b.Blockstore.Has(ctx, c)
}

func (b *store) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	block, err := b.inFlight(ctx, c)
	switch {
	case err != nil:
		return -1, err
	case block != nil:
		return len(block.RawData()), nil
	}
	return b.Blockstore.GetSize(ctx, c)
}

func (b *store) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	block, err := b.inFlight(ctx, c)
	switch {
	case err != nil:
		return nil, err
	case block != nil:
		// c's codec may be another than the block's that was put.
		return blocks.NewBlockWithCid(block.RawData(), c)
	}
	return b.Blockstore.Get(ctx, c)
}

// DeleteBlock deletes what is there when the writes under way have ended, so that
// none of them brings the block back.
func (b *store) DeleteBlock(ctx context.Context, c cid.Cid) error {
	if c.Defined() {
		b.mu.RLock()
		flights := b.flights[key(c)]
		b.mu.RUnlock()
		if err := landed(ctx, flights); err != nil {
			return err
		}
	}
	return b.Blockstore.DeleteBlock(ctx, c)
}

// key is what blockstores know a block by.
func key(c cid.Cid) string { return string(c.Hash()) }
