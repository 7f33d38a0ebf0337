package span

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sync/semaphore"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Defaults and limits of Options.
const (
	// DefaultMemoryBytes gives half to fetched data: two windows of 16 MiB in flight for each of two sequential readers.
	DefaultMemoryBytes = 128 << 20
	// MinMemoryBytes leaves half of it, 8 MiB, for the results: blocks are at most 4 MiB.
	MinMemoryBytes = 16 << 20
	// DefaultMaxWindow: AWS suggests ranges of 8 to 16 MB; at 90 MB/s a connection is busy with 16 MiB for 190 ms, against 25 ms
	// until the first byte.
	DefaultMaxWindow = 16 << 20
	// DefaultConcurrency is how many requests run at once; the transport keeps as many connections.
	DefaultConcurrency = 128
)

// extentBytes is the longest piece of a pack that is kept or dropped as one, in memory and on disk. Requests are split
// at its multiples. 1 MiB: a window of 16 MiB has 16, so memory follows what is read closely, and a cache of
// 20 GiB has 20,000 files.
const extentBytes = 1 << 20

// Errors that can be tested for with errors.Is.
var (
	// ErrCorrupt: the bytes in the bucket are not the block, also when read a second time. See CorruptError.
	ErrCorrupt = errors.New("block is corrupt in the bucket")
	// ErrClosed: the reader was closed.
	ErrClosed = errors.New("span reader is closed")
)

// CorruptError names a block that the bucket does not hold as it was written.
type CorruptError struct {
	Object         string
	Offset, Length int64 // bytes
	Hash           mh.Multihash
	Cause          error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: object %q, %d bytes at %d, multihash %s: %v", ErrCorrupt, e.Object, e.Length, e.Offset, e.Hash.B58String(), e.Cause)
}

// Unwrap returns the reason.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Cause} }

// Pack is a pack in the bucket.
type Pack struct {
	Key string // of the object
	End int64  // where its blocks end, in bytes: nothing behind is fetched
	// Nodes: the pack has inner nodes of DAGs only. Who reads one reads those around it.
	Nodes bool
}

// Block says what to read.
type Block struct {
	Pack   Pack
	Offset int64        // of the block's first byte in the pack (behind the section's header)
	Length int64        // bytes of the block
	Hash   mh.Multihash // that the bytes must have

	// Near, if it is not nil, says what else the caller expects to be wanted soon. It is asked when the block has to be fetched and
	// no stream of reads passes here, with a lock held: it must be quick and not call the Reader.
	Near func() Expected
	// Left, if it is not 0, is how many bytes are wanted at most by who reads here, from the block's first one on: what is left of a file.
	// Nothing is fetched far beyond.
	Left int64
}

// Expected is what a caller expects to read around a block, in bytes of the same pack.
type Expected struct {
	Before, After int64 // what belongs together with the block lies so far in front of it and behind it
	Window        int64 // so much of that is wanted soon: the first window of a stream
	// Whole: all of it is wanted sooner or later, perhaps by many readers at once who do not come in order. If some of it is
	// here already, they are at work, and the rest of the division of the pack comes with one request.
	Whole bool
}

// Options of New. The zero value of each number means its default.
type Options struct {
	// Next tells which pack holds the blocks that arrived after those of the pack with this key. A sequential reader
	// is read ahead across the border with a full window. It is called with a lock held: it must be quick and not call the Reader.
	// nil: packs are on their own.
	Next func(key string) (Pack, bool)
	// MaxWindow is the largest request of a sequential reader, in bytes; it may be an eighth larger at the end of a pack.
	MaxWindow int64
	// MemoryBytes bounds what the Reader holds: one half for fetched data, one for results on their way to callers.
	MemoryBytes int64
	// Concurrency is the number of requests that may run at once.
	Concurrency int
	// CacheDir is the folder of the cache on disk; empty for none. It belongs to one Reader at a time.
	CacheDir string
	// CacheBytes bounds the cache on disk.
	CacheBytes int64
	// CacheState is called with an error when the cache on disk begins to fail (it is then gone without), and with nil when it
	// works again. It must not block.
	CacheState func(error)
	// FS is the file system of the cache; nil means the operating system's.
	FS vfs.FS
}

