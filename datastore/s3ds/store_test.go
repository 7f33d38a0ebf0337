package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestObjectNames(t *testing.T) {
	for _, c := range []struct{ root, key, object string }{
		{"", "/CIQABC", "CIQABC"},
		{"root", "/CIQABC", "root/CIQABC"},
		{"/root/", "/CIQABC", "root/CIQABC"},
		{"a//b/./c", "/x/y", "a/b/c/x/y"},
		{".", "/x", "x"},
	} {
		d := New(mem.New(), Config{RootDirectory: c.root})
		require.Equal(t, c.object, d.object(ds.NewKey(c.key)), "%+v", c)
		key, ours := d.key(c.object)
		require.True(t, ours)
		require.Equal(t, c.key, key.String())
	}
}

func TestObjectsThatAreNoValuesAreNotShown(t *testing.T) {
	b := mem.New()
	for _, name := range []string{"root/value", "root/", "root/folder/", "root//x", "root", "rootless", "other", "root/" + probeName + "X"} {
		putObject(t, b, name, []byte("x"))
	}
	d := New(b, Config{RootDirectory: "root"})
	require.Equal(t, []string{"/value"}, queryKeys(t, d, all))
	size, err := d.DiskUsage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, size)
}

func TestValuesOfAllSizes(t *testing.T) {
	server := s3test.Start(t)
	d := open(t, config(server.URL, server.NewBucket(t)))
	for _, size := range []int{0, 1, 2 << 20} {
		key, want := block(t, randomBytes(size), mh.SHA2_256)
		require.NoError(t, d.Put(t.Context(), key, want))
		got, err := d.Get(t.Context(), key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d bytes", size)
		n, err := d.GetSize(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, size, n)
	}
}

func TestKeysWithOddCharacters(t *testing.T) {
	server := s3test.Start(t)
	c := config(server.URL, server.NewBucket(t))
	c.RootDirectory = "a root/ü"
	d := open(t, c)
	var want []string
	for _, name := range []string{"a b", "a+b", "a%2Fb", "ü", "<&>", "que?ry#x", "x:y", "deep/er/still"} {
		key := ds.NewKey(name)
		want = append(want, key.String())
		require.NoError(t, d.Put(t.Context(), key, []byte(name)))
		got, err := d.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, name, string(got))
	}
	require.ElementsMatch(t, want, queryKeys(t, d, all))
	b, err := d.Batch(t.Context())
	require.NoError(t, err)
	for _, k := range want {
		require.NoError(t, b.Delete(t.Context(), ds.NewKey(k)))
	}
	require.NoError(t, b.Commit(t.Context()))
	require.Empty(t, queryKeys(t, d, all))
}

func TestEveryHashIsVerified(t *testing.T) {
	for _, code := range []uint64{mh.SHA1, mh.SHA2_256, mh.SHA2_512, mh.SHA3_256, mh.KECCAK_256, mh.BLAKE2B_MIN + 31, mh.BLAKE2S_MAX, mh.BLAKE3, mh.DBL_SHA2_256} {
		b := mem.New()
		d := New(b, Config{})
		key, data := block(t, []byte("some block"), code)
		require.NoError(t, d.Put(t.Context(), key, data))
		got, err := d.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, data, got)
		putObject(t, b, d.object(key), []byte("same block"))
		_, err = d.Get(t.Context(), key)
		require.ErrorIs(t, err, ErrCorrupt, "hash %x", code)
	}
}

// TestFlippedByteIsNeverServed: go-ds-s3 returned it without an error.
func TestFlippedByteIsNeverServed(t *testing.T) {
	b := faulty.Wrap(mem.New())
	d := New(b, Config{RootDirectory: "root"})
	key, data := block(t, randomBytes(1000), mh.SHA2_256)
	require.NoError(t, d.Put(t.Context(), key, data))

	b.Set(faulty.Rule{Op: bucket.OpGet, Times: 1, Body: faulty.Flip})
	got, err := d.Get(t.Context(), key)
	require.NoError(t, err, "damaged on the way: right the second time")
	require.Equal(t, data, got)
	require.EqualValues(t, 1, d.Stats().Mismatches)

	b.Set(faulty.Rule{Op: bucket.OpGet, Body: faulty.Flip})
	got, err = d.Get(t.Context(), key)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NotErrorIs(t, err, ds.ErrNotFound)
	require.Nil(t, got)
	require.Contains(t, err.Error(), fmt.Sprintf("%q at offset 0", "root"+key.String()))
	require.EqualValues(t, 3, d.Stats().Mismatches)
}

