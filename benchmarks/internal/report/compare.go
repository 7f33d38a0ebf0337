package report

import (
	"slices"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// Verdicts on a change.
const (
	Better    = "better"
	Worse     = "worse"
	Same      = "no difference"
	Undecided = "too wide to decide"
)

// Change is a figure that two results have.
type Change struct {
	Key     record.Key
	Figure  string
	A, B    string // median and spread
	Ratio   float64
	Verdict string
}

// Compare compares what two results have in common, in the order of b's report.
func Compare(a, b *record.Results) []Change {
	va, vb := view{a}, view{b}
	var all []Change
	for _, level := range []string{record.Kubo, record.Datastore} {
		for _, w := range b.Workloads {
			for _, s := range b.Stores {
				k := record.Key{Store: s.Name, Level: level, Workload: w.Name}
				if !slices.ContainsFunc(a.Stores, func(o record.Store) bool { return o.Name == s.Name }) {
					continue
				}
				for _, m := range metrics {
					if c, ok := change(va, vb, k, m); ok {
						all = append(all, c)
					}
				}
			}
		}
	}
	return all
}

func change(a, b view, k record.Key, m metric) (Change, bool) {
	x, ok := a.stat(k, m)
	y, has := b.stat(k, m)
	if !ok || !has {
		return Change{}, false
	}
	d := record.Decide(x, y)
	c := Change{Key: k, Figure: m.Name, A: figure{Stat: x}.text(), B: figure{Stat: y}.text(), Ratio: d.Ratio, Verdict: d.Doubt}
	switch {
	case x.Median == y.Median:
		c.Verdict, c.Ratio = Same, 1
	case d.Doubt == "" && (y.Median > x.Median) == m.Higher:
		c.Verdict = Better
	case d.Doubt == "":
		c.Verdict = Worse
	case d.Doubt != Same:
		c.Verdict = Undecided
	}
	return c, true
}
