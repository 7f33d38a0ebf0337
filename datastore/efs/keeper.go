package efs

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs/internal/vfs"
)

const (
	// The index is written anew, in the background, when a quarter of it has
	// changed: in the long run it is written four times for every block added,
	// 4 × 36 bytes, which is 3.5 % of a 4 KiB block. What has changed since
	// is what a crash makes the next Open read again.
	checkpointFraction = 4
	checkpointMin      = 10_000

	// stampAge is how much older than the server's clock a directory's stamp must
	// be for any later change to be sure to show. Clocks tick every 4 ms in
	// Linux's own file systems, every second in the coarsest network ones
	// (FAT has 2 s).
	stampAge = 2 * time.Second
)

// keeper decides when what is in memory is written down.
type keeper struct {
	changes   atomic.Int64 // since the index was written
	threshold atomic.Int64
	wake      chan struct{}
	stop      chan struct{}
	stopped   chan struct{}
	usage     *usage

	// onDisk is the state that the index file holds; hasDisk that it is a good one.
	onDisk  indexID
	hasDisk bool
}

func newKeeper(u *usage) keeper {
	return keeper{
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
		usage: u,
	}
}

// changed notes that a block was added or removed.
func (k *keeper) changed() {
	if k.changes.Add(1) >= k.threshold.Load() || k.usage.drifted() {
		k.kick()
	}
}

