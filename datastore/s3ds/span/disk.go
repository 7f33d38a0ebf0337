package span

import (
	"container/list"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// cacheVersion names the folder inside the cache folder: another format gets another one.
const cacheVersion = "spans-1"

// diskCategory is what Pebble's file system files our writes under.
const diskCategory = vfs.WriteCategoryUnspecified

// disk is the cache on disk: one file per extent, bounded, evicted by CLOCK. Fields are guarded by Reader.mu; files are
// written and removed without it.
type disk struct {
	fs      vfs.FS
	dir     string // empty: no cache
	limit   int64
	used    int64     // bytes of files
	clock   list.List // of extents with a file; the hand is at the front
	queue   []*extent // to be written
	doomed  []string  // files to be removed
	work    chan struct{}
	done    chan struct{}
	buf     []byte // of the writer
	closing bool
	failing bool
}

func (d *disk) enabled() bool { return d.dir != "" }

// init reads the names and sizes of what a former Reader left, and starts the writer.
func (d *disk) init(r *Reader) {
	if r.o.CacheDir == "" {
		return
	}
	d.fs, d.limit = r.o.FS, r.o.CacheBytes
	d.dir = d.fs.PathJoin(r.o.CacheDir, cacheVersion)
	d.work, d.done = make(chan struct{}, 1), make(chan struct{})
	if err := d.load(r); err != nil {
		d.state(r, fmt.Errorf("read cache folder %s: %w", d.dir, err))
	}
	go d.write(r)
	d.kick()
}

func (d *disk) kick() {
	select {
	case d.work <- struct{}{}:
	default:
	}
}

// state reports a change between working and failing.
func (d *disk) state(r *Reader, err error) {
	if (err != nil) != d.failing {
		d.failing = err != nil
		r.o.CacheState(err)
	}
}

type found struct {
	e    *extent
	when time.Time
}

func (d *disk) load(r *Reader) error {
	if err := d.fs.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	folders, err := d.fs.List(d.dir)
	if err != nil {
		return err
	}
	var all []found
	for _, folder := range folders {
		id, ok := parseFolder(folder)
		if !ok {
			continue // not ours
		}
		names, err := d.fs.List(d.fs.PathJoin(d.dir, folder))
		if err != nil {
			return err
		}
		o := &object{id: id, cells: make(map[int64][]*extent)}
		for _, name := range names {
			path := d.fs.PathJoin(d.dir, folder, name)
			lo, hi, ok := parseName(name)
			st, err := d.fs.Stat(path)
			if !ok || err != nil || st.Size() < hi-lo {
				d.doomed = append(d.doomed, path)
				continue
			}
			e := &extent{o: o, lo: lo, hi: hi, bytes: st.Size()}
			r.insert(e)
			all = append(all, found{e, st.ModTime()})
		}
		if len(o.cells) > 0 {
			r.objects[id] = o
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.when.Compare(b.when) })
	for _, f := range all {
		f.e.file = d.clock.PushBack(f.e)
		d.used += f.e.bytes
	}
	return nil
}

// The file of bytes lo to hi is <32 hex digits of the object's id>/<lo, 16 hex digits>-<length, 8 hex digits>.
func (d *disk) folder(o *object) string { return d.fs.PathJoin(d.dir, hex.EncodeToString(o.id[:])) }

func (d *disk) path(e *extent) string {
	return d.fs.PathJoin(d.folder(e.o), fmt.Sprintf("%016x-%08x", e.lo, e.size()))
}

func parseFolder(name string) (id objectID, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return objectID(b), true
}

func parseName(name string) (lo, hi int64, ok bool) {
	a, b, _ := strings.Cut(name, "-")
	if len(a) != 16 || len(b) != 8 {
		return 0, 0, false
	}
	lo, err1 := strconv.ParseInt(a, 16, 64)
	n, err2 := strconv.ParseInt(b, 16, 64)
	hi = lo + n
	return lo, hi, err1 == nil && err2 == nil && lo >= 0 && n > 0 && hi > lo && lo/extentBytes == (hi-1)/extentBytes
}

// offer queues an extent to be written. The queue is bounded by memory: what is evicted before its turn is skipped.
func (d *disk) offer(e *extent) {
	if d.enabled() && !d.closing {
		d.queue = append(d.queue, e)
		e.queued = true
		d.kick()
	}
}

// remove takes an extent's file out of the cache.
func (d *disk) remove(r *Reader, e *extent) {
	if e.file == nil {
		return
	}
	d.clock.Remove(e.file)
	e.file = nil
	d.used -= e.bytes
	d.doomed = append(d.doomed, d.path(e))
	d.kick()
}

// close lets the writer finish what is queued.
func (d *disk) close(r *Reader) {
	if !d.enabled() {
		return
	}
	r.mu.Lock()
	d.closing = true
	r.mu.Unlock()
	d.kick()
	<-d.done
}

// write is the goroutine that writes and removes files.
func (d *disk) write(r *Reader) {
	defer close(d.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case len(d.doomed) > 0:
			paths := d.doomed
			d.doomed = nil
			r.mu.Unlock()
			for _, p := range paths {
				_ = d.fs.Remove(p) // if it stays, the next start finds it
			}
			r.mu.Lock()
		case len(d.queue) > 0:
			e := d.queue[0]
			d.queue = d.queue[1:]
			if e.gone || e.data == nil {
				d.served(r, e)
				continue
			}
			need := fileSize(e.o.key, e.size())
			for d.used+need > d.limit && d.evict(r) {
			}
			if len(d.doomed) > 0 { // make room first
				d.queue = slices.Insert(d.queue, 0, e)
				continue
			}
			d.save(r, e, need)
			d.served(r, e)
		case d.closing:
			return
		default:
			r.mu.Unlock()
			<-d.work
			r.mu.Lock()
		}
	}
}

