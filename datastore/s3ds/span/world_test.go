package span

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

var bg = context.Background()

// world is a bucket of packs, and what each block in them is.
type world struct {
	*source
	packs  []Pack
	blocks []Block
	data   map[string][]byte // object → bytes
}

// packBytes is the size at which packs end in these tests, as the journal's segments do.
const packBytes = 32 << 20

// newWorld lays out blocks of the given sizes in arrival order: 69 bytes of header, sections with 40 bytes in front of the data, and
// an index behind them.
func newWorld(t testing.TB, limit int64, sizes ...int64) *world {
	w := &world{data: map[string][]byte{}}
	var buf []byte
	var pending []Block
	rng := rand.NewChaCha8([32]byte{1})
	end := func() {
		if len(pending) == 0 {
			return
		}
		p := Pack{Key: fmt.Sprintf("packs/%03d", len(w.packs)), End: int64(len(buf))}
		for i := range pending {
			pending[i].Pack = p
		}
		w.blocks = append(w.blocks, pending...)
		w.packs = append(w.packs, p)
		buf = append(buf, bytes.Repeat([]byte("index"), 1000)...)
		w.data[p.Key] = buf
		buf, pending = nil, nil
	}
	for _, n := range sizes {
		if buf == nil {
			buf = make([]byte, 69, min(limit+limit/8, 64<<20))
		}
		buf = append(buf, make([]byte, 40)...)
		data := make([]byte, n)
		_, _ = rng.Read(data)
		sum := sha256.Sum256(data)
		pending = append(pending, Block{Offset: int64(len(buf)), Length: n, Hash: append(mh.Multihash{0x12, 32}, sum[:]...)})
		if buf = append(buf, data...); int64(len(buf)) >= limit {
			end()
		}
	}
	end()
	w.source = &source{data: w.data}
	return w
}

// nodes adds a pack of nodes of the given sizes, which is behind the others, and returns its blocks.
func (w *world) nodes(t testing.TB, sizes ...int64) []Block {
	other := newWorld(t, 1<<40, sizes...)
	p := other.packs[0]
	data := w.data
	data["nodes"] = other.data[p.Key]
	for i := range other.blocks {
		other.blocks[i].Pack = Pack{Key: "nodes", End: p.End, Nodes: true}
	}
	return other.blocks
}

func (w *world) next(key string) (Pack, bool) {
	i := slices.IndexFunc(w.packs, func(p Pack) bool { return p.Key == key })
	if i < 0 || i+1 == len(w.packs) {
		return Pack{}, false
	}
	return w.packs[i+1], true
}

func (w *world) want(b Block) []byte { return w.data[b.Pack.Key][b.Offset : b.Offset+b.Length] }

func (w *world) reader(t testing.TB, change ...func(*Options)) *Reader {
	// Memory for all, so that nothing leaves it before the disk has it, however slow that is.
	o := Options{Next: w.next, MemoryBytes: 2 << 30}
	for _, f := range change {
		f(&o)
	}
	r, err := New(w.source, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (w *world) get(t testing.TB, r *Reader, b Block) {
	t.Helper()
	got, err := r.Get(bg, b)
	require.NoError(t, err)
	require.True(t, bytes.Equal(w.want(b), got))
}

func cached(fs vfs.FS, size int64) func(*Options) {
	return func(o *Options) { o.FS, o.CacheDir, o.CacheBytes = fs, "cache", size }
}

// source is a bucket that can be read only. It counts GETs, and may hold them up, spoil or fail them. (Package mem hashes
// the whole object for each of them.)
type source struct {
	bucket.Bucket
	data map[string][]byte

	gets  atomic.Int64
	bytes atomic.Int64

	mu   sync.Mutex
	log  []string
	hook func(ctx context.Context, r bucket.Range, body io.Reader) (io.Reader, error)
}

func (g *source) set(hook func(context.Context, bucket.Range, io.Reader) (io.Reader, error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hook = hook
}

func (g *source) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	g.gets.Add(1)
	g.mu.Lock()
	g.log = append(g.log, fmt.Sprintf("%s %d+%d", key, r.Offset, r.Length))
	hook := g.hook
	g.mu.Unlock()
	info := bucket.Info{Key: key, Size: int64(len(g.data[key]))}
	n, err := r.Clip(info.Size)
	if err != nil {
		return nil, info, err
	}
	var body io.Reader = bytes.NewReader(g.data[key][r.Offset:][:n])
	if hook != nil {
		if body, err = hook(ctx, r, body); err != nil {
			return nil, info, err
		}
	}
	return &counted{body, ctx, g}, info, nil
}

type counted struct {
	io.Reader
	ctx context.Context
	g   *source
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.Reader.Read(p)
	c.g.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Close() error { return nil }

func (g *source) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gets.Store(0)
	g.bytes.Store(0)
	g.log = nil
}

func (g *source) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.log)
}

// unixfs returns the sizes of the blocks of a file as `ipfs add` makes them, in arrival order: 174 leaves, their node, …, root; and the
// order in which they are read: root, node, its leaves, next node ….
func unixfs(leaves int, leaf int64) (sizes []int64, order []int) {
	var nodes [][]int
	var kids []int
	end := func() {
		nodes = append(nodes, append([]int{len(sizes)}, kids...))
		sizes = append(sizes, int64(50*len(kids)))
		kids = nil
	}
	for range leaves {
		kids = append(kids, len(sizes))
		sizes = append(sizes, leaf)
		if len(kids) == 174 {
			end()
		}
	}
	if len(kids) > 0 {
		end()
	}
	order = append(order, len(sizes))
	sizes = append(sizes, int64(50*len(nodes)))
	for _, n := range nodes {
		order = append(order, n...)
	}
	return sizes, order
}