func TestShortBodyIsAnError(t *testing.T) {
	for _, how := range []faulty.Body{faulty.Reset, faulty.Truncate} {
		b := faulty.Wrap(mem.New())
		d := New(b, Config{})
		require.NoError(t, d.Put(t.Context(), ds.NewKey("no multihash"), randomBytes(1000)))
		b.Set(faulty.Rule{Op: bucket.OpGet, Body: how})
		got, err := d.Get(t.Context(), ds.NewKey("no multihash"))
		require.Error(t, err)
		require.NotErrorIs(t, err, ds.ErrNotFound)
		require.Nil(t, got)
	}
}

// TestFailureIsNeverNotFound covers every call and every kind of failure over a bucket in memory; fault_test.go does so over HTTP.
func TestFailureIsNeverNotFound(t *testing.T) {
	b := faulty.Wrap(mem.New())
	d := New(b, Config{})
	require.NoError(t, d.Put(t.Context(), ds.NewKey("/there"), []byte("value")))
	for _, kind := range []error{bucket.ErrServer, bucket.ErrThrottled, bucket.ErrAccessDenied, bucket.ErrNoBucket, bucket.ErrUnreachable} {
		b.Set(faulty.Rule{Err: kind})
		for name, call := range calls(t.Context(), d) {
			err := call()
			require.ErrorIs(t, err, kind, name)
			require.NotErrorIs(t, err, ds.ErrNotFound, name)
		}
	}
	b.Set()
	have, err := d.Has(t.Context(), ds.NewKey("/there"))
	require.NoError(t, err)
	require.True(t, have)
}

func TestCancelledContextEndsEveryCall(t *testing.T) {
	d := New(mem.New(), Config{Workers: 1})
	require.NoError(t, d.Put(t.Context(), ds.NewKey("/there"), []byte("value")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func() {
		for name, call := range calls(ctx, d) {
			require.ErrorIs(t, call(), context.Canceled, name)
		}
		require.ErrorIs(t, d.Sync(ctx, ds.NewKey("/")), context.Canceled)
		require.ErrorIs(t, d.Check(ctx), context.Canceled)
	}
	check()
	d.slots <- struct{}{} // the only worker is busy
	check()
}

func TestCallAfterCloseIsAnError(t *testing.T) {
	d := New(mem.New(), Config{})
	require.NoError(t, d.Close())
	for name, call := range calls(t.Context(), d) {
		require.ErrorIs(t, call(), ErrClosed, name)
	}
	require.ErrorIs(t, d.Check(t.Context()), ErrClosed)
	require.ErrorIs(t, d.Sync(t.Context(), ds.NewKey("/")), ErrClosed)
}

// gauge counts the calls that are inside a bucket at the same time.
type gauge struct {
	*mem.Bucket
	now, most atomic.Int64
}

func (g *gauge) enter() func() {
	n := g.now.Add(1)
	for {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			break
		}
	}
	return func() { g.now.Add(-1) }
}

func (g *gauge) Head(ctx context.Context, key string) (bucket.Info, error) {
	defer g.enter()()
	synctestYield()
	return g.Bucket.Head(ctx, key)
}

func (g *gauge) Delete(ctx context.Context, keys ...string) error {
	defer g.enter()()
	synctestYield()
	return g.Bucket.Delete(ctx, keys...)
}

func TestRequestsInFlightAreBoundedPerDatastore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{Bucket: mem.New()}
		d := New(g, Config{Workers: 4})
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if _, err := d.Has(t.Context(), ds.NewKey(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				b, err := d.Batch(t.Context())
				if err == nil {
					err = errors.Join(b.Delete(t.Context(), ds.NewKey(fmt.Sprint(i))), b.Commit(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 4, g.most.Load(), "all of them used, none beyond")
	})
}

func TestCheckCostsNothingWhileThingsGoWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := faulty.Wrap(mem.New())
		d := New(b, Config{})
		checks := func() uint64 {
			c := d.Stats().Ops[bucket.OpCheck].Calls
			return c["ok"] + c["failed"]
		}
		for range 100 {
			require.NoError(t, d.Check(t.Context()))
		}
		require.Zero(t, checks())

		b.Set(faulty.Rule{Err: bucket.ErrUnreachable})
		require.Error(t, d.Put(t.Context(), ds.NewKey("k"), nil))
		for range 100 {
			require.ErrorIs(t, d.Check(t.Context()), bucket.ErrUnreachable)
		}
		require.EqualValues(t, 1, checks(), "asked once, and not again so soon")

		b.Set()
		require.ErrorIs(t, d.Check(t.Context()), bucket.ErrUnreachable)
		pass(probeEvery)
		require.NoError(t, d.Check(t.Context()))
		require.NoError(t, d.Check(t.Context()))
		require.EqualValues(t, 2, checks())

		b.Set(faulty.Rule{Err: bucket.ErrUnreachable, Times: 1})
		require.Error(t, d.Put(t.Context(), ds.NewKey("k"), nil))
		require.NoError(t, d.Put(t.Context(), ds.NewKey("k"), nil))
		require.NoError(t, d.Check(t.Context()), "a request that succeeds is proof enough")
		_, err := d.Get(t.Context(), ds.NewKey("absent"))
		require.ErrorIs(t, err, ds.ErrNotFound)
		require.NoError(t, d.Check(t.Context()), "a miss is an answer")
		require.EqualValues(t, 2, checks())
	})
}

