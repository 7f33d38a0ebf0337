package s3ds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

const (
	// batchLimit is how many bytes of values a batch holds before it sends them. kubo fills batches of at most 8 MiB, so they are
	// sent by Commit, 32 blocks of 256 KiB at once; 16 of them in flight hold 128 MiB.
	batchLimit = 8 << 20
	// batchOps bounds the operations of a batch in the same way: 8,192 keys of 60 bytes are under 1 MiB, and the deletes among
	// them are 9 requests.
	batchOps = 8192
)

// batch collects operations; the last one on a key wins. It is no transaction: a batch that grows beyond batchLimit sends
// what it has, and a Commit that fails may have done a part. What was done leaves the batch, so a Commit may be repeated.
type batch struct {
	d batched

	lock  chan struct{} // a lock that obeys a context
	ops   map[ds.Key]operation
	order []ds.Key // of ops, as they came: in a DAG that is the order in which it is read; may name keys that are no longer in ops
	bytes int
}

// batched is what a batch sends its operations to.
type batched interface {
	usable(context.Context) error
	// apply does all operations, puts in their order as far as that means anything, and calls done for each, one call at a time.
	apply(ctx context.Context, removed []ds.Key, puts []put, done func(ds.Key, error))
}

// put is a value to be stored.
type put struct {
	key   ds.Key
	value []byte
}

type operation struct {
	value  []byte
	remove bool
}

// Batch implements datastore.Batching. The batch is safe for concurrent use. It keeps the values it is given, not copies
// of them, until they are sent.
func (d *Datastore) Batch(ctx context.Context) (ds.Batch, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	return &batch{d: d, lock: make(chan struct{}, 1), ops: map[ds.Key]operation{}}, nil
}

// Put implements datastore.Batch. If the batch has to be sent first and that fails, the operation is not taken.
func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	return b.add(ctx, key, operation{value: value})
}

// Delete implements datastore.Batch. If the batch has to be sent first and that fails, the operation is not taken.
func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	return b.add(ctx, key, operation{remove: true})
}

func (b *batch) add(ctx context.Context, key ds.Key, op operation) error {
	if err := b.d.usable(ctx); err != nil {
		return fmt.Errorf("s3ds: batch %s: %w", key, err)
	}
	if err := b.acquire(ctx); err != nil {
		return fmt.Errorf("s3ds: batch %s: %w", key, err)
	}
	defer b.release()
	if len(b.ops) > 0 && (b.bytes+len(op.value) > batchLimit || len(b.ops) >= batchOps) {
		if err := b.send(ctx); err != nil {
			return err
		}
	}
	old, had := b.ops[key]
	if !had {
		b.order = append(b.order, key)
	}
	b.bytes += len(op.value) - len(old.value)
	b.ops[key] = op
	return nil
}

// Commit implements datastore.Batch: everything is durable when it returns nil. An error joins those of all operations that failed;
// they are still in the batch.
func (b *batch) Commit(ctx context.Context) error {
	if err := b.d.usable(ctx); err != nil {
		return fmt.Errorf("s3ds: commit: %w", err)
	}
	if err := b.acquire(ctx); err != nil {
		return fmt.Errorf("s3ds: commit: %w", err)
	}
	defer b.release()
	return b.send(ctx)
}

func (b *batch) acquire(ctx context.Context) error {
	select {
	case b.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *batch) release() { <-b.lock }

// send does all operations and waits for them. Those that succeeded leave the batch.
func (b *batch) send(ctx context.Context) error {
	var (
		errs    []error
		removed []ds.Key
		puts    []put
	)
	for _, key := range b.order {
		if op := b.ops[key]; op.remove {
			removed = append(removed, key)
		} else {
			puts = append(puts, put{key, op.value})
		}
	}
	b.d.apply(ctx, removed, puts, func(key ds.Key, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		b.bytes -= len(b.ops[key].value)
		delete(b.ops, key)
	})
	b.order = slices.DeleteFunc(b.order, func(key ds.Key) bool { _, left := b.ops[key]; return !left })
	return joined(errs)
}

// apply implements batched.
func (d *Datastore) apply(ctx context.Context, removed []ds.Key, puts []put, done func(ds.Key, error)) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	did := func(key ds.Key, err error) {
		mu.Lock()
		defer mu.Unlock()
		done(key, err)
	}
	if len(removed) > 0 {
		wg.Go(func() {
			failed := d.deleteAll(ctx, removed)
			for _, key := range removed {
				did(key, failed[key])
			}
		})
	}
	// One goroutine per request that may be in flight, not per put.
	todo := make(chan put)
	for range min(len(puts), cap(d.slots)) {
		wg.Go(func() {
			for p := range todo {
				did(p.key, d.Put(ctx, p.key, p.value))
			}
		})
	}
	for _, p := range puts {
		todo <- p
	}
	close(todo)
	wg.Wait()
}

// deleteAll removes the objects of all keys and returns the reason for each that it could not remove.
func (d *Datastore) deleteAll(ctx context.Context, keys []ds.Key) map[ds.Key]error {
	objects := make([]string, len(keys))
	for i, key := range keys {
		objects[i] = d.object(key)
	}
	err := d.acquire(ctx)
	if err == nil {
		err = d.b.Delete(ctx, objects...)
		d.health.record(ctx, err)
		d.release()
	}
	var some *bucket.DeleteError
	isSome := errors.As(err, &some)
	failed := map[ds.Key]error{}
	for i, key := range keys {
		switch {
		case isSome && some.Failed[objects[i]] != nil:
			failed[key] = fmt.Errorf("s3ds: delete %s: %w", key, some.Failed[objects[i]])
		case !isSome && err != nil:
			failed[key] = fmt.Errorf("s3ds: delete %s: %w", key, err)
		}
	}
	d.usage.deleted(len(keys) - len(failed))
	return failed
}

// shownErrors is how many operations the error of a batch spells out. All of them can be tested for.
const shownErrors = 3

type batchError []error

func (e batchError) Error() string {
	s := fmt.Sprintf("s3ds: %d operations of a batch failed", len(e))
	for i, err := range e {
		if i == shownErrors {
			return s + "; and so on"
		}
		s += "; " + err.Error()
	}
	return s
}

func (e batchError) Unwrap() []error { return e }

func joined(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return batchError(errs)
}
