// Package advise turns an amount of content and of use into a monthly bill for each blockstore and deployment, with every step of
// the arithmetic, and picks the cheapest that holds a wanted latency.
//
// How many requests a blockstore sends per GB is not assumed: it is taken from measured results (the committed reference, or a run of
// one's own). What a request, a GB and an hour cost is in internal/prices; the formulas, and what a template makes next to the
// tasks, are in internal/bill, which the tables of infra/README.md are calculated with too.
package advise

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

// Use is what is stored and asked for, for the whole deployment. GB are 2³⁰ bytes, as on AWS's bill.
type Use struct {
	StoredGB   float64 // of content, once
	Files      float64
	AddedGB    float64 // a month
	ServedGB   float64 // a month, from the nodes (behind CloudFront's cache)
	FreeGB     float64 // a month, that CloudFront serves for nothing
	PeersGB    float64 // a month, to IPFS peers
	Exponent   float64 // of the Zipf popularity of files; 0: all alike
	Wants      float64 // for absent blocks, per second and task
	LatencyMS  float64 // wanted at the gateway, 99 of 100; 0: none
	UnreadPart float64 // share of what is stored that nobody reads for 90 days
}

// Deployment is what the blockstore runs in.
type Deployment struct {
	Name     string
	Tasks    int // each with a copy of its own
	CPU, GB  float64
	X86, NAT bool
	CacheGB  float64 // of a task's own disk, for blocks that were read
}

// Line is one step of the arithmetic.
type Line = bill.Line

// Bill is what a blockstore in a deployment costs in a month.
type Bill struct {
	Store, Deployment string
	Lines             []Line
	Total             float64
	Latency           float64 // ms, measured at the gateway, 99 of 100; NaN: not measured
	Refused           string  // why it does not do; ""
}

// variant is a blockstore with its prices.
type variant struct {
	name     string
	measured string // the store in the results
	alike    string // one that sends the same requests, if that was not measured; its latency is not taken
	class    *s3model.Class
	efs      *efsmodel.Profile
	mode     string
	cached   bool // reads what it has read from a task's own disk
	tiers    bool
}

func variants() []variant {
	one, regional := efsmodel.OneZone, efsmodel.Regional
	std, it, exp := s3model.Standard, s3model.IntelligentTiering, s3model.Express
	return []variant{
		{name: "flatfs, EFS One Zone elastic", measured: "flatfs-efs", efs: &one, mode: "elastic"},
		{name: "efs, EFS One Zone elastic", measured: "efs-onezone-elastic", efs: &one, mode: "elastic"},
		{name: "efs, EFS One Zone bursting", measured: "efs-onezone-bursting", alike: "efs-onezone-elastic", efs: &one, mode: "bursting"},
		{name: "efs, EFS One Zone provisioned", measured: "efs-onezone-provisioned", alike: "efs-onezone-elastic", efs: &one, mode: "provisioned"},
		{name: "efs, EFS Regional elastic", measured: "efs-regional-elastic", alike: "efs-onezone-elastic", efs: &regional, mode: "elastic"},
		{name: "efs, EFS Regional bursting", measured: "efs-regional-bursting", alike: "efs-onezone-elastic", efs: &regional, mode: "bursting"},
		{name: "efs, EFS Regional provisioned", measured: "efs-regional-provisioned", alike: "efs-onezone-elastic", efs: &regional, mode: "provisioned"},
		{name: "go-ds-s3, S3 Standard", measured: "go-ds-s3", class: &std},
		{name: "s3 objects, S3 Standard", measured: "s3-objects", class: &std},
		{name: "s3 packs, S3 Standard", measured: "s3-packs", class: &std, cached: true},
		{name: "s3 packs, S3 Intelligent-Tiering", measured: "s3-packs", class: &it, cached: true, tiers: true},
		{name: "s3 packs, S3 Express One Zone", measured: "s3-packs-express", class: &exp, cached: true},
	}
}

