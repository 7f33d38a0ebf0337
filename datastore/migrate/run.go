package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	mh "github.com/multiformats/go-multihash"
)

// Run copies every block of src to dst, and returns when dst lists all of them. It may be broken off at any moment, also
// by the end of the process, and called again with the same Dir.
func Run(ctx context.Context, src Source, dst Target, o Options) (Report, error) {
	return start(ctx, src, dst, o, (*run).all)
}

// Prepare does what Run does first: it lists both, refuses a target with other content, and removes from it what an earlier call has copied
// and is no longer in the source.
func Prepare(ctx context.Context, src Source, dst Target, o Options) (Report, error) {
	return start(ctx, src, dst, o, (*run).compare)
}

func start(ctx context.Context, src Source, dst Target, o Options, do func(*run, context.Context) error) (rep Report, err error) {
	o, err = o.complete()
	if err != nil {
		return Report{}, err
	}
	l, err := openLedger(o.Dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r := &run{o: o, src: src, dst: dst, ledger: l, throttle: newThrottle(o), begun: time.Now(), cost: o.Cost()}
	if err := do(r, ctx); err != nil {
		return r.report(), err
	}
	return r.report(), nil
}

// run is one call of Run.
type run struct {
	o        Options
	src      Source
	dst      Target
	ledger   *ledger
	throttle *throttle
	begun    time.Time
	cost     Cost // before

	inSource, inTarget uint32 // ticks of the latest lists

	mu    sync.Mutex // of what follows, and held during callbacks
	p     Progress
	stage time.Time
	rep   Report
}

func (r *run) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Elapsed, r.rep.Cost = time.Since(r.begun), r.spent()
	return r.rep
}

func (r *run) spent() Cost {
	now := r.o.Cost()
	return Cost{now.Requests - r.cost.Requests, now.USD - r.cost.USD}
}

// begin begins a stage.
func (r *run) begin(stage string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage = time.Now()
	r.p = Progress{Stage: stage, TotalBlocks: r.rep.Blocks, TotalBytes: r.rep.Bytes, Damaged: r.rep.Damaged}
	r.tell()
}

// count adds to what a stage has done.
func (r *run) count(blocks, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p.Blocks += blocks
	r.p.Bytes += size
	r.tell()
}

func (r *run) tell() {
	r.p.Elapsed, r.p.Cost = time.Since(r.stage), r.spent()
	r.o.Progress(r.p)
}

func (r *run) all(ctx context.Context) error {
	if err := r.compare(ctx); err != nil {
		return err
	}
	if err := r.o.Begin(r.report()); err != nil {
		return err
	}
	for range checks {
		if err := r.copy(ctx); err != nil {
			return err
		}
		missing, err := r.check(ctx)
		if err != nil {
			return err
		}
		if missing == 0 {
			return r.verdict()
		}
		if !r.o.Live {
			return fmt.Errorf("%w: %d of %d are missing there: does somebody else write to it? Run it again", ErrMissing, missing, r.rep.Blocks)
		}
	}
	return fmt.Errorf("%w, after %d attempts: new blocks still go to the source", ErrMissing, checks)
}

// verdict is about blocks that could not be copied.
func (r *run) verdict() error {
	if n := r.rep.Damaged; n > 0 && !r.o.SkipDamaged {
		return fmt.Errorf("%w: %d of %d; all others are in the target. The first one: block %s: %w", ErrIncomplete, n, r.rep.Blocks,
			r.rep.Findings[0].Hash.HexString(), r.rep.Findings[0].Err)
	}
	return nil
}

// list writes down what a store lists, and returns how many lines there were.
func (r *run) list(ctx context.Context, stage string, blocks iter.Seq2[Listed, error], change func(size int64, e *line, had bool) bool) error {
	r.begin(stage)
	lines := chunks{full: func(hashes []mh.Multihash, sizes []int64) error {
		if err := r.ledger.edit(false, hashes, func(i int, e *line, had bool) bool { return change(sizes[i], e, had) }); err != nil {
			return err
		}
		var sum int64
		for _, n := range sizes {
			sum += n
		}
		r.count(int64(len(hashes)), sum)
		return nil
	}}
	for b, err := range blocks {
		if err != nil {
			return fmt.Errorf("%s: %w", stage, err)
		}
		if err := lines.add(b.Hash, b.Size); err != nil {
			return err
		}
	}
	return lines.flush()
}

