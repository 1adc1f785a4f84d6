package kernel

import "testing"

// PlainState is the rival of the benchmarks: the specification as it is written.
func PlainState(prices []float64, p MarketParams) MarketState { return plainState(prices, p) }

// RecordedCloses calls do with the closes of each file of recorded bars.
func RecordedCloses(t testing.TB, do func(name string, closes []float64)) {
	for _, r := range recordedCloses(t) {
		do(r.name, r.closes)
	}
}
