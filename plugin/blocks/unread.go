package blocks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	logging "github.com/ipfs/go-log/v2"
	"github.com/prometheus/client_golang/prometheus"
)

var log = logging.Logger("plugin/blocks")

const (
	// unreadFor is how long it is known that the store could not read a block, if it is not asked again. A
	// blockservice asks the exchange when it has asked the store for a whole group of blocks.
	unreadFor = 10 * time.Minute

	// sayEvery is how often the log names the same block.
	sayEvery = time.Minute

	// maxUnread bounds what is remembered: some 200 bytes each.
	maxUnread = 10_000
)

var readErrors = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "ipfs_aws_block_read_errors_total",
	Help: "Blocks that the store could not read, for another reason than that it does not have them.",
})

func init() { prometheus.MustRegister(readErrors) }

// unread knows which blocks the store has just failed to read. boxo's blockservice takes each error
// of the store for a miss when it reads several blocks, and asks the network for them: the reader
// waits for a block that no peer has, and hears that it was not found.
type unread struct {
	any atomic.Bool // there is something in last

	mu   sync.Mutex
	last map[string]*failure // by multihash
}

type failure struct {
	at, said time.Time
	err      error
}

func newUnread() *unread { return &unread{last: map[string]*failure{}} }

// note remembers an error of the store, and logs it once in a while. Any other answer of the store
// ends it.
func (u *unread) note(ctx context.Context, c cid.Cid, err error) {
	if err == nil || format.IsNotFound(err) {
		u.read(c)
		return
	}
	if ctx.Err() != nil {
		return
	}
	readErrors.Inc()
	now, key := time.Now(), string(c.Hash())
	u.mu.Lock()
	if len(u.last) >= maxUnread {
		for k, f := range u.last {
			if now.Sub(f.at) > unreadFor {
				delete(u.last, k)
			}
		}
		if len(u.last) >= maxUnread {
			clear(u.last)
		}
	}
	f := u.last[key]
	if f == nil {
		f = &failure{}
		u.last[key] = f
		u.any.Store(true)
	}
	f.at, f.err = now, err
	say := now.Sub(f.said) >= sayEvery
	if say {
		f.said = now
	}
	u.mu.Unlock()
	if say {
		log.Errorf("block %s cannot be read from the store: %s", c, err)
	}
}

// of is the error with which the store failed to read a block a moment ago, or nil.
func (u *unread) of(c cid.Cid) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.last[string(c.Hash())]; f != nil && f.err != nil && time.Since(f.at) < unreadFor {
		return f.err
	}
	return nil
}

// read forgets what can be read again. Mostly there is nothing, and no lock is taken.
func (u *unread) read(c cid.Cid) {
	if !u.any.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if f := u.last[string(c.Hash())]; f != nil {
		f.err = nil // when it was said stays
	}
}

// unreadBlocks is a blockstore that tells what it cannot read.
type unreadBlocks struct {
	blockstore.Blockstore
	u *unread
}

func (b unreadBlocks) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	blk, err := b.Blockstore.Get(ctx, c)
	b.u.note(ctx, c, err)
	return blk, err
}

func (b unreadBlocks) View(ctx context.Context, c cid.Cid, f func([]byte) error) error {
	if v, ok := b.Blockstore.(blockstore.Viewer); ok {
		inner := false
		err := v.View(ctx, c, func(data []byte) error { inner = true; return f(data) })
		if !inner {
			b.u.note(ctx, c, err)
		}
		return err
	}
	blk, err := b.Get(ctx, c)
	if err != nil {
		return err
	}
	return f(blk.RawData())
}

func (b unreadBlocks) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	n, err := b.Blockstore.GetSize(ctx, c)
	b.u.note(ctx, c, err)
	return n, err
}

func (b unreadBlocks) Put(ctx context.Context, blk blocks.Block) error {
	err := b.Blockstore.Put(ctx, blk)
	if err == nil {
		b.u.read(blk.Cid())
	}
	return err
}

// decorateExchange has the network not be asked for what the store could not read.
func (u *unread) decorateExchange(base exchange.Interface) exchange.Interface {
	return unreadExchange{base, u}
}

type unreadExchange struct {
	exchange.Interface
	u *unread
}

var _ exchange.SessionExchange = unreadExchange{}

func (e unreadExchange) NewSession(ctx context.Context) exchange.Fetcher {
	if s, ok := e.Interface.(exchange.SessionExchange); ok {
		return unreadFetcher{s.NewSession(ctx), e.u}
	}
	return unreadFetcher{e.Interface, e.u}
}

func (e unreadExchange) GetBlock(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	return unreadFetcher{e.Interface, e.u}.GetBlock(ctx, c)
}

func (e unreadExchange) GetBlocks(ctx context.Context, cs []cid.Cid) (<-chan blocks.Block, error) {
	return unreadFetcher{e.Interface, e.u}.GetBlocks(ctx, cs)
}

type unreadFetcher struct {
	exchange.Fetcher
	u *unread
}

func (f unreadFetcher) GetBlock(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if err := f.u.of(c); err != nil {
		return nil, fmt.Errorf("block %s cannot be read: %w", c, err)
	}
	return f.Fetcher.GetBlock(ctx, c)
}

// GetBlocks fails if the store could not read one of the blocks: an answer that lacks it would have
// the caller say that it was not found.
func (f unreadFetcher) GetBlocks(ctx context.Context, cs []cid.Cid) (<-chan blocks.Block, error) {
	for _, c := range cs {
		if err := f.u.of(c); err != nil {
			return nil, fmt.Errorf("block %s cannot be read: %w", c, err)
		}
	}
	return f.Fetcher.GetBlocks(ctx, cs)
}
