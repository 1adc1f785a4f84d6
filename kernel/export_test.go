package kernel

// PlainState is the rival of the benchmarks: the specification as it is written.
func PlainState(prices []float64, p MarketParams) MarketState { return plainState(prices, p) }

// RecordedCloses are the closes of the recorded bars, by file.
var RecordedCloses = recordedCloses
