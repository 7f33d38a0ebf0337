package s3ds

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sync"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
)

const (
	// leafSize is what a block with links stays under: kubo gives a node of a file 174 links of 50 bytes, or 1,024, and shards directories at 256
	// KiB; chunks of a large file have 256 KiB or 1 MiB. A larger block is looked at for links when a walk comes to it, but not to find roots.
	leafSize = 256 << 10
	// walkTogether is how many blocks that nothing links to are walked like those that one block links to, to be fetched at the same time.
	walkTogether = 64
	// guesses is how many blocks that may have links are fetched ahead: what comes next is below the first of them.
	guesses = 4
	// linkedBits is how many bits of the filter a block sets. With 4, and 10 bits per block, one in 85 is taken for linked though nothing links to it.
	linkedBits = 4
)

// repackMemory divides the half of the memory setting that is not for reads. A pack that is made and 8 MiB for a block that is read have their part;
// there remain at least 8 MiB, whatever the number of objects: a half of them for blocks that are fetched ahead, in bytes, the other for the
// filter of blocks that something links to, which 3 million fit into at 10 bits each (more of them make the order worse, and nothing else). What a
// larger setting leaves beyond that is divided between these two and small blocks that are kept to be read only once: 20, 20 and 40 MiB with the
// defaults, the filter good for 17 million.
func (c Config) repackMemory() (ahead, filter, kept int64) {
	const least = 4 << 20
	spare := max(c.Memory/2-c.PackSize-16<<20, 0)
	return least + spare/4, least + spare/4, spare / 2
}

// walk takes loose blocks in the order in which their DAGs are read.
type walk struct {
	p   *Packed
	to  *repacking
	ctx context.Context
	cut context.CancelFunc

	ahead   int64 // bytes that may be fetched ahead
	held    int64 // that are
	fetches map[string]*fetchAhead
	running sync.WaitGroup

	linked filter
	kept   map[string][]byte
	room   int64 // for kept, bytes
}

// level is what one block links to, or blocks that nothing links to.
type level struct {
	blocks  []linkTo
	next    int
	ahead   int   // the first that was not looked at to be fetched ahead
	held    int64 // bytes fetched ahead for it
	guesses int   // among them
}

type linkTo struct {
	n     name
	codec uint64
}

type fetchAhead struct {
	done  chan struct{}
	value []byte
	err   error
	size  int64
	guess bool
	level *level
}

func newWalk(ctx context.Context, p *Packed, to *repacking) *walk {
	w := &walk{p: p, to: to, fetches: map[string]*fetchAhead{}, kept: map[string][]byte{}}
	w.ctx, w.cut = context.WithCancel(ctx)
	var bytes int64
	w.ahead, bytes, w.room = p.c.repackMemory()
	w.linked = make(filter, bytes/8)
	return w
}

// end waits for what was fetched in vain.
func (w *walk) end() {
	w.cut()
	w.running.Wait()
}

// all takes everything: what is below the roots, then below loose blocks that nothing links to, then the rest.
func (w *walk) all(ctx context.Context, roots iter.Seq[cid.Cid]) error {
	if roots != nil {
		var some []linkTo
		for c := range roots {
			if some = append(some, linkTo{name(c.Hash()), c.Prefix().Codec}); len(some) == walkTogether {
				if err := w.below(ctx, some); err != nil {
					return err
				}
				some = some[:0:0]
			}
		}
		if err := w.below(ctx, some); err != nil {
			return err
		}
	}
	if err := w.findLinks(ctx); err != nil {
		return err
	}
	if err := w.rest(ctx, func(e index.Entry) bool { return e.Length < leafSize && !w.linked.has(e.Key) }); err != nil {
		return err
	}
	return w.rest(ctx, func(index.Entry) bool { return true })
}

