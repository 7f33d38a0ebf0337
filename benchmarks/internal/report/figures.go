package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// tib is what dollars and requests are given per.
const tib = 1 << 40

// metric is a figure that every sample of some workloads has.
type metric struct {
	Name, Unit string
	// Formula says how it follows from the fields of a sample.
	Formula string
	// Kinds of workloads that it makes sense for; nil: all.
	Kinds []string
	// Higher is true if more is better.
	Higher bool
	of     func(*record.Sample) (float64, bool)
}

var metrics = []metric{
	{"throughput", "MB/s", "bytes ÷ seconds ÷ 10⁶", []string{"add", "serve"}, true, func(s *record.Sample) (float64, bool) { return float64(s.Bytes) / s.Seconds / 1e6, s.Bytes > 0 }},
	{"time", "s", "seconds", nil, false, func(s *record.Sample) (float64, bool) { return s.Seconds, true }},
	{"p50", "ms", "50 % of latencies are no longer", nil, false, percentile(0.50)},
	{"p90", "ms", "90 % of latencies are no longer", nil, false, percentile(0.90)},
	{"p99", "ms", "99 % of latencies are no longer", nil, false, percentile(0.99)},
	{"requests", "", "sum of s3.requests and efs.requests, counted at the server", nil, false, func(s *record.Sample) (float64, bool) { n, ok := requests(s); return float64(n), ok }},
	{"requests per TiB", "", "requests ÷ bytes × 2⁴⁰", []string{"add", "serve"}, false, func(s *record.Sample) (float64, bool) {
		n, ok := requests(s)
		return float64(n) / float64(s.Bytes) * tib, ok && s.Bytes > 0
	}},
	{"dollars per TiB", "$", "usd ÷ bytes × 2⁴⁰, where usd = Σ requests × price + bytes metered × price, prices in s3model/figures.go and efsmodel/profile.go; provisioned and bursting throughput is paid by the month, and is not in it", []string{"add", "serve"}, false, func(s *record.Sample) (float64, bool) {
		return s.USD / float64(s.Bytes) * tib, s.Bytes > 0 && remote(s)
	}},
	{"dollars a month", "$", "usd ÷ seconds × 2,592,000 (30 days)", []string{"other"}, false, func(s *record.Sample) (float64, bool) { return s.USD / s.Seconds * 2_592_000, remote(s) }},
	{"bytes moved per byte", "", "bytes read at the server (for adds: written) ÷ bytes", []string{"add", "serve"}, false, nil},
	{"cache hit rate", "%", "100 × (1 − bytes read at the server ÷ bytes asked for), 0 at least", []string{"serve"}, true, func(s *record.Sample) (float64, bool) {
		n, _, ok := moved(s)
		return 100 * max(0, 1-float64(n)/float64(s.Bytes)), ok && s.Bytes > 0
	}},
	{"memory", "MiB", "peakRSS ÷ 2²⁰, of the daemon", nil, false, func(s *record.Sample) (float64, bool) { return float64(s.PeakRSS) / (1 << 20), s.PeakRSS > 0 }},
	{"processor", "s", "cpu, of the daemon", nil, false, func(s *record.Sample) (float64, bool) { return s.CPU, s.PeakRSS > 0 }},
}

func metricNamed(name string) metric {
	return metrics[slices.IndexFunc(metrics, func(m metric) bool { return m.Name == name })]
}

func remote(s *record.Sample) bool { return s.S3 != nil || s.EFS != nil }

func requests(s *record.Sample) (n int64, ok bool) {
	if s.S3 != nil {
		n += s.S3.Total()
	}
	if s.EFS != nil {
		n += s.EFS.Total()
	}
	return n, remote(s)
}

// moved are the bytes read and written at the servers behind a store.
func moved(s *record.Sample) (read, written int64, ok bool) {
	if s.S3 != nil {
		read, written = read+s.S3.BytesOut, written+s.S3.BytesIn
	}
	if s.EFS != nil {
		read, written = read+s.EFS.BytesRead, written+s.EFS.BytesWritten
	}
	return read, written, remote(s)
}

