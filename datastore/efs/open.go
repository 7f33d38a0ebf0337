package efs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/readcache"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

// Open opens the flatfs store in cfg.Path, or makes one there if the directory
// is empty or missing. It returns when the index is complete: everything that
// was acknowledged by whichever flatfs wrote last is there, and what a crash has
// left half-done is swept.
//
// One process at a time has a folder open, wherever it runs; for another one the error is ErrLocked.
//
// With a good persisted index that takes one request per shard, otherwise one
// per block, and in both cases as many at once as there are workers.
func Open(cfg Config) (*Datastore, error) {
	if cfg.NamesDurable {
		if err := CheckNamesDurable(cfg.Path); err != nil {
			return nil, err
		}
	}
	fsys := &vfs.OS{NamesDurable: cfg.NamesDurable}
	if _, _, err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := fsys.Mkdir(cfg.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, explain("create store", err)
	}
	l, err := lockFolder(cfg.Path)
	if err != nil {
		return nil, err
	}
	var indexFS vfs.FS = fsys
	if cfg.IndexPath != "" {
		indexFS = new(vfs.OS)
	}
	d, err := open(cfg, fsys, indexFS)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d.lock = l
	return d, nil
}

// CheckNamesDurable says why NamesDurable cannot be set for a store in a folder,
// which need not exist yet: only a network file system commits a rename when it
// answers.
func CheckNamesDurable(path string) error {
	dir := filepath.Dir(filepath.Clean(path))
	network, err := vfs.IsNetwork(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		network, err = vfs.IsNetwork(dir)
	}
	if err != nil {
		return explain("open store", err)
	}
	if !network {
		return fmt.Errorf("efs: setting %q: %s is not on a network file system: remove the setting", "namesDurable", path)
	}
	return nil
}

func open(cfg Config, fsys, indexFS vfs.FS) (*Datastore, error) {
	cfg, shardFunc, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := establish(fsys, cfg, shardFunc); err != nil {
		return nil, err
	}
	if dir := filepath.Dir(cfg.IndexPath); dir != cfg.Path {
		info, err := indexFS.Stat(dir)
		if err == nil && !info.Dir {
			err = &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return nil, fmt.Errorf("efs: setting %q: the directory of %s must exist: %w", "indexPath", cfg.IndexPath, err)
		}
	}
	cfg.ShardFunc = shardFunc.String()
	d := &Datastore{
		cfg: cfg, fsys: fsys, indexFS: indexFS, shardOf: shardFunc.Func(),
		shards: make(map[string]*shard),
		writes: newSlots(cfg.Workers), reads: newSlots(cfg.Workers), closes: newSlots(cfg.Workers),
		removal: newRemoval(cfg.Workers),
		recent:  newRecent(),
		spares:  spares{fsys: fsys, dir: filepath.Join(cfg.Path, tempDir), ready: make(chan vfs.File, spareFiles)},
	}
	d.keeper = newKeeper(&d.usage)
	if cfg.CachePath != "" {
		if d.cache, err = readcache.Open(cfg.CachePath, cfg.CacheBytes); err != nil {
			return nil, explain("open", err)
		}
	}
	if err := d.load(); err != nil {
		return nil, err
	}
	go d.keep()
	if d.keeper.changes.Load() >= d.keeper.threshold.Load() {
		d.keeper.kick() // so that a crash does not make the next Open walk everything again
	}
	return d, nil
}

