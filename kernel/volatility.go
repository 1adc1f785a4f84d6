package kernel

import "math"

// firstReturns is the number of returns that start the moving variance.
const firstReturns = minPrices - 1

// movingVariance is the moving variance before the newest return of a window. It stays while the newest candle is open,
// unless that moves the bounds to which returns are clipped.
type movingVariance struct {
	known     bool
	low, high float64 // the bounds
	before    float64
}

// volatility is the blend of a moving and a median-based estimate over winsorised returns, given the log prices between
// which they lie and, in order, themselves.
func (e *Estimator) volatility(lp []float64, sorted sortedReturns, v *movingVariance) (sigma, spike float64) {
	p := &e.p.Vol
	low, high := quantile(sorted, p.WinsorQLow), quantile(sorted, p.WinsorQHigh)
	n := len(lp) - 1
	// The first few returns start the variance; in a window that short the newest is one of them.
	if !v.known || low != v.low || high != v.high || n <= firstReturns {
		first := firstVariance(lp[:min(firstReturns, n)+1], low, high)
		*v = movingVariance{known: true, low: low, high: high, before: p.moveVariance(first, lp[:n], low, high)}
	}
	e.sigmaEWMA = math.Sqrt(p.moveVariance(v.before, lp[n-1:], low, high))
	e.sigmaMAD = 1.4826 * clippedMedianDeviation(sorted, low, high)

	spike = clip(e.sigmaMAD/(e.sigmaEWMA+e.p.Eps), 0, p.SpikeProxyCap)
	e.blend = 1 / (1 + exp(-clip((spike-p.SpikeCenter)/p.SpikeScale, -50, 50)))
	e.sigmaRaw = float64((1-e.blend)*e.sigmaEWMA) + float64(e.blend*e.sigmaMAD)
	return max(p.SigmaFloor, e.sigmaRaw), spike
}

// firstVariance is the population variance of the clipped returns.
func firstVariance(lp []float64, low, high float64) float64 {
	var first [firstReturns]float64
	r := first[:len(lp)-1]
	for i := range r {
		r[i] = clip(lp[i+1]-lp[i], low, high)
	}
	return populationVariance(r)
}

// moveVariance carries a variance on over the clipped returns, oldest first. It takes four at a time: one by one, each
// step would have to wait for the one before.
func (p *VolParams) moveVariance(v float64, lp []float64, low, high float64) float64 {
	keep, take := p.EWMALambda, 1-p.EWMALambda
	keep2 := float64(keep * keep)
	keep4 := float64(keep2 * keep2)
	for ; len(lp) > 4; lp = lp[4:] {
		a := clippedSquare(lp[1]-lp[0], low, high)
		b := clippedSquare(lp[2]-lp[1], low, high)
		c := clippedSquare(lp[3]-lp[2], low, high)
		d := clippedSquare(lp[4]-lp[3], low, high)
		older := float64(keep*a) + b
		newer := float64(keep*c) + d
		v = float64(keep4*v) + float64(take*(float64(keep2*older)+newer))
	}
	for i := 1; i < len(lp); i++ {
		v = float64(keep*v) + float64(take*clippedSquare(lp[i]-lp[i-1], low, high))
	}
	return v
}

func clippedSquare(x, low, high float64) float64 {
	if x < low {
		x = low
	}
	if x > high {
		x = high
	}
	return float64(x * x)
}

// populationVariance divides by the number of values, which must not be 0.
func populationVariance(x []float64) float64 {
	n := float64(len(x))
	mean := 0.0
	for _, v := range x {
		mean += v
	}
	mean /= n
	sum := 0.0
	for _, v := range x {
		d := v - mean
		sum += float64(d * d)
	}
	return sum / n
}

// clip passes NaN on.
func clip(x, low, high float64) float64 { return min(max(x, low), high) }