func percentile(q float64) func(*record.Sample) (float64, bool) {
	return func(s *record.Sample) (float64, bool) {
		l := slices.Clone(s.Latencies)
		for _, step := range s.Steps {
			l = append(l, step.Latencies...)
		}
		if len(l) < 2 { // one operation has no distribution: its time is the figure
			return 0, false
		}
		slices.Sort(l)
		return record.Quantile(l, q), true
	}
}

// figure is a metric of a store under a workload.
type figure struct {
	Stat    record.Stat
	Verdict *record.Verdict // against the baseline; nil if there is none
}

// view is results with what a report asks of them.
type view struct{ *record.Results }

func (v view) figure(k record.Key, m metric) (figure, bool) {
	stat, ok := v.stat(k, m)
	if !ok {
		return figure{}, false
	}
	f := figure{Stat: stat}
	i := slices.IndexFunc(v.Stores, func(s record.Store) bool { return s.Name == k.Store })
	if base := v.Stores[i].Baseline; base != "" {
		if b, ok := v.stat(record.Key{Store: base, Level: k.Level, Workload: k.Workload}, m); ok {
			d := record.Decide(b, stat)
			f.Verdict = &d
		}
	}
	return f, true
}

func (v view) stat(k record.Key, m metric) (record.Stat, bool) {
	i := slices.IndexFunc(v.Workloads, func(w record.Workload) bool { return w.Name == k.Workload })
	if i < 0 || m.Kinds != nil && !slices.Contains(m.Kinds, v.Workloads[i].Kind) {
		return record.Stat{}, false
	}
	of := m.of
	if of == nil { // bytes moved: which way depends on the kind
		of = func(s *record.Sample) (float64, bool) {
			read, written, ok := moved(s)
			if v.Workloads[i].Kind == "add" {
				read = written
			}
			return float64(read) / float64(s.Bytes), ok && s.Bytes > 0
		}
	}
	var values []float64
	for _, s := range v.Of(k) {
		if x, ok := of(&s); ok {
			values = append(values, x)
		}
	}
	return record.Summarize(values), len(values) > 0
}

// ceiling is what the model of a store lets through: the first one named, for a store with two.
func (v view) ceiling(store record.Store) (record.Ceiling, bool) {
	for _, c := range v.Ceilings {
		if strings.Contains(store.Model, c.Model) {
			return c, true
		}
	}
	return record.Ceiling{}, false
}

// number writes a figure with three digits that count.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case x == 0:
		return "0"
	case a >= 1e6:
		return thousands(fmt.Sprintf("%.0f", math.Round(x/1e4)*1e4))
	case a >= 1000:
		return thousands(fmt.Sprintf("%.0f", x))
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 0.095:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// short is a number for a plot, where there is little room.
func short(x float64) string {
	for _, u := range []struct {
		from, by float64
		unit     string
	}{{1e9, 1e9, " G"}, {1e6, 1e6, " M"}, {1e4, 1e3, " k"}} {
		if x >= u.from {
			return number(x/u.by) + u.unit
		}
	}
	return number(x)
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// text is a median with its spread, and what is to be said against it.
func (f figure) text() string {
	s := number(f.Stat.Median)
	if f.Stat.Low != f.Stat.High {
		s += fmt.Sprintf(" (%s–%s)", number(f.Stat.Low), number(f.Stat.High))
	}
	return s
}

// versus is the comparison with the baseline, in words.
func (f figure) versus() string {
	switch {
	case f.Verdict == nil:
		return ""
	case f.Verdict.Doubt != "":
		return f.Verdict.Doubt
	case f.Verdict.Ratio == 0:
		return "none instead of some"
	}
	return "×" + number(f.Verdict.Ratio)
}