func TestDiskUsage(t *testing.T) {
	b := mem.New()
	d := New(b, Config{RootDirectory: "root"})
	putObject(t, b, "root-of-others/x", make([]byte, 1000))
	usage := func() int {
		n, err := d.DiskUsage(t.Context())
		require.NoError(t, err)
		return int(n)
	}
	lists := func() uint64 { return d.Stats().Ops[bucket.OpList].Calls["ok"] }
	require.Zero(t, usage())
	for i := range 30 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint(i)), make([]byte, 100)))
		require.Equal(t, 100*(i+1), usage())
	}
	require.NoError(t, d.Put(t.Context(), ds.NewKey("0"), make([]byte, 50)))
	require.Equal(t, 2950, usage(), "a put that replaces does not count twice")
	require.NoError(t, d.Delete(t.Context(), ds.NewKey("0")))
	require.NoError(t, d.Delete(t.Context(), ds.NewKey("absent")))
	require.Equal(t, 2900, usage())
	before := lists()
	for range 100 {
		require.Equal(t, 2900, usage())
	}
	require.Equal(t, before, lists(), "nothing is asked while nothing changes")

	for i := range 4000 {
		putObject(t, b, fmt.Sprintf("root/more-%d", i), make([]byte, 100))
	}
	d = New(b, Config{RootDirectory: "root"})
	require.Equal(t, 402_900, usage())
	for i := range 150 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint("new", i)), make([]byte, 100)))
	}
	require.Equal(t, 417_900, usage())
	require.EqualValues(t, 1, lists(), "a large store is not listed again for a small change")
	for i := range 100 {
		require.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint("new", i)), make([]byte, 100)))
	}
	require.Equal(t, 417_900, usage(), "more than a twentieth was put: listed again, and exact")
	require.EqualValues(t, 2, lists())
}

func TestProbe(t *testing.T) {
	server := s3test.Start(t)
	name := server.NewBucket(t)
	proxy := s3test.NewProxy(t, server.URL)
	good := config(proxy.URL, name)
	good.RootDirectory = "node-1"
	require.NoError(t, Probe(t.Context(), good))
	for _, c := range []struct {
		what  string
		wrong func(*Config)
		fault func(*http.Request) s3test.Fault
		kind  error
		says  string
	}{
		{"missing bucket", func(c *Config) { c.Bucket = "no-such-bucket" }, nil, bucket.ErrNoBucket, "create the bucket"},
		{"wrong region", func(c *Config) { c.Region = "eu-west-1" }, nil, bucket.ErrWrongRegion, "set region to us-east-1"},
		{"no credentials", func(c *Config) { c.AccessKey, c.SecretKey = "", "" }, nil, bucket.ErrNoCredentials, "AWS_ACCESS_KEY_ID"},
		{"wrong secret", func(c *Config) { c.SecretKey = "wrong" }, nil, bucket.ErrAccessDenied, "correct secretKey"},
		{"wrong endpoint", func(c *Config) { c.RegionEndpoint = "http://127.0.0.1:1" }, nil, bucket.ErrUnreachable, "check regionEndpoint (http://127.0.0.1:1)"},
		{"may not write", nil, s3test.Always("PUT", denied), bucket.ErrAccessDenied, "allow s3:PutObject"},
		{"may not read", nil, s3test.Always("GET", denied), bucket.ErrAccessDenied, "s3:GetObject"},
		{"may not delete", nil, s3test.Always("DELETE", denied), bucket.ErrAccessDenied, "allow s3:DeleteObject"},
		{"may do nothing", nil, s3test.Always("", denied), bucket.ErrAccessDenied, "allow s3:ListBucket"},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := good
			if c.wrong != nil {
				c.wrong(&config)
			}
			proxy.Disturb(c.fault)
			defer proxy.Disturb(nil)
			s3test.Within(t, func() {
				err := Probe(t.Context(), config)
				require.ErrorIs(t, err, c.kind)
				require.Contains(t, err.Error(), c.says)
				require.NotContains(t, err.Error(), "\n")
				require.NotContains(t, err.Error(), s3test.SecretKey)
				_, opened := Open(t.Context(), config)
				if c.fault == nil || c.what == "may do nothing" {
					require.ErrorIs(t, opened, c.kind)
				}
			})
			proxy.Disturb(nil)
			if c.what != "may not delete" {
				require.Empty(t, queryKeys(t, open(t, good), all))
			}
		})
	}
}

var denied = s3test.Fault{Status: 403, Code: "AccessDenied"}
