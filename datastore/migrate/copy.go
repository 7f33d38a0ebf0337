package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sync/semaphore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// copying is the way of blocks from the source to the target: a walk decides on their order and has them read, several at the same
// time; collect takes them in that order and writes them.
type copying struct {
	*run
	ctx   context.Context
	stop  context.CancelCauseFunc
	items chan *item

	room    *semaphore.Weighted // bytes of blocks that are on their way
	ahead   *semaphore.Weighted // bytes of blocks that are read before their turn
	reads   chan struct{}       // slots
	writes  chan struct{}       // slots
	pending sync.WaitGroup      // reads and writes

	mu     sync.Mutex
	flying map[string]struct{} // blocks that are on their way
}

// item is a block on its way.
type item struct {
	hash   mh.Multihash
	there  bool // in the target, but not by us: to be verified there
	only   bool // read for its links only
	weight int64
	from   *semaphore.Weighted // that weight was taken from

	done    chan struct{}
	data    []byte
	good    bool // verified in the target: nothing to write
	replace bool // damaged in the target
	got     bool // the source returned it
	err     error
}

// copy copies what the target has not.
func (r *run) copy(ctx context.Context) error {
	r.begin(Copying)
	var have, size int64
	if err := r.ledger.each(func(_ mh.Multihash, e line) error {
		if e.source == r.inSource && e.target == r.inTarget && e.settled() {
			have++
			size += e.size
		}
		return nil
	}); err != nil {
		return err
	}
	r.count(have, size)

	c := &copying{
		run: r, items: make(chan *item, 2*together), room: semaphore.NewWeighted(flightBytes), ahead: semaphore.NewWeighted(aheadBytes),
		reads: make(chan struct{}, r.o.InFlight), writes: make(chan struct{}, r.o.Commits), flying: map[string]struct{}{},
	}
	c.ctx, c.stop = context.WithCancelCause(ctx)
	defer c.stop(nil)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		if err := c.collect(); err != nil {
			c.stop(err)
		}
	}()
	err := c.walkAll()
	if err != nil {
		c.stop(err)
	}
	close(c.items)
	<-collected
	c.pending.Wait()
	if cause := context.Cause(c.ctx); cause != nil { // the first error, of whoever had it
		return cause
	}
	if err != nil {
		return err
	}
	if err := r.dst.Sync(ctx); err != nil {
		return fmt.Errorf("sync the target: %w", err)
	}
	return nil
}

// begun makes an item, takes its weight, and has it read. With wait false it returns nil if there is no room.
func (c *copying) begun(h mh.Multihash, e line, only, wait bool) (*item, error) {
	i := &item{hash: h, only: only, there: e.target == c.inTarget && !e.settled(), done: make(chan struct{})}
	i.weight = min(max(e.size, leastWeight), flightBytes/4)
	if wait {
		i.from = c.room
		if err := c.room.Acquire(c.ctx, i.weight); err != nil {
			return nil, err
		}
	} else {
		i.from = c.ahead
		if !c.ahead.TryAcquire(i.weight) {
			return nil, nil
		}
	}
	c.pending.Go(func() {
		defer close(i.done)
		i.err = c.read(i)
	})
	return i, nil
}

