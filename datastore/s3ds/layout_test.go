package s3ds

import (
	"context"
	"io"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// in has the store of a site opened in another layout.
func (s *site) in(layout string) *site {
	s.c.Layout = layout
	if layout != LayoutPacks {
		s.c.SealAge = 0
	}
	return s
}

func packsIn(t testing.TB, b bucket.Bucket) (n int) {
	for _, name := range objects(t, b) {
		if strings.HasSuffix(name, pack.Ext) {
			n++
		}
	}
	return n
}

func TestLayoutObjectsServesWhatIsInPacks(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	puts := dag(t, 1, 40, 1000)
	packed, waiting, loose := puts[:20], puts[20:25], puts[25:30]
	putAll(t, p, packed)
	flush(t, p)
	for _, one := range loose {
		putObject(t, b, "root"+one.key.String(), one.value)
	}
	putAll(t, p, waiting) // still in the journal when the layout changes
	require.NoError(t, p.Close())
	require.NoError(t, index.Remove("/repo/s3ds/index", s.fs)) // the loose ones came behind its back

	p = s.in(LayoutObjects).open(t)
	old := puts[:30]
	requireAll(t, p, old)
	require.Len(t, queryKeys(t, p, query.Query{}), 30)
	usage, err := p.DiskUsage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 30_000, usage)
	putAll(t, p, old)
	require.Empty(t, p.j.Stats().Segments, "a put of what the journal has returns when it is in the bucket")
	require.Equal(t, 2, packsIn(t, b))

	// What is written has an object of its own, in which go-ds-s3 finds it.
	fresh := puts[30:]
	putAll(t, p, fresh[:5])
	for _, one := range fresh[5:] {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
	}
	require.Equal(t, 2, packsIn(t, b))
	for _, one := range fresh {
		require.Contains(t, objects(t, b), "root"+one.key.String())
	}
	requireAll(t, p, puts)

	// What is deleted stays so, wherever it was; also when it is put again.
	gone := []put{packed[0], waiting[0], loose[0], fresh[0], fresh[9]}
	for _, one := range gone {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.NoError(t, p.Sync(t.Context(), ds.NewKey("/")))
	require.NoError(t, p.Close())
	p = s.open(t)
	for _, one := range gone {
		has, err := p.Has(t.Context(), one.key)
		require.NoError(t, err)
		require.False(t, has)
		require.NotContains(t, objects(t, b), "root"+one.key.String())
	}
	require.Len(t, queryKeys(t, p, query.Query{}), 35)
	putAll(t, p, gone)
	requireAll(t, p, puts)
	require.ErrorIs(t, p.Repack(t.Context(), nil, nil), errRepackObjects)
	require.NoError(t, p.Close())

	// Another disk, in either layout (P3).
	for _, layout := range []string{LayoutObjects, LayoutPacks, ""} {
		f := newSite(b).in(layout).open(t)
		requireAll(t, f, puts)
		require.NoError(t, f.Close())
	}
	p = s.in(LayoutPacks).open(t)
	requireAll(t, p, puts)
	require.NoError(t, p.Repack(t.Context(), nil, nil))
	requireAll(t, p, puts)
	require.Zero(t, p.stat().Index.LooseBlocks)
}

// TestDeadPacksAreRemovedInLayoutObjects: space is won back there, too.
func TestDeadPacksAreRemovedInLayoutObjects(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	puts := dag(t, 1, 20, 1000)
	putAll(t, p, puts)
	flush(t, p)
	require.NoError(t, p.Close())
	p = s.in(LayoutObjects).open(t)
	for _, one := range puts {
		require.NoError(t, p.Delete(t.Context(), one.key))
	}
	require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
	require.Zero(t, packsIn(t, b))
	require.NoError(t, p.Close())
	f := newSite(b).in(LayoutObjects).open(t)
	require.Empty(t, queryKeys(t, f, query.Query{}))
}

// TestDamageInAPackIsHealedByAnObject, and who makes the index anew finds the good copy, also.
func TestDamageInAPackIsHealedByAnObject(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.CacheSize = NoCache
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	require.NoError(t, p.Close())
	spoil(t, b, onlyPack(t, b), pack.FirstSection+500)
	p = s.in(LayoutObjects).open(t)
	_, err := p.Get(t.Context(), puts[0].key)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, p.Put(t.Context(), puts[0].key, puts[0].value))
	requireAll(t, p, puts)
	require.Zero(t, p.stat().DamagedBlocks)
	require.NoError(t, p.Close())
	for _, layout := range []string{LayoutObjects, LayoutPacks} {
		fresh := newSite(b)
		fresh.c.CacheSize = NoCache
		p := fresh.in(layout).open(t)
		requireAll(t, p, puts)
		require.EqualValues(t, 1, p.stat().Index.LooseBlocks, "the index points to the good copy")
		require.NoError(t, p.Close())
	}
}

