package s3ds

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/recorded"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// mixed is a store with blocks in packs, in objects of their own, and in the journal.
func mixed(t testing.TB, b bucket.Bucket, size int64) (s *site, p *Packed, packed, loose, waiting []put) {
	t.Helper()
	all := dag(t, 3, 61, 2000) // the last one alone seals no segment
	packed, loose, waiting = all[:20], all[20:60], all[60:]
	for _, one := range loose {
		putObject(t, b, "root"+one.key.String(), one.value)
	}
	s = newSite(b)
	s.c.PackSize, s.c.CacheSize = size, NoCache
	p = s.open(t)
	addLikeKubo(t, p, packed)
	flush(t, p)
	putAll(t, p, waiting)
	return s, p, packed, loose, waiting
}

func TestVerifyFindsNothingWrongAndGoesOn(t *testing.T) {
	log := &recorded.Log{}
	_, p, packed, loose, waiting := mixed(t, recorded.Wrap(mem.New(), log), 4096)
	wrong := func(f Finding) { require.Fail(t, "found", f.String()) }
	var marks []string
	var last Progress
	log.Section("verify")
	all, err := p.Verify(t.Context(), VerifyOptions{
		Sample: 1, Found: wrong, Done: func(mark string) { marks = append(marks, mark) }, Progress: func(p Progress) { last = p },
	})
	require.NoError(t, err)
	require.EqualValues(t, len(packed)+len(loose)+len(waiting), all.Blocks)
	require.Equal(t, all, last)
	require.Equal(t, all.TotalPacks, all.Packs)
	require.EqualValues(t, len(loose), all.Objects)
	require.Equal(t, all.TotalBytes, all.Bytes)
	_, requests, _ := strings.Cut(log.String(), "# verify\n")
	require.Equal(t, 2*int(all.Packs)+len(loose), strings.Count(requests, "get "), "2 GETs per pack, 1 per loose object")

	// From wherever it was broken off it goes on with what comes behind.
	require.Equal(t, marks[len(marks)-1], lastOf(t, p, marks[0]))
	seen := int64(0)
	for _, mark := range marks {
		rest, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: wrong, After: mark})
		require.NoError(t, err)
		require.Less(t, rest.Blocks, all.Blocks)
		require.GreaterOrEqual(t, rest.TotalBytes, rest.Bytes)
		if seen > 0 {
			require.LessOrEqual(t, rest.Blocks, seen)
		}
		seen = rest.Blocks
	}
	require.Zero(t, seen, "behind the last there is nothing")

	none, err := p.Verify(t.Context(), VerifyOptions{Sample: 0, Found: wrong})
	require.NoError(t, err)
	require.Zero(t, none.Blocks)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Verify(ctx, VerifyOptions{Sample: 1, Found: wrong})
	require.ErrorIs(t, err, context.Canceled)
}

// lastOf verifies what comes behind a mark, and returns the last one.
func lastOf(t *testing.T, p *Packed, after string) (last string) {
	_, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, After: after, Done: func(mark string) { last = mark }, Found: func(Finding) {}})
	require.NoError(t, err)
	return last
}