func (c *copying) read(i *item) error {
	select {
	case c.reads <- struct{}{}:
		defer func() { <-c.reads }()
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	if err := c.throttle.request(c.ctx); err != nil {
		return err
	}
	if i.there {
		data, err := c.dst.Get(c.ctx, i.hash)
		if err == nil && verify(i.hash, data) == nil {
			i.data, i.good = data, true
			return nil
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		i.replace = true
	}
	data, err := c.src.Get(c.ctx, i.hash)
	if err != nil {
		return err
	}
	i.got = true
	if err := verify(i.hash, data); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	i.data = data
	return c.throttle.bytes(c.ctx, int64(len(data)))
}

// verify hashes a block. One of a hash that nobody can compute passes: there is nothing to find out.
func verify(h mh.Multihash, data []byte) error {
	err := pack.Verify(h, data)
	if errors.Is(err, pack.ErrUnknownHash) {
		return nil
	}
	return err
}

// send hands an item on to be written.
func (c *copying) send(i *item) error {
	c.mu.Lock()
	c.flying[string(i.hash)] = struct{}{}
	c.mu.Unlock()
	select {
	case c.items <- i:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *copying) inFlight(h mh.Multihash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.flying[string(h)]
	return ok
}

// landed ends the way of an item that was put, or need not be.
func (c *copying) landed(i *item) {
	c.mu.Lock()
	delete(c.flying, string(i.hash))
	c.mu.Unlock()
	i.from.Release(i.weight)
}

// drop ends the way of an item that will not be put, and was read to its end.
func (c *copying) drop(i *item) {
	if f, ok := c.src.(Forgetful); ok && i.got {
		f.Forget(i.hash)
	}
	i.from.Release(i.weight)
}

// collect gathers items, in their order, into writes.
func (c *copying) collect() error {
	var batch []*item
	var size, unsynced int64
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		full := batch
		batch, size = nil, 0
		return c.write(full)
	}
	for i := range c.items {
		select {
		case <-i.done:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
		switch {
		case i.err == nil && i.good:
			if err := c.put([]*item{i}); err != nil {
				return err
			}
			continue
		case i.err != nil:
			if err := c.failed(i); err != nil {
				return err
			}
			continue
		}
		n := int64(len(i.data))
		if len(batch) > 0 && (size+n > c.o.BatchBytes || len(batch) >= batchBlocks) {
			if err := flush(); err != nil {
				return err
			}
		}
		if c.o.SyncBytes > 0 && unsynced > 0 && unsynced+n > c.o.SyncBytes {
			if err := errors.Join(flush(), c.sync()); err != nil {
				return err
			}
			unsynced = 0
		}
		batch = append(batch, i)
		size += n
		unsynced += n
	}
	return flush()
}

// sync waits for the writes that are under way, and makes them durable.
func (c *copying) sync() error {
	for range cap(c.writes) {
		select {
		case c.writes <- struct{}{}:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	defer func() {
		for range cap(c.writes) {
			<-c.writes
		}
	}()
	if err := c.dst.Sync(c.ctx); err != nil {
		return fmt.Errorf("sync the target: %w", err)
	}
	return nil
}

// failed takes note of a block that could not be read.
func (c *copying) failed(i *item) error {
	defer func() {
		c.mu.Lock()
		delete(c.flying, string(i.hash))
		c.mu.Unlock()
		c.drop(i)
	}()
	gone := errors.Is(i.err, ErrNotFound)
	switch {
	case gone && c.o.Live:
		return nil
	case gone:
		i.err = errors.New("the source lists it, and has it not")
	case !errors.Is(i.err, ErrDamaged):
		return fmt.Errorf("read block %s from the source: %w", i.hash.HexString(), i.err)
	}
	if err := c.ledger.edit(false, []mh.Multihash{i.hash}, func(_ int, e *line, _ bool) bool { e.flags |= damaged; return true }); err != nil {
		return err
	}
	f := Finding{i.hash, i.err}
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	c.rep.Damaged++
	c.p.Damaged++
	if len(c.rep.Findings) < shownDamage {
		c.rep.Findings = append(c.rep.Findings, f)
	}
	c.o.Found(f)
	return nil
}

// write puts a batch, beside others.
func (c *copying) write(batch []*item) error {
	select {
	case c.writes <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.pending.Go(func() {
		defer func() { <-c.writes }()
		if err := c.put(batch); err != nil {
			c.stop(err)
		}
	})
	return nil
}

func (c *copying) put(batch []*item) error {
	defer func() {
		for _, i := range batch {
			c.landed(i)
		}
	}()
	if err := c.throttle.request(c.ctx); err != nil {
		return err
	}
	blocks, hashes := make([]Block, 0, len(batch)), make([]mh.Multihash, len(batch))
	var replace []mh.Multihash
	var size int64
	for n, i := range batch {
		hashes[n] = i.hash
		size += int64(len(i.data))
		if !i.good {
			blocks = append(blocks, Block{i.hash, i.data})
		}
		if i.replace {
			replace = append(replace, i.hash)
		}
	}
	if len(blocks) > 0 {
		// Before it is in the target, so that nobody takes it for somebody else's.
		if err := c.ledger.edit(true, hashes, func(_ int, e *line, _ bool) bool { e.flags |= ours; return true }); err != nil {
			return err
		}
		if len(replace) > 0 { // a store may leave a block that is there as it is
			if err := c.dst.Delete(c.ctx, replace); err != nil {
				return fmt.Errorf("remove damaged blocks from the target: %w", err)
			}
		}
		if err := c.dst.Put(c.ctx, blocks); err != nil {
			return fmt.Errorf("write %d blocks to the target: %w", len(blocks), err)
		}
	}
	if err := c.ledger.edit(false, hashes, func(n int, e *line, _ bool) bool {
		e.target = c.inTarget
		if batch[n].good {
			e.flags |= verified
		}
		return true
	}); err != nil {
		return err
	}
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	c.p.Blocks += int64(len(batch))
	c.p.Bytes += size
	if len(blocks) > 0 {
		c.p.RunBlocks += int64(len(batch))
		c.p.RunBytes += size
		c.rep.Copied += int64(len(batch))
		c.rep.CopiedBytes += size
	}
	c.tell()
	return nil
}
