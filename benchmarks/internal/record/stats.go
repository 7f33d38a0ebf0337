package record

import (
	"fmt"
	"math"
	"slices"
)

// Least is the fewest samples that say anything about noise.
const Least = 5

// TooWide is the spread, (upper quartile − lower quartile) ÷ median, beyond which a figure decides nothing.
const TooWide = 0.25

// Significant is the probability below which two sets of samples are taken to differ: of a difference this large by chance alone.
const Significant = 0.05

// Stat is what can be said of samples.
type Stat struct {
	N                      int
	Median, Low, High      float64 // Low and High are the least and the greatest
	Quartile1, Quartile3   float64
	Values                 []float64 // in the order of the rounds
	constant, insufficient bool
}

// Summarize makes a Stat of values in the order of their rounds.
func Summarize(values []float64) Stat {
	s := Stat{N: len(values), Values: values, insufficient: len(values) < Least}
	if s.N == 0 {
		return s
	}
	v := slices.Sorted(slices.Values(values))
	s.Median, s.Low, s.High = Quantile(v, 0.5), v[0], v[len(v)-1]
	s.Quartile1, s.Quartile3 = Quantile(v, 0.25), Quantile(v, 0.75)
	s.constant = s.Low == s.High
	return s
}

// Quantile interpolates between the values around it. v is sorted.
func Quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// Spread is (upper quartile − lower quartile) ÷ median.
func (s Stat) Spread() float64 {
	if s.Median == 0 {
		if s.constant {
			return 0
		}
		return math.Inf(1)
	}
	return (s.Quartile3 - s.Quartile1) / math.Abs(s.Median)
}

// Doubt says why the figure must not be used to decide, or "".
func (s Stat) Doubt() string {
	switch {
	case s.N == 0:
		return "not measured"
	case s.insufficient:
		return fmt.Sprintf("only %d of %d samples", s.N, Least)
	case s.Spread() > TooWide:
		return "spread too wide to decide"
	}
	return ""
}

// Verdict is what can be said of two sets of samples.
type Verdict struct {
	Ratio float64 // of the medians, B ÷ A
	P     float64 // how probable a difference this large is by chance
	Doubt string  // why no difference may be claimed; ""
}

// Decide compares b with a: by the exact two-sided rank test of Mann and Whitney, which asks only which samples are greater, so that no
// shape of noise is assumed. With 5 samples each, P is under 0.05 if at most 2 of the 25 pairs contradict.
func Decide(a, b Stat) Verdict {
	v := Verdict{Ratio: b.Median / a.Median, P: 1}
	if a.N == 0 || b.N == 0 {
		v.Doubt = "not measured"
		return v
	}
	if a.constant && b.constant && a.N > 1 && b.N > 1 {
		// a counter that never varies: no noise, so any difference is one
		if a.Median != b.Median {
			v.P = 0
		} else {
			v.Doubt = "no difference"
		}
		return v
	}
	if a.insufficient || b.insufficient {
		v.Doubt = fmt.Sprintf("only %d and %d of %d samples", a.N, b.N, Least)
		return v
	}
	v.P = rankTest(a.Values, b.Values)
	if v.P >= Significant {
		v.Doubt = "too wide to decide"
	}
	return v
}

// rankTest enumerates all ways to choose which of the pooled values are b's: exact, ties included. Beyond exactly it samples
// nothing but uses the normal approximation, which is good there.
func rankTest(a, b []float64) float64 {
	pool := append(slices.Clone(a), b...)
	ranks := ranksOf(pool)
	n, m := len(a), len(b)
	var observed float64
	for _, r := range ranks[n:] {
		observed += r
	}
	mean := float64(m) * float64(n+m+1) / 2
	far := math.Abs(observed-mean) - 1e-9
	if n+m > 20 {
		deviation := math.Sqrt(float64(n) * float64(m) * float64(n+m+1) / 12)
		return math.Erfc(far / deviation / math.Sqrt2)
	}
	var all, extreme float64
	var choose func(from, left int, sum float64)
	choose = func(from, left int, sum float64) {
		if left == 0 {
			all++
			if math.Abs(sum-mean) >= far {
				extreme++
			}
			return
		}
		for i := from; i <= len(ranks)-left; i++ {
			choose(i+1, left-1, sum+ranks[i])
		}
	}
	choose(0, m, 0)
	return extreme / all
}

// ranksOf gives each value its rank from 1 on; equal ones share the mean of theirs.
func ranksOf(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		switch {
		case v[i] < v[j]:
			return -1
		case v[i] > v[j]:
			return 1
		}
		return 0
	})
	ranks := make([]float64, len(v))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && v[order[j]] == v[order[i]] {
			j++
		}
		for k := i; k < j; k++ {
			ranks[order[k]] = float64(i+j+1) / 2
		}
		i = j
	}
	return ranks
}
