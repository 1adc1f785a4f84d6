package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"quantumharvest/kernel"
)

// stateWindow is how many closes a market state is computed from.
const stateWindow = 300

// walk is a reproducible random walk of n prices on a tick of a cent.
func walk(n int) []float64 {
	rng := rand.New(rand.NewPCG(1, 1))
	p, prices := 40000.0, make([]float64, n)
	for i := range prices {
		p *= math.Exp(0.001 * rng.NormFloat64())
		prices[i] = math.Round(p*100) / 100
	}
	return prices
}

func measureKernel(ctx context.Context, r *run) error {
	estimator, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		return err
	}
	cold, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		return err
	}
	closes := walk(20_000)
	stream := estimator.NewStream(stateWindow)
	if err := stream.Reset(closes[:stateWindow]); err != nil {
		return err
	}
	var (
		failed error
		// The answers are kept, so that nothing is optimised away.
		answer   kernel.MarketState
		proposal kernel.Proposal
	)
	defer func() { runtime.KeepAlive(&answer); runtime.KeepAlive(&proposal) }()
	next := stateWindow
	push := func() {
		if next == len(closes) {
			next = stateWindow
		}
		if err := stream.Push(closes[next]); err != nil {
			failed = err
		}
		next++
		answer, _, _ = stream.State()
	}
	rng, moves := rand.New(rand.NewPCG(2, 1)), make([]float64, 1024)
	for i := range moves {
		moves[i] = math.Round(rng.NormFloat64()*800) / 100 // a fifth of a usual candle
	}
	revised := 0
	revise := func() {
		if err := stream.Revise(closes[next-1] + moves[revised%len(moves)]); err != nil {
			failed = err
		}
		revised++
		answer, _, _ = stream.State()
	}
	computed := 0
	compute := func() {
		computed++
		at := computed % (len(closes) - stateWindow)
		answer, _, _ = cold.State(closes[at : at+stateWindow])
	}
	pos := kernel.Position{Side: kernel.Long, Entry: 100, Current: 105, Peak: 106, Trough: 99, AgeSec: 3600, UnrealizedPnL: 5, Stop: 98}
	state := kernel.MarketState{Sigma: 0.004, Mu: 1e-4, TS: 0.2, PTrend: 0.25, PMR: 0.15, PChop: 0.6, DP: 0.5, VR: 1.1}
	params := kernel.DefaultHarvestParams()
	propose := func() {
		var err error
		if proposal, err = kernel.Propose(pos, state, 0.01, params); err != nil {
			failed = err
		}
	}
	const fromCloses = "the state computed from its 300 closes"
	for _, f := range []struct {
		name        string
		target      float64
		ours        func()
		rivalName   string
		rival       func()
		mayAllocate bool
	}{
		{name: "state_next_ns", target: 5000, ours: push, rivalName: fromCloses, rival: compute},
		{name: "state_revise_ns", target: 3000, ours: revise, rivalName: fromCloses, rival: compute},
		{name: "state_cold_ns", target: 60_000, ours: compute, mayAllocate: true},
		{name: "propose_ns", target: 150, ours: propose},
	} {
		ns, ratio, err := r.perCall(ctx, f.ours, f.rival)
		if err != nil {
			return err
		}
		figure := Figure{Name: f.name, Value: &ns, Unit: "ns", Target: &f.target, Rival: f.rivalName}
		if f.rival != nil {
			figure.Ratio = &ratio
		}
		if !f.mayAllocate {
			figure.Allocs = ptr(allocations(f.ours))
		}
		if failed != nil {
			return fmt.Errorf("%s: %w", f.name, failed)
		}
		r.add(figure)
	}
	return nil
}

// perCall is the median time of a call, and the median of its ratio to the rival's.
func (r *run) perCall(ctx context.Context, ours, rival func()) (ns, ratio float64, err error) {
	repeat := func(f func()) (timed func() error, calls int) {
		calls = 1
		for {
			begin := time.Now()
			for range calls {
				f()
			}
			if took := time.Since(begin); took >= r.Effort.Round/4 || calls >= 1<<30 {
				calls = max(1, int(float64(calls)*float64(r.Effort.Round)/float64(max(took, 1))))
				break
			}
			calls *= 2
		}
		return func() error {
			for range calls {
				f()
			}
			return nil
		}, calls
	}
	run, calls := repeat(ours)
	against, theirCalls := func() error { return nil }, 1
	if rival != nil {
		against, theirCalls = repeat(rival)
	}
	d, err := fight(ctx, r.Effort.Rounds, run, nil, against)
	if err != nil {
		return 0, 0, err
	}
	ratio = d.ratio() * float64(theirCalls) / float64(calls)
	return quantile(d.ours, 0.5) * 1e9 / float64(calls), ratio, nil
}

// allocations of one call, on average over many.
func allocations(f func()) float64 {
	const calls = 10_000
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		f()
	}
	runtime.ReadMemStats(&after)
	// A few are other goroutines'.
	return math.Floor(float64(after.Mallocs-before.Mallocs) / calls)
}
