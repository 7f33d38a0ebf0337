package s3ds

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// packs is a small configuration of layout packs.
func packs() Config {
	return Config{RootDirectory: "root", Layout: LayoutPacks, PackSize: 1 << 20, SealAge: time.Hour, CacheSize: 64 << 20}
}

// site is where a store lives: a bucket and a disk.
type site struct {
	b  bucket.Bucket
	fs vfs.FS
	c  Config
	o  parts
}

func newSite(b bucket.Bucket) *site {
	return &site{b: b, fs: vfs.NewMem(), c: packs(), o: parts{manual: true}}
}

// takeOver has the store take the prefix over without long waits.
func (s *site) takeOver() *site {
	s.c.TakeOver, s.o.lease = true, time.Millisecond
	return s
}

func (s *site) tryOpen(t testing.TB) (*Packed, error) {
	o := s.o
	o.fs = s.fs
	return openPacked(t.Context(), New(s.b, s.c), s.c, "/repo", o, nil)
}

func (s *site) open(t testing.TB) *Packed {
	t.Helper()
	p, err := s.tryOpen(t)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// flush uploads what is in the journal, and waits for that.
func flush(t testing.TB, p *Packed) {
	t.Helper()
	require.NoError(t, p.j.Seal(t.Context()))
	for {
		changed := p.up.watch()
		if p.j.Stats().Segments == 0 {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			require.FailNow(t, "not uploaded", "%v", p.up.trouble())
		}
	}
}

// blocksOf returns n blocks of some bytes each.
func blocksOf(t testing.TB, n, size int) []put {
	t.Helper()
	all := make([]put, n)
	for i := range all {
		data := bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), size/8+1)[:size]
		all[i].key, all[i].value = block(t, data, mh.SHA2_256)
	}
	return all
}

func putAll(t testing.TB, d ds.Batching, puts []put) {
	t.Helper()
	b, err := d.Batch(t.Context())
	require.NoError(t, err)
	for _, one := range puts {
		require.NoError(t, b.Put(t.Context(), one.key, one.value))
	}
	require.NoError(t, b.Commit(t.Context()))
}

func requireAll(t testing.TB, d ds.Datastore, puts []put) {
	t.Helper()
	for _, one := range puts {
		got, err := d.Get(t.Context(), one.key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(one.value, got))
		size, err := d.GetSize(t.Context(), one.key)
		require.NoError(t, err)
		require.Equal(t, len(one.value), size)
	}
}

func TestPackedConformance(t *testing.T) {
	gate.Plain(t, "thousands of queries")
	t.Parallel()
	for name, root := range map[string]string{"without root": "", "with root": "some/root"} {
		t.Run(name, func(t *testing.T) {
			if root == "" {
				gate.Long(t, "with a root there is more to get wrong")
			}
			s := newSite(mem.New())
			s.c.RootDirectory = root
			dstest.SubtestAll(t, s.open(t))
		})
	}
}

// TestPackedConformanceOnServer leaves out what TestConformanceOnServer leaves out, for the same reasons.
func TestPackedConformanceOnServer(t *testing.T) {
	gate.Long(t, "packs have the same requests in memory, and TestConformanceOnServer the same server")
	server := s3test.Start(t)
	fresh := func(t *testing.T) ds.Batching {
		c := config(server.URL, server.NewBucket(t))
		c.RootDirectory, c.Layout = "some/root", LayoutPacks
		p, err := OpenPacked(t.Context(), c, t.TempDir(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return p
	}
	for _, f := range dstest.BasicSubtests {
		name := funcName(f)
		if !onServer(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, fresh(t))
		})
	}
	for _, f := range dstest.BatchSubtests {
		t.Run(funcName(f), func(t *testing.T) {
			t.Parallel()
			f(t, fresh(t))
		})
	}
}