// Validate fills in defaults and returns every problem at once.
func (o *Options) Validate() error {
	if o.MaxWindow == 0 {
		o.MaxWindow = DefaultMaxWindow
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = DefaultMemoryBytes
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheState == nil {
		o.CacheState = func(error) {}
	}
	if o.Next == nil {
		o.Next = func(string) (Pack, bool) { return Pack{}, false }
	}
	var errs []error
	if o.MaxWindow < extentBytes || o.MaxWindow > 1<<30 {
		errs = append(errs, fmt.Errorf("read window of %d bytes: accepted are %d (1 MiB) to %d (1 GiB)", o.MaxWindow, extentBytes, 1<<30))
	}
	if o.MemoryBytes < MinMemoryBytes {
		errs = append(errs, fmt.Errorf("read memory of %d bytes: accepted are %d (16 MiB) and more", o.MemoryBytes, MinMemoryBytes))
	}
	if o.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("download concurrency %d: accepted is 1 and more", o.Concurrency))
	}
	if o.CacheDir != "" && o.CacheBytes < 4*extentBytes {
		errs = append(errs, fmt.Errorf("cache size of %d bytes: accepted are %d (4 MiB) and more", o.CacheBytes, 4*extentBytes))
	}
	return errors.Join(errs...)
}

// Stats counts since New; byte counts are payload.
type Stats struct {
	Blocks, BytesAsked   int64 // that callers asked for
	Requests, BytesMoved int64 // GETs begun, and bytes that came in
	Prefetches           int64 // requests of these that nobody waited for when they began
	DiskBytesRead        int64 // bytes that came from the cache on disk
	VerificationFailures int64 // blocks whose bytes had another multihash, each time
	CacheDamaged         int64 // pieces on disk that failed their checksum, and were dropped
	CacheWriteFailures   int64 // pieces that could not be written to the cache
	CacheSkipped         int64 // pieces that left memory before the disk took them
	MemoryBytes          int64 // fetched data in memory now
	CacheBytes           int64 // files of the cache on disk now
}

// Reader reads blocks of packs. Safe for concurrent use.
type Reader struct {
	bucket  bucket.Bucket
	o       Options
	results *semaphore.Weighted
	slots   chan struct{}

	mu       sync.Mutex
	closed   bool
	fetches  map[*fetch]struct{}
	running  sync.WaitGroup
	objects  map[objectID]*object
	streams  []*stream
	clock    int64
	memory   memory
	disk     disk
	stats    Stats
	maxFetch int64 // window that memory allows
}

// New returns a reader of a bucket. It lists the cache folder; one that cannot be used is reported to CacheState, not an error.
func New(b bucket.Bucket, o Options) (*Reader, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Reader{
		bucket: b, o: o,
		results: semaphore.NewWeighted(o.MemoryBytes / 2),
		slots:   make(chan struct{}, o.Concurrency),
		fetches: make(map[*fetch]struct{}),
		objects: make(map[objectID]*object),
	}
	r.memory.init(&r.mu, o.MemoryBytes/2)
	r.maxFetch = min(o.MaxWindow, r.memory.limit/4)
	r.disk.init(r)
	return r, nil
}

// Close ends requests that are under way, with ErrClosed for who waits, and writes to the cache what is in memory.
func (r *Reader) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	for f := range r.fetches {
		r.cancel(f)
	}
	r.mu.Unlock()
	r.running.Wait()
	r.disk.close(r)
	return nil
}

// Stats returns the counters.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.MemoryBytes, s.CacheBytes = r.memory.used, r.disk.used
	return s
}

// Drop forgets what is kept of a pack, which is no longer in the bucket.
func (r *Reader) Drop(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.objects[idOf(key)]; ok {
		r.dropRange(o, 0, math.MaxInt64)
	}
}