// served tells who waits that an extent's turn was here.
func (d *disk) served(r *Reader, e *extent) {
	e.queued = false
	r.memory.free.Broadcast()
}

// evict removes the file that the hand of the clock finds unused.
func (d *disk) evict(r *Reader) bool {
	for d.clock.Len() > 0 {
		front := d.clock.Front()
		e := front.Value.(*extent)
		if e.used {
			e.used = false
			d.clock.MoveToBack(front)
			continue
		}
		if e.inMemory() {
			d.remove(r, e)
		} else {
			r.drop(e)
		}
		return true
	}
	return false
}

// save writes one extent. It is not synced: checksums tell what a crash tore.
func (d *disk) save(r *Reader, e *extent, size int64) {
	e.pins++
	key, data := e.o.key, e.data
	r.mu.Unlock()
	err := d.writeFile(e, key, data)
	r.mu.Lock()
	r.memory.unpin(e)
	if err != nil {
		r.stats.CacheWriteFailures++
		d.state(r, fmt.Errorf("write to cache: %w", err))
		return
	}
	d.state(r, nil)
	if e.gone {
		d.doomed = append(d.doomed, d.path(e))
		return
	}
	e.bytes = size
	e.used = false
	e.file = d.clock.PushBack(e)
	d.used += size
}

func (d *disk) writeFile(e *extent, key string, data []byte) (err error) {
	if err := d.fs.MkdirAll(d.folder(e.o), 0o755); err != nil {
		return err
	}
	path := d.path(e)
	f, err := d.fs.Create(path+".tmp", diskCategory)
	if err != nil {
		return err
	}
	// A copy, in memory that is used again: an implementation may change what it was given to write.
	d.buf = append(appendHead(d.buf[:0], key, e.lo, data), data...)
	_, err = f.Write(d.buf)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.fs.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = d.fs.Remove(path + ".tmp")
	}
	return err
}

// readDisk fills into with the bytes of an extent from an offset of the pack on. If the file is gone or damaged the extent is
// dropped, and false returned. The caller holds the lock, which is released meanwhile.
func (r *Reader) readDisk(e *extent, from int64, into []byte) bool {
	d := &r.disk
	key := e.o.key
	e.used = true
	r.mu.Unlock()
	err := d.readFile(e, key, from-e.lo, into)
	r.mu.Lock()
	if err == nil {
		r.stats.DiskBytesRead += int64(len(into))
		return true
	}
	if !e.gone { // else it was evicted meanwhile
		if !errors.Is(err, os.ErrNotExist) {
			r.stats.CacheDamaged++
		}
		r.drop(e)
	}
	return false
}

func (d *disk) readFile(e *extent, key string, from int64, into []byte) (err error) {
	f, err := d.fs.Open(d.path(e))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, headSize(key, e.size()))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	sums, err := decodeHead(head, key, e.lo, e.size())
	if err != nil {
		return err
	}
	first := from / pageBytes
	begin, end := first*pageBytes, min(e.size(), (from+int64(len(into))+pageBytes-1)/pageBytes*pageBytes)
	buf := make([]byte, end-begin)
	if n, err := f.ReadAt(buf, int64(len(head))+begin); n < len(buf) {
		return fmt.Errorf("file is cut short: %w", err)
	}
	if err := checkPages(buf, sums[first*4:]); err != nil {
		return err
	}
	copy(into, buf[from-begin:])
	return nil
}
