// Package readcache keeps blocks that were read from a network file system on
// local disk, up to a number of bytes.
//
// It is memory that happens to be on a disk: emptied when it is opened, never
// synced, and every value is checked against a CRC when it is read, so that
// nothing a local disk does can change a block. The least recently used block
// makes room. The list of what there is, is in memory: about 150 bytes per block.
package readcache

import (
	"container/list"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// MarkerFile is in every directory that is a read cache, and says so: Open
// empties only such directories.
const MarkerFile = "EFS-READ-CACHE"

const marker = "This directory is a read cache. Everything in it is a copy, and it is emptied at every start.\n"

const (
	suffix = ".cached"
	// dirs spreads the files; with 256, 100 GiB of blocks of 256 KiB are
	// 1,600 files in each.
	dirs = 256
	// fileUnit is what a local file system rounds a file up to.
	fileUnit = 4096
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Cache is a bounded read cache. It is safe for concurrent use.
type Cache struct {
	dir string
	max int64

	mu     sync.Mutex
	bytes  int64
	used   *list.List // of *item, the most recently used first
	items  map[string]*list.Element
	adding map[string]struct{}
	// epochs count the changes of the blocks whose names fall into each stripe.
	epochs [dirs]uint64
	closed bool
}

type item struct {
	name string
	size int64 // of the value
}

func (i *item) cost() int64 { return (i.size + 4 + fileUnit - 1) / fileUnit * fileUnit }

// Open makes dir an empty read cache of at most max bytes. It refuses a
// directory that holds anything and is not a read cache.
func Open(dir string, max int64) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	markerPath := filepath.Join(dir, MarkerFile)
	if _, err := os.Lstat(markerPath); errors.Is(err, os.ErrNotExist) {
		if len(entries) > 0 {
			return nil, fmt.Errorf("read cache: the directory %s holds %s and is not a read cache: choose an empty directory", dir, entries[0].Name())
		}
		if err := os.WriteFile(markerPath, []byte(marker), 0o600); err != nil {
			return nil, fmt.Errorf("read cache: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	for i := range dirs {
		stripe := filepath.Join(dir, fmt.Sprintf("%02x", i))
		if err := os.RemoveAll(stripe); err != nil {
			return nil, fmt.Errorf("read cache: %w", err)
		}
		if err := os.Mkdir(stripe, 0o700); err != nil {
			return nil, fmt.Errorf("read cache: %w", err)
		}
	}
	return &Cache{
		dir: dir, max: max,
		used: list.New(), items: make(map[string]*list.Element), adding: make(map[string]struct{}),
	}, nil
}

func stripe(name string) byte {
	h := fnv.New32a()
	h.Write([]byte(name))
	return byte(h.Sum32())
}

func (c *Cache) path(name string) string {
	return filepath.Join(c.dir, fmt.Sprintf("%02x", stripe(name)), strings.ReplaceAll(name, "/", "_")+suffix)
}

// Get returns the value of a block if it is here, whole and has the given size.
func (c *Cache) Get(name string, size int64) ([]byte, bool) {
	c.mu.Lock()
	e := c.items[name]
	if e == nil || c.closed {
		c.mu.Unlock()
		return nil, false
	}
	c.used.MoveToFront(e)
	c.mu.Unlock()
	data, err := os.ReadFile(c.path(name))
	if err == nil && int64(len(data)) == size+4 {
		value, sum := data[:size:size], data[size:]
		if binary.LittleEndian.Uint32(sum) == checksum(name, value) {
			return value, true
		}
	}
	c.forget(name, e)
	return nil, false
}

func checksum(name string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(name), table), table, value)
}

// Epoch is to be asked for before a block is read from where it really is, and given to Put.
func (c *Cache) Epoch(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epochs[stripe(name)]
}

// Put keeps a block that was just read, unless it was dropped after Epoch: the
// value may then be of before. An error means that the block is not kept.
func (c *Cache) Put(name string, value []byte, epoch uint64) error {
	it := &item{name: name, size: int64(len(value))}
	c.mu.Lock()
	_, busy := c.adding[name]
	if c.closed || busy || c.items[name] != nil || it.cost() > c.max || c.epochs[stripe(name)] != epoch {
		c.mu.Unlock()
		return nil
	}
	c.bytes += it.cost()
	err := c.makeRoom()
	if c.bytes > c.max { // all the rest is on its way in
		c.bytes -= it.cost()
		c.mu.Unlock()
		return err
	}
	c.adding[name] = struct{}{}
	c.mu.Unlock()

	data := make([]byte, 0, len(value)+4)
	data = append(data, value...)
	data = binary.LittleEndian.AppendUint32(data, checksum(name, value))
	path := c.path(name)
	werr := os.WriteFile(path, data, 0o600)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.adding, name)
	if werr != nil || c.closed || c.epochs[stripe(name)] != epoch {
		c.bytes -= it.cost()
		if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			werr = errors.Join(werr, rerr)
		}
		err = errors.Join(err, werr)
	} else {
		c.items[name] = c.used.PushFront(it)
	}
	if err != nil {
		return fmt.Errorf("read cache: %w", err)
	}
	return nil
}

// makeRoom removes blocks until the bytes, of which some may be on their way in, fit.
func (c *Cache) makeRoom() error {
	var errs []error
	for c.bytes > c.max {
		e := c.used.Back()
		if e == nil {
			break
		}
		if err := c.remove(e); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove works under mu.
func (c *Cache) remove(e *list.Element) error {
	it := e.Value.(*item)
	c.used.Remove(e)
	delete(c.items, it.name)
	c.bytes -= it.cost()
	if err := os.Remove(c.path(it.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// forget drops a damaged block, if it is still the one that was damaged. Its
// file may stay: it counts no longer, and the next Put overwrites it.
func (c *Cache) forget(name string, e *list.Element) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[name] == e {
		_ = c.remove(e)
	}
}

// Drop forgets a block that was changed or deleted. Once Drop has returned, no
// value of before is returned.
func (c *Cache) Drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epochs[stripe(name)]++
	if e := c.items[name]; e != nil {
		_ = c.remove(e) // unlisted, its file is not read again
	}
}

// Bytes returns what the cache holds, rounded up as the disk does.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Close stops the cache. Its files stay until the next Open.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}
