package gc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"

	"github.com/ipfs-aws/ipfs-aws/node/walk"
)

const (
	// walkers is how many nodes are read at once: what kubo's own walk has.
	walkers = 32
	// batchSize is how many blocks a batch deletes at most, and deleters how many of them at once. A batch of a store that
	// answers in 40 ms takes 4 × 40 ms: as long, at most, as a writer of one of these very blocks waits.
	batchSize = 128
	deleters  = 32
)

// Store is what is collected.
type Store struct {
	// Blocks is the store below the guard.
	Blocks blockstore.Blockstore
	// Keys lists what may be deleted; nil: the keys of Blocks.
	Keys func(context.Context) (<-chan cid.Cid, func() error, error)
	// Delete deletes a block; nil: from Blocks.
	Delete func(context.Context, cid.Cid) error

	Pins pin.Pinner
	// Roots are what is kept besides, as far as it is here: the roots of MFS.
	Roots func(context.Context) ([]cid.Cid, error)
}

// Options of a collection.
type Options struct {
	// Age overrides the guard's if it is not negative. A longer one than the guard's is refused if the history does not
	// reach back so far.
	Age time.Duration
	// DryRun: nothing is deleted; Removed is called with the size of what would be.
	DryRun bool
	// Removed is called for each block that is gone, from one goroutine. An error ends the collection.
	Removed func(c cid.Cid, size int) error
	// Failed is called with each block that could not be deleted. An error ends the collection.
	Failed func(error) error
}

// Result is what a collection did.
type Result struct {
	Removed int
	Bytes   int64 // of a dry run
	Failed  int
	Kept    int // reachable, or touched
	Touched int // of those, what stays for that alone
	// Young: nothing was looked at, since nothing can be old enough.
	Young *YoungError
}

// ErrIncomplete: some blocks could not be deleted.
var ErrIncomplete = errors.New("garbage collection incomplete: could not delete some blocks")

// MissingError is a pin that is not whole here: nothing can be collected.
type MissingError struct {
	Pin, Missing cid.Cid
	Err          error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("garbage collection aborted, nothing was removed: pin %s is not whole here, block %s cannot be read (%v), so what is below it is not known: "+
		"fetch it with `ipfs-aws pin add %s`, or give the pin up with `ipfs-aws pin rm %s`", e.Pin, e.Missing, e.Err, e.Pin, e.Pin)
}

func (e *MissingError) Unwrap() error { return e.Err }