// Get returns the bytes of a block, which have its multihash. The block comes from memory, from the cache on disk, or from the
// bucket, with as much around it as the reader that asks is likely to want next. Bytes that are not the block are
// dropped and read once more from the bucket; then it is a *CorruptError. Other errors name the object and what the
// bucket said; bucket.ErrNotFound among them means that a pack is gone, not that the block never was.
//
// A cancelled ctx ends the wait, not a request that others wait for.
func (r *Reader) Get(ctx context.Context, b Block) ([]byte, error) {
	doing := func(err error) error {
		return fmt.Errorf("read object %q, %d bytes at %d: %w", b.Pack.Key, b.Length, b.Offset, err)
	}
	if b.Offset < 0 || b.Length < 0 || b.Offset > b.Pack.End-b.Length {
		return nil, doing(fmt.Errorf("block is outside of its pack, which ends at %d", b.Pack.End))
	}
	if b.Length > r.o.MemoryBytes/2 {
		return nil, doing(fmt.Errorf("block is larger than half of the read memory, which is %d bytes: raise it", r.o.MemoryBytes))
	}
	if err := r.results.Acquire(ctx, b.Length); err != nil {
		return nil, doing(err)
	}
	defer r.results.Release(b.Length)

	data := make([]byte, b.Length)
	if err := r.read(ctx, b, data, false); err != nil {
		return nil, doing(err)
	}
	err := pack.Verify(b.Hash, data)
	if err == nil {
		return data, nil
	}
	if errors.Is(err, pack.ErrUnknownHash) {
		return nil, doing(err)
	}
	r.distrust(b)
	if err := r.read(ctx, b, data, true); err != nil {
		return nil, doing(fmt.Errorf("second attempt, after bytes with another multihash: %w", err))
	}
	if err = pack.Verify(b.Hash, data); err == nil {
		return data, nil
	}
	r.distrust(b)
	return nil, &CorruptError{Object: b.Pack.Key, Offset: b.Offset, Length: b.Length, Hash: b.Hash, Cause: err}
}

// distrust counts a block that failed verification and drops what it was made of.
func (r *Reader) distrust(b Block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.VerificationFailures++
	if o, ok := r.objects[idOf(b.Pack.Key)]; ok {
		r.dropRange(o, b.Offset, b.Offset+b.Length)
	}
}

// read fills data with the bytes of b. again: they are wanted as they are in the bucket, and nothing else.
func (r *Reader) read(ctx context.Context, b Block, data []byte, again bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	if b.Length == 0 {
		return nil // a range of no bytes would be the whole object
	}
	o := r.object(b.Pack.Key)
	o.users++
	defer func() { o.users--; r.tidy(o) }()
	var waits joined
	ok := false
	defer func() { r.release(waits, ok) }()
	if again {
		// Not with anything that may come from the cache: one request for the whole block.
		waits.join(r.fetch(o, b.Offset, b.Offset+b.Length, b.Offset, b.Offset+b.Length, false))
	} else {
		r.stats.Blocks++
		r.stats.BytesAsked += b.Length
		if f := r.plan(o, b); f != nil {
			waits.join(f)
		}
	}
	end := b.Offset + b.Length
	for at := b.Offset; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.closed {
			return ErrClosed
		}
		e := o.at(at)
		if e == nil {
			lo, hi := o.gap(at, end)
			waits.join(r.fetch(o, lo, hi, lo, hi, false))
			continue
		}
		n := min(e.hi, end) - at
		into := data[at-b.Offset:][:n]
		if e.inMemory() {
			retry, err := r.wait(ctx, e, at, at+n, &waits)
			if err != nil {
				return err
			}
			if retry {
				continue
			}
			e.pins++
			src := e.data[at-e.lo:]
			r.mu.Unlock()
			copy(into, src)
			r.mu.Lock()
			r.memory.unpin(e)
			e.read = true
			r.memory.touch(e)
		} else if !r.readDisk(e, at, into) {
			continue
		}
		at += n
	}
	ok = true
	return nil
}
