package kernel

import "math"

// ln2Hi has 42 significant bits, so that its product with any binary exponent is exact; ln2Lo is the rest.
const (
	ln2Hi = 0x1.62e42fefa3800p-1
	ln2Lo = 0x1.ef35793c76730p-45
)

// head keeps the upper 26 bits of the significand: the product of two heads is exact.
func head(x float64) float64 { return math.Float64frombits(math.Float64bits(x) &^ (1<<27 - 1)) }

// ln is the natural logarithm with an error below 0.51 units in the last place, the same bits on every machine. The
// standard library's logarithm is assembly on some targets and differs there in the last bit, which shows in very
// quiet markets, where returns are differences of nearly equal logarithms.
//
// With x = 2^k*m, m in [sqrt(1/2), sqrt(2)], s = (m-1)/(m+1) and z = s*s:
//
//	ln x = k ln 2 + 2s + s*(2/3 z + 2/5 z^2 + 2/7 z^3 + ...)
//
// where s, z and the first term of the series are carried as a head of 26 bits, whose products are exact, plus a
// remainder; only the remainders and the small higher terms are rounded before the final sum. ln(0) is -Inf, and a
// negative number or NaN gives NaN.
func ln(x float64) float64 {
	bits := math.Float64bits(x)
	k := 0
	switch {
	case x != x || x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	case bits>>52 == 0x7ff:
		return x
	case bits>>52 == 0: // subnormal
		bits = math.Float64bits(x * (1 << 54))
		k = -54
	}
	// Adding this distance puts the border between binary exponents at sqrt(1/2) instead of 1.
	const border = 0x3ff0000000000000 - 0x3fe6a09e667f3bcd
	bits += border
	k += int(bits>>52) - 1023
	m := math.Float64frombits(bits&(1<<52-1) + 0x3fe6a09e667f3bcd)

	f := m - 1 // exact
	d := 2 + f
	dh := head(d)
	dl := f - (dh - 2) // exact: d itself need not be
	s := f / d
	sh := head(s)
	sl := ((f - float64(sh*dh)) - float64(sh*dl)) / d

	const (
		thirdsHi = 0x1.555555p-1 // 26 bits of 2/3
		thirdsLo = 0x1.5555555555555p-27
	)
	zh := float64(sh * sh) // exact
	zl := float64((sh + s) * sl)
	z := zh + zl
	zt := head(zh)
	zr := (zh - zt) + zl
	q0 := float64(zt * thirdsHi) // exact
	q1 := float64(zt*thirdsLo) + float64(zr*(2.0/3))

	// The higher terms, at most 2 % of the first: plain arithmetic does. Grouped in pairs, because a chain of ten
	// dependent steps would cost twice the time.
	z2 := float64(z * z)
	z4 := float64(z2 * z2)
	p0 := 2.0/5 + float64(z*(2.0/7))
	p1 := 2.0/9 + float64(z*(2.0/11))
	p2 := 2.0/13 + float64(z*(2.0/15))
	p3 := 2.0/17 + float64(z*(2.0/19))
	p4 := 2.0/21 + float64(z*(2.0/23))
	p01 := p0 + float64(z2*p1)
	p23 := p2 + float64(z2*p3)
	p := float64(z2 * (p01 + float64(z4*(p23+float64(z4*p4)))))

	q := q0 + p
	ql := (p - (q - q0)) + q1
	qt := head(q)
	c := float64(sh * qt) // exact
	cl := float64(sh*((q-qt)+ql)) + float64(sl*(q+ql))

	kf := float64(k)
	a := float64(kf * ln2Hi) // exact
	b := float64(2 * sh)
	ab := a + b
	var abl float64
	if k == 0 {
		abl = 0
	} else {
		abl = b - (ab - a) // |a| > |b|: a is at least ln 2, b at most 0.35
	}
	r := ab + c
	rl := c - (r - ab)
	return r + ((abl + rl) + ((float64(2*sl) + cl) + float64(kf*ln2Lo)))
}
