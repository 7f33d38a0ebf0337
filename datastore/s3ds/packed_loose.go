package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
)

// What has an object of its own: every block in layout objects, and in layout packs what fits into no pack.

// putLoose stores values in objects of their own. The index has them, durably, when it returns: nothing replays these, and a block that is
// in the bucket and not in the index is reported missing.
func (p *Packed) putLoose(ctx context.Context, puts []put) error {
	if len(puts) == 0 {
		return nil
	}
	names := make([]name, len(puts))
	for i, one := range puts {
		names[i], _ = nameOf(one.key)
	}
	unlock, err := p.looseKeys.lock(ctx, names)
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.reuse(ctx, puts); err != nil {
		return err
	}
	entries := make([]index.Entry, 0, len(puts))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(p.loose.slots))
	for i, one := range puts {
		if names[i].multihash() != nil {
			// Who put it at the same moment may have had the lock before.
			if here, err := p.present(names[i]); err != nil {
				return errors.Join(err, group.Wait())
			} else if here {
				continue
			}
		}
		entries = append(entries, index.Entry{Key: names[i], Location: index.Location{Kind: index.Loose, Length: int64(len(one.value))}})
		group.Go(func() error {
			if err := p.loose.acquire(gctx); err != nil {
				return err
			}
			defer p.loose.release()
			return p.b.Put(gctx, p.loose.object(one.key), bytes.NewReader(one.value))
		})
	}
	err = group.Wait()
	p.loose.health.record(ctx, err)
	if err != nil {
		return err
	}
	late := context.WithoutCancel(ctx)
	if _, err := p.x.PutLoose(late, entries...); err != nil {
		return err
	}
	return p.commit(late)
}

// removeLoose removes values that have objects of their own. The index forgets them first, for what it expects and is not there is
// taken for lost.
func (p *Packed) removeLoose(ctx context.Context, keys [][]byte, objects []string) error {
	names := make([]name, len(keys))
	for i, k := range keys {
		names[i] = k
	}
	unlock, err := p.looseKeys.lock(ctx, names)
	if err != nil {
		return err
	}
	defer unlock()
	late := context.WithoutCancel(ctx)
	if _, err := p.x.Delete(late, keys...); err != nil {
		return err
	}
	if err := p.commit(late); err != nil {
		return err
	}
	err = p.deleteLoose(ctx, objects)
	p.loose.health.record(ctx, err)
	var some *bucket.DeleteError
	if errors.As(err, &some) {
		return fmt.Errorf("%w: what is left is found again by a reindex", err)
	}
	return err
}

// deleteLoose deletes objects of single values. The chain is told first, where an owner that was replaced finds out.
func (p *Packed) deleteLoose(ctx context.Context, objects []string) error {
	for some := range slices.Chunk(objects, deleteBatch) {
		names := make([]string, len(some))
		for i, o := range some {
			names[i] = strings.TrimPrefix(o, p.loose.prefix(""))
		}
		if err := p.fence.retire(ctx, names...); err != nil {
			return err
		}
		err := p.b.Delete(ctx, some...)
		p.fence.deleted(err, names...)
		if err != nil {
			return err
		}
	}
	return nil
}

// reuse tells the chain of objects that were deleted and are about to be there again. What fits into a pack comes
// here only if it is known that they are gone; for the few others a deletion that failed, and arrives later still, is
// not waited for.
func (p *Packed) reuse(ctx context.Context, puts []put) error {
	names := make([]string, len(puts))
	for i, one := range puts {
		names[i] = p.under(one.key)
	}
	return p.fence.reuse(ctx, names...)
}

// under returns the name of the object of a key below the prefix.
func (p *Packed) under(key ds.Key) string {
	return strings.TrimPrefix(p.loose.object(key), p.loose.prefix(""))
}

// ownObject returns a block that is damaged or lost in a pack, if it has an object of its own as well: one that was
// put, in layout objects, when the damage was found, before the index was made anew. The index points there from then
// on.
func (p *Packed) ownObject(ctx context.Context, n name, l index.Location) ([]byte, bool) {
	if l.Kind != index.InPack || n.multihash() == nil {
		return nil, false
	}
	unlock, err := p.looseKeys.lock(ctx, []name{n})
	if err != nil {
		return nil, false
	}
	defer unlock()
	value, err := p.loose.verified(ctx, n.key())
	if err != nil {
		return nil, false
	}
	late := context.WithoutCancel(ctx)
	_, _ = p.x.Replace(late, l, index.Entry{Key: n, Location: index.Location{Kind: index.Loose, Length: int64(len(value))}}) // if it fails, the next read tries again
	return value, true
}

// keyLocks lets one at a time change the object and the entry of a key.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]struct{}
	free chan struct{} // closed and replaced when keys are let go
}

func (k *keyLocks) init() {
	k.held, k.free = map[string]struct{}{}, make(chan struct{})
}

// lock waits until none of the keys is held, and holds all of them until unlock is called.
func (k *keyLocks) lock(ctx context.Context, names []name) (unlock func(), err error) {
	for {
		free, ok := k.try(names)
		if ok {
			return func() { k.unlock(names) }, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (k *keyLocks) try(names []name) (free <-chan struct{}, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range names {
		if _, busy := k.held[string(n)]; busy {
			return k.free, false
		}
	}
	for _, n := range names {
		k.held[string(n)] = struct{}{}
	}
	return nil, true
}

func (k *keyLocks) unlock(names []name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range names {
		delete(k.held, string(n))
	}
	close(k.free)
	k.free = make(chan struct{})
}

// commits lets all who wait for the index to be durable share one commit: those who come while one runs share the next.
type commits struct {
	turn chan struct{} // held while one runs
	mu   sync.Mutex
	next *commit // has not begun
}

type commit struct {
	done chan struct{}
	err  error
}

func (c *commits) init() { c.turn = make(chan struct{}, 1) }

// commit makes what the index was told before durable.
func (p *Packed) commit(ctx context.Context) error {
	c := &p.commits
	c.mu.Lock()
	mine := c.next
	first := mine == nil
	if first {
		mine = &commit{done: make(chan struct{})}
		c.next = mine
	}
	c.mu.Unlock()
	if !first {
		<-mine.done
		return mine.err
	}
	c.turn <- struct{}{}
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	mine.err = p.x.Commit(ctx)
	close(mine.done)
	<-c.turn
	return mine.err
}
