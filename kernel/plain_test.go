package kernel

import (
	"math"
	"slices"
)

// plainState is section 1 of the specification as it is written, without a thought for time. Its prices are valid and
// enough. The median of the slopes is exact, so mu is to be met to the last bit; everything else is rounded its own way.
func plainState(prices []float64, p MarketParams) MarketState {
	lp := make([]float64, len(prices))
	for i, x := range prices {
		lp[i] = ln(x + p.Eps)
	}
	r := make([]float64, len(lp)-1)
	for i := range r {
		r[i] = lp[i+1] - lp[i]
	}
	var st MarketState
	st.Sigma, st.SpikeProxy = plainVolatility(last(r, p.Vol.Window), p)
	total := 0.0
	for _, w := range p.Trend.Weights {
		total += w
	}
	for i, w := range p.Trend.Windows {
		slope := plainLeastSquares
		if p.Trend.Method == TrendTheilSen {
			slope = plainTheilSen
		}
		st.Mu += float64(p.Trend.Weights[i] / total * slope(last(lp, w))) // not fused, as in the kernel
	}
	st.TS = math.Abs(st.Mu) / (st.Sigma + p.Eps)
	st.DP, st.VR = plainRegime(last(r, p.Regime.Window), p)
	c, away := p.Regime.Score, math.Abs(st.VR-1)
	score := []float64{
		c.A1*st.TS + c.A2*st.DP - c.A3*away,
		c.B1*away - c.B2*st.TS - c.B3*math.Abs(st.DP),
		c.C1*(1-math.Abs(st.DP)) + c.C2*(1-min(st.TS, 1)) - c.C3*away,
	}
	top, sum := slices.Max(score), 0.0
	for i := range score {
		score[i] = math.Exp((score[i] - top) / p.Regime.SoftmaxTemp)
		sum += score[i]
	}
	st.PTrend, st.PMR, st.PChop = score[0]/sum, score[1]/sum, score[2]/sum
	return st
}

func plainVolatility(r []float64, p MarketParams) (sigma, spike float64) {
	sorted := slices.Sorted(slices.Values(r))
	low, high := plainQuantile(sorted, p.Vol.WinsorQLow), plainQuantile(sorted, p.Vol.WinsorQHigh)
	clipped := make([]float64, len(r))
	for i, x := range r {
		clipped[i] = min(max(x, low), high)
	}
	v := plainVariance(clipped[:min(10, len(clipped))])
	for _, x := range clipped {
		v = p.Vol.EWMALambda*v + (1-p.Vol.EWMALambda)*x*x
	}
	ewma := math.Sqrt(v)
	center := plainMedian(clipped)
	deviation := make([]float64, len(clipped))
	for i, x := range clipped {
		deviation[i] = math.Abs(x - center)
	}
	mad := 1.4826 * plainMedian(deviation)
	spike = min(max(mad/(ewma+p.Eps), 0), p.Vol.SpikeProxyCap)
	z := min(max((spike-p.Vol.SpikeCenter)/p.Vol.SpikeScale, -50), 50)
	w := 1 / (1 + math.Exp(-z))
	return max(p.Vol.SigmaFloor, (1-w)*ewma+w*mad), spike
}

func plainRegime(r []float64, p MarketParams) (dp, vr float64) {
	dp, vr = 0.5, 1
	if len(r) > 1 {
		same := 0
		for i := 1; i < len(r); i++ {
			if plainSign(r[i]) == plainSign(r[i-1]) {
				same++
			}
		}
		dp = float64(same) / float64(len(r)-1)
	}
	k := p.Regime.VRK
	if len(r) > k {
		var sums []float64
		for i := k; i <= len(r); i++ {
			sum := 0.0
			for _, x := range r[i-k : i] {
				sum += x
			}
			sums = append(sums, sum)
		}
		vr = plainVariance(sums) / (float64(k)*plainVariance(r) + p.Eps)
	}
	return dp, vr
}

func plainSign(x float64) int {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

func plainVariance(x []float64) float64 {
	mean, v := 0.0, 0.0
	for _, d := range x {
		mean += d / float64(len(x))
	}
	for _, d := range x {
		v += (d - mean) * (d - mean) / float64(len(x))
	}
	return v
}

func plainQuantile(sorted []float64, q float64) float64 {
	h := float64(len(sorted)-1) * q
	i := min(int(h), len(sorted)-2)
	if i < 0 {
		return sorted[0]
	}
	return sorted[i] + (sorted[i+1]-sorted[i])*(h-float64(i))
}

func plainMedian(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return 0.5 * (s[(len(s)-1)/2] + s[len(s)/2])
}

func plainTheilSen(y []float64) float64 {
	var slopes []float64
	for i := range y {
		for j := i + 1; j < len(y); j++ {
			slopes = append(slopes, (y[j]-y[i])/float64(j-i))
		}
	}
	return plainMedian(slopes)
}

func plainLeastSquares(y []float64) float64 {
	mid := float64(len(y)-1) / 2
	sum, weight := 0.0, 0.0
	for i, v := range y {
		x := float64(i) - mid
		sum += x * (v - y[0])
		weight += x * x
	}
	return sum / weight
}

// wantPlain fails where a state is not that of the specification: mu to the last bit where it is made of medians,
// everything else to the tolerance of the vectors.
func wantPlain(t failer, got MarketState, prices []float64, p MarketParams) {
	t.Helper()
	want := plainState(prices, p)
	if p.Trend.Method == TrendTheilSen && got.Mu != want.Mu {
		t.Fatalf("mu is %v, want exactly %v", got.Mu, want.Mu)
	}
	for _, c := range []struct {
		field     string
		got, want float64
	}{
		{"sigma", got.Sigma, want.Sigma},
		{"mu", got.Mu, want.Mu},
		{"ts", got.TS, want.TS},
		{"p_trend", got.PTrend, want.PTrend},
		{"p_mr", got.PMR, want.PMR},
		{"p_chop", got.PChop, want.PChop},
		{"dp", got.DP, want.DP},
		{"vr", got.VR, want.VR},
		{"spike_proxy", got.SpikeProxy, want.SpikeProxy},
	} {
		if math.Abs(c.got-c.want) > 1e-12+1e-9*math.Abs(c.want) {
			t.Fatalf("%s is %v, want %v", c.field, c.got, c.want)
		}
	}
}