func TestPackedLifeOfABlock(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	puts := blocksOf(t, 100, 10_000)
	putAll(t, p, puts)
	requireAll(t, p, puts)
	usage, err := p.DiskUsage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1_000_000, usage)
	flush(t, p)
	requireAll(t, p, puts)
	require.Zero(t, p.stat().Index.JournalBlocks)
	keys := queryKeys(t, p, query.Query{})
	require.Len(t, keys, 100)
	for _, one := range puts[:60] {
		require.NoError(t, p.Delete(t.Context(), one.key))
		_, err := p.Get(t.Context(), one.key)
		require.Equal(t, ds.ErrNotFound, err)
	}
	require.NoError(t, p.Repack(t.Context(), nil, nil))
	requireAll(t, p, puts[60:])
	st := p.stat()
	require.Zero(t, st.Index.DeadBytes)
	require.EqualValues(t, 1, st.Index.Packs)
	require.Len(t, objects(t, s.b), 2, "a pack and the owner")
	require.NoError(t, p.Close())

	again := s.open(t)
	requireAll(t, again, puts[60:])
	require.Len(t, queryKeys(t, again, query.Query{}), 40)
}

// TestFreshNodeServesTheBucket is P3: another disk, the same bucket.
func TestFreshNodeServesTheBucket(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	puts := blocksOf(t, 500, 10_000)
	putAll(t, p, puts)
	flush(t, p)
	require.NoError(t, p.Put(t.Context(), ds.NewKey("/a/name"), []byte("a value")))
	key, value := block(t, []byte("of go-ds-s3"), mh.SHA2_256)
	putObject(t, b, "root"+key.String(), value)
	require.NoError(t, p.Close())

	fresh := newSite(b)
	f := fresh.open(t)
	requireAll(t, f, puts)
	requireAll(t, f, []put{{key, value}, {ds.NewKey("/a/name"), []byte("a value")}})
	require.Len(t, queryKeys(t, f, query.Query{}), 502)
	require.NoError(t, f.Repack(t.Context(), nil, nil))
	requireAll(t, f, []put{{key, value}})
	require.NotContains(t, objects(t, b), "root"+key.String())
}

func TestSecondNodeIsRefused(t *testing.T) {
	b := mem.New()
	p := newSite(b).open(t)
	_, err := newSite(b).tryOpen(t)
	require.ErrorIs(t, err, ErrOwned)
	require.Contains(t, err.Error(), p.node.id)
	require.NoError(t, p.Close())
	newSite(b).open(t)
}

func TestDurableInBucket(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.Durability = DurableInBucket
	p := s.open(t)
	puts := blocksOf(t, 50, 1000)
	putAll(t, p, puts)
	for _, one := range puts {
		require.NoError(t, p.Put(t.Context(), one.key, one.value))
	}
	// The disk and the node are lost.
	requireAll(t, newSite(b).takeOver().open(t), puts)
}

func TestKeysThatMeanSomethingElseAreRefused(t *testing.T) {
	p := newSite(mem.New()).open(t)
	for _, key := range []string{"/", "/" + ownerName, "/" + probeName + "x", "/018bfa2e5c80-n3k7q-0000020001a3-5bd3f6e2.car", "/" + strings.Repeat("x", index.MaxKey)} {
		require.Error(t, p.Put(t.Context(), ds.RawKey(key), nil), key)
	}
	key, _ := block(t, []byte("right"), mh.SHA2_256)
	require.ErrorIs(t, p.Put(t.Context(), key, []byte("wrong")), pack.ErrCorrupt)
	has, err := p.Has(t.Context(), key)
	require.NoError(t, err)
	require.False(t, has)
}

// spoil changes a byte of an object.
func spoil(t testing.TB, b bucket.Bucket, key string, at int64) {
	t.Helper()
	body, info, err := b.Get(t.Context(), key, bucket.Range{})
	require.NoError(t, err)
	data := make([]byte, info.Size)
	_, err = body.Read(data)
	require.NoError(t, err)
	data[at] ^= 1
	putObject(t, b, key, data)
}

func onlyPack(t testing.TB, b bucket.Bucket) string {
	t.Helper()
	found := ""
	for _, name := range objects(t, b) {
		if strings.HasSuffix(name, pack.Ext) {
			require.Empty(t, found, "more than one pack")
			found = name
		}
	}
	require.NotEmpty(t, found)
	return found
}