// loose yields the entries of blocks that are to be taken.
func (w *walk) loose(ctx context.Context) iter.Seq2[index.Entry, error] {
	return func(yield func(index.Entry, error) bool) {
		for e, err := range w.p.x.Entries(nil) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(e, err)
				return
			}
			if e.Kind != index.Loose {
				continue
			}
			_, ok, err := w.to.wants(name(e.Key))
			if (ok || err != nil) && !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// rest takes the blocks that are left and chosen, and what is below them.
func (w *walk) rest(ctx context.Context, chosen func(index.Entry) bool) error {
	var some []linkTo
	for e, err := range w.loose(ctx) {
		if err != nil {
			return err
		}
		if !chosen(e) {
			continue
		}
		if some = append(some, linkTo{name(e.Key), links.Unknown}); len(some) == walkTogether {
			if err := w.below(ctx, some); err != nil {
				return err
			}
			some = some[:0:0]
		}
	}
	return w.below(ctx, some)
}

// findLinks reads the small blocks that are left, and notes what they link to.
func (w *walk) findLinks(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(int(max(1, min(int64(w.p.c.Downloads), w.ahead/leafSize))))
	var mu sync.Mutex
	var failed error
	for e, err := range w.loose(gctx) {
		if failed = err; err != nil {
			break
		}
		if e.Length >= leafSize {
			continue
		}
		group.Go(func() error {
			n := name(e.Key)
			value, err := w.p.get(gctx, n)
			if unreadable(err) {
				return nil
			} else if err != nil {
				return err
			}
			found := links.Of(value, links.Unknown)
			mu.Lock()
			defer mu.Unlock()
			for _, c := range found {
				w.linked.add(c.Hash())
			}
			if size := int64(len(value) + len(n)); size <= w.room {
				w.room -= size
				w.kept[string(n)] = value
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return failed
}

// unreadable reports whether a block was deleted meanwhile, or is damaged, and so left where it is.
func unreadable(err error) bool {
	return err != nil && (errors.Is(err, index.ErrNotFound) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrLost) || ofObject(err))
}

// below takes blocks and what they link to, depth first. A block that is not loose any more is not gone below: what it links to was taken with
// it, or comes with the rest.
func (w *walk) below(ctx context.Context, blocks []linkTo) error {
	way := []*level{{blocks: blocks}}
	for len(way) > 0 {
		top := way[len(way)-1]
		if top.next == len(top.blocks) {
			way = way[:len(way)-1]
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.fetchAhead(top); err != nil {
			return err
		}
		b := top.blocks[top.next]
		top.blocks[top.next] = linkTo{}
		top.next++
		value, err := w.take(ctx, b.n)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		found := links.Of(value, b.codec)
		if len(found) == 0 {
			continue
		}
		next := &level{blocks: make([]linkTo, len(found))}
		for i, c := range found {
			next.blocks[i] = linkTo{name(c.Hash()), c.Prefix().Codec}
		}
		way = append(way, next)
	}
	return nil
}

// take puts a block into a pack and returns its bytes, nil if it is not to be taken.
func (w *walk) take(ctx context.Context, n name) ([]byte, error) {
	f, fetched := w.fetches[string(n)]
	if fetched {
		delete(w.fetches, string(n))
		f.level.held -= f.size
		w.held -= f.size
		if f.guess {
			f.level.guesses--
		}
	}
	if _, ok, err := w.to.wants(n); err != nil || !ok {
		return nil, err
	}
	value, ok := w.kept[string(n)]
	var err error
	switch {
	case ok:
		delete(w.kept, string(n))
		w.room += int64(len(value) + len(n))
	case fetched:
		select {
		case <-f.done:
			value, err = f.value, f.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	default:
		value, err = w.p.get(ctx, n)
	}
	if unreadable(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return value, w.to.add(ctx, n, value)
}

// fetchAhead begins to fetch what comes next on a level. A level holds no more than a half of what those above it leave of the memory.
func (w *walk) fetchAhead(l *level) error {
	for l.ahead = max(l.ahead, l.next); l.ahead < len(l.blocks); l.ahead++ {
		b := l.blocks[l.ahead]
		if _, twice := w.fetches[string(b.n)]; twice {
			continue
		}
		if _, here := w.kept[string(b.n)]; here {
			continue
		}
		at, ok, err := w.to.wants(b.n)
		if err != nil {
			return err
		} else if !ok {
			continue
		}
		guess := at.Length < leafSize && b.codec != cid.Raw && b.codec != links.Unknown
		if guess && l.guesses == guesses || l.held+at.Length > (w.ahead-w.held+l.held)/2 {
			return nil
		}
		f := &fetchAhead{done: make(chan struct{}), size: at.Length, guess: guess, level: l}
		if guess {
			l.guesses++
		}
		l.held += f.size
		w.held += f.size
		w.fetches[string(b.n)] = f
		w.running.Go(func() {
			defer close(f.done)
			f.value, f.err = w.p.get(w.ctx, b.n)
		})
	}
	return nil
}

// filter knows a set of multihashes, and takes a few others for members: a Bloom filter, whose hashes are the digests.
type filter []uint64

// bits calls do with the places of a multihash. Its last 16 bytes are as good as random for all hashes but identity.
func (f filter) bits(key []byte, do func(word int, bit uint64)) {
	var tail [16]byte
	copy(tail[:], key[max(0, len(key)-len(tail)):])
	a, b := binary.LittleEndian.Uint64(tail[:]), binary.LittleEndian.Uint64(tail[8:])|1
	for i := range uint64(linkedBits) {
		at := (a + i*b) % (uint64(len(f)) * 64)
		do(int(at/64), 1<<(at%64))
	}
}

func (f filter) add(key []byte) { f.bits(key, func(word int, bit uint64) { f[word] |= bit }) }

func (f filter) has(key []byte) bool {
	all := true
	f.bits(key, func(word int, bit uint64) { all = all && f[word]&bit != 0 })
	return all
}
