package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

const bigPrec = 220

var bigLn2 = func() *big.Float { return bigAtanhSeries(big.NewRat(1, 3)) }()

// bigAtanhSeries is 2*atanh(t) for a small rational t.
func bigAtanhSeries(t *big.Rat) *big.Float {
	x := new(big.Float).SetPrec(bigPrec).SetRat(t)
	return bigTwoAtanh(x)
}

func bigTwoAtanh(x *big.Float) *big.Float {
	sum := new(big.Float).SetPrec(bigPrec)
	if x.Sign() == 0 {
		return sum
	}
	sq := new(big.Float).SetPrec(bigPrec).Mul(x, x)
	pow := new(big.Float).SetPrec(bigPrec).Set(x)
	for n := int64(1); ; n += 2 {
		term := new(big.Float).SetPrec(bigPrec).Quo(pow, new(big.Float).SetInt64(n))
		sum.Add(sum, term)
		if term.MantExp(nil) < sum.MantExp(nil)-bigPrec {
			break
		}
		pow.Mul(pow, sq)
	}
	return sum.Mul(sum, big.NewFloat(2))
}

// bigLn is the logarithm of x > 0 to about 200 bits.
func bigLn(x float64) *big.Float {
	m := new(big.Float).SetPrec(bigPrec)
	k := new(big.Float).SetPrec(bigPrec).SetFloat64(x).MantExp(m)
	if m.Cmp(big.NewFloat(math.Sqrt2/2)) < 0 {
		m.Mul(m, big.NewFloat(2))
		k--
	}
	one := new(big.Float).SetPrec(bigPrec).SetInt64(1)
	num := new(big.Float).SetPrec(bigPrec).Sub(m, one)
	den := new(big.Float).SetPrec(bigPrec).Add(m, one)
	s := bigTwoAtanh(num.Quo(num, den))
	kl := new(big.Float).SetPrec(bigPrec).Mul(new(big.Float).SetInt64(int64(k)), bigLn2)
	return s.Add(s, kl)
}

// bigExp is e^x to about 200 bits.
func bigExp(x float64) *big.Float {
	const halvings = 64
	r := new(big.Float).SetPrec(bigPrec + 2*halvings).SetFloat64(x)
	r.SetMantExp(r, -halvings)
	sum := new(big.Float).SetPrec(bigPrec + 2*halvings).SetInt64(1)
	term := new(big.Float).SetPrec(bigPrec + 2*halvings).SetInt64(1)
	for n := int64(1); n < 40; n++ {
		term.Mul(term, r)
		term.Quo(term, new(big.Float).SetInt64(n))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

// ulpError is |got-want| in units of the last place of want.
func ulpError(got float64, want *big.Float) float64 {
	diff := new(big.Float).SetPrec(bigPrec).SetFloat64(got)
	diff.Sub(diff, want)
	exp := want.MantExp(nil)
	ulp := max(exp-53, -1074)
	d, _ := diff.SetMantExp(diff, -ulp).Float64()
	return math.Abs(d)
}

func TestLnAccuracy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var inputs []float64
	for _, x := range []float64{
		1, 2, 0.5, math.E, 10, math.Sqrt2, math.Sqrt2 / 2, 1e-12, math.MaxFloat64,
		math.SmallestNonzeroFloat64, 0x1p-1022, 0x1p-1023, 100 + 1e-12, 43075.14956,
	} {
		inputs = append(inputs, x, math.Nextafter(x, 0), math.Nextafter(x, math.Inf(1)))
	}
	for range 1500 {
		inputs = append(inputs,
			math.Float64frombits(rng.Uint64()&^(1<<63)),             // any magnitude
			0.7+0.75*rng.Float64(),                                  // the reduced range and the two beside it
			1+math.Ldexp(rng.Float64()-0.5, -rng.IntN(50)),          // close to 1, where relative accuracy is hard
			math.Exp(rng.Float64()*40-20),                           // prices
			math.Float64frombits(rng.Uint64N(0x10<<48)),             // subnormal
			math.Ldexp(0.70710678+1e-8*rng.Float64(), rng.IntN(20)), // the border of the reduction
		)
	}
	worst, at := 0.0, 0.0
	for _, x := range inputs {
		if !(x > 0) || math.IsInf(x, 0) {
			continue
		}
		got := ln(x)
		if x == 1 {
			if got != 0 {
				t.Fatalf("ln(1) = %v", got)
			}
			continue
		}
		if e := ulpError(got, bigLn(x)); e > worst || math.IsNaN(e) {
			worst, at = e, x
		}
	}
	t.Logf("worst error %.4f ulp at %x", worst, at)
	if !(worst <= 0.51) {
		t.Errorf("ln(%x): error of %.4f ulp, want at most 0.51", at, worst)
	}
}

func TestLnSpecial(t *testing.T) {
	for _, c := range []struct{ x, want float64 }{
		{0, math.Inf(-1)},
		{math.Copysign(0, -1), math.Inf(-1)},
		{math.Inf(1), math.Inf(1)},
		{-1, math.NaN()},
		{math.Inf(-1), math.NaN()},
		{math.NaN(), math.NaN()},
		{-5e-324, math.NaN()},
	} {
		if got := ln(c.x); math.Float64bits(got) != math.Float64bits(c.want) && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("ln(%v) = %v, want %v", c.x, got, c.want)
		}
	}
}