func TestDamageInTheBucketIsNamedAndHealedByTheNextPut(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.CacheSize = NoCache
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	object := onlyPack(t, b)
	spoil(t, b, object, pack.FirstSection+500)
	var found []Finding
	_, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { found = append(found, f) }})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, object, found[0].Object)
	require.True(t, found[0].Live)
	_, err = p.Get(t.Context(), puts[0].key)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, object)
	has, err := p.Has(t.Context(), puts[0].key)
	require.NoError(t, err)
	require.True(t, has, "it was acknowledged")
	requireAll(t, p, puts[1:])
	require.NoError(t, p.Put(t.Context(), puts[0].key, puts[0].value))
	requireAll(t, p, puts)
	flush(t, p)
	requireAll(t, p, puts)
	require.Zero(t, p.stat().DamagedBlocks)
	require.NoError(t, p.Close())

	// Who makes the index anew finds two copies, in packs that come in any order, and takes the newer one.
	for range 20 {
		fresh := newSite(b)
		fresh.c.CacheSize = NoCache
		f := fresh.open(t)
		requireAll(t, f, puts)
		require.NoError(t, f.Close())
	}
}

func TestPackThatIsGoneIsAnErrorNotAMiss(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	s.c.CacheSize = NoCache
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	object := onlyPack(t, b)
	require.NoError(t, b.Delete(t.Context(), object))
	_, err := p.Get(t.Context(), puts[3].key)
	require.ErrorIs(t, err, ErrLost)
	require.False(t, errors.Is(err, ds.ErrNotFound))
	require.ErrorContains(t, err, object)
	var found []Finding
	_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { found = append(found, f) }})
	require.NoError(t, err)
	require.Len(t, found, 11, "the pack, and each block")
	require.NoError(t, p.Put(t.Context(), puts[3].key, puts[3].value))
	requireAll(t, p, puts[3:4])
}

// TestBlocksOfADamagedPackArePutAgain: the pack is gone or cut, a reader of one block finds it out or verify does, and the node is started again or not. A put
// of any of its blocks is a real one, and afterwards all is well, also for a fresh node.
func TestBlocksOfADamagedPackArePutAgain(t *testing.T) {
	for damage, do := range map[string]func(testing.TB, bucket.Bucket, string){
		"gone": func(t testing.TB, b bucket.Bucket, object string) { require.NoError(t, b.Delete(t.Context(), object)) },
		"cut":  func(t testing.TB, b bucket.Bucket, object string) { cut(t, b, object, 4000) },
	} {
		for found, find := range map[string]func(testing.TB, *Packed, put){
			"by a reader": func(t testing.TB, p *Packed, last put) {
				_, err := p.Get(t.Context(), last.key)
				require.ErrorIs(t, err, ErrLost)
				require.ErrorContains(t, err, "put it again")
			},
			"by verify": func(t testing.TB, p *Packed, _ put) {
				_, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(Finding) {}})
				require.NoError(t, err)
			},
		} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, found %s, restart %v", damage, found, restart), func(t *testing.T) {
					b := mem.New()
					s := newSite(b)
					s.c.CacheSize = NoCache
					p := s.open(t)
					puts := blocksOf(t, 10, 1000)
					putAll(t, p, puts)
					flush(t, p)
					do(t, b, onlyPack(t, b))
					find(t, p, puts[9])
					if restart {
						require.NoError(t, p.Close())
						p = s.open(t)
					}
					require.NotZero(t, p.stat().DamagedBlocks)
					putAll(t, p, puts)
					flush(t, p)
					requireAll(t, p, puts)
					require.NoError(t, p.compactAll(t.Context(), 0, func(Progress) {}))
					requireAll(t, p, puts)
					_, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { t.Error(f) }})
					require.NoError(t, err)
					require.Zero(t, p.stat().DamagedBlocks)
					require.NoError(t, p.Close())
					requireAll(t, newSite(b).open(t), puts)
				})
			}
		}
	}
}