// TestVerifyNamesAllThatIsWrong, once each and in order, also when it is broken off and gone on with in between.
func TestVerifyNamesAllThatIsWrong(t *testing.T) {
	b := mem.New()
	_, p, packed, loose, _ := mixed(t, b, 8192)
	var packs []string
	for _, name := range objects(t, b) {
		if strings.HasSuffix(name, pack.Ext) {
			packs = append(packs, name)
		}
	}
	spoil(t, b, packs[0], pack.FirstSection+500)
	require.NoError(t, b.Delete(t.Context(), packs[1]))
	cut(t, b, packs[2], 3000)
	spoil(t, b, "root"+loose[3].key.String(), 100)
	require.NoError(t, b.Delete(t.Context(), "root"+loose[5].key.String()))
	want := map[string]error{packs[0]: pack.ErrCorrupt, packs[1]: bucket.ErrNotFound, packs[2]: pack.ErrCorrupt}
	for _, stopAt := range []int{0, 1, 2, 3, 4} {
		var found []Finding
		ctx, cancel := context.WithCancel(t.Context())
		after := ""
		_, err := p.Verify(ctx, VerifyOptions{Sample: 1, Done: func(mark string) { after = mark }, Found: func(f Finding) {
			found = append(found, f)
			if len(found) == stopAt {
				cancel()
			}
		}})
		cancel()
		if stopAt > 0 && err != nil {
			require.ErrorIs(t, err, context.Canceled)
			_, err = p.Verify(t.Context(), VerifyOptions{Sample: 1, After: after, Found: func(f Finding) { found = append(found, f) }})
		}
		require.NoError(t, err)
		require.Equal(t, 5, len(slices.CompactFunc(slices.Clone(found), func(a, b Finding) bool { return a.Object == b.Object && want[a.Object] != nil })))
		for _, f := range found {
			require.True(t, f.Live)
			if err, ok := want[f.Object]; ok && f.Multihash != nil && f.Object != packs[0] {
				require.ErrorIs(t, f.Err, ErrLost)
			} else if ok {
				require.ErrorIs(t, f.Err, err)
			} else {
				require.Contains(t, []string{string(mustName(loose[3])), string(mustName(loose[5]))}, string(f.Multihash))
			}
		}
	}
	putAll(t, p, append(append([]put{}, packed[:1]...), loose[3], loose[5]))
	requireAll(t, p, append(append([]put{}, packed[:1]...), loose[3], loose[5]))
}

func mustName(one put) name { n, _ := nameOf(one.key); return n }

// cut takes bytes from the end of an object.
func cut(t testing.TB, b bucket.Bucket, key string, n int64) {
	t.Helper()
	body, info, err := b.Get(t.Context(), key, bucket.Range{})
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, b.Put(t.Context(), key, bytes.NewReader(data[:info.Size-n])))
}

// crowd is a bucket that counts who reads at the same time, and lets none go before a number of them is there.
type crowd struct {
	*mem.Bucket
	mu       sync.Mutex
	n, in    int
	most     int
	complete chan struct{}
	holds    bool
}

func (c *crowd) Get(ctx context.Context, key string, r bucket.Range) (io.ReadCloser, bucket.Info, error) {
	if c.holds && !strings.Contains(key, ".ipfs-aws") {
		c.mu.Lock()
		if c.in++; c.in == c.n && c.most < c.n {
			close(c.complete)
		}
		c.most = max(c.most, c.in)
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.in--
		}()
		select {
		case <-c.complete:
		case <-ctx.Done():
			return nil, bucket.Info{}, ctx.Err()
		}
	}
	return c.Bucket.Get(ctx, key, r)
}

// TestVerifyReadsAtTheSameTime, as many as the settings allow, and no more.
func TestVerifyReadsAtTheSameTime(t *testing.T) {
	c := &crowd{Bucket: mem.New(), n: 16, complete: make(chan struct{})}
	loose := dag(t, 3, 200, 2000)
	for _, one := range loose {
		putObject(t, c, "root"+one.key.String(), one.value)
	}
	s := newSite(c)
	s.c.Downloads = 16
	p := s.open(t)
	c.holds = true
	did, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { t.Error(f) }})
	require.NoError(t, err)
	require.EqualValues(t, 200, did.Blocks)
	require.Equal(t, 16, c.most)
}

// TestVerifyThatFailsSaysWhy, and that is not that it was cancelled by itself.
func TestVerifyThatFailsSaysWhy(t *testing.T) {
	m := newMachine()
	s := m.site()
	s.c.CacheSize = NoCache
	for _, one := range dag(t, 3, 50, 2000) {
		putObject(t, m.remote, "root"+one.key.String(), one.value)
	}
	p := s.open(t)
	m.bad.Set(faulty.Rule{Op: bucket.OpGet, After: 20, Err: errInjected})
	_, err := p.Verify(t.Context(), VerifyOptions{Sample: 1, Found: func(f Finding) { require.True(t, f.Unasked, f) }})
	require.ErrorIs(t, err, errInjected)
	require.False(t, errors.Is(err, context.Canceled))
}