func TestSecondNodeIsRefusedInEitherLayout(t *testing.T) {
	b := mem.New()
	p := newSite(b).open(t)
	_, err := newSite(b).in(LayoutObjects).tryOpen(t)
	require.ErrorIs(t, err, ErrOwned)
	require.NoError(t, p.Close())
	newSite(b).in(LayoutObjects).open(t)
	_, err = newSite(b).tryOpen(t)
	require.ErrorIs(t, err, ErrOwned)
}

// TestWhatLayoutObjectsAsksWhenItIsOpened: one list, and nothing if this repo had packs before.
func TestWhatLayoutObjectsAsksWhenItIsOpened(t *testing.T) {
	log := &recorded.Log{}
	b := mem.New()
	c := Config{RootDirectory: "root"}.withPackDefaults("/repo")
	fs := vfs.NewMem()
	asked := func(section string) (bool, string) {
		t.Helper()
		log.Section(section)
		has, err := New(recorded.Wrap(b, log), c).hasPacks(t.Context(), fs, c)
		require.NoError(t, err)
		_, requests, _ := strings.Cut(log.String(), "# "+section+"\n")
		return has, requests
	}
	has, requests := asked("empty")
	require.False(t, has)
	require.Equal(t, 1, strings.Count(requests, "list "))
	for _, one := range blocksOf(t, 2500, 10) {
		putObject(t, b, "root"+one.key.String(), one.value)
	}
	putObject(t, b, "root/zebra", nil)
	putObject(t, b, "roots/018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car", nil)
	has, requests = asked("2,500 blocks")
	require.False(t, has)
	require.Equal(t, 1, strings.Count(requests, "list "), requests)
	putObject(t, b, "root/018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car", nil)
	has, _ = asked("a pack")
	require.True(t, has)
	require.NoError(t, b.Delete(t.Context(), "root/018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car"))
	putObject(t, b, "root/"+ownerName, nil)
	has, _ = asked("an owner")
	require.True(t, has)
	require.NoError(t, b.Delete(t.Context(), "root/"+ownerName))
	require.NoError(t, fs.MkdirAll(c.JournalPath, 0o700))
	require.NoError(t, writeFile(fs, c.JournalPath, path.Join(c.JournalPath, nodeFile), "abc\n"))
	has, requests = asked("a journal")
	require.True(t, has)
	require.Equal(t, "(nothing)", strings.TrimSpace(requests))
}

