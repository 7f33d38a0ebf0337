package migrate_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/delayed"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

func flat(tb testing.TB, dir string) *flatfs.Datastore {
	tb.Helper()
	d, err := flatfs.CreateOrOpen(dir, flatfs.NextToLast(2), true)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, d.Close()) })
	return d
}

func packed(tb testing.TB, b bucket.Bucket) *s3ds.Packed {
	tb.Helper()
	c := s3ds.Config{Layout: s3ds.LayoutPacks, CacheSize: s3ds.NoCache, Memory: 128 << 20}
	p, err := s3ds.NewPacked(tb.Context(), b, c, tb.TempDir())
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, p.Close()) })
	return p
}

// fill puts blocks of a size, and returns how many bytes they are.
func fill(tb testing.TB, d ds.Batching, blocks, size int) int64 {
	tb.Helper()
	r := rand.NewChaCha8([32]byte{1})
	batch, err := d.Batch(tb.Context())
	require.NoError(tb, err)
	data := make([]byte, size)
	for i := range blocks {
		_, _ = r.Read(data) // never fails
		h, err := mh.Sum(data, mh.SHA2_256, -1)
		require.NoError(tb, err)
		require.NoError(tb, batch.Put(tb.Context(), migrate.Key(h), append([]byte(nil), data...)))
		if i%256 == 255 || i == blocks-1 {
			require.NoError(tb, batch.Commit(tb.Context()))
			batch, err = d.Batch(tb.Context())
			require.NoError(tb, err)
		}
	}
	return int64(blocks) * int64(size)
}

// dropping is a bucket that takes packs and keeps nothing of them, so that what is measured is the migration.
type dropping struct {
	bucket.Conditional
	puts atomic.Int64 // of packs
}

func (d *dropping) PutIf(ctx context.Context, key string, body io.ReadSeeker, c bucket.Condition) (bucket.Info, error) {
	if !strings.HasSuffix(key, pack.Ext) {
		return d.Conditional.PutIf(ctx, key, body, c)
	}
	d.puts.Add(1)
	n, err := io.Copy(io.Discard, body)
	return bucket.Info{Key: key, Size: n}, err
}

// BenchmarkFlatfsToPacks: bytes per second into S3 as it is modelled, 40 ms for a PUT in the median and 90 MB/s for each connection, and the
// number of PUTs for each pack, which is 1.
func BenchmarkFlatfsToPacks(b *testing.B) {
	source := flat(b, filepath.Join(b.TempDir(), "blocks"))
	b.SetBytes(fill(b, source, 4096, 256<<10))
	var puts, packs float64
	for b.Loop() {
		b.StopTimer()
		sink := &dropping{Conditional: mem.New()}
		p := packed(b, delayed.Wrap(sink, delayed.S3()))
		dir := b.TempDir()
		b.StartTimer()
		_, err := migrate.Run(b.Context(), migrate.Datastore{Store: source}, migrate.Datastore{Store: p}, migrate.Options{Dir: dir})
		require.NoError(b, err)
		require.NoError(b, p.Drain(b.Context()))
		st, err := p.Stat(b.Context())
		require.NoError(b, err)
		puts, packs = float64(sink.puts.Load()), float64(st.Index.Packs)
	}
	b.ReportMetric(puts/packs, "PUT/pack")
}

// BenchmarkPacksToEFS: from S3 as it is modelled into files.
func BenchmarkPacksToEFS(b *testing.B) {
	source := packed(b, delayed.Wrap(mem.New(), delayed.S3()))
	b.SetBytes(fill(b, source, 1024, 256<<10))
	require.NoError(b, source.Drain(b.Context()))
	for b.Loop() {
		b.StopTimer()
		target, err := efs.Open(efs.Config{Path: filepath.Join(b.TempDir(), "blocks"), ShardFunc: flatfs.NextToLast(2).String()})
		require.NoError(b, err)
		dir := b.TempDir()
		b.StartTimer()
		_, err = migrate.Run(b.Context(), migrate.Datastore{Store: source, Stored: source.Stored}, migrate.Datastore{Store: target},
			migrate.Options{Dir: dir, Commits: 4})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, target.Close())
		b.StartTimer()
	}
}

// TestOnePutForEachPack counts requests, whatever the machine.
func TestOnePutForEachPack(t *testing.T) {
	source := flat(t, filepath.Join(t.TempDir(), "blocks"))
	fill(t, source, 1024, 100<<10)
	sink := &dropping{Conditional: mem.New()}
	p := packed(t, sink)
	_, err := migrate.Run(t.Context(), migrate.Datastore{Store: source}, migrate.Datastore{Store: p}, migrate.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, p.Drain(t.Context()))
	st, err := p.Stat(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1024, st.Index.LiveBlocks)
	require.EqualValues(t, st.Index.Packs, sink.puts.Load())
	require.LessOrEqual(t, st.Index.Packs, int64(4), "100 MiB in packs of 32 MiB")
}

// gathering holds readers up until so many have come together, and lets everybody pass from then on.
type gathering struct {
	migrate.Datastore
	want int64
	now  atomic.Int64
	met  chan struct{}
	once sync.Once
}

func (g *gathering) Get(ctx context.Context, h mh.Multihash) ([]byte, error) {
	if g.now.Add(1) >= g.want {
		g.once.Do(func() { close(g.met) })
	}
	defer g.now.Add(-1)
	select {
	case <-g.met:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return g.Datastore.Get(ctx, h)
}

// TestPacksToEFSKeepsEveryWriterBusy: as `datastore migrate` reads a bucket and writes files, at least 8 blocks are read at the same time for each
// writer, small ones and those of kubo's default size.
func TestPacksToEFSKeepsEveryWriterBusy(t *testing.T) {
	const writers = 4
	for size, blocks := range map[int]int{4 << 10: 1000, 256 << 10: 120} {
		source := packed(t, mem.New())
		fill(t, source, blocks, size)
		require.NoError(t, source.Drain(t.Context()))
		target, err := efs.Open(efs.Config{Path: filepath.Join(t.TempDir(), "blocks"), ShardFunc: flatfs.NextToLast(2).String()})
		require.NoError(t, err)
		g := &gathering{Datastore: migrate.Datastore{Store: source, Stored: source.Stored}, want: 8 * writers, met: make(chan struct{})}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("they never came together"))
		rep, err := migrate.Run(ctx, g, migrate.Datastore{Store: target}, migrate.Options{Dir: t.TempDir(), InFlight: 128, Commits: writers})
		require.NoError(t, err, "%d blocks were read at the same time, of %d bytes", g.now.Load(), size)
		cancel()
		require.EqualValues(t, blocks, rep.Copied)
		require.NoError(t, target.Close())
	}
}