// Collect removes what nothing needs. One collection runs at a time; another waits for its end.
func (g *Guard) Collect(ctx context.Context, st Store, o Options) (Result, error) {
	select {
	case g.collecting <- struct{}{}:
		defer func() { <-g.collecting }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	age := o.Age
	if age < 0 {
		age = g.age
	}
	s, err := g.sweep(age)
	var young *YoungError
	if errors.As(err, &young) {
		if age > g.age {
			return Result{}, fmt.Errorf("touches of blocks are not kept for %s, the age that was asked for: set IPFS_GC_MIN_AGE to it, and collect when it has passed", age)
		}
		return Result{Young: young}, nil
	}
	if err != nil {
		return Result{}, err
	}
	defer s.end()
	s.dry = o.DryRun
	c := collector{Store: st, o: o, s: s, m: newMarks(),
		dag: merkledag.NewDAGService(blockservice.New(st.Blocks, offline.Exchange(st.Blocks)))}
	if err := c.mark(ctx); err != nil {
		return Result{}, err
	}
	if err := c.sweep(ctx); err != nil {
		return c.r, err
	}
	if c.r.Failed > 0 {
		return c.r, ErrIncomplete
	}
	return c.r, nil
}

// Idle waits until no collection runs.
func (g *Guard) Idle(ctx context.Context) error {
	select {
	case g.collecting <- struct{}{}:
		<-g.collecting
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type collector struct {
	Store
	o   Options
	s   *sweep
	m   *marks
	dag format.NodeGetter
	r   Result
}

// root is a node to be walked, and the pin that it is below.
type root struct {
	c    cid.Cid
	pin  cid.Cid
	lazy bool // it need not be whole
}

func (c *collector) mark(ctx context.Context) error {
	var todo []root
	for sp := range c.Pins.RecursiveKeys(ctx, false) {
		if sp.Err != nil {
			return fmt.Errorf("list the pins: %w", sp.Err)
		}
		todo = append(todo, root{c: sp.Pin.Key, pin: sp.Pin.Key})
	}
	for sp := range c.Pins.InternalPins(ctx, false) {
		if sp.Err != nil {
			return fmt.Errorf("list the pins: %w", sp.Err)
		}
		todo = append(todo, root{c: sp.Pin.Key, pin: sp.Pin.Key})
	}
	for sp := range c.Pins.DirectKeys(ctx, false) {
		if sp.Err != nil {
			return fmt.Errorf("list the pins: %w", sp.Err)
		}
		c.m.add(sp.Pin.Key)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.walk(ctx, todo); err != nil {
		return err
	}
	return c.markRoots(ctx)
}

// markRoots walks the roots as they are now, and what was adopted or published meanwhile.
func (c *collector) markRoots(ctx context.Context) error {
	var todo []root
	if c.Roots != nil {
		roots, err := c.Roots(ctx)
		if err != nil {
			return fmt.Errorf("garbage collection aborted, nothing was removed: %w", err)
		}
		for _, r := range roots {
			todo = append(todo, root{c: r, lazy: true})
		}
	}
	for _, r := range c.s.take() {
		todo = append(todo, root{c: r, lazy: true})
	}
	return c.walk(ctx, todo)
}

func (c *collector) walk(ctx context.Context, todo []root) error {
	return walk.All(ctx, walkers, todo, func(ctx context.Context, r root) ([]root, error) {
		if r.c.Prefix().Codec == cid.Raw {
			c.m.add(r.c)
			return nil, nil
		}
		if !c.m.visit(r.c) {
			return nil, nil
		}
		links, err := format.GetLinks(ctx, c.dag, r.c)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case r.lazy && format.IsNotFound(err):
			c.m.forget(r.c) // it may be here when something that comes later is walked
			return nil, nil
		case r.lazy:
			return nil, fmt.Errorf("garbage collection aborted: block %s below MFS cannot be read: %w", r.c, err)
		default:
			return nil, &MissingError{Pin: r.pin, Missing: r.c, Err: err}
		}
		below := make([]root, 0, len(links))
		for _, l := range links {
			if l.Cid.Prefix().Codec == cid.Raw {
				c.m.add(l.Cid)
				continue
			}
			below = append(below, root{l.Cid, r.pin, r.lazy})
		}
		return below, nil
	})
}

func (c *collector) sweep(ctx context.Context) error {
	list := c.Keys
	if list == nil {
		list = func(ctx context.Context) (<-chan cid.Cid, func() error, error) { return allKeys(ctx, c.Blocks) }
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys, listed, err := list(ctx)
	if err != nil {
		return fmt.Errorf("list the blocks: %w", err)
	}
	// Whatever was in no root of MFS for the moment of the first look is in one now.
	if err := c.markRoots(ctx); err != nil {
		return err
	}
	batch := make([]cid.Cid, 0, batchSize)
	for k := range keys {
		if c.m.has(k) {
			c.r.Kept++
			continue
		}
		if batch = append(batch, k); len(batch) < batchSize {
			continue
		}
		if err := c.remove(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if err := c.remove(ctx, batch); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := listed(); err != nil {
		return fmt.Errorf("garbage collection incomplete: list the blocks: %w", err)
	}
	return nil
}

// remove deletes those of some keys that may go.
func (c *collector) remove(ctx context.Context, keys []cid.Cid) error {
	if len(keys) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	del := c.Delete
	if del == nil {
		del = c.Blocks.DeleteBlock
	}
	var mu sync.Mutex
	sizes := map[cid.Cid]int{}
	fn := func(k cid.Cid) error { return del(ctx, k) }
	if c.o.DryRun {
		fn = func(k cid.Cid) error {
			n, err := c.Blocks.GetSize(ctx, k)
			mu.Lock()
			defer mu.Unlock()
			sizes[k] = n
			return err
		}
	}
	for {
		candidates := make([]cid.Cid, 0, len(keys))
		for _, k := range keys {
			if !c.m.has(k) {
				candidates = append(candidates, k)
			}
		}
		gone, ready, errs := c.s.batch(candidates, deleters, fn)
		if !ready {
			todo := []root{}
			for _, r := range c.s.take() {
				todo = append(todo, root{c: r, lazy: true})
			}
			if err := c.walk(ctx, todo); err != nil {
				return err
			}
			continue
		}
		c.r.Kept += len(keys) - len(gone) - len(errs)
		c.r.Touched += len(candidates) - len(gone) - len(errs)
		for _, err := range errs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.r.Failed++
			if c.o.Failed != nil {
				if err := c.o.Failed(err); err != nil {
					return err
				}
			}
		}
		for _, k := range gone {
			c.r.Removed++
			c.r.Bytes += int64(sizes[k])
			if c.o.Removed != nil {
				if err := c.o.Removed(k, sizes[k]); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
