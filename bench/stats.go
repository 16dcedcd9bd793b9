// stats.go: medians, spreads, and ratios within rounds.

package main

import (
	"math"
	"slices"
)

// results are samples by scenario and server, one a round.
type results map[string]map[string][]sample

func (r results) add(s scenario, v server, out sample) {
	if r[s.name()] == nil {
		r[s.name()] = make(map[string][]sample)
	}
	r[s.name()][v.name] = append(r[s.name()][v.name], out)
}

// values returns a metric of a server in a scenario, by rounds; none if it was not
// measured.
func (r results) values(scenario, server, metric string) (values []float64) {
	for _, out := range r[scenario][server] {
		if v, ok := out.values[metric]; ok {
			values = append(values, v)
		}
	}
	return values
}

// spread is what remains of several values: the median and the quartiles.
type spread struct{ low, median, high float64 }

// spreadOf returns the spread of values, of which there must be one at least.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	at := func(quantile float64) float64 {
		position := quantile * float64(len(sorted)-1)
		below := int(position)
		above := min(below+1, len(sorted)-1)
		return sorted[below] + (position-float64(below))*(sorted[above]-sorted[below])
	}
	return spread{at(0.25), at(0.5), at(0.75)}
}

// ratio returns the spread of a metric beside the yardstick's in the same round. It
// reports false where there is nothing to compare.
func (r results) ratio(scenario, server, metric string) (spread, bool) {
	ours, theirs := r[scenario][server], r[scenario][yardstick]
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		a, ok := ours[i].values[metric]
		b := theirs[i].values[metric]
		if !ok || b == 0 {
			return spread{}, false
		}
		ratios = append(ratios, a/b)
	}
	if len(ratios) == 0 {
		return spread{}, false
	}
	return spreadOf(ratios), true
}

// noDifference reports whether a ratio is spread more widely than it is away from 1.
func (s spread) noDifference() bool { return s.high-s.low >= math.Abs(s.median-1) }