// load fills the index from its persisted form and the directories.
func (d *Datastore) load() error {
	var (
		persisted map[string]*shard
		root      []vfs.Entry
		temps     []vfs.Entry
		now       int64
		clock     string
	)
	var g errgroup.Group
	g.Go(func() (err error) {
		persisted, err = d.loadIndex()
		return err
	})
	g.Go(d.readUsage)
	g.Go(func() (err error) {
		root, err = d.fsys.ReadDir(d.cfg.Path)
		return explain("open store", err)
	})
	g.Go(func() (err error) {
		temp := filepath.Join(d.cfg.Path, tempDir)
		temps, err = d.fsys.ReadDir(temp)
		if errors.Is(err, fs.ErrNotExist) {
			err = d.fsys.Mkdir(temp)
		}
		if err != nil {
			return explain("open store", err)
		}
		now, clock, err = d.serverTime()
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}

	// The marker must be gone before the first change.
	closed := false
	leftovers := []string{clock}
	for _, e := range temps {
		closed = closed || d.keeper.hasDisk && e.Name == markerName(d.keeper.onDisk)
		leftovers = append(leftovers, filepath.Join(d.cfg.Path, tempDir, e.Name))
	}
	var shards []*shard
	for _, e := range root {
		path := filepath.Join(d.cfg.Path, e.Name)
		switch {
		case strings.HasPrefix(e.Name, tempPrefix):
			leftovers = append(leftovers, path)
		case (e.Type.IsDir() || e.Type&fs.ModeSymlink != 0) && validShardName(e.Name):
			s := persisted[e.Name]
			if s == nil {
				s = newShard(e.Name)
				s.made = true
			}
			shards = append(shards, s)
		}
	}

	var blocks, reread, size atomic.Int64
	g = errgroup.Group{}
	g.Go(func() error {
		if err := each(d.cfg.Workers, leftovers, d.sweep); err != nil {
			return err
		}
		return explain("sweep leftovers", d.fsys.SyncDir(filepath.Join(d.cfg.Path, tempDir)))
	})
	g.Go(func() error { return d.measure(root, &size) })
	g.Go(func() error {
		return each(d.cfg.Workers, shards, func(s *shard) error {
			info, again, err := d.check(s, now, closed)
			if err != nil {
				return explain("open store", err)
			}
			if !info.Dir {
				return nil
			}
			if again {
				reread.Add(int64(1 + len(s.sums) + len(s.others)))
			}
			blocks.Add(int64(len(s.sums) + len(s.others)))
			bytes := info.Size
			for _, size := range s.sums {
				bytes += int64(size)
			}
			for _, size := range s.others {
				bytes += size
			}
			size.Add(bytes)
			d.shardsMu.Lock()
			d.shards[s.name] = s
			d.shardsMu.Unlock()
			return nil
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}
	d.usage.add(size.Load())
	d.keeper.changes.Store(reread.Load())
	d.keeper.threshold.Store(max(checkpointMin, blocks.Load()/checkpointFraction))
	return nil
}

// loadIndex reads the persisted index. A missing, damaged or foreign one is
// none; a file system that fails is an error.
func (d *Datastore) loadIndex() (map[string]*shard, error) {
	data, err := vfs.ReadAll(d.indexFS, d.cfg.IndexPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read index", err)
	}
	id, shardFunc, shards, err := decodeIndex(data)
	if err != nil || shardFunc != d.cfg.ShardFunc {
		return nil, nil
	}
	d.keeper.onDisk, d.keeper.hasDisk = id, true
	byName := make(map[string]*shard, len(shards))
	for _, s := range shards {
		byName[s.name] = s
	}
	return byName, nil
}

// check makes sure that a shard's index is what its directory holds: the
// persisted one if the stamps are the same, a listing if not. again reports
// that it was listed.
func (d *Datastore) check(s *shard, now int64, closed bool) (info vfs.Info, again bool, err error) {
	info, err = d.fsys.StatFresh(d.dir(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return vfs.Info{}, false, nil // a link that leads nowhere
	}
	if err != nil || !info.Dir {
		return info, false, err
	}
	if s.stamped && s.stamp == info.Stamp && (closed || !s.racy) {
		s.racy = young(s.stamp, now)
		return info, false, nil
	}
	found, err := d.readShard(s, false)
	if err != nil {
		return info, false, err
	}
	clear(s.sums)
	clear(s.others)
	for name, size := range found.blocks {
		s.set(name, size)
	}
	for _, temp := range found.temps {
		if err := d.sweep(temp); err != nil {
			return info, false, err
		}
	}
	// A process that was killed may have changed the directory and not synced
	// it. What is told from here on must be durable.
	if err := d.fsys.SyncDir(d.dir(s.name)); err != nil {
		return info, false, err
	}
	s.stamp, s.stamped, s.racy = found.info.Stamp, len(found.temps) == 0, young(found.info.Stamp, now)
	return found.info, true, nil
}

// sweep removes a leftover: a file, or a batch directory of stock flatfs.
func (d *Datastore) sweep(path string) error {
	err := d.fsys.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, rerr := d.fsys.ReadDir(path)
	if rerr != nil {
		return explain("sweep leftovers", errors.Join(err, rerr))
	}
	for _, e := range entries {
		if err := d.sweep(filepath.Join(path, e.Name)); err != nil {
			return err
		}
	}
	return explain("sweep leftovers", d.fsys.Remove(path))
}

// measure adds up what the store takes besides its shards, and notes how large
// an empty directory is.
func (d *Datastore) measure(root []vfs.Entry, size *atomic.Int64) error {
	paths := []string{d.cfg.Path, filepath.Join(d.cfg.Path, tempDir)}
	for _, e := range root {
		if e.Type == 0 && !strings.HasPrefix(e.Name, tempPrefix) {
			paths = append(paths, filepath.Join(d.cfg.Path, e.Name))
		}
	}
	return each(d.cfg.Workers, paths, func(path string) error {
		info, err := d.fsys.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return explain("measure disk usage", err)
		case path == d.cfg.IndexPath:
			d.usage.index.Store(info.Size)
		default:
			size.Add(info.Size)
		}
		if path == paths[1] {
			d.usage.emptyDir = info.Size
		}
		return nil
	})
}

// Close finishes what was acknowledged, writes down the index and the disk
// usage, and returns all errors of work in the background that nobody was told
// of. The store cannot be used afterwards; closing it again does nothing.
func (d *Datastore) Close() error {
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	errs := []error{d.settle(context.Background())}
	close(d.keeper.stop)
	<-d.keeper.stopped
	errs = append(errs, d.spares.stop(d.cfg.Workers))
	d.closes.drain()
	errs = append(errs, d.seal(), d.writeUsage())
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	if d.cache != nil {
		d.cache.Close()
	}
	return errors.Join(append(errs, d.late.take())...)
}

// seal leaves an index on disk that the next Open can believe.
func (d *Datastore) seal() error {
	current := d.keeper.hasDisk
	for _, s := range d.allShards() {
		s.mu.RLock()
		current = current && s.stamped
		s.mu.RUnlock()
	}
	var clock string
	var err error
	if current && d.keeper.changes.Load() == 0 {
		_, clock, err = d.serverTime()
	} else {
		clock, err = d.persist()
	}
	if err != nil {
		return err
	}
	temp := filepath.Join(d.cfg.Path, tempDir)
	err = d.fsys.Rename(clock, filepath.Join(temp, markerName(d.keeper.onDisk)))
	if err == nil {
		err = d.fsys.SyncDir(temp)
	}
	return explain("leave marker", err)
}