// Bills calculates every blockstore in every deployment, cheapest first.
func Bills(r *record.Results, u Use, deployments []Deployment) ([]Bill, error) {
	if err := u.validate(); err != nil {
		return nil, err
	}
	var all []Bill
	for _, d := range deployments {
		for _, v := range variants() {
			m, ok := measure(r, v.measured)
			if !ok && v.alike != "" {
				m, ok = measure(r, v.alike)
				m.latency = math.NaN()
			}
			if !ok {
				continue
			}
			all = append(all, total(v, m, u, d))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the results have no blockstore that can be calculated with: run add-file, cat-cold, gateway and wants at level kubo")
	}
	slices.SortStableFunc(all, func(a, b Bill) int {
		switch {
		case (a.Refused == "") != (b.Refused == ""):
			return map[bool]int{true: -1, false: 1}[a.Refused == ""]
		case a.Total < b.Total:
			return -1
		case a.Total > b.Total:
			return 1
		}
		return strings.Compare(a.Store, b.Store)
	})
	return all, nil
}

func (u Use) validate() error {
	var errs []error
	for name, x := range map[string]float64{"--stored": u.StoredGB, "--files": u.Files} {
		if x <= 0 {
			errs = append(errs, fmt.Errorf("%s: use an amount above 0", name))
		}
	}
	for name, x := range map[string]float64{"--added": u.AddedGB, "--served": u.ServedGB, "--peers": u.PeersGB, "--free": u.FreeGB, "--popularity": u.Exponent, "--wants": u.Wants, "--latency": u.LatencyMS} {
		if x < 0 || math.IsNaN(x) {
			errs = append(errs, fmt.Errorf("%s: must not be negative", name))
		}
	}
	if u.UnreadPart < 0 || u.UnreadPart > 1 {
		errs = append(errs, errors.New("--unread: use a share from 0 to 1"))
	}
	return errors.Join(errs...)
}

// measured is what results say of a store, at level kubo: medians over the rounds.
type measured struct {
	addRequests, readRequests map[s3model.Op]float64 // per GB
	addMoved, readMoved       float64                // bytes at the server per byte
	objectsPerGB              float64                // PUTs: how many objects a GB becomes
	wantRequests              map[s3model.Op]float64 // per want
	addMetered, readMetered   [2]float64             // EFS: metered bytes read, written, per byte
	wantMetered               [2]float64             // EFS: the same, per want
	latency                   float64
}

func measure(r *record.Results, store string) (measured, bool) {
	m := measured{latency: math.NaN()}
	of := func(w string) []record.Sample { return r.Of(record.Key{Store: store, Level: record.Kubo, Workload: w}) }
	adds, reads, gateway, wants := of("add-file"), of("cat-cold"), of("gateway"), of("wants")
	if len(adds) == 0 || len(reads) == 0 || len(wants) == 0 {
		return m, false
	}
	per := func(samples []record.Sample, f func(record.Sample) float64) float64 {
		var v []float64
		for _, s := range samples {
			v = append(v, f(s))
		}
		return record.Summarize(v).Median
	}
	gb := func(s record.Sample) float64 { return float64(s.Bytes) / bill.GB }
	by := func(samples []record.Sample, unit func(record.Sample) float64) map[s3model.Op]float64 {
		n := map[s3model.Op]float64{}
		for _, op := range s3model.Ops {
			if x := per(samples, func(s record.Sample) float64 {
				if s.S3 == nil {
					return 0
				}
				return float64(s.S3.Requests[op]) / unit(s)
			}); x > 0 {
				n[op] = x
			}
		}
		return n
	}
	m.addRequests, m.readRequests = by(adds, gb), by(reads, gb)
	m.wantRequests = by(wants, func(s record.Sample) float64 { return float64(s.Ops) })
	m.objectsPerGB = m.addRequests[s3model.Put]
	if adds[0].S3 != nil {
		m.addMoved = per(adds, func(s record.Sample) float64 { return float64(s.S3.BytesIn) / float64(s.Bytes) })
		m.readMoved = per(reads, func(s record.Sample) float64 { return float64(s.S3.BytesOut) / float64(s.Bytes) })
	}
	if adds[0].EFS != nil {
		for i, f := range []func(*record.EFS) int64{func(e *record.EFS) int64 { return e.MeteredRead }, func(e *record.EFS) int64 { return e.MeteredWritten }} {
			m.addMetered[i] = per(adds, func(s record.Sample) float64 { return float64(f(s.EFS)) / float64(s.Bytes) })
			m.readMetered[i] = per(reads, func(s record.Sample) float64 { return float64(f(s.EFS)) / float64(s.Bytes) })
			m.wantMetered[i] = per(wants, func(s record.Sample) float64 { return float64(f(s.EFS)) / float64(s.Ops) })
		}
	}
	if len(gateway) > 0 {
		m.latency = per(gateway, func(s record.Sample) float64 {
			var l []float64
			for _, step := range s.Steps {
				l = append(l, step.Latencies...)
			}
			slices.Sort(l)
			return record.Quantile(l, 0.99)
		})
	}
	return m, true
}

// HitRate is the share of reads that a cache holds which keeps the most popular files: H(cached) ÷ H(all), where H(n) = Σ 1 ÷ i^s.
func HitRate(files, cached, exponent float64) float64 {
	if cached >= files {
		return 1
	}
	return harmonic(cached, exponent) / harmonic(files, exponent)
}

// harmonic sums the first 1,000 terms, and integrates the others.
func harmonic(n, s float64) float64 {
	const exactly = 1000
	var sum float64
	for i := 1.0; i <= min(n, exactly); i++ {
		sum += math.Pow(i, -s)
	}
	if n <= exactly {
		return sum
	}
	a, b := exactly+0.5, n+0.5
	if s == 1 {
		return sum + math.Log(b/a)
	}
	return sum + (math.Pow(b, 1-s)-math.Pow(a, 1-s))/(1-s)
}
