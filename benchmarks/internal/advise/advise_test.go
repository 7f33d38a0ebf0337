package advise

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

// measuredBy is a result of one sample each: so many requests for a GB, so long for a request.
func measuredBy(store string, put, get, head int64, ms float64, metered int64) []record.Sample {
	sample := func(workload string, bytes, ops int64, n map[s3model.Op]int64, written, read int64) record.Sample {
		s := record.Sample{Store: store, Level: record.Kubo, Workload: workload, Seconds: 1, Bytes: bytes, Ops: ops}
		if metered == 0 {
			s.S3 = &s3model.Counts{Requests: n, BytesIn: written, BytesOut: read}
		} else {
			s.EFS = &record.EFS{Requests: map[efsmodel.Kind]int64{}, MeteredWritten: written / bill.GB * metered, MeteredRead: read / bill.GB * metered}
		}
		return s
	}
	gateway := sample("gateway", 1, 1, nil, 0, 0)
	gateway.Steps = []record.Step{{Clients: 1, Seconds: 1, Ops: 3, Latencies: []float64{ms, ms, ms}}}
	return []record.Sample{
		sample("add-file", bill.GB, 1, map[s3model.Op]int64{s3model.Put: put}, bill.GB, 0),
		sample("cat-cold", bill.GB, 1, map[s3model.Op]int64{s3model.Get: get}, 0, bill.GB),
		sample("wants", 0, 100, map[s3model.Op]int64{s3model.Head: head}, 0, bill.GB),
		gateway,
	}
}

func results() *record.Results {
	r := &record.Results{}
	r.Samples = append(r.Samples, measuredBy("go-ds-s3", 4000, 4000, 100, 200, 0)...)
	r.Samples = append(r.Samples, measuredBy("s3-packs", 40, 80, 0, 50, 0)...)
	r.Samples = append(r.Samples, measuredBy("efs-onezone-elastic", 0, 0, 0, 10, 12<<30/10)...)
	r.Samples = append(r.Samples, measuredBy("efs-regional-bursting", 0, 0, 0, 30, 12<<30/10)...)
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
	require.InDelta(t, 2.30, line(t, b, "Storage"), 1e-9)
	require.InDelta(t, 10*4000*0.005/1000, line(t, b, "Adding: PUT"), 1e-9)
	require.InDelta(t, 50*4000*0.0004/1000, line(t, b, "Reading: GET"), 1e-9)
	require.InDelta(t, 500*2_628_000*0.0004/1000, line(t, b, "Wants for absent blocks: HEAD"), 1e-6) // $525.60
	require.InDelta(t, 730*(0.03238+4*0.00356), line(t, b, "Fargate tasks"), 1e-9)
	require.InDelta(t, 730*0.0225, line(t, b, "Load balancer"), 1e-9)
	require.InDelta(t, 50*0.008, line(t, b, "Load balancer, download"), 1e-9)
	require.InDelta(t, 10*0.02, line(t, b, "CloudFront, upload"), 1e-9)
	require.InDelta(t, 50*0.085, line(t, b, "CloudFront, download"), 1e-9)
	require.Zero(t, line(t, b, "Copies to other zones"), "one task")
	require.InDelta(t, 3.65, line(t, b, "Public IPv4 addresses"), 1e-9)
	var sum float64
	for _, l := range b.Lines {
		sum += l.USD
		require.NotEmpty(t, l.How, l.What)
	}
	require.InDelta(t, sum, b.Total, 1e-9)

	// a cache of 4 of 100 GB, all files alike: 4 % of reads are hits
	p := find(t, bills, "s3 packs, S3 Standard")
	require.InDelta(t, 50*0.96*80*0.0004/1000, line(t, p, "Reading: GET"), 1e-9)
	e := find(t, bills, "efs, EFS One Zone elastic")
	require.InDelta(t, 16, line(t, e, "Storage"), 1e-9)
	require.InDelta(t, 10*1.2*0.06, line(t, e, "Adding: metered as written"), 1e-6)
	require.InDelta(t, 50*1.2*0.03, line(t, e, "Reading: metered as read"), 1e-6)
	require.InDelta(t, 500*2_628_000*1.2/100*0.03, line(t, e, "Wants for absent blocks: metered as read"), 1e-3)
}

var update = flag.Bool("update", false, "copy the reference's requests per GB to internal/bill/measured.json")

const reference = "../../results/reference"

// The templates' table is calculated with what the reference run measured.
func TestMeasuredIsTheReferences(t *testing.T) {
	r, err := record.Read(reference)
	require.NoError(t, err)
	m, ok := measure(r, "s3-packs")
	require.True(t, ok)
	text, err := json.MarshalIndent(bill.Measured{PutsPerGB: m.addRequests[s3model.Put], GetsPerGB: m.readRequests[s3model.Get]}, "", "  ")
	require.NoError(t, err)
	const path = "../../../internal/bill/measured.json"
	if *update {
		require.NoError(t, os.WriteFile(path, append(text, '\n'), 0o644))
	}
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(text)+"\n", string(now), "go test ./benchmarks/internal/advise -update, then go test ./costs -update in infra")
}

// The deployment of a template costs here what the table of infra/README.md says, to the cent: 1 TiB pinned, added, read by consumers
// and by peers, in a million reads, none of them cached.
func TestAgreesWithTheTemplates(t *testing.T) {
	text, err := os.ReadFile("../../../infra/README.md")
	require.NoError(t, err)
	table := map[string][]float64{}
	for row := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.ReplaceAll(row, "**", ""), "| \n"), " | ")
		if len(cells) != 4 {
			continue
		}
		var usd []float64
		for _, c := range cells[1:] {
			if v, err := strconv.ParseFloat(c, 64); err == nil {
				usd = append(usd, v)
			}
		}
		if len(usd) == 3 {
			table[cells[0]] = usd
		}
	}
	r, err := record.Read(reference)
	require.NoError(t, err)
	u := Use{StoredGB: 1024, AddedGB: 1024, ServedGB: 1024, PeersGB: 1024, Files: 1e6}
	bills, err := Bills(r, u, []Deployment{{Name: "template", Tasks: 3, CPU: 1, GB: 4}})
	require.NoError(t, err)
	for i, store := range []string{"efs, EFS One Zone bursting", "efs, EFS Regional bursting", "s3 packs, S3 Standard"} {
		var want float64
		for _, row := range []string{"together", "1 TiB pinned, 3 copies, a month", "… backups of it, as EfsBackups is by default", "1 TiB added through the REST API, once",
			"1 TiB served to consumers, none of it from CloudFront's cache", "1 TiB served to IPFS peers", "1 million reads, all from CloudFront's cache"} {
			require.Contains(t, table, row)
			want += table[row][i]
		}
		b := find(t, bills, store)
		require.InDelta(t, want, b.Total, 0.04, "%s: seven rows, each rounded to a cent", store)
		for _, row := range []string{"Fargate tasks", "Load balancer", "Public IPv4 addresses", "Secrets", "Alarms", "Dashboard", "Private DNS zone"} {
			require.InDelta(t, table[row][i], line(t, b, row), 0.005, "%s: %s", store, row)
		}
		require.InDelta(t, table["1 TiB pinned, 3 copies, a month"][i], line(t, b, "Storage"), 0.005, store)
	}
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
	require.InDelta(t, 5e11/bill.GB, l.StoredGB, 1e-9)
	require.InDelta(t, 730e9/bill.GB, l.AddedGB, 1e-6)
	require.InDelta(t, 1460e9/bill.GB, l.ServedGB, 1e-6)
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
