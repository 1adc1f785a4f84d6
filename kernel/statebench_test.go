package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"quantumharvest/kernel"
)

// against times call, and its rival once every so many calls of it, so that both meet the same machine.
func against(b *testing.B, rivalName string, each int, call, rival func()) {
	b.ReportAllocs()
	var theirs time.Duration
	rivals := 0
	for i := 0; b.Loop(); i++ {
		call()
		if i%each == 0 {
			b.StopTimer()
			begin := time.Now()
			rival()
			theirs += time.Since(begin)
			rivals++
			b.StartTimer()
		}
	}
	us, them := float64(b.Elapsed())/float64(b.N), float64(theirs)/float64(rivals)
	b.ReportMetric(them, rivalName+"-ns/op")
	b.ReportMetric(them/us, "times-faster")
}

// market is closes with a stream that takes them in one after another, and an estimator beside it.
type market struct {
	b      *testing.B
	cold   *kernel.Estimator
	stream *kernel.Stream
	closes []float64
	next   int // the close that comes next
}

const window = 300

func newMarket(b *testing.B, closes []float64) *market {
	b.Helper()
	e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		b.Fatal(err)
	}
	cold, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		b.Fatal(err)
	}
	m := &market{b: b, cold: cold, stream: e.NewStream(window), closes: closes, next: window}
	if err := m.stream.Reset(closes[:window]); err != nil {
		b.Fatal(err)
	}
	sinkState, _, _ = m.stream.State()
	return m
}

// advance takes in the next close, and after the last one those behind the first window again.
func (m *market) advance() {
	if m.next == len(m.closes) {
		m.next = window
	}
	if err := m.stream.Push(m.closes[m.next]); err != nil {
		m.b.Fatal(err)
	}
	m.next++
	sinkState, _, _ = m.stream.State()
}

func (m *market) computeCold() { sinkState, _, _ = m.cold.State(m.closes[m.next-window : m.next]) }

// candles times a new candle and the state that it gives. The rival computes that state from the closes.
func (m *market) candles() { against(m.b, "cold", 64, m.advance, m.computeCold) }

// revisions times another price of the open candle, and the state that it gives. The rival computes a state from the
// closes. Prices are on the tick, and a fifth of a usual return from the close. Every 32 prices the next candle opens.
func (m *market) revisions() {
	square := 0.0
	for i, c := range m.closes[1:] {
		square += (c - m.closes[i]) * (c - m.closes[i])
	}
	usual := math.Sqrt(square / float64(len(m.closes)-1))
	rng := rand.New(rand.NewPCG(3, 1))
	moves := make([]float64, 1<<10)
	for i := range moves {
		moves[i] = math.Round(0.2*usual*rng.NormFloat64()*100) / 100
	}
	i := 0
	against(m.b, "cold", 64, func() {
		if err := m.stream.Revise(m.closes[m.next-1] + moves[i%len(moves)]); err != nil {
			m.b.Fatal(err)
		}
		sinkState, _, _ = m.stream.State()
		if i++; i%32 == 0 {
			m.b.StopTimer()
			m.advance()
			m.b.StartTimer()
		}
	}, m.computeCold)
}

func BenchmarkStateNext(b *testing.B) { newMarket(b, walk(1, 20_000, 0.001)).candles() }

func BenchmarkStateRevise(b *testing.B) { newMarket(b, walk(1, 20_000, 0.001)).revisions() }

// BenchmarkStateRecorded is the same on recorded bars, and on a market that hardly moves, where many returns are zero.
func BenchmarkStateRecorded(b *testing.B) {
	kernel.RecordedCloses(b, func(name string, closes []float64) {
		b.Run("next/"+name, func(b *testing.B) { newMarket(b, closes).candles() })
		b.Run("revise/"+name, func(b *testing.B) { newMarket(b, closes).revisions() })
	})
}

func BenchmarkStateQuiet(b *testing.B) {
	b.Run("next", func(b *testing.B) { newMarket(b, walk(3, 20_000, 1e-7)).candles() })
	b.Run("revise", func(b *testing.B) { newMarket(b, walk(3, 20_000, 1e-7)).revisions() })
}

// BenchmarkStateCold computes a state from 300 prices without any help from the one before. The rival is the
// specification as it is written.
func BenchmarkStateCold(b *testing.B) {
	e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		b.Fatal(err)
	}
	series := make([][]float64, 16)
	for i := range series {
		series[i] = walk(uint64(i), window, 0.001)
	}
	i := 0
	against(b, "plain", 256, func() {
		sinkState, _, _ = e.State(series[i%len(series)])
		i++
	}, func() { sinkState = kernel.PlainState(series[i%len(series)], kernel.DefaultMarketParams()) })
}