// listSource begins with a clean sheet if it is the first one of a run.
func (r *run) listSource(ctx context.Context) (err error) {
	first := r.inSource == 0
	if r.inSource, err = r.ledger.next(); err != nil {
		return err
	}
	return r.list(ctx, ListingSource, r.src.Blocks(ctx), func(size int64, e *line, had bool) bool {
		e.source, e.size = r.inSource, size
		if first {
			e.flags &^= damaged
		}
		return true
	})
}

func (r *run) listTarget(ctx context.Context) (other int64, err error) {
	if r.inTarget, err = r.ledger.next(); err != nil {
		return 0, err
	}
	err = r.list(ctx, ListingTarget, r.dst.Blocks(ctx), func(_ int64, e *line, had bool) bool {
		if !had || e.source != r.inSource && e.flags&ours == 0 {
			other++
			return false
		}
		e.target = r.inTarget
		return true
	})
	return other, err
}

// compare lists both, and brings what was copied before in line with the source.
func (r *run) compare(ctx context.Context) error {
	if err := r.listSource(ctx); err != nil {
		return err
	}
	other, err := r.listTarget(ctx)
	if err != nil {
		return err
	}
	r.rep.Other = other
	if other > 0 && !r.o.Merge && !r.o.Live {
		return fmt.Errorf("%w: it holds %d blocks that the source has not", ErrOtherContent, other)
	}
	r.begin(Comparing)
	var rep Report
	gone := chunks{full: func(hashes []mh.Multihash, _ []int64) error { return r.ledger.forget(hashes) }}
	stale := chunks{full: func(hashes []mh.Multihash, _ []int64) error {
		if err := r.dst.Delete(ctx, hashes); err != nil {
			return fmt.Errorf("remove blocks from the target that were deleted from the source: %w", err)
		}
		rep.Removed += int64(len(hashes))
		return r.ledger.forget(hashes)
	}}
	lost := chunks{full: func(hashes []mh.Multihash, _ []int64) error {
		return r.ledger.edit(false, hashes, func(_ int, e *line, _ bool) bool { e.flags &^= walked; return true })
	}}
	err = r.ledger.each(func(h mh.Multihash, e line) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		there := e.target == r.inTarget
		switch {
		case e.source == r.inSource:
			rep.Blocks++
			rep.Bytes += e.size
			if there {
				rep.Before++
				rep.BeforeBytes += e.size
			} else if e.flags&walked != 0 {
				return lost.add(h, 0)
			}
		case r.o.Live, r.o.Keep: // who deletes does so from both; or nobody does
		case there:
			return stale.add(h, 0)
		default:
			return gone.add(h, 0)
		}
		return nil
	})
	if err := errors.Join(err, stale.flush(), gone.flush(), lost.flush()); err != nil {
		return err
	}
	if rep.Removed > 0 {
		if err := r.dst.Sync(ctx); err != nil {
			return fmt.Errorf("sync the target: %w", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Blocks, r.rep.Bytes, r.rep.Before, r.rep.BeforeBytes, r.rep.Removed = rep.Blocks, rep.Bytes, rep.Before, rep.BeforeBytes, rep.Removed
	return nil
}

// check lists the target anew, and a source that changes, and returns how many blocks are missing.
func (r *run) check(ctx context.Context) (missing int64, err error) {
	if r.o.Live && !r.o.Keep { // a copy is of what was there when it began
		if err := r.listSource(ctx); err != nil {
			return 0, err
		}
	}
	if _, err := r.listTarget(ctx); err != nil {
		return 0, err
	}
	r.begin(Checking)
	var blocks, size, left int64
	err = r.ledger.each(func(h mh.Multihash, e line) error {
		if e.source != r.inSource {
			return nil
		}
		blocks++
		size += e.size
		if e.target == r.inTarget {
			return nil
		}
		if e.flags&damaged != 0 {
			left++
			return nil
		}
		if r.o.Live {
			// It may have been deleted since the source was listed.
			switch _, err := r.src.Get(ctx, bytes.Clone(h)); {
			case errors.Is(err, ErrNotFound):
				return nil
			case err != nil && !errors.Is(err, ErrDamaged):
				return fmt.Errorf("read block %s from the source: %w", h.HexString(), err)
			}
		}
		missing++
		return ctx.Err()
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Blocks, r.rep.Bytes, r.rep.Damaged = blocks, size, left
	return missing, err
}
