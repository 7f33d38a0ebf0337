package advise

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// measuredBy is a result of one sample each: so many requests for a GB, so long for a request.
func measuredBy(store string, put, get, head int64, ms float64, metered int64) []record.Sample {
	sample := func(workload string, bytes, ops int64, n map[s3model.Op]int64, written, read int64) record.Sample {
		s := record.Sample{Store: store, Level: record.Kubo, Workload: workload, Seconds: 1, Bytes: bytes, Ops: ops}
		if metered == 0 {
			s.S3 = &s3model.Counts{Requests: n, BytesIn: written, BytesOut: read}
		} else {
			s.EFS = &record.EFS{Requests: map[efsmodel.Kind]int64{}, MeteredWritten: written / 1e9 * metered, MeteredRead: read / 1e9 * metered}
		}
		return s
	}
	gateway := sample("gateway", 1, 1, nil, 0, 0)
	gateway.Steps = []record.Step{{Clients: 1, Seconds: 1, Ops: 3, Latencies: []float64{ms, ms, ms}}}
	return []record.Sample{
		sample("add-file", 1e9, 1, map[s3model.Op]int64{s3model.Put: put}, 1e9, 0),
		sample("cat-cold", 1e9, 1, map[s3model.Op]int64{s3model.Get: get}, 0, 1e9),
		sample("wants", 0, 100, map[s3model.Op]int64{s3model.Head: head}, 0, 1e9),
		gateway,
	}
}

func results() *record.Results {
	r := &record.Results{}
	r.Samples = append(r.Samples, measuredBy("go-ds-s3", 4000, 4000, 100, 200, 0)...)
	r.Samples = append(r.Samples, measuredBy("s3-packs", 40, 80, 0, 50, 0)...)
	r.Samples = append(r.Samples, measuredBy("efs-onezone-elastic", 0, 0, 0, 10, 1.2e9)...)
	r.Samples = append(r.Samples, measuredBy("efs-regional-bursting", 0, 0, 0, 30, 1.2e9)...)
	return r
}

var one = Deployment{Name: "d", Tasks: 1, CPU: 1, GB: 4, CacheGB: 4}

func find(t *testing.T, bills []Bill, store string) Bill {
	for _, b := range bills {
		if b.Store == store {
			return b
		}
	}
	require.FailNow(t, "no bill", store)
	return Bill{}
}

func line(t *testing.T, b Bill, what string) float64 {
	for _, l := range b.Lines {
		if l.What == what {
			return l.USD
		}
	}
	require.FailNow(t, "no line", "%s: %s", b.Store, what)
	return 0
}

// A bill by hand: 100 GB stored, 10 added, 50 served, 500 wants a second.
func TestBillByHand(t *testing.T) {
	bills, err := Bills(results(), Use{StoredGB: 100, Files: 1000, AddedGB: 10, ServedGB: 50, Wants: 500}, []Deployment{one})
	require.NoError(t, err)
	b := find(t, bills, "go-ds-s3, S3 Standard")
	require.InDelta(t, 2.30, line(t, b, "storage"), 1e-9)
	require.InDelta(t, 10*4000*0.005/1000, line(t, b, "adding: PUT"), 1e-9)
	require.InDelta(t, 50*4000*0.0004/1000, line(t, b, "serving: GET"), 1e-9)
	require.InDelta(t, 500*2_628_000*0.0004/1000, line(t, b, "wants for absent blocks: HEAD"), 1e-6) // $525.60
	require.InDelta(t, 730*(0.03238+4*0.00356), line(t, b, "Fargate ARM"), 1e-9)
	require.InDelta(t, 730*0.0225+50*0.008, line(t, b, "load balancer"), 1e-9)
	require.InDelta(t, 3.65, line(t, b, "public IPv4 addresses"), 1e-9)
	var sum float64
	for _, l := range b.Lines {
		sum += l.USD
		require.NotEmpty(t, l.How, l.What)
	}
	require.InDelta(t, sum, b.Total, 1e-9)

	// a cache of 4 of 100 GB, all files alike: 4 % of reads are hits
	p := find(t, bills, "s3 packs, S3 Standard")
	require.InDelta(t, 50*0.96*80*0.0004/1000, line(t, p, "serving: GET"), 1e-9)
	e := find(t, bills, "efs, EFS One Zone elastic")
	require.InDelta(t, 16, line(t, e, "storage"), 1e-9)
	require.InDelta(t, 10*1.2*0.06, line(t, e, "adding: metered as written"), 1e-9)
	require.InDelta(t, 50*1.2*0.03, line(t, e, "serving: metered as read"), 1e-9)
	require.InDelta(t, 500*2_628_000*1.2e9/100/1e9*0.03, line(t, e, "wants for absent blocks: metered as read"), 1e-3)
}