// TestWrongAnswerMakesNothingLost: one "no such object" of something in front of the bucket is an error, and no damage.
func TestWrongAnswerMakesNothingLost(t *testing.T) {
	m := newMachine()
	s := m.site()
	s.c.CacheSize = NoCache
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	lie := faulty.Rule{Op: bucket.OpGet, Key: pack.Ext, Times: 1, Err: bucket.ErrNotFound}
	m.bad.Set(lie)
	_, err := p.Get(t.Context(), puts[0].key)
	require.NotErrorIs(t, err, ErrLost)
	require.ErrorContains(t, err, "try again")
	m.bad.Set(lie)
	_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { require.True(t, f.Unasked, f) }})
	require.NoError(t, err)
	m.bad.Set(faulty.Rule{Op: bucket.OpGet, Key: pack.Ext, Body: faulty.Flip})
	_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { t.Log(f) }})
	require.NoError(t, err)
	m.bad.Set()
	_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { t.Error(f) }})
	require.NoError(t, err)
	requireAll(t, p, puts)
	require.Zero(t, p.stat().DamagedBlocks, "what is good again is no longer noted")
}

func TestLostJournalIsAnErrorNotAMiss(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	require.NoError(t, p.Close())
	names, err := s.fs.List("/repo/s3ds/journal")
	require.NoError(t, err)
	lost := 0
	for _, name := range names {
		if strings.HasSuffix(name, pack.Ext) {
			require.NoError(t, s.fs.Remove("/repo/s3ds/journal/"+name))
			lost++
		}
	}
	require.Equal(t, 1, lost)
	p = s.open(t)
	require.EqualValues(t, 10, p.stat().DamagedBlocks)
	_, err = p.Get(t.Context(), puts[0].key)
	require.ErrorIs(t, err, ErrLost)
	putAll(t, p, puts)
	requireAll(t, p, puts)
}

func TestDamagedIndexIsMadeAnew(t *testing.T) {
	s := newSite(mem.New())
	p := s.open(t)
	puts := blocksOf(t, 300, 10_000)
	putAll(t, p, puts[:200])
	flush(t, p)
	putAll(t, p, puts[200:])
	require.NoError(t, p.Close())
	f, err := s.fs.OpenReadWrite("/repo/s3ds/index/head", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("garbage"), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	p = s.open(t)
	requireAll(t, p, puts)
	require.Len(t, queryKeys(t, p, query.Query{}), 300)
}

func TestDamagedIndexOfAPackIsReadFromItsSections(t *testing.T) {
	b := mem.New()
	s := newSite(b)
	p := s.open(t)
	puts := blocksOf(t, 10, 1000)
	putAll(t, p, puts)
	flush(t, p)
	require.NoError(t, p.Close())
	object := onlyPack(t, b)
	info, err := b.Head(t.Context(), object)
	require.NoError(t, err)
	spoil(t, b, object, info.Size-1)
	requireAll(t, newSite(b).open(t), puts)

	// A section is damaged as well: what comes before it is served, the node says what is wrong, and the blocks can be put again.
	spoil(t, b, object, pack.FirstSection+5*1038+500)
	fresh := newSite(b).takeOver()
	said := fresh.logged()
	p = fresh.open(t)
	require.Contains(t, said.String(), "1 packs are gone, cut or cannot be read")
	require.Contains(t, said.String(), object)
	require.EqualValues(t, 1, p.stat().Index.UnfitPacks)
	requireAll(t, p, puts[:5])
	putAll(t, p, puts)
	flush(t, p)
	requireAll(t, p, puts)
	require.NoError(t, p.Close())
	requireAll(t, newSite(b).open(t), puts)
}

// objects are the names of all but the records of a chain.
func objects(t testing.TB, b bucket.Bucket) []string {
	t.Helper()
	names := []string{}
	for info, err := range b.List(t.Context(), "", "") {
		require.NoError(t, err)
		if !strings.Contains(info.Key, chainName) {
			names = append(names, info.Key)
		}
	}
	return names
}
