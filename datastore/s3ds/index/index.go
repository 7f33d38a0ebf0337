package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// dbName is the folder with Pebble's files, inside the folder of the index.
const dbName = "db"

// Sizes of the parts of the heap. Together they stay under 64 MiB with 10 million entries (BenchmarkTenMillion):
// 24 MiB cache + 3 × 4 MiB memtables + up to 16 MiB for 80,000 pack records of ~200 bytes (10 million blocks of 256 KiB), and the
// buffers of one compaction.
const (
	// DefaultCacheBytes holds the Bloom filters of 10 million entries (10 bits each, 12 MiB), so that a miss reads nothing,
	// the index blocks of their tables (4 MiB), and 8 MiB of data blocks; the rest of the data is left to the page cache.
	DefaultCacheBytes = 24 << 20
	// memTable is what is gathered in memory before it becomes a table: ~30,000 updates of ~130 bytes, or the blocks
	// of 200 packs. Twice as much would halve the write amplification, which is not the bottleneck, and cost 12 MiB of heap.
	memTable = 4 << 20
	// memTables may exist at once: one that fills, two that are being flushed.
	memTables = 3
	// tableBytes is the size of a table. 8 MiB hold ~160,000 entries, whose filter block is 200 KiB: a filter is read and evicted
	// as a whole, so it has to be small against a shard of the cache (6 MiB).
	tableBytes = 8 << 20
	// bitsPerKey of the Bloom filters: 10 give 1% false positives.
	bitsPerKey = 10
	// blockBytes is the size of a data block: ~80 entries. A hit outside of the cache reads and checks one of them.
	blockBytes = 4 << 10
)

// format is the version of Pebble's files: checksums in every footer, and log chunks that tell damage from a torn tail.
const format = pebble.FormatTableFormatV6

// Options of Open.
type Options struct {
	// Identity of the store. An index that was made for another one is refused.
	Identity Identity
	// CacheBytes is the size of the block cache; 0 means DefaultCacheBytes.
	CacheBytes int64
	// FS is the file system; nil means the operating system's.
	FS vfs.FS
	// Note is called in each Commit, which makes what it returns durable together with all updates before it. It may be nil; if it
	// reports false, the note that is there stays.
	Note func() (Note, bool)

	retrySpace time.Duration // for tests
}

// Index is an open index. All methods are safe for concurrent use.
type Index struct {
	db    *pebble.DB
	lock  *pebble.Lock
	head  *head
	space *space

	note func() (Note, bool) // Options.Note

	// writer holds a token while somebody writes: updates read what they replace, to keep the counters exact.
	writer chan struct{}

	mu      sync.RWMutex // guards what follows; written by the holder of writer only
	packs   map[PackID]*Pack
	byName  []PackID // in the order of names
	totals  totals
	damages int64 // blocks that are noted as damaged
	noted   Note
	hasNote bool
	damage  error         // first sign of corruption; writes are refused
	failure error         // why stopped was closed
	stopped chan struct{} // closed when a write failed for good

	life struct {
		sync.Mutex
		users   int
		closing chan struct{} // closed by Close
		closed  bool
		idle    *sync.Cond
	}
}

// Open opens the index in the folder dir, and makes an empty one where there is none. It takes the time of reading
// the pack records and at most 12 MiB of log: far under a second, whatever the number of entries.
//
// Errors: ErrCorrupt, ErrForeign and ErrFormat call for Remove and a rebuild; ErrLocked for another folder or the end
// of the other process; ErrDiskFull for space. Any other error comes from the file system, and says nothing about the content.
func Open(dir string, o Options) (*Index, error) {
	doing := "open index " + dir
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.retrySpace <= 0 {
		o.retrySpace = retrySpace
	}
	err := o.FS.MkdirAll(dir, 0o755)
	if err == nil {
		err = syncDir(o.FS, o.FS.PathDir(dir))
	}
	if err != nil {
		return nil, classify(doing, err)
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		if diskFull(err) || errors.Is(err, os.ErrPermission) {
			return nil, classify(doing, err)
		}
		return nil, fmt.Errorf("%s: %w: %w", doing, ErrLocked, err)
	}
	x, err := open(dir, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", doing, err), lock.Close())
	}
	x.lock = lock
	return x, nil
}

