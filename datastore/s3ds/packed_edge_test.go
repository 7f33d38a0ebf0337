package s3ds

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestPacksSettings(t *testing.T) {
	c, err := parse(t, `{"region": "eu-west-1", "bucket": "my-blocks", "layout": "packs", "packSize": "16MiB", "sealAge": "10s", "journalPath": "/j", "journalSize": "2GB",
		"indexPath": "i", "cachePath": "c", "cacheSize": "20GiB", "readWindow": 8388608, "uploads": 8, "downloads": 32, "memory": "512MiB", "durability": "bucket"}`)
	require.NoError(t, err)
	require.Equal(t, Config{
		Region: "eu-west-1", Bucket: "my-blocks", Layout: LayoutPacks, PackSize: 16 << 20, SealAge: 10 * time.Second, JournalPath: "/j", JournalSize: 2e9,
		IndexPath: "i", CachePath: "c", CacheSize: 20 << 30, ReadWindow: 8 << 20, Uploads: 8, Downloads: 32, Memory: 512 << 20, Durability: DurableInBucket,
	}, c)
	require.Equal(t, map[string]any{"region": "eu-west-1", "bucket": "my-blocks", "rootDirectory": "", "layout": "packs"}, c.DiskSpec())
	full := c.withPackDefaults("/repo")
	require.Equal(t, []string{"/j", "/repo/i", "/repo/c"}, []string{full.JournalPath, full.IndexPath, full.CachePath})

	c, err = parse(t, `{"region": "eu-west-1", "bucket": "my-blocks", "layout": "packs", "cacheSize": 0}`)
	require.NoError(t, err)
	require.EqualValues(t, NoCache, c.CacheSize)
	require.Equal(t, "/repo/s3ds/journal", c.withPackDefaults("/repo").JournalPath)

	c, err = parse(t, `{"region": "eu-west-1", "bucket": "my-blocks", "layout": "objects"}`)
	require.NoError(t, err)
	require.NotContains(t, c.DiskSpec(), "layout")

	for setting, says := range map[string]string{
		`"layout": "pack"`: `use "objects" or "packs"`, `"layout": "objects", "durability": "journal"`: `only with layout "packs"`, `"layout": "objects", "packSize": 1`: "packSize: 1: use", `"sealAge": "1s"`: `only with layout "packs"`,
		`"layout": "packs", "packSize": "1KiB"`: "packSize: 1024: use 1048576 (1 MiB)", `"layout": "packs", "packSize": "much"`: "number of bytes",
		`"layout": "packs", "packSize": "1.5"`: "number of bytes", `"layout": "packs", "journalSize": "32MiB"`: "two packs or more",
		`"layout": "packs", "cacheSize": 100`: "or 0 for none", `"layout": "packs", "readWindow": "32MiB"`: "to 16777216 (16 MiB)",
		`"layout": "packs", "uploads": 100`: "uploads: 100", `"layout": "packs", "downloads": 5000`: "downloads: 5000",
		`"layout": "packs", "memory": "64MiB"`: "memory: 67108864", `"layout": "packs", "durability": "none"`: `use "journal" or "bucket"`,
		`"layout": "packs", "indexPath": "a", "cachePath": "a"`: "a folder of its own", `"layout": "packs", "sealAge": 60`: "duration in quotes",
	} {
		_, err := parse(t, `{"region": "us-east-1", "bucket": "my-blocks", `+setting+`}`)
		require.ErrorContains(t, err, says, setting)
	}
}

