package efs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	ds "github.com/ipfs/go-datastore"
)

// Has reports whether there is a block, from memory.
func (d *Datastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, ok, err := d.find(ctx, key)
	return ok, err
}

// GetSize returns the size of a block in bytes, from memory, or ds.ErrNotFound and -1.
func (d *Datastore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	size, ok, err := d.find(ctx, key)
	switch {
	case err != nil:
		return -1, err
	case !ok:
		return -1, ds.ErrNotFound
	}
	return int(size), nil
}

func (d *Datastore) find(ctx context.Context, key ds.Key) (size int64, ok bool, err error) {
	if err := d.enter(); err != nil {
		return 0, false, err
	}
	defer d.leave()
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	name, ok := keyName(key)
	if !ok {
		return 0, false, nil
	}
	s := d.shard(name, false)
	if s == nil {
		return 0, false, nil
	}
	return d.locate(ctx, s, name)
}

// locate is what the index says, or, about a name in doubt, the file system.
func (d *Datastore) locate(ctx context.Context, s *shard, name string) (size int64, ok bool, err error) {
	size, ok, doubtful := s.lookup(name)
	if !doubtful {
		return size, ok, nil
	}
	return d.resolve(ctx, s, name)
}

// resolve asks the file system about one block and corrects the index.
func (d *Datastore) resolve(ctx context.Context, s *shard, name string) (size int64, ok bool, err error) {
	fl, _, err := s.acquire(ctx, name, false, nil)
	if err != nil {
		return 0, false, err
	}
	defer s.release(name, fl, nil)
	info, err := d.fsys.StatFresh(d.file(s.name, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, false, explain("look for block", err)
	}
	ok = err == nil && !info.Dir
	s.mu.Lock()
	old, had := s.get(name)
	if ok {
		s.set(name, info.Size)
	} else {
		s.unset(name)
	}
	if had != ok || old != info.Size {
		s.stamped = false
	}
	s.mu.Unlock()
	if !ok {
		info.Size = 0
	}
	d.usage.add(info.Size - old)
	if !ok || old != info.Size {
		d.forget(name)
	}
	return info.Size, ok, nil
}

// Get returns a block, or ds.ErrNotFound if it has no file. Other errors of the file system never
// match ErrNotFound. The bytes are hashed; if they do not match the key, the error is ErrCorrupt.
func (d *Datastore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, ok := keyName(key)
	if !ok {
		return nil, ds.ErrNotFound
	}
	s := d.shard(name, false)
	if s == nil {
		return nil, ds.ErrNotFound
	}
	return d.get(ctx, s, name)
}

// getAttempts is how often a block is read that changes while it is: it takes
// somebody else writing into the store for a second time to be needed.
const getAttempts = 4

func (d *Datastore) get(ctx context.Context, s *shard, name string) ([]byte, error) {
	var err error
	memory := ctx.Value(fromDisk{}) == nil
	damaged := 0
	for range getAttempts {
		size, ok, lerr := d.locate(ctx, s, name)
		if lerr != nil {
			return nil, lerr
		}
		if !ok {
			return nil, ds.ErrNotFound
		}
		if value, hit := d.recent.get(name, size); hit && memory {
			return value, nil
		}
		if d.cache != nil && memory {
			if value, hit := d.cache.Get(name, size); hit {
				return value, nil
			}
		}
		var value []byte
		value, err = d.read(ctx, s, name, size)
		switch {
		case err == nil:
			return value, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errChanged):
			// Deleted or replaced since we looked, or not by us at all.
			if _, _, rerr := d.resolve(ctx, s, name); rerr != nil {
				return nil, rerr
			}
		case errors.Is(err, errDamaged):
			d.damaged.Add(1)
			if damaged++; damaged == 2 {
				return nil, fmt.Errorf("efs: get block %s, read twice: %w: %w; put the block again, or delete it and let the node fetch it",
					d.file(s.name, name), ErrCorrupt, err)
			}
		case errors.Is(err, syscall.ESTALE):
			// The handle was of a file that has been replaced; its name may lead to the new one.
		default:
			return nil, explain("get block "+d.file(s.name, name), err)
		}
	}
	return nil, explain(fmt.Sprintf("get block %s: gave up after %d attempts", d.file(s.name, name), getAttempts), err)
}

func (d *Datastore) read(ctx context.Context, s *shard, name string, size int64) ([]byte, error) {
	if err := d.reads.acquire(ctx); err != nil {
		return nil, err
	}
	defer d.reads.release()
	var epoch uint64
	if d.cache != nil {
		epoch = d.cache.Epoch(name)
	}
	f, err := d.fsys.Open(d.file(s.name, name))
	if err != nil {
		return nil, err
	}
	defer d.closeLater(f)
	value, err := readBlock(f, size)
	if err != nil {
		return nil, err
	}
	if !d.cfg.unhashed && !matches(name, value) {
		return nil, errDamaged
	}
	if d.cache != nil {
		d.late.add(d.cache.Put(name, value, epoch))
	}
	return value, nil
}
