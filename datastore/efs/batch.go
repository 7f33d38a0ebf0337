package efs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// batchBytes is how much a batch keeps in memory. Kubo's hold 8 MiB at most,
// and up to 16 are open. What goes beyond is written to temporary files.
const batchBytes = 32 << 20

// batch collects puts and deletes; the last one of a key counts.
type batch struct {
	d *Datastore

	mu      sync.Mutex
	ops     map[string]*batchOp
	bytes   int64
	dropped []*batchOp // staged and then overtaken by another operation of the same key

	staging sync.WaitGroup
	errs    deferred
}

type batchOp struct {
	name   string
	delete bool
	value  []byte
	// of an operation that no longer fits in memory: where it is staged
	shard  *shard
	staged vfs.File
	size   int64
}

// Batch returns an empty batch. It is safe for concurrent use, except that
// nothing may be called during Commit.
//
// A value must not be modified between Put and the end of Commit. A batch that
// is never committed and has outgrown 32 MiB leaves temporary files, which the
// next Open sweeps.
func (d *Datastore) Batch(context.Context) (ds.Batch, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	return &batch{d: d, ops: make(map[string]*batchOp)}, nil
}

// Put implements [ds.Batch].
func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	name, ok := keyName(key)
	if !ok {
		return fmt.Errorf("%w: %q", ErrInvalidKey, key)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &batchOp{name: name, value: value, size: int64(len(value))}
	if b.add(op) {
		return nil
	}
	return b.stage(ctx, op)
}

// add takes an operation into the batch and reports whether it may stay in memory.
func (b *batch) add(op *batchOp) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.ops[op.name]; old != nil {
		b.bytes -= int64(len(old.value))
		if old.shard != nil {
			b.dropped = append(b.dropped, old)
		}
	}
	b.ops[op.name] = op
	if b.bytes+op.size > batchBytes {
		op.shard = b.d.shard(op.name, true)
		return false
	}
	b.bytes += op.size
	return true
}

// stage writes an operation's value to a temporary file, in the background; it
// waits for one of the store's writers to be free.
func (b *batch) stage(ctx context.Context, op *batchOp) error {
	if err := b.d.enter(); err != nil {
		return err
	}
	if err := b.d.writes.acquire(ctx); err != nil {
		b.d.leave()
		return err
	}
	value := op.value
	b.mu.Lock()
	op.value = nil
	b.mu.Unlock()
	b.staging.Go(func() {
		defer b.d.leave()
		defer b.d.writes.release()
		b.d.active.Add(1)
		defer b.d.active.Add(-1)
		f, err := b.d.stage(op.shard, value)
		if err != nil {
			b.errs.add(explain("put block "+b.d.file(op.shard.name, op.name), err))
			return
		}
		b.mu.Lock()
		op.staged = f
		b.mu.Unlock()
	})
	return nil
}

// Delete implements [ds.Batch].
func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if name, ok := keyName(key); ok {
		b.add(&batchOp{name: name, delete: true})
	}
	return nil
}

// Commit applies the batch, as many operations at once as the store has
// workers. All of it is durable when Commit returns nil. After an error any
// part of it may have been applied. The batch is empty afterwards.
func (b *batch) Commit(ctx context.Context) error {
	if err := b.d.enter(); err != nil {
		return err
	}
	defer b.d.leave()
	b.staging.Wait()

	b.mu.Lock()
	ops := make([]*batchOp, 0, len(b.ops))
	for _, op := range b.ops {
		ops = append(ops, op)
	}
	staged := b.dropped
	b.ops, b.dropped, b.bytes = make(map[string]*batchOp), nil, 0
	b.mu.Unlock()
	for _, op := range ops {
		if op.shard != nil {
			staged = append(staged, op)
		}
	}

	err := b.errs.take()
	if err == nil {
		err = each(cap(b.d.writes), ops, func(op *batchOp) error {
			switch {
			case op.delete:
				return b.d.delete(ctx, op.name, true)
			case op.shard != nil:
				return b.publish(ctx, op)
			default:
				return b.d.put(ctx, op.name, op.value)
			}
		})
	}
	derr := each(cap(b.d.writes), staged, func(op *batchOp) error {
		if op.staged == nil {
			return nil
		}
		return explain("remove temporary file", b.d.discard(op.shard, op.staged))
	})
	return errors.Join(err, derr)
}

// publish commits a staged operation.
func (b *batch) publish(ctx context.Context, op *batchOp) error {
	fl, _, err := op.shard.acquire(ctx, op.name, false, nil)
	if err != nil {
		return err
	}
	defer func() { op.shard.release(op.name, fl, err) }()
	if err = b.d.writes.acquire(ctx); err != nil {
		return err
	}
	defer b.d.writes.release()
	f := op.staged
	op.staged = nil // publish discards it if it fails
	err = explain("put block "+b.d.file(op.shard.name, op.name), b.d.publish(op.shard, op.name, f, op.size))
	return err
}
