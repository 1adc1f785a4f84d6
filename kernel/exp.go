package kernel

import "math"

// exp is e to the power of x with an error below 0.53 units in the last place for normal results, the same bits on
// every machine. It is +Inf above ln(MaxFloat64), 0 where even the smallest subnormal is too large, and NaN for NaN.
//
// With x = k ln 2 + r, |r| <= ln(2)/2, the terms 1, r and r^2/2 of the series are carried with their remainders, and
// only the rest, below one percent, is rounded before the final sum.
func exp(x float64) float64 {
	const (
		overflow  = 709.782712893384
		underflow = -745.1332191019412
		log2e     = 1.4426950408889634
	)
	switch {
	case x != x:
		return x
	case x > overflow:
		return math.Inf(1)
	case x < underflow:
		return 0
	}
	n := float64(x * log2e)
	if n < 0 {
		n -= 0.5
	} else {
		n += 0.5
	}
	k := int(n)
	kf := float64(k)
	hi := x - float64(kf*ln2Hi) // exact
	lo := float64(kf * ln2Lo)
	r := hi - lo
	rl := (hi - r) - lo
	rt := head(r)
	rr := (r - rt) + rl
	sq := float64(0.5 * float64(rt*rt)) // exact
	cross := float64(rr * (rt + float64(0.5*rr)))

	// r^3/3! to r^14/14!, in pairs: a chain of dependent steps would cost twice the time.
	r2 := float64(r * r)
	r4 := float64(r2 * r2)
	r8 := float64(r4 * r4)
	p0 := 1.0/6 + float64(r*(1.0/24))
	p1 := 1.0/120 + float64(r*(1.0/720))
	p2 := 1.0/5040 + float64(r*(1.0/40320))
	p3 := 1.0/362880 + float64(r*(1.0/3628800))
	p4 := 1.0/39916800 + float64(r*(1.0/479001600))
	p5 := 1.0/6227020800 + float64(r*(1.0/87178291200))
	p01 := p0 + float64(r2*p1)
	p23 := p2 + float64(r2*p3)
	p45 := p4 + float64(r2*p5)
	p := float64(float64(r2*r) * (p01 + float64(r4*p23) + float64(r8*p45)))

	a := 1 + rt
	al := rt - (a - 1)
	b := a + sq
	bl := sq - (b - a)
	y := b + ((al + bl) + ((rr + cross) + p))
	switch {
	case k > 1023:
		return y * 2 * math.Float64frombits(uint64(k-1+1023)<<52)
	case k < -1021:
		return y * math.Float64frombits(uint64(k+128+1023)<<52) * 0x1p-128
	}
	return y * math.Float64frombits(uint64(k+1023)<<52)
}
