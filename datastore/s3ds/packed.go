package s3ds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/metered"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/chain"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// closeTimeout is how long Close waits for uploads that are under way, and for the one request that it may send
// itself. Broken off, an upload is paid for and sent again after the next start, so a node that runs for a second at
// a time would never end one. 5 s are 450 MB at 90 MB/s.
const closeTimeout = 5 * time.Second

// Store is what every layout is.
type Store interface {
	ds.Batching
	ds.PersistentDatastore
	ds.CheckedDatastore
	prometheus.Collector
	// Repos and SetRepos are the list of the repos that write to the store.
	Repos(ctx context.Context) ([]byte, error)
	SetRepos(ctx context.Context, list []byte) error
	// Stats returns totals since the store was opened.
	Stats() Stats
}

var (
	_ Store = (*Datastore)(nil)
	_ Store = (*Packed)(nil)
)

// Packed is a datastore that reads packs. In layout packs blocks go to a journal on the local disk, and from there in
// packs to the bucket; in layout objects each goes to an object of its own. An index on the local disk knows where
// each is. See the package comment. Safe for concurrent use.
type Packed struct {
	c     Config
	b     bucket.Bucket
	root  string
	loose *Datastore // objects of their own: their names, and verified reads of them
	meter *metered.Meter

	node  *node
	host  string
	fence *fence
	ids   *pack.IDs
	j     *journal.Journal
	x     *index.Index
	r     *span.Reader

	life context.Context // of the store
	end  context.CancelFunc
	last context.Context // of uploads that are under way: it ends closeTimeout after life
	stop context.CancelFunc
	work sync.WaitGroup // what runs in the background

	users struct {
		sync.Mutex
		n      int
		closed bool
		none   *sync.Cond
	}
	closeOnce sync.Once
	closeErr  error

	looseKeys keyLocks // of those whose object is being written or removed
	commits   commits
	segs      segments
	up        uploads
	compact   compaction
	gather    gather
	kin       kinship
	unsynced  atomic.Bool // something was deleted since the index was committed

	recovery   journal.Recovery
	hits, miss atomic.Uint64
	writeWait  time.Duration
	pause      time.Duration
}

// Progress tells how far a long operation has come.
type Progress struct {
	Doing        string // "index", "verify", "repack"
	Packs        int64  // done
	Objects      int64  // loose ones seen
	Blocks       int64
	Bytes        int64
	TotalPacks   int64 // 0 while it is not known, as what follows
	TotalObjects int64
	TotalBytes   int64
}

// parts are the outside of a Packed, which tests replace.
type parts struct {
	fs        vfs.FS
	lease     time.Duration
	clock     *chain.Clock
	change    func(*fence) // breaks a part of it
	writeWait time.Duration
	pause     time.Duration // after the first failure of an upload
	reindex   bool          // the index is made anew
	manual    bool          // nothing runs in the background by itself but uploads
}

// OpenPacked connects to the bucket of c and returns the datastore in it, which reads packs and writes in the layout
// that c names. It claims the prefix (an error that matches ErrOwned names the node that has it), recovers the
// journal, and opens the index. If there is none, or one that is damaged or of another store, it is made again from
// the bucket, with one LIST per 1,000 objects and one GET per pack; if another node has changed the prefix since the
// index was written, or this one did not end in order, the index is brought in step with the bucket (resync).
// progress, which may be nil, is told. What is broken off goes on at the next start. Cost otherwise: 1 LIST, 1 PUT,
// and 1 GET for the owner object and for each record of the chain since its snapshot.
func OpenPacked(ctx context.Context, c Config, repo string, progress func(Progress)) (*Packed, error) {
	d, err := connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	p, err := openPacked(ctx, d, c, repo, parts{fs: vfs.Default}, progress)
	if err != nil {
		return nil, fmt.Errorf("open s3ds: %w", err)
	}
	return p, nil
}

// NewPacked is OpenPacked for a bucket that is there already, for tests and for decorated buckets.
func NewPacked(ctx context.Context, b bucket.Bucket, c Config, repo string) (*Packed, error) {
	return openPacked(ctx, New(b, c), c, repo, parts{fs: vfs.Default}, nil)
}