func TestLatencyAndCreditsDecide(t *testing.T) {
	u := Use{StoredGB: 100, Files: 1000, AddedGB: 10, ServedGB: 50, LatencyMS: 100}
	bills, err := Bills(results(), u, []Deployment{one})
	require.NoError(t, err)
	require.Contains(t, find(t, bills, "go-ds-s3, S3 Standard").Refused, "200 ms instead of 100")
	require.Empty(t, find(t, bills, "s3 packs, S3 Standard").Refused)
	require.Contains(t, find(t, bills, "efs, EFS One Zone bursting").Refused, "not measured")
	require.Empty(t, find(t, bills, "efs, EFS Regional bursting").Refused, "30 ms, its own")
	require.Empty(t, bills[0].Refused, "what does comes first")
	for i := 1; i < len(bills) && bills[i].Refused == ""; i++ {
		require.LessOrEqual(t, bills[i-1].Total, bills[i].Total)
	}
	u.LatencyMS, u.ServedGB = 0, 100_000
	bills, err = Bills(results(), u, []Deployment{one})
	require.NoError(t, err)
	require.Contains(t, find(t, bills, "efs, EFS One Zone bursting").Refused, "burst credits run out")
}

func TestHitRate(t *testing.T) {
	require.InDelta(t, 0.25, HitRate(1000, 250, 0), 1e-9)
	require.Equal(t, 1.0, HitRate(10, 20, 1))
	sum := func(n int, s float64) (h float64) {
		for i := 1; i <= n; i++ {
			h += math.Pow(float64(i), -s)
		}
		return h
	}
	for _, s := range []float64{0.7, 1, 1.2} {
		require.InDelta(t, sum(5000, s)/sum(200_000, s), HitRate(200_000, 5000, s), 1e-4, "exponent %g", s)
	}
}

func TestLearn(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l, err := Learn(strings.NewReader(`# HELP x
process_start_time_seconds 9.964e+05
s3ds_block_bytes{place="pack"} 4e+11
s3ds_block_bytes{place="journal"} 1e+11
s3ds_bucket_object_bytes_total{direction="out",op="put"} 1e+09
s3ds_bucket_object_bytes_total{direction="in",op="get"} 7e+09
s3ds_read_bytes_total{from="asked"} 2e+09
s3ds_index_lookups_total{outcome="miss"} 360000
`), now) // an hour
	require.NoError(t, err)
	require.InDelta(t, 500, l.StoredGB, 1e-9)
	require.InDelta(t, 730, l.AddedGB, 1e-6)
	require.InDelta(t, 1460, l.ServedGB, 1e-6)
	require.InDelta(t, 100, l.Wants, 1e-9)
	_, err = Learn(strings.NewReader("go_goroutines 5\n"), now)
	require.ErrorContains(t, err, "layout packs")
	_, err = Learn(strings.NewReader("process_start_time_seconds 999990\ns3ds_block_bytes{place=\"pack\"} 1\n"), now)
	require.ErrorContains(t, err, "a day or more")
}

func TestUseIsChecked(t *testing.T) {
	_, err := Bills(results(), Use{StoredGB: -1, Files: 1, UnreadPart: 2}, []Deployment{one})
	require.ErrorContains(t, err, "--stored")
	require.ErrorContains(t, err, "--unread")
	_, err = Bills(&record.Results{}, Use{StoredGB: 1, Files: 1}, []Deployment{one})
	require.ErrorContains(t, err, "add-file, cat-cold")
}