func open(dir string, o Options) (_ *Index, err error) {
	h, fresh, err := openHead(o.FS, dir, o.Identity)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = h.file.Close()
		}
	}()
	db := o.FS.PathJoin(dir, dbName)
	if fresh {
		// Whatever is there comes from a first Open that did not end, and was never handed out.
		err := o.FS.RemoveAll(db)
		if err == nil {
			err = o.FS.MkdirAll(db, 0o755)
		}
		if err == nil {
			err = syncDir(o.FS, dir)
		}
		if err != nil {
			return nil, classify("make its folder", err)
		}
		if err := h.keeper.update(func(r *roster) { *r = roster{} }); err != nil {
			return nil, classify("write the head", err)
		}
	} else if err := h.keeper.roster.check(o.FS, db); err != nil {
		return nil, err
	}
	x := &Index{head: h, writer: make(chan struct{}, 1), packs: make(map[PackID]*Pack), stopped: make(chan struct{}), note: o.Note}
	x.space = newSpace(o.retrySpace, x.stop)
	x.life.closing = make(chan struct{})
	x.life.idle = sync.NewCond(&x.life)
	opts := x.pebbleOptions(guardedFS{rosterFS{o.FS, h.keeper}, x.space}, o.CacheBytes)
	defer opts.Cache.Unref()
	opts.ErrorIfNotExists = !fresh
	err = guarded(func() error {
		if x.db, err = pebble.Open(db, opts); err != nil {
			return classifyOpen("open tables", err)
		}
		if err := x.load(fresh); err != nil {
			return errors.Join(err, x.db.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	x.space.guard()
	return x, nil
}

// guarded runs fn in a goroutine of its own, and turns what Pebble panics about, and what it calls fatal, into errors.
func guarded(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := fmt.Errorf("%w: the tables could not be written", ErrStopped)
		defer func() {
			if r := recover(); r != nil {
				err = corrupt("open tables", fmt.Errorf("%v", r))
			}
			done <- err
		}()
		err = fn()
	}()
	return <-done
}

func (x *Index) pebbleOptions(fs vfs.FS, cacheBytes int64) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		Cache:                       pebble.NewCache(cacheBytes),
		FormatMajorVersion:          format,
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: memTables,
		// Two tables in level 0 are compacted: a lookup asks every one of them.
		L0CompactionThreshold: 2,
		LBaseMaxBytes:         4 * tableBytes,
		MaxManifestFileSize:   1 << 20, // read twice when the index is opened
		MaxOpenFiles:          512,
		Logger:                logger{x},
		EventListener: &pebble.EventListener{
			BackgroundError: x.backgroundError,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { x.damaged(corrupt("read "+i.Path, i.Details)) },
		},
	}
	// Multihashes do not compress, and the ten bytes behind them hardly: looking things up without unpacking
	// blocks is worth more than the 5% that it would save.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockBytes
		o.Levels[i].IndexBlockSize = 1 << 20 // one index block per table (40 KiB): no second level to read
		// Filters on the last level, too, where most of the data is: this is what makes a miss free.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bitsPerKey)
	}
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = tableBytes
	}
	return o
}

// logger takes Pebble's last words. It must not end the process, as Pebble's own does.
type logger struct{ x *Index }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {} // comes back as an error of the call, or as a BackgroundError

// Fatalf is called with an error when a log or manifest could not be written, which guardedFS keeps from happening except while
// the index opens: then the goroutine ends, which must not go on. Without an error an invariant of Pebble broke: a panic.
func (l logger) Fatalf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok {
			l.x.stop(fmt.Errorf("write its log or manifest: %w", err))
			runtime.Goexit()
		}
	}
	panic(fmt.Sprintf(format, args...))
}

func (x *Index) backgroundError(err error) {
	switch err = classify("maintain the index", err); {
	case errors.Is(err, pebble.ErrCancelledCompaction), x.isClosing():
	case errors.Is(err, ErrCorrupt):
		x.damaged(err)
	case errors.Is(err, ErrDiskFull):
		// Pebble tries again, and every write of that waits for space.
	default:
		x.stop(err)
	}
}

// damaged remembers the first sign of corruption.
func (x *Index) damaged(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.damage == nil {
		x.damage = err
	}
}

// stop refuses all writes from now on.
func (x *Index) stop(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure == nil {
		x.failure = fmt.Errorf("%w: %w", ErrStopped, err)
		close(x.stopped)
	}
}

// Err tells why writes are refused for good: ErrCorrupt (rebuild) or ErrStopped (restart); nil if they are not.
func (x *Index) Err() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.damage != nil {
		return x.damage
	}
	return x.failure
}

// enter keeps the index open until leave is called.
func (x *Index) enter() error {
	x.life.Lock()
	defer x.life.Unlock()
	if x.life.closed {
		return ErrClosed
	}
	x.life.users++
	return nil
}

func (x *Index) leave() {
	x.life.Lock()
	defer x.life.Unlock()
	if x.life.users--; x.life.users == 0 {
		x.life.idle.Broadcast()
	}
}

func (x *Index) isClosing() bool {
	select {
	case <-x.life.closing:
		return true
	default:
		return false
	}
}

// Close commits what was written and closes the files. It waits for calls that are under way; iterations end with
// ErrClosed at their next step. With a full disk, or after a failed write, it returns at once with the error: what was not
// committed is replayed from the journal, and the folder stays locked until the process ends. A second Close does nothing.
func (x *Index) Close() error {
	x.life.Lock()
	if x.life.closed {
		x.life.Unlock()
		return nil
	}
	x.life.Unlock()
	commitErr := x.Commit(context.Background())

	x.life.Lock()
	if x.life.closed {
		x.life.Unlock()
		return nil
	}
	x.life.closed = true
	close(x.life.closing)
	for x.life.users > 0 {
		x.life.idle.Wait()
	}
	x.life.Unlock()

	defer x.space.abandon()
	if errors.Is(commitErr, ErrDiskFull) || errors.Is(commitErr, ErrStopped) {
		return fmt.Errorf("close index: %w", commitErr)
	}
	done := make(chan error, 1)
	go func() { done <- errors.Join(x.db.Close(), x.head.file.Close(), x.lock.Close()) }()
	select {
	case err := <-done:
		return classify("close index", errors.Join(commitErr, err))
	case <-x.space.isFull():
		return fmt.Errorf("close index: %w", ErrDiskFull)
	case <-x.stopped:
		return fmt.Errorf("close index: %w", x.Err())
	}
}

// Remove deletes the index in dir, so that the next Open makes an empty one. Other files in dir are left alone.
// The index must not be open.
func Remove(dir string, fs vfs.FS) error {
	if fs == nil {
		fs = vfs.Default
	}
	// The tables first: a head without them, or without anything, is what Open knows how to start from.
	for _, name := range []string{dbName, headName, headName + ".tmp"} {
		if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove index %s: %w", dir, err)
		}
	}
	return nil
}
