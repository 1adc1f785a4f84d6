package kernel

import "math"

// sameSigns counts the neighbouring returns of the same sign, where 0 is a sign of its own.
func sameSigns(lp []float64) int {
	same := 0
	for i := 2; i < len(lp); i++ {
		same += sameSign(lp[i-2], lp[i-1], lp[i])
	}
	return same
}

// sameSign is 1 where the returns from a to b and from b to c have the same sign.
func sameSign(a, b, c float64) int {
	if (b > a) == (c > b) && (b < a) == (c < b) {
		return 1
	}
	return 0
}

// persistence is the share of neighbouring returns of the same sign, given their number.
func (p *RegimeParams) persistence(same int) float64 {
	if p.Window < 2 {
		return 0.5
	}
	return float64(same) / float64(p.Window-1)
}

// varianceRatio compares the variance of the sums of k returns with k times that of single ones, given the log prices
// between which the returns lie. A sum of returns is the difference of two log prices, which is cheaper and rounds less;
// so are the sums that the two means are taken of.
func (p *RegimeParams) varianceRatio(lp []float64, eps float64) float64 {
	n, k := len(lp)-1, p.VRK
	if n < k+1 {
		return 1
	}
	returns, sums := float64(n), float64(n+1-k)
	mean := (lp[n] - lp[0]) / returns
	meanK := 0.0
	for i := range min(k, n+1-k) {
		meanK += lp[n-i] - lp[i]
	}
	meanK /= sums
	v, vk := 0.0, 0.0
	for i := 1; i < k; i++ {
		d := (lp[i] - lp[i-1]) - mean
		v += float64(d * d)
	}
	for i := k; i < len(lp); i++ {
		d := (lp[i] - lp[i-1]) - mean
		v += float64(d * d)
		d = (lp[i] - lp[i-k]) - meanK
		vk += float64(d * d)
	}
	return vk / sums / (float64(float64(k)*(v/returns)) + eps)
}

// probabilities is the softmax of the three regime scores, shifted by the largest.
func (p *RegimeParams) probabilities(ts, dp, vr float64) (trend, mr, chop float64, err error) {
	c := &p.Score
	away, dp, calm := math.Abs(vr-1), math.Abs(dp), 1-min(ts, 1)
	trend = float64(c.A1*ts) + float64(c.A2*dp) - float64(c.A3*away)
	mr = float64(c.B1*away) - float64(c.B2*ts) - float64(c.B3*dp)
	chop = float64(c.C1*(1-dp)) + float64(c.C2*calm) - float64(c.C3*away)
	if !finite(trend) || !finite(mr) || !finite(chop) {
		return 0, 0, 0, refuse("regime_probs", reasonOverflow)
	}
	top := max(trend, mr, chop)
	trend, mr, chop = exp((trend-top)/p.SoftmaxTemp), exp((mr-top)/p.SoftmaxTemp), exp((chop-top)/p.SoftmaxTemp)
	sum := trend + mr + chop
	return trend / sum, mr / sum, chop / sum, nil
}
