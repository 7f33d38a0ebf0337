package s3model_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

func TestMain(m *testing.M) { s3test.Main(m) }

func upstream(t *testing.T) (s3model.Upstream, string) {
	server := s3test.Start(t)
	return s3model.Upstream{
		Endpoint: server.URL, Region: s3test.Region, Credentials: credentials.NewStaticCredentialsProvider(s3test.AccessKey, s3test.SecretKey, ""),
	}, server.NewBucket(t)
}

func proxy(t *testing.T, c s3model.Class, up s3model.Upstream) *s3model.Proxy {
	p, err := s3model.New(c, up, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func config(p *s3model.Proxy, bucketName, layout string) s3ds.Config {
	c := s3ds.Config{Region: s3test.Region, Bucket: bucketName, RegionEndpoint: p.URL, AccessKey: "any", SecretKey: "any", RootDirectory: layout, Layout: layout}
	if layout == s3ds.LayoutPacks {
		c.SealAge = 100 * time.Millisecond
	}
	return c
}

// opAtServer says in which class each operation of the store arrives; its head is a GET of one byte.
var opAtServer = map[bucket.Op]s3model.Op{
	bucket.OpPut: s3model.Put, bucket.OpGet: s3model.Get, bucket.OpHead: s3model.Get, bucket.OpList: s3model.List, bucket.OpDelete: s3model.Delete, bucket.OpCheck: s3model.Head,
}

// The server's counts and the store's own are the same to the last request and byte, also when requests are refused and sent again.
func TestMeteringAgreesExactly(t *testing.T) {
	server := s3test.Start(t)
	up := s3model.Upstream{Endpoint: server.URL, Region: s3test.Region, Credentials: credentials.NewStaticCredentialsProvider(s3test.AccessKey, s3test.SecretKey, "")}
	for _, layout := range []string{s3ds.LayoutObjects, s3ds.LayoutPacks} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, SlowDown %v", layout, slow), func(t *testing.T) {
				class := s3model.Standard
				if slow { // so few that a burst of requests is over the rate
					class.Reads, class.Writes = 20, 20
					class.FirstByte = map[s3model.Op]time.Duration{}
				}
				p := proxy(t, class, up)
				p.Dilate(1)
				if !slow {
					p.Dilate(0.01)
				}
				c := config(p, server.NewBucket(t), layout)
				c.MaxAttempts = 20
				store, err := s3ds.OpenIn(t.Context(), c, t.TempDir(), nil)
				require.NoError(t, err)
				blocks := suite.SmallBlocks(gate.Random(t).Uint64(), 60)
				var wg sync.WaitGroup
				for w := range 6 {
					wg.Go(func() {
						for i := w; i < len(blocks); i += 6 {
							if err := store.Put(t.Context(), blocks[i].Key, blocks[i].Value); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				if d, ok := store.(interface{ Drain(context.Context) error }); ok {
					require.NoError(t, d.Drain(t.Context()))
				}
				for _, b := range blocks {
					v, err := store.Get(t.Context(), b.Key)
					require.NoError(t, err)
					require.True(t, bytes.Equal(b.Value, v))
				}
				_, err = store.Get(t.Context(), ds.NewKey("/CIQABSENT"))
				require.ErrorIs(t, err, ds.ErrNotFound)
				found, err := store.Query(t.Context(), query.Query{KeysOnly: true})
				require.NoError(t, err)
				rest, err := found.Rest()
				require.NoError(t, err)
				require.Equal(t, len(blocks), len(rest))
				for _, b := range blocks[:5] {
					require.NoError(t, store.Delete(t.Context(), b.Key))
				}
				require.NoError(t, store.Close())

				ops := store.Stats().Ops
				said := map[s3model.Op]int64{}
				var retries uint64
				for op, c := range ops {
					if c.Requests > 0 {
						said[opAtServer[op]] += int64(c.Requests)
					}
					retries += c.Retries
				}
				counted := p.Counts()
				require.True(t, maps.Equal(counted.Requests, said), "server %v, store %v", counted.Requests, said)
				require.Positive(t, said[s3model.Put])
				if !slow { // the body of a request that is refused is not read as far as it was sent
					require.EqualValues(t, counted.BytesIn, ops[bucket.OpPut].BytesSent+ops[bucket.OpDelete].BytesSent, "bytes written")
				}
				if slow && layout == s3ds.LayoutObjects {
					require.Positive(t, counted.SlowDown, "the rate was never exceeded")
					require.Positive(t, retries)
				} else if !slow {
					require.Zero(t, counted.SlowDown)
					require.EqualValues(t, 0, retries)
				}
			})
		}
	}
}

// A burst of twice the rate is answered with SlowDown from the second on, and a second later there is room again: in the model's time.
func TestSlowDownIsPerSecondOfTheModel(t *testing.T) {
	up, bucketName := upstream(t)
	class := s3model.Standard
	class.FirstByte, class.Writes = map[s3model.Op]time.Duration{}, 50
	p := proxy(t, class, up)
	p.Dilate(1000) // so slow that no token comes back while the test runs
	put := func(i int) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("%s/%s/o%d", p.URL, bucketName, i), bytes.NewReader(nil))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	codes := map[int]int{}
	for i := range 100 {
		codes[put(i)]++
	}
	require.Equal(t, map[int]int{http.StatusOK: 50, http.StatusServiceUnavailable: 50}, codes)
	require.EqualValues(t, 50, p.Counts().SlowDown)
	require.EqualValues(t, 100, p.Counts().Requests[s3model.Put], "what is refused is a request all the same")
	p.Dilate(0)
	require.Equal(t, http.StatusOK, put(0), "without waiting there is no SlowDown")
}

// However many requests are under way, what they cost together stays within the budget.
func TestBudgetHoldsUnderConcurrency(t *testing.T) {
	up, bucketName := upstream(t)
	const dollars = 0.0002 // 39 PUT of $0.000005 with their part of a LIST
	up.Budget = s3model.NewBudget(dollars, 0)
	p := proxy(t, s3model.Standard, up)
	var ok, refused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := range 10 {
				req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("%s/%s/b%d-%d", p.URL, bucketName, w, i), bytes.NewReader([]byte("x")))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				mu.Lock()
				if resp.StatusCode == http.StatusOK {
					ok++
				} else {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 39, ok)
	require.Equal(t, 61, refused)
	require.True(t, up.Budget.Reached())
	require.LessOrEqual(t, up.Budget.Spent(), dollars)
	require.EqualValues(t, 61, p.Counts().Refused)
	require.ErrorIs(t, up.Budget.Reserve(0.00000001), s3model.ErrBudget, "once reached, it stays reached")
}

// Every figure of a class is set, and says where it is from and when that was read.
func TestFiguresHaveSources(t *testing.T) {
	for _, c := range s3model.Classes {
		require.NotEmpty(t, c.Sources, c.Name)
		for _, s := range c.Sources {
			require.NotEmpty(t, s.Where, c.Name)
			require.Regexp(t, `^20\d\d-\d\d$`, s.Read, c.Name)
		}
		for _, op := range s3model.Ops {
			require.Contains(t, c.FirstByte, op, c.Name)
			require.Contains(t, c.USD, op, c.Name)
		}
		require.Positive(t, c.StoredGB*c.Reads*c.Writes*c.ConnBytes*c.ClientBytes)
	}
	n := s3model.Counts{Requests: map[s3model.Op]int64{s3model.Put: 1000, s3model.Get: 10_000}, BytesIn: 1 << 30, BytesOut: 2 << 30}
	require.InDelta(t, 0.005+0.004, s3model.Standard.Cost(n), 1e-9)
	require.InDelta(t, 0.00113+0.0003+0.0032+0.0012, s3model.Express.Cost(n), 1e-9)
}
