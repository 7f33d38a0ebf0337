package efs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// Put stores a block. It is durable when Put returns nil. After an error the
// block may or may not be there, complete in either case; what was there under
// the key before is not lost.
//
// The key is taken to be derived from the value, as a CID is: of two Puts of the
// same key at the same time either may win. Storing another value under a key
// that exists replaces it.
func (d *Datastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	name, ok := keyName(key)
	if !ok {
		return fmt.Errorf("%w: %q", ErrInvalidKey, key)
	}
	return d.put(ctx, name, value)
}

func (d *Datastore) put(ctx context.Context, name string, value []byte) error {
	s := d.shard(name, true)
	fl, joined, err := s.acquire(ctx, name, true, value)
	if err != nil || joined {
		return err
	}
	err = d.putAcquired(ctx, s, name, value)
	s.release(name, fl, err)
	return explain("put block "+d.file(s.name, name), err)
}

func (d *Datastore) putAcquired(ctx context.Context, s *shard, name string, value []byte) error {
	if err := d.writes.acquire(ctx); err != nil {
		return err
	}
	defer d.writes.release()
	d.active.Add(1)
	defer d.active.Add(-1)

	if size, ok, _ := s.lookup(name); ok && size == int64(len(value)) && d.holds(s, name, value) {
		return d.fsys.SyncDir(d.dir(s.name))
	}
	for again := false; ; again = true {
		f, err := d.stage(s, value)
		if err != nil {
			return err
		}
		err = d.publish(s, name, f, int64(len(value)))
		if errors.Is(err, fs.ErrNotExist) && !again {
			continue // somebody tidied up: the directory is made anew
		}
		if err == nil {
			d.recent.add(name, value)
		}
		return err
	}
}

// holds reports whether a block's file has this value, and that value is
// durable. Whatever goes wrong means no: the block is then written again.
func (d *Datastore) holds(s *shard, name string, value []byte) bool {
	f, err := d.fsys.Open(d.file(s.name, name))
	if err != nil {
		return false
	}
	defer d.closeLater(f)
	have, err := readBlock(f, int64(len(value)))
	// The file may come from a flatfs that did not sync. On NFS, with nothing
	// to write back, this costs nothing.
	return err == nil && bytes.Equal(have, value) && f.Sync() == nil
}

// stage writes a value, durably, into a temporary file that publish can rename
// into the shard. The shard is unsettled until publish or discard.
func (d *Datastore) stage(s *shard, value []byte) (vfs.File, error) {
	s.begin()
	f, err := d.newTemp(s)
	if err != nil {
		// The call may have failed and the file be there nevertheless: the
		// shard stays unsettled and is read again by the next Open.
		return nil, err
	}
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, d.discard(s, f))
	}
	return f, nil
}

// newTemp creates a temporary file for a block of the shard, and the shard's
// directory if need be.
func (d *Datastore) newTemp(s *shard) (vfs.File, error) {
	for again := false; ; again = true {
		if err := d.ensureDir(s); err != nil {
			return nil, err
		}
		if d.active.Load() <= spareWriters {
			if f := d.spares.take(); f != nil {
				return f, nil
			}
		}
		f, err := d.fsys.Create(filepath.Join(d.dir(s.name), newTempName()))
		if errors.Is(err, fs.ErrNotExist) && !again {
			d.dirGone(s) // somebody tidied up
			continue
		}
		return f, err
	}
}

// ensureDir makes the shard's directory unless it is known to exist.
func (d *Datastore) ensureDir(s *shard) error {
	s.mu.RLock()
	made := s.made
	s.mu.RUnlock()
	if made {
		return nil
	}
	err := d.fsys.Mkdir(d.dir(s.name))
	switch {
	case err == nil:
		d.usage.add(d.usage.emptyDir)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	// Also if it exists: another Put may have made it just now, and not be here yet.
	if err := d.fsys.SyncDir(d.cfg.Path); err != nil {
		return err
	}
	s.mu.Lock()
	s.made = true
	s.mu.Unlock()
	return nil
}

func (d *Datastore) dirGone(s *shard) {
	s.mu.Lock()
	s.made = false
	s.mu.Unlock()
}

// publish gives a staged file its final name, makes that durable and tells the index.
func (d *Datastore) publish(s *shard, name string, f vfs.File, size int64) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := d.fsys.Rename(f.Name(), d.file(s.name, name)); err != nil {
		s.mu.Lock()
		s.doubt[name] = struct{}{}
		s.changed++
		s.mu.Unlock()
		d.forget(name)
		if errors.Is(err, fs.ErrNotExist) {
			d.dirGone(s)
		}
		return errors.Join(err, d.discard(s, f))
	}
	s.mu.Lock()
	old, replaced := s.get(name)
	s.set(name, size)
	s.unsettled--
	s.mu.Unlock()
	if replaced {
		d.forget(name)
	}
	d.usage.add(size - old)
	d.closeLater(f)
	d.keeper.changed()
	err := d.fsys.SyncDir(d.dir(s.name))
	if err != nil {
		s.mu.Lock()
		s.changed++
		s.mu.Unlock()
	}
	return err
}

// discard gets rid of a staged file. If that fails the shard stays unsettled,
// and the next Open sweeps the file.
func (d *Datastore) discard(s *shard, f vfs.File) error {
	err := f.Close()
	if rerr := d.fsys.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return errors.Join(err, rerr)
	}
	s.mu.Lock()
	s.unsettled--
	s.changed++
	s.mu.Unlock()
	return err
}

// readBlock reads a whole file that should have the given size. It returns
// errChanged if it has another.
func readBlock(f vfs.File, size int64) ([]byte, error) {
	// One byte more than there should be, so that one READ shows the end.
	buf := make([]byte, size+1)
	n := 0
	for n < len(buf) {
		k, err := f.ReadAt(buf[n:], int64(n))
		n += k
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(n) != size {
		return nil, errChanged
	}
	return buf[:n:n], nil
}

// errChanged says that a file is not what the index says.
var errChanged = errors.New("the file was changed by somebody else")