// TestOpenIn takes the way of kubo: the store that is opened is the one that sees all.
func TestOpenIn(t *testing.T) {
	server := s3test.Start(t)
	c := config(server.URL, server.NewBucket(t))
	c.RootDirectory, c.Layout = "node-1", LayoutObjects
	repo := t.TempDir()
	reopen := func(old Store) Store {
		t.Helper()
		if old != nil {
			require.NoError(t, old.Close())
		}
		s, err := OpenIn(t.Context(), c, repo, nil)
		require.NoError(t, err)
		return s
	}
	puts := dag(t, 1, 30, 1000)
	s := reopen(nil)
	require.IsType(t, &Datastore{}, s)
	putAll(t, s, puts[:10])
	require.ErrorContains(t, Reindex(t.Context(), c, repo, nil), "there is nothing to do")
	c.Layout = LayoutPacks
	s = reopen(s)
	putAll(t, s, puts[:20])
	flush(t, s.(*Packed))
	c.Layout = LayoutObjects
	s = reopen(s)
	require.IsType(t, &Packed{}, s)
	putAll(t, s, puts)
	requireAll(t, s, puts)
	repo = t.TempDir()
	s = reopen(s)
	require.IsType(t, &Packed{}, s)
	requireAll(t, s, puts)
	require.NoError(t, s.Close())
	require.NoError(t, Reindex(t.Context(), c, repo, nil))
	s = reopen(nil)
	requireAll(t, s, puts)
	require.NoError(t, s.Close())
}

func TestConformanceOfObjectsBesidePacks(t *testing.T) {
	gate.Plain(t, "thousands of queries")
	t.Parallel()
	for _, f := range dstest.BasicSubtests {
		t.Run(funcName(f), func(t *testing.T) { f(t, newSite(mem.New()).in(LayoutObjects).open(t)) })
	}
	for _, f := range dstest.BatchSubtests {
		t.Run(funcName(f), func(t *testing.T) { f(t, newSite(mem.New()).in(LayoutObjects).open(t)) })
	}
}

// turnstile is a bucket that lets puts of blocks in when a number of them are there.
type turnstile struct {
	*mem.Bucket
	n    int
	mu   sync.Mutex
	in   int
	open chan struct{}
}

func (g *turnstile) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	g.mu.Lock()
	if g.in++; g.in == g.n {
		close(g.open)
	}
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	return g.Bucket.Put(ctx, key, body)
}

// TestObjectsAreWrittenAtTheSameTime, also those of single puts, and share what is synced for them.
func TestObjectsAreWrittenAtTheSameTime(t *testing.T) {
	const n = 40
	g := &turnstile{Bucket: mem.New(), n: 2 * n, open: make(chan struct{})}
	p := newSite(g).in(LayoutObjects).open(t)
	puts := dag(t, 1, 2*n, 100)
	var wg sync.WaitGroup
	for _, one := range puts[:n] {
		wg.Go(func() {
			if err := p.Put(t.Context(), one.key, one.value); err != nil {
				t.Error(err)
			}
		})
	}
	putAll(t, p, puts[n:])
	wg.Wait()
	requireAll(t, p, puts)
}

// TestHistoriesInBothLayouts is TestPackedHistories with a store that changes its layout whenever it is opened.
func TestHistoriesInBothLayouts(t *testing.T) {
	gate.Checks(t, 20, 60, 500)
	rapid.Check(t, func(rt *rapid.T) {
		h := livesThrough(t, rt, func(c *Config) {
			c.Layout = rapid.SampledFrom([]string{LayoutObjects, LayoutPacks}).Draw(rt, "layout")
			c.SealAge = 0
		})
		h.start()
		h.flush() // what layout packs has acknowledged may be in the journal
		h.fresh()
	})
}

// TestWritersShareACommit: those who wait while the index is committed share the next commit.
func TestWritersShareACommit(t *testing.T) {
	p := newSite(mem.New()).in(LayoutObjects).open(t)
	p.commits.turn <- struct{}{} // one runs
	const n = 50
	results := make(chan error, n)
	for range n {
		go func() { results <- p.commit(t.Context()) }()
	}
	first := func() *commit {
		p.commits.mu.Lock()
		defer p.commits.mu.Unlock()
		return p.commits.next
	}
	require.Eventually(t, func() bool { return first() != nil }, time.Minute, time.Millisecond)
	shared := first()
	<-p.commits.turn
	require.NoError(t, <-results)
	<-shared.done
	for range n - 1 {
		require.NoError(t, <-results)
	}
	key, value := block(t, []byte("x"), mh.SHA2_256)
	require.NoError(t, p.Put(t.Context(), key, value))
}
