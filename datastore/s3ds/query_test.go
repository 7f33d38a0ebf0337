package s3ds

import (
	"context"
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// TestQueryUnderRootDirectory: go-ds-s3 stopped after 1,000 keys, left the root on the keys, took the prefix for a string, and
// ignored the limit.
func TestQueryUnderRootDirectory(t *testing.T) {
	gate.NotQuick(t, "thousands of requests at the server")
	server := s3test.Start(t)
	c := config(server.URL, server.NewBucket(t))
	c.RootDirectory = "ipfs-staging"
	others := open(t, c)
	c.RootDirectory = "ipfs"
	d := open(t, c)

	const n = 2600
	b, o := newBatch(t, d), newBatch(t, others)
	var want []string
	for i := range n {
		key := ds.NewKey(fmt.Sprintf("key-%05d", i))
		want = append(want, key.String())
		require.NoError(t, b.Put(t.Context(), key, []byte(fmt.Sprint(i))))
	}
	for i := range 10 {
		require.NoError(t, o.Put(t.Context(), ds.NewKey(fmt.Sprint("theirs", i)), []byte("x")))
	}
	require.NoError(t, b.Commit(t.Context()))
	require.NoError(t, o.Commit(t.Context()))

	require.Equal(t, want, queryKeys(t, d, all))
	require.Len(t, queryKeys(t, others, all), 10)
	require.Equal(t, want[1500:1510], queryKeys(t, d, query.Query{Offset: 1500, Limit: 10}))
	require.Equal(t, want[:1], queryKeys(t, d, query.Query{Limit: 1}))
	require.Equal(t, []string{want[n-1]}, queryKeys(t, d, query.Query{Orders: []query.Order{query.OrderByKeyDescending{}}, Limit: 1}))

	r, err := d.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.NoError(t, err)
	require.Len(t, entries, n)
	for i, e := range entries {
		require.Equal(t, query.Entry{Key: want[i], Value: []byte(fmt.Sprint(i)), Size: len(fmt.Sprint(i))}, e)
	}
	size, err := d.DiskUsage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 10+90*2+900*3+(n-1000)*4, size)
}

func TestPrefixIsAPath(t *testing.T) {
	for _, root := range []string{"", "root"} {
		d := New(mem.New(), Config{RootDirectory: root})
		for _, k := range []string{"/a", "/a/b", "/a/b/c", "/ab", "/b/a"} {
			require.NoError(t, d.Put(t.Context(), ds.NewKey(k), []byte("x")))
		}
		for prefix, want := range map[string][]string{
			"":      {"/a", "/a/b", "/a/b/c", "/ab", "/b/a"},
			"/":     {"/a", "/a/b", "/a/b/c", "/ab", "/b/a"},
			"/a":    {"/a/b", "/a/b/c"},
			"a/":    {"/a/b", "/a/b/c"},
			"/a/b":  {"/a/b/c"},
			"/../b": {"/b/a"},
			"/root": {},
			"/c":    {},
		} {
			require.Equal(t, want, queryKeys(t, d, query.Query{Prefix: prefix}), "prefix %q", prefix)
		}
	}
}

func TestErrorInTheMiddleOfAQueryIsItsLastResult(t *testing.T) {
	f := faulty.Wrap(mem.New())
	d := New(f, Config{})
	for i := range 2500 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprintf("%05d", i)), nil))
	}
	f.Set(faulty.Rule{Op: bucket.OpList, After: 1000, Err: bucket.ErrThrottled})
	for _, q := range []query.Query{
		{KeysOnly: true}, {}, {KeysOnly: true, Offset: 10},
		{KeysOnly: true, Filters: []query.Filter{query.FilterKeyPrefix{Prefix: "/"}}},
	} {
		r, err := d.Query(t.Context(), q)
		require.NoError(t, err)
		n := 0
		var last error
		for res := range r.Next() {
			require.NoError(t, last, "nothing comes after an error")
			if last = res.Error; last == nil {
				n++
			}
		}
		require.ErrorIs(t, last, bucket.ErrThrottled)
		require.Equal(t, 1000-q.Offset, n)
	}
	f.Set(faulty.Rule{Op: bucket.OpGet, Key: "00700", Err: bucket.ErrUnreachable})
	r, err := d.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.ErrorIs(t, err, bucket.ErrUnreachable)
	require.Len(t, entries, 700)
}

func TestValueDeletedDuringAQueryIsLeftOut(t *testing.T) {
	f := faulty.Wrap(mem.New())
	d := New(f, Config{})
	for _, k := range []string{"a", "b", "c"} {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(k), nil))
	}
	f.Set(faulty.Rule{Op: bucket.OpGet, Key: "b", Err: bucket.ErrNotFound})
	r, err := d.Query(t.Context(), query.Query{})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func TestQueryStopsAtCloseAndWithItsContext(t *testing.T) {
	d := New(mem.New(), Config{})
	for i := range 500 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprintf("%05d", i)), []byte("v")))
	}
	for _, q := range []query.Query{{}, {KeysOnly: true}, {Filters: []query.Filter{query.FilterKeyPrefix{Prefix: "/"}}}} {
		s3test.Within(t, func() {
			r, err := d.Query(t.Context(), q)
			require.NoError(t, err)
			_, ok := r.NextSync()
			require.True(t, ok)
			require.NoError(t, r.Close())
			require.NoError(t, r.Close(), "twice is fine")
			<-r.Done()

			ctx, cancel := context.WithCancel(t.Context())
			r, err = d.Query(ctx, q)
			require.NoError(t, err)
			_, ok = r.NextSync()
			require.True(t, ok)
			cancel()
			_, err = r.Rest()
			require.ErrorIs(t, err, context.Canceled, "a list cut short says so")
		})
	}
	for range cap(d.slots) { // every slot is free again
		d.slots <- struct{}{}
	}
}

func TestLimitSavesRequests(t *testing.T) {
	d := New(mem.New(), Config{})
	for i := range 100 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprintf("%05d", i)), []byte("v")))
	}
	r, err := d.Query(t.Context(), query.Query{Offset: 50, Limit: 3})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.EqualValues(t, 3, d.Stats().Ops[bucket.OpGet].Calls["ok"])
}
