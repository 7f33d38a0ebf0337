package efs

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
)

const (
	// A removal takes 2 ms on EFS and garbage collection sends its deletes one
	// after the other, so waiting for each would mean 500 blocks a second at
	// most. These first deletes of a row are waited for, so that a lone one,
	// which is a person's, is done and its error known when it returns.
	promptDeletes = 4
	// rowPause without a delete ends a row.
	rowPause = time.Second
	// removalsPerWorker bounds how many deletes may be acknowledged and not
	// done: workers × 4, which is 256 of them, or 8 ms of work.
	removalsPerWorker = 4
)

// removal keeps count of the deletes that are acknowledged and not done.
type removal struct {
	window slots // one for each such delete
	work   slots // removers
	drains slots // one: two drains would take the window from each other

	mu     sync.Mutex
	prompt int // deletes left in this row that are waited for
	last   time.Time

	errs deferred
}

func newRemoval(workers int) removal {
	return removal{
		window: newSlots(workers * removalsPerWorker),
		work:   newSlots(workers),
		drains: newSlots(1),
		prompt: promptDeletes,
	}
}

// takePrompt reports whether the next delete is to be waited for.
func (r *removal) takePrompt() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.last) > rowPause {
		r.prompt = promptDeletes
	}
	r.last = now
	if r.prompt == 0 {
		return false
	}
	r.prompt--
	return true
}

// Delete removes a block; the store no longer has it when Delete returns. In a
// row of deletes, most are acknowledged before their file is gone: see the
// package documentation.
func (d *Datastore) Delete(ctx context.Context, key ds.Key) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	name, ok := keyName(key)
	if !ok {
		return ctx.Err()
	}
	return d.delete(ctx, name, d.removal.takePrompt())
}

// delete removes a block, and waits until its file is gone if wait is set.
func (d *Datastore) delete(ctx context.Context, name string, wait bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := d.shard(name, false)
	if s == nil {
		return nil
	}
	fl, _, err := s.acquire(ctx, name, false, nil)
	if err != nil {
		return err
	}
	if _, ok, doubtful := s.lookup(name); !ok && !doubtful {
		s.release(name, fl, nil)
		return nil
	}
	if err := d.removal.window.acquire(ctx); err != nil {
		s.release(name, fl, nil)
		return err
	}
	s.begin()
	s.mu.Lock()
	size, _ := s.get(name)
	s.unset(name)
	s.mu.Unlock()
	remove := func() error {
		defer d.removal.window.release()
		err := d.remove(s, name, size)
		s.release(name, fl, err)
		return err
	}
	if wait {
		return remove()
	}
	go func() { d.removal.errs.add(remove()) }()
	return nil
}

// remove deletes the file of a block that the index no longer has.
func (d *Datastore) remove(s *shard, name string, size int64) error {
	d.removal.work <- struct{}{}
	defer d.removal.work.release()
	s.gate.RLock()
	defer s.gate.RUnlock()
	err := d.fsys.Remove(d.file(s.name, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It may be gone or not. The shard stays unsettled.
		s.mu.Lock()
		s.set(name, size)
		s.doubt[name] = struct{}{}
		s.changed++
		s.mu.Unlock()
		return explain("delete block", err)
	}
	s.mu.Lock()
	s.unsettled--
	s.changed++
	s.mu.Unlock()
	d.forget(name)
	d.usage.add(-size)
	d.keeper.changed()
	return nil
}

// settle waits until all deletes that were acknowledged are done and durable,
// and returns the errors they met with.
func (d *Datastore) settle(ctx context.Context) error {
	r := &d.removal
	if err := r.drains.acquire(ctx); err != nil {
		return err
	}
	defer r.drains.release()
	for taken := range cap(r.window) {
		if err := r.window.acquire(ctx); err != nil {
			for range taken {
				r.window.release()
			}
			return err
		}
	}
	for range cap(r.window) {
		r.window.release()
	}
	r.mu.Lock()
	r.prompt = promptDeletes
	r.mu.Unlock()

	err := each(cap(d.writes), d.allShards(), d.syncShard)
	return errors.Join(r.errs.take(), explain("sync deletes", err))
}

// syncShard makes all changes of a shard's directory durable.
func (d *Datastore) syncShard(s *shard) error {
	s.mu.RLock()
	changed, synced := s.changed, s.synced
	s.mu.RUnlock()
	if changed == synced {
		return nil
	}
	err := d.fsys.SyncDir(d.dir(s.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	s.synced = max(s.synced, changed)
	s.mu.Unlock()
	return nil
}

// Sync returns once all deletes that returned before are durable, and with any
// error that one of them met with after it had returned. Puts are durable already.
func (d *Datastore) Sync(ctx context.Context, _ ds.Key) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	return d.settle(ctx)
}

// CollectGarbage is Sync. Kubo calls it at the end of its garbage collection,
// which is where errors of its deletes belong.
func (d *Datastore) CollectGarbage(ctx context.Context) error {
	return d.Sync(ctx, ds.NewKey("/"))
}
