package s3ds

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// TestDisturbedServerIsNeverNotFound runs every call of the datastore against a real server behind a proxy that answers
// otherwise.
func TestDisturbedServerIsNeverNotFound(t *testing.T) {
	server := s3test.Start(t)
	for name, c := range map[string]struct {
		fault s3test.Fault
		kind  error
	}{
		"500":               {s3test.Fault{Status: 500, Code: "InternalError"}, bucket.ErrServer},
		"503 SlowDown":      {s3test.Fault{Status: 503, Code: "SlowDown"}, bucket.ErrThrottled},
		"403":               {s3test.Fault{Status: 403, Code: "AccessDenied"}, bucket.ErrAccessDenied},
		"404 on the bucket": {s3test.Fault{Status: 404, Code: "NoSuchBucket"}, bucket.ErrNoBucket},
		"404 of no kind":    {s3test.Fault{Status: 404}, bucket.ErrRejected},
		"dropped":           {s3test.Fault{Cut: s3test.Drop}, bucket.ErrUnreachable},
		"silent":            {s3test.Fault{Cut: s3test.Silence}, bucket.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := s3test.NewProxy(t, server.URL)
			config := config(proxy.URL, server.NewBucket(t))
			config.RequestTimeout = time.Second
			first := open(t, config)
			require.NoError(t, first.Put(t.Context(), ds.NewKey("/there"), []byte("value")))
			var names []string
			for op := range calls(t.Context(), first) {
				names = append(names, op)
			}
			clients := map[string]*Datastore{} // of their own: throttling slows down all that follows
			for _, op := range names {
				clients[op] = open(t, config)
			}
			proxy.Disturb(s3test.Always("", c.fault))
			errs := make([]error, len(names))
			s3test.Within(t, func() {
				var wg sync.WaitGroup
				for i, op := range names {
					wg.Go(func() { errs[i] = calls(t.Context(), clients[op])[op]() })
				}
				wg.Wait()
			})
			for i, op := range names {
				require.ErrorIs(t, errs[i], c.kind, op)
				require.NotErrorIs(t, errs[i], ds.ErrNotFound, op)
			}
			proxy.Disturb(nil)
			have, err := open(t, config).Has(t.Context(), ds.NewKey("/there"))
			require.NoError(t, err)
			require.True(t, have)
		})
	}
}

// TestSpoiledBodies: a body that breaks is resumed; a body that a proxy shortened, with a header to match, or changed, is
// found out by its hash.
func TestSpoiledBodies(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	c := config(proxy.URL, server.NewBucket(t))
	c.RequestTimeout = 300 * time.Millisecond
	d := open(t, c)
	key, want := block(t, randomBytes(256<<10), mh.SHA2_256)
	require.NoError(t, d.Put(t.Context(), key, want))
	for name, cut := range map[string]s3test.Cut{
		"reset": s3test.Reset, "closed": s3test.Close, "stalled": s3test.Stall, "shortened": s3test.Shorten, "flipped": s3test.Flip,
	} {
		t.Run(name, func(t *testing.T) {
			s3test.Within(t, func() {
				fault := s3test.Fault{Cut: cut, CutAfter: 1000}
				proxy.Disturb(s3test.Times(1, http.MethodGet, fault))
				got, err := d.Get(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, want, got)

				proxy.Disturb(s3test.Always(http.MethodGet, fault))
				_, err = d.Get(t.Context(), key)
				kind := bucket.ErrUnreachable
				if cut == s3test.Shorten || cut == s3test.Flip {
					kind = ErrCorrupt
				}
				require.ErrorIs(t, err, kind)
				require.NotErrorIs(t, err, ds.ErrNotFound)
			})
		})
	}
	require.EqualValues(t, 6, d.Stats().Mismatches)
}

func TestErrorOfAPageOfAQueryIsSeen(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	d := open(t, config(proxy.URL, server.NewBucket(t)))
	b := newBatch(t, d)
	for i := range 1100 {
		require.NoError(t, b.Put(t.Context(), ds.NewKey(string(rune('a'+i%26))+"-"+time.Duration(i).String()), nil))
	}
	require.NoError(t, b.Commit(t.Context()))
	proxy.Disturb(func(r *http.Request) s3test.Fault {
		if r.URL.Query().Has("continuation-token") {
			return s3test.Fault{Status: 500, Code: "InternalError"}
		}
		return s3test.Fault{}
	})
	r, err := d.Query(t.Context(), query.Query{KeysOnly: true})
	require.NoError(t, err)
	entries, err := r.Rest()
	require.ErrorIs(t, err, bucket.ErrServer)
	require.Len(t, entries, 1000)
}

// TestCancellationReachesTheWire: a call that waits for a silent server ends with its context, long before any timeout.
func TestCancellationReachesTheWire(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.URL)
	c := config(proxy.URL, server.NewBucket(t))
	c.RequestTimeout = time.Hour
	d := open(t, c)
	require.NoError(t, d.Put(t.Context(), ds.NewKey("/there"), []byte("value")))
	for op := range calls(t.Context(), d) {
		ctx, cancel := context.WithCancel(t.Context())
		var arrived sync.Once
		proxy.Disturb(func(*http.Request) s3test.Fault { arrived.Do(cancel); return s3test.Fault{Cut: s3test.Silence} })
		s3test.Within(t, func() { require.ErrorIs(t, calls(ctx, d)[op](), context.Canceled, op) })
		cancel()
	}
}

// TestMissingBucketIsAnError: go-ds-s3 said "false, nil".
func TestMissingBucketIsAnError(t *testing.T) {
	server := s3test.Start(t)
	d, err := connect(t.Context(), config(server.URL, "no-such-bucket"))
	require.NoError(t, err)
	for op, call := range calls(t.Context(), d) {
		require.ErrorIs(t, call(), bucket.ErrNoBucket, op)
	}
}