// TestPortableBits pins results bit for bit: they must be the same on every machine that runs this test.
func TestPortableBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var l, e uint64
	for range 20000 {
		l = l*31 + math.Float64bits(ln(math.Float64frombits(rng.Uint64()>>1&^(1<<62)|1)))
		e = e*31 + math.Float64bits(exp(rng.Float64()*1400-700))
	}
	const wantLnBits, wantExpBits = 0x7766335a8ae73db0, 0x84d5a2f0a551d6d1
	if l != wantLnBits || e != wantExpBits {
		t.Errorf("digest of ln %#x, of exp %#x; want %#x and %#x", l, e, uint64(wantLnBits), uint64(wantExpBits))
	}
}

func TestLnMonotonic(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		x := math.Exp(rng.Float64()*60 - 30)
		y := x
		for range 4 {
			y = math.Nextafter(y, math.Inf(1))
			if ln(y) < ln(x) {
				t.Fatalf("ln(%x) < ln(%x)", y, x)
			}
			x = y
		}
	}
}

func TestExpAccuracy(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	inputs := []float64{
		0, 1, -1, 50, -50, 709.78, 709.782712893384, -708.39, -745.13, -745.1332191019412,
		math.Ln2 / 2, -math.Ln2 / 2, math.SmallestNonzeroFloat64, -1e-300,
	}
	for range 1500 {
		inputs = append(inputs, rng.Float64()*1454-745, rng.Float64()*100-50, rng.Float64()*2-1,
			math.Ldexp(rng.Float64()-0.5, -rng.IntN(60)))
	}
	worst, at := 0.0, 0.0
	worstSub, atSub := 0.0, 0.0
	for _, x := range inputs {
		got := exp(x)
		e := ulpError(got, bigExp(x))
		if got < 0x1p-1022 {
			if e > worstSub || math.IsNaN(e) {
				worstSub, atSub = e, x
			}
		} else if e > worst || math.IsNaN(e) {
			worst, at = e, x
		}
	}
	t.Logf("worst error %.4f ulp at %v, %.4f at %v among subnormals", worst, at, worstSub, atSub)
	if !(worst <= 0.53) {
		t.Errorf("exp(%v): error of %.4f ulp, want at most 0.53", at, worst)
	}
	if !(worstSub < 1) {
		t.Errorf("exp(%v): error of %.4f ulp, want below 1", atSub, worstSub)
	}
}

func TestExpSpecial(t *testing.T) {
	for _, c := range []struct{ x, want float64 }{
		{0, 1},
		{math.Inf(1), math.Inf(1)},
		{math.Inf(-1), 0},
		{710, math.Inf(1)},
		{-746, 0},
		{math.NaN(), math.NaN()},
		{1e308, math.Inf(1)},
		{-1e308, 0},
	} {
		if got := exp(c.x); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("exp(%v) = %v, want %v", c.x, got, c.want)
		}
	}
}

func BenchmarkLn(b *testing.B) {
	x, sum := 43075.14956, 0.0
	for b.Loop() {
		sum += ln(x)
		x += 0.001
	}
	if sum == 0 {
		b.Fatal(sum)
	}
}

func BenchmarkExp(b *testing.B) {
	x, sum := -20.0, 0.0
	for b.Loop() {
		sum += exp(x)
		x += 1e-7
	}
	if sum == 0 {
		b.Fatal(sum)
	}
}
