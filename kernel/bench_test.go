package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantumharvest/kernel"
)

// walk is a reproducible random walk of n prices.
func walk(seed uint64, n int, sigma float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	p, prices := 40000.0, make([]float64, n)
	for i := range prices {
		p *= math.Exp(sigma * rng.NormFloat64())
		prices[i] = math.Round(p*100) / 100
	}
	return prices
}

func longPosition() kernel.Position {
	return kernel.Position{
		Side: kernel.Long, Entry: 100, Current: 105, Peak: 106, Trough: 99, AgeSec: 3600, UnrealizedPnL: 5, Stop: 98,
	}
}

func usualState() kernel.MarketState {
	return kernel.MarketState{Sigma: 0.004, Mu: 1e-4, TS: 0.2, PTrend: 0.25, PMR: 0.15, PChop: 0.6, DP: 0.5, VR: 1.1}
}

// Results go here so that nothing is optimised away.
var (
	sinkState    kernel.MarketState
	sinkStops    kernel.StopProposal
	sinkProposal kernel.Proposal
	sinkGate     kernel.GateReason
)

func BenchmarkStops(b *testing.B) {
	pos, ms, p := longPosition(), usualState(), kernel.DefaultStopParams()
	for b.Loop() {
		sinkStops, _ = kernel.Stops(pos, ms, p)
	}
}

func BenchmarkPropose(b *testing.B) {
	pos, ms, p := longPosition(), usualState(), kernel.DefaultHarvestParams()
	for b.Loop() {
		sinkProposal, _ = kernel.Propose(pos, ms, 0.01, p)
	}
}

func BenchmarkGate(b *testing.B) {
	last := kernel.Published{Action: kernel.ActionNone, NewStop: 100, KillScore: 0.5, AtSec: 1000}
	next, p := last, kernel.DefaultGateParams()
	next.AtSec += 10
	for b.Loop() {
		sinkGate = kernel.Gate(last, true, next, p)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	prices, constant := walk(1, 300, 0.001), make([]float64, 300)
	for i := range constant {
		constant[i] = 100
	}
	pos, ms := longPosition(), usualState()
	stops, harvest, gate := kernel.DefaultStopParams(), kernel.DefaultHarvestParams(), kernel.DefaultGateParams()
	last := kernel.Published{Action: kernel.ActionNone, NewStop: 100, KillScore: 0.5, AtSec: 1000}
	if _, ok, err := e.State(prices); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, c := range []struct {
		name string
		call func()
	}{
		{"Estimator.State", func() { sinkState, _, _ = e.State(prices) }},
		{"Estimator.State of a constant series", func() { sinkState, _, _ = e.State(constant) }},
		{"Estimator.State with too few prices", func() { sinkState, _, _ = e.State(prices[:50]) }},
		{"Stops", func() { sinkStops, _ = kernel.Stops(pos, ms, stops) }},
		{"Propose", func() { sinkProposal, _ = kernel.Propose(pos, ms, 0.01, harvest) }},
		{"Gate", func() { sinkGate = kernel.Gate(last, true, last, gate) }},
	} {
		if n := testing.AllocsPerRun(100, c.call); n != 0 {
			t.Errorf("%s: %v allocations a call, want none", c.name, n)
		}
	}
}