func openPacked(ctx context.Context, loose *Datastore, c Config, repo string, o parts, progress func(Progress)) (_ *Packed, err error) {
	c = c.withPackDefaults(repo)
	if progress == nil {
		progress = func(Progress) {}
	}
	if o.writeWait == 0 {
		o.writeWait = writeWait
	}
	if o.pause == 0 {
		o.pause = firstPause
	}
	p := &Packed{
		c: c, b: loose.b, root: loose.root, loose: loose, meter: loose.meter, ids: pack.NewIDs(0),
		writeWait: o.writeWait, pause: o.pause,
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.last, p.stop = context.WithCancel(context.Background())
	p.users.none = sync.NewCond(&p.users)
	p.looseKeys.init()
	p.commits.init()
	p.segs.retired = map[pack.ID]struct{}{}
	p.segs.running = map[chan struct{}]struct{}{}
	p.up.init()
	p.compact.init()
	p.gather.init()
	p.kin.init()
	defer func() {
		if err != nil {
			err = errors.Join(err, p.shut(context.WithoutCancel(ctx)))
		}
	}()
	if p.node, err = openNode(o.fs, c.JournalPath); err != nil {
		return nil, err
	}
	if p.host, err = os.Hostname(); err != nil {
		p.host = "unknown"
	}
	p.fence, err = openFence(ctx, p.b, fenceOptions{
		prefix: p.loose.prefix(""), node: p.node, host: p.host, takeOver: c.TakeOver, lease: o.lease, clock: o.clock,
		tolerant: c.Durability == DurableInJournal, say: c.Log, life: p.life, change: o.change,
	})
	loose.health.record(ctx, err)
	if err != nil {
		return nil, err
	}
	p.j, p.recovery, err = journal.Open(c.JournalPath, journal.Options{
		Writer: p.node.id, IDs: p.ids, FS: o.fs, SegmentBytes: c.PackSize, SealAge: c.SealAge, MaxBytes: c.JournalSize,
	})
	if err != nil {
		return nil, err
	}
	if n := len(p.recovery.Damaged); n > 0 {
		p.fence.tell("%d parts of the journal are damaged, and blocks in them that were acknowledged may be lost; the first: %v. "+
			"The originals are kept as *.damaged in %s: look at that disk; `ipfs-aws datastore verify` names what is lost, put it again", n, p.recovery.Damaged[0], c.JournalPath)
	}
	if err := p.openIndex(ctx, o.fs, o.reindex, progress); err != nil {
		return nil, err
	}
	if err := p.replay(ctx); err != nil {
		return nil, err
	}
	p.fence.shorten(ctx)
	so := span.Options{
		Next: p.packAfter, MaxWindow: c.ReadWindow, MemoryBytes: c.readMemory(), Concurrency: c.Downloads, FS: o.fs,
	}
	if c.CacheSize != NoCache {
		so.CacheDir, so.CacheBytes = c.CachePath, c.CacheSize
	}
	if p.r, err = span.New(p.b, so); err != nil {
		return nil, err
	}
	for range c.Uploads {
		p.work.Go(p.upload)
	}
	p.work.Go(p.sealEarly)
	if !o.manual {
		p.work.Go(p.gatherLoop)
		p.work.Go(p.compactLoop)
	}
	return p, nil
}

// name returns the full name of an object under the prefix.
func (p *Packed) name(of string) string { return strings.TrimPrefix(path.Join(p.root, of), "/") }

// enter begins a call, which leave ends. The context that it returns ends with the store.
func (p *Packed) enter(ctx context.Context) (context.Context, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	p.users.Lock()
	defer p.users.Unlock()
	if p.users.closed {
		return nil, nil, ErrClosed
	}
	p.users.n++
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		p.users.Lock()
		defer p.users.Unlock()
		if p.users.n--; p.users.n == 0 {
			p.users.none.Broadcast()
		}
	}, nil
}

func (p *Packed) usable(ctx context.Context) error {
	p.users.Lock()
	defer p.users.Unlock()
	if p.users.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// Close ends calls that are under way with an error, and lets go of bucket and disk. What waits to be uploaded stays
// in the journal, durably, and is uploaded after the next start. It waits for uploads that are under way and for one
// small request, each for closeTimeout at most, and for the local disk. Later calls return ErrClosed.
func (p *Packed) Close() error {
	p.closeOnce.Do(func() { p.closeErr = p.shut(context.Background()) })
	return p.closeErr
}

// shut closes what is open.
func (p *Packed) shut(ctx context.Context) error {
	p.users.Lock()
	p.users.closed = true
	p.users.Unlock()
	p.end()
	p.users.Lock()
	for p.users.n > 0 {
		p.users.none.Wait()
	}
	p.users.Unlock()
	defer time.AfterFunc(closeTimeout, p.stop).Stop()
	p.work.Wait()
	p.stop()
	var errs []error
	closeIt := func(c io.Closer) { errs = append(errs, c.Close()) }
	if p.r != nil {
		closeIt(p.r)
	}
	if p.j != nil {
		closeIt(p.j)
	}
	if p.fence != nil {
		late, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		// A bucket that does not answer is no reason not to close: the next start looks at the bucket then.
		if p.fence.close(late) && p.x != nil {
			_ = p.x.Commit(ctx) // if it fails, the index says so when it is opened
		}
	}
	if p.x != nil {
		closeIt(p.x)
	}
	if p.node != nil {
		closeIt(p.node.lock)
	}
	closeIt(p.loose)
	return errors.Join(errs...)
}

// packAfter tells span which pack to read ahead. It skips packs of which nothing is alive, and those of nodes, which no reader comes by.
func (p *Packed) packAfter(key string) (span.Pack, bool) {
	name := path.Base(key)
	for {
		next, err := p.x.PackAfter(name)
		if err != nil {
			return span.Pack{}, false
		}
		if next.LiveBlocks > 0 && !pack.IsNodes(next.Name) {
			return p.spanPack(next), true
		}
		name = next.Name
	}
}

func (p *Packed) spanPack(k index.Pack) span.Pack {
	return span.Pack{Key: p.name(k.Name), End: k.IndexOffset, Nodes: pack.IsNodes(k.Name)}
}