func (k *keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// keep writes down the index and the disk usage when they are due, until stop.
// Errors are told at Close: until then all they cost is a longer next Open.
func (d *Datastore) keep() {
	defer close(d.keeper.stopped)
	for {
		select {
		case <-d.keeper.stop:
			return
		case <-d.keeper.wake:
		}
		if d.keeper.changes.Load() >= d.keeper.threshold.Load() {
			clock, err := d.persist()
			if err == nil {
				err = explain("write index", d.fsys.Remove(clock))
			}
			d.late.add(err)
		}
		if d.usage.drifted() {
			d.late.add(d.writeUsage())
		}
	}
}

// persist writes the index. It returns the file whose modification time told
// the server's clock; it is in .temp, and the caller renames or removes it.
func (d *Datastore) persist() (clock string, err error) {
	k := &d.keeper
	k.changes.Store(0)
	now, clock, err := d.serverTime()
	if err != nil {
		return "", err
	}
	defer func() {
		if err == nil {
			return
		}
		if rerr := d.fsys.Remove(clock); rerr != nil {
			err = errors.Join(err, explain("write index", rerr))
		}
	}()

	shards := d.allShards()
	var dirty []*shard
	blocks := 0
	for _, s := range shards {
		s.mu.RLock()
		if !s.stamped {
			dirty = append(dirty, s)
		}
		blocks += len(s.sums) + len(s.others)
		s.mu.RUnlock()
	}
	err = each(cap(d.writes), dirty, func(s *shard) error { return d.stampShard(s, now) })
	if err != nil {
		return "", explain("write index", err)
	}

	id := newIndexID()
	w, err := newFileWriter(d.indexFS, d.cfg.IndexPath+".tmp", d.cfg.IndexPath)
	if err != nil {
		return "", explain("write index", err)
	}
	size := &countingWriter{w: w}
	enc := newIndexEncoder(size, id, d.cfg.ShardFunc, len(shards))
	for _, s := range shards {
		s.mu.RLock()
		enc.shard(s)
		s.mu.RUnlock()
	}
	if err := enc.close(); err != nil {
		return "", explain("write index", errors.Join(err, w.abort()))
	}
	k.hasDisk = false
	if err := w.commit(); err != nil {
		return "", explain("write index", err)
	}
	k.onDisk, k.hasDisk = id, true
	k.threshold.Store(max(checkpointMin, int64(blocks/checkpointFraction)))
	if d.indexInside() {
		d.usage.index.Store(size.n)
	}
	return clock, nil
}

func (d *Datastore) indexInside() bool {
	_, inside := within(d.cfg.Path, d.cfg.IndexPath)
	return inside
}

// countingWriter counts the bytes of the index file.
type countingWriter struct {
	w *fileWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// serverTime creates an empty file in .temp, which the server gives the time of
// its clock. Every change that is made after serverTime has returned gets this
// time or a later one.
func (d *Datastore) serverTime() (now int64, file string, err error) {
	f, err := d.fsys.Create(filepath.Join(d.cfg.Path, tempDir, newTempName()))
	if err != nil {
		return 0, "", explain("ask for the server's time", err)
	}
	info, err := d.fsys.StatFresh(f.Name())
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, "", explain("ask for the server's time", errors.Join(err, d.fsys.Remove(f.Name())))
	}
	return info.Stamp.Mtime, f.Name(), nil
}

// stampShard compares the index of one shard with its directory, corrects the
// index where somebody else has changed the directory, and notes the stamp
// at which the two are the same, if there is such a moment.
func (d *Datastore) stampShard(s *shard, now int64) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.RLock()
	quiet := s.unsettled == 0 && len(s.doubt) == 0
	s.mu.RUnlock()
	if !quiet {
		return nil
	}
	// A change that a crash undoes takes the stamp back with it, perhaps to one
	// that is the same as now.
	if err := d.syncShard(s); err != nil {
		return err
	}
	found, err := d.readShard(s, true)
	if errors.Is(err, fs.ErrNotExist) {
		d.dirGone(s)
		d.replace(s, nil)
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	quiet = s.unsettled == 0 && len(s.doubt) == 0
	s.mu.Unlock()
	if !quiet || len(found.temps) > 0 {
		return nil
	}
	d.replace(s, found.blocks)
	s.mu.Lock()
	if s.unsettled == 0 {
		s.stamp, s.stamped, s.racy = found.info.Stamp, true, young(found.info.Stamp, now)
	}
	s.mu.Unlock()
	return nil
}

// young reports whether a change after now may leave the stamp as it is.
func young(stamp vfs.Stamp, now int64) bool {
	return max(stamp.Mtime, stamp.Ctime) > now-int64(stampAge)
}

// replace makes the index of a shard say what was found in its directory. The
// caller holds the gate.
func (d *Datastore) replace(s *shard, blocks map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var diff int64
	for name := range s.names() {
		if _, there := blocks[name]; there {
			continue
		}
		if fl := s.busy[name]; fl != nil {
			continue // a Put or Delete of ours knows better
		}
		size, _ := s.get(name)
		diff -= size
		s.unset(name)
		d.forget(name)
	}
	for name, size := range blocks {
		old, had := s.get(name)
		if had && old == size || s.busy[name] != nil {
			continue
		}
		diff += size - old
		s.set(name, size)
		d.forget(name)
	}
	d.usage.add(diff)
}

// found is what a directory of blocks holds.
type found struct {
	info   vfs.Info
	blocks map[string]int64
	temps  []string // paths of leftover temporary files
}

// readShard lists a shard's directory; its stamp is from before the listing.
// With trust, the sizes of blocks that the index knows are not asked for again.
func (d *Datastore) readShard(s *shard, trust bool) (found, error) {
	dir := d.dir(s.name)
	info, err := d.fsys.StatFresh(dir)
	if err != nil {
		return found{}, err
	}
	entries, err := d.fsys.ReadDir(dir)
	if err != nil {
		return found{}, err
	}
	r := found{info: info, blocks: make(map[string]int64, len(entries))}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name)
		if strings.HasPrefix(e.Name, tempPrefix) {
			r.temps = append(r.temps, path)
			continue
		}
		name, ok := d.blockName(s.name, e.Name)
		if !ok || e.Type != 0 && e.Type&fs.ModeSymlink == 0 {
			continue
		}
		if trust {
			s.mu.RLock()
			size, known := s.get(name)
			s.mu.RUnlock()
			if known {
				r.blocks[name] = size
				continue
			}
		}
		file, err := d.fsys.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since, or a link that leads nowhere
		}
		if err != nil {
			return found{}, err
		}
		if !file.Dir {
			r.blocks[name] = file.Size
		}
	}
	return r, nil
}

// markerName is the file in .temp that says that nobody has opened the store
// since the index with this id was written.
func markerName(id indexID) string { return markerPrefix + hex.EncodeToString(id[:]) }