// TestSegmentThatComesBack is what a loss of power can do: the removal of a segment is undone after its pack was indexed.
func TestSegmentThatComesBack(t *testing.T) {
	log := &recorded.Log{}
	b := mem.New()
	s := newSite(recorded.Wrap(b, log))
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	object := onlyPack(t, b)
	for _, one := range puts {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.NoError(t, p.Close())
	body, _, err := b.Get(t.Context(), object, bucket.Range{})
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	f, err := s.fs.Create("/repo/s3ds/journal/"+path.Base(object), vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(data)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	log.Section("again")
	p = s.open(t)
	has, err := p.Has(t.Context(), puts[0].key)
	require.NoError(t, err)
	require.False(t, has, "deleted blocks stay deleted")
	putAll(t, p, puts[:5])
	flush(t, p)
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	requireAll(t, p, puts[:5])
	_, after, _ := strings.Cut(log.String(), "# again\n")
	require.NotContains(t, after, "put "+object)
	require.NotContains(t, objects(t, b), object)
}

func TestPackThatIsBeingUploadedIsNotRemoved(t *testing.T) {
	b := mem.New()
	p := newSite(b).open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	object := onlyPack(t, b)
	require.NoError(t, p.Delete(t.Context(), puts[0].key))
	for _, one := range puts {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.True(t, p.compact.hold(path.Base(object)))
	require.False(t, p.compact.hold(path.Base(object)))
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	require.Contains(t, objects(t, b), object)
	p.compact.letGo(path.Base(object))
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	require.NotContains(t, objects(t, b), object)
}

// TestBlockThatIsLateForItsSegment: a whole upload fits between the journal write of a block and the update of the index.
func TestBlockThatIsLateForItsSegment(t *testing.T) {
	p := newSite(mem.New()).open(t)
	key, value := block(t, []byte("late"), mh.SHA2_256)
	_, h := nameOf(key)
	late := []pack.Block{{Multihash: h, Data: value}}
	locs, err := p.j.Append(t.Context(), late)
	require.NoError(t, err)
	flush(t, p)
	again, err := p.appended(t.Context(), late, locs, p.putJournal)
	require.NoError(t, err)
	require.Equal(t, late, again, "the segment is gone, and the pack has the block for dead")
	has, err := p.Has(t.Context(), key)
	require.NoError(t, err)
	require.False(t, has)
	require.NoError(t, p.append(t.Context(), again))
	flush(t, p)
	requireAll(t, p, []put{{key, value}})
}

// TestUploadWaitsForItsBlocksToBeIndexed, so that they need not be written once more.
func TestUploadWaitsForItsBlocksToBeIndexed(t *testing.T) {
	p := newSite(mem.New()).open(t)
	over := p.segs.begin()
	settled := make(chan struct{})
	go func() {
		p.segs.settle(t.Context())
		close(settled)
	}()
	over()
	<-settled
	defer p.segs.begin()()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.segs.settle(ctx)         // ends with its context
	p.segs.settle(t.Context()) // and in any case
}

func TestBucketThatIsDownMakesWritersWaitAndThenFail(t *testing.T) {
	bad := faulty.Wrap(mem.New())
	s := newSite(bad)
	s.c.PackSize, s.c.JournalSize = 4096, 16<<10
	s.o.writeWait, s.o.pause = 50*time.Millisecond, time.Millisecond
	p := s.open(t)
	bad.Set(faulty.Rule{Op: bucket.OpPut, Key: pack.Ext, Err: errInjected})
	var stored []put
	var failed error
	for _, one := range blocksOf(t, 20, 2000) {
		if failed = p.Put(t.Context(), one.key, one.value); failed != nil {
			break
		}
		stored = append(stored, one)
	}
	require.ErrorIs(t, failed, errWaited)
	require.ErrorIs(t, failed, errInjected, "it says why")
	require.ErrorContains(t, failed, "journalSize")
	require.NotEmpty(t, stored)
	requireAll(t, p, stored)
	require.Error(t, p.stat().Unhealthy)
	bad.Set()
	flush(t, p)
	requireAll(t, p, stored)
	require.NoError(t, p.stat().Unhealthy)
	require.NoError(t, p.Put(t.Context(), ds.NewKey("/x"), nil))
}

func TestReplacedNodeAcknowledgesNothing(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.o.lease = 200 * time.Millisecond
	p := s.open(t)
	puts := blocksOf(t, 4, 100)
	putAll(t, p, puts[:2])
	other := newSite(b)
	other.c.TakeOver, other.o.lease = true, s.o.lease
	o := other.open(t)
	for range 2 {
		err := p.Put(t.Context(), puts[2].key, puts[2].value)
		require.ErrorIs(t, err, ErrReplaced)
		require.ErrorContains(t, err, o.node.id)
		require.ErrorIs(t, p.Put(t.Context(), puts[0].key, puts[0].value), ErrReplaced, "what is there is not acknowledged again either")
		require.ErrorIs(t, p.Delete(t.Context(), puts[0].key), ErrReplaced)
	}
	require.ErrorIs(t, p.Check(t.Context()), ErrReplaced)
	requireAll(t, p, puts[:2])
	putAll(t, o, puts)
	requireAll(t, o, puts)
}

func TestTinyPacksAreMergedInLevels(t *testing.T) {
	log := &recorded.Log{}
	b := mem.New()
	p := newSite(recorded.Wrap(b, log)).open(t)
	all := blocksOf(t, mergeFan*mergeFan, 5000)
	for _, one := range all {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
		flush(t, p)
		require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	}
	requireAll(t, p, all)
	st := p.stat()
	require.LessOrEqual(t, st.Index.Packs, int64(2*(mergeFan-1)))
	require.LessOrEqual(t, st.Rewritten, uint64(3*len(all)*5100), "each block is rewritten once per level")
	log.Section("and then")
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	require.True(t, strings.HasSuffix(log.String(), "# and then\n(nothing)\n"))
}

func TestEveryCallAfterCloseIsRefused(t *testing.T) {
	p := newSite(mem.New()).open(t)
	batch, err := p.Batch(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	key := ds.NewKey("/x")
	_, getErr := p.Get(t.Context(), key)
	_, hasErr := p.Has(t.Context(), key)
	_, usageErr := p.DiskUsage(t.Context())
	_, statErr := p.Stat(t.Context())
	_, batchErr := p.Batch(t.Context())
	for name, err := range map[string]error{
		"put": p.Put(t.Context(), key, nil), "get": getErr, "has": hasErr, "delete": p.Delete(t.Context(), key), "sync": p.Sync(t.Context(), key),
		"usage": usageErr, "stat": statErr, "check": p.Check(t.Context()), "batch": batchErr, "commit": batch.Commit(t.Context()),
		"repack": p.Repack(t.Context(), nil, nil),
	} {
		require.True(t, errors.Is(err, ErrClosed), "%s: %v", name, err)
	}
}

func TestPackedMetrics(t *testing.T) {
	p := newSite(mem.New()).open(t)
	putAll(t, p, blocksOf(t, 5, 100))
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(p))
	families, err := r.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += "/" + l.GetValue()
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	require.EqualValues(t, 5, values["s3ds_blocks/journal"])
	require.EqualValues(t, 500, values["s3ds_block_bytes/journal"])
	require.EqualValues(t, 1, values["s3ds_journal_syncs_total"])
	require.Positive(t, values["s3ds_journal_bytes"])
	require.Contains(t, values, "s3ds_packs/75-100")
}

// deaf is a bucket whose server ignores conditions.
type deaf struct{ *mem.Bucket }

func (d deaf) PutIf(ctx context.Context, key string, body io.ReadSeeker, _ bucket.Condition) (bucket.Info, error) {
	return bucket.Info{}, d.Put(ctx, key, body)
}

func TestProbeOfConditionalWrites(t *testing.T) {
	b := mem.New()
	require.NoError(t, probeConditions(t.Context(), b, "root"))
	require.Empty(t, objects(t, b))
	err := probeConditions(t.Context(), deaf{b}, "root")
	require.ErrorContains(t, err, "use another server")
	require.Empty(t, objects(t, b))
}

func TestProbeOfPacksOnServer(t *testing.T) {
	server := s3test.Start(t)
	c := config(server.URL, server.NewBucket(t))
	c.Layout = LayoutPacks
	require.NoError(t, Probe(t.Context(), c))
}

// slowBucket holds back puts of packs until it is let go.
type slowBucket struct {
	*mem.Bucket
	begun, goOn chan struct{}
}

func (b slowBucket) PutIf(ctx context.Context, key string, body io.ReadSeeker, cond bucket.Condition) (bucket.Info, error) {
	if strings.HasSuffix(key, pack.Ext) {
		close(b.begun)
		<-b.goOn
	}
	return b.Bucket.PutIf(ctx, key, body, cond)
}

func TestCloseLetsAnUploadEnd(t *testing.T) {
	b := slowBucket{mem.New(), make(chan struct{}), make(chan struct{})}
	p := newSite(b).open(t)
	putAll(t, p, blocksOf(t, 10, 1000))
	require.NoError(t, p.j.Seal(t.Context()))
	<-b.begun
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	<-p.life.Done()
	close(b.goOn)
	require.NoError(t, <-closed)
	onlyPack(t, b)
	require.Zero(t, p.j.Stats().Segments)
}
