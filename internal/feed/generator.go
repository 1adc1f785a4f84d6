package feed

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"quantumharvest/internal/position"
)

// barTicks is how many prices a generated bar is made of.
const barTicks = 60

// Bar is one generated bar. Prices are rounded to the tick of the symbol, Open is the Close of the bar before.
type Bar struct {
	Open, High, Low, Close float64

	ticks [barTicks]float64 // in order; the last is Close
}

// until is the bar as it looked after its first n ticks, 1 to barTicks.
func (b *Bar) until(n int) (high, low, last float64) {
	high, low, last = b.Open, b.Open, b.Open
	for _, p := range b.ticks[:n] {
		high, low, last = max(high, p), min(low, p), p
	}
	return high, low, last
}

// regime is the mood of a generated market.
type regime int

const (
	regimeTrend regime = iota
	regimeReverting
	regimeChop
	regimes
)

// Shape of the generated market. Volatilities and drifts are in units of the symbol's usual volatility per bar.
const (
	regimeChange  = 1.0 / 180 // chance per bar that the regime ends
	trendDrift    = 0.18      // drift of a trend
	anchorPull    = 0.15      // share of the distance to its anchor that a reverting market makes good per bar
	chopCalm      = 0.7       // a chop moves less
	garchNews     = 0.08      // weight of the last squared return in the next variance
	garchMemory   = 0.90      // weight of the last variance
	tailFreedom   = 5         // degrees of freedom of the innovations: fat tails
	jumpChance    = 1.0 / 1200
	jumpLeast     = 6.0
	jumpMost      = 14.0
	homePull      = 2e-4 // keeps the price within sight of its level for weeks
	largestReturn = 0.10 // of one bar, as a log return
)

// Generator makes an endless market of one symbol: regimes of trend, mean reversion and chop that follow each other as
// a Markov chain, volatility that clusters, fat tails, jumps, and prices on a tick. The n-th bar, and the path within
// it, are a pure function of seed, symbol and n; no clock is involved.
type Generator struct {
	rng      *rand.Rand
	scale    float64 // ticks per unit of price
	usual    float64 // usual volatility of one bar
	home     float64 // log of the usual price
	price    float64 // log price
	quote    float64 // the same, rounded to the tick
	variance float64
	mood     regime
	drift    float64
	anchor   float64
}

// usualPrices are levels at which well-known symbols look familiar, and their volatility per one-minute bar.
var usualPrices = map[position.Symbol]struct{ price, volatility float64 }{
	"BTCUSDT":  {60000, 0.0006},
	"ETHUSDT":  {3000, 0.0008},
	"BNBUSDT":  {600, 0.0007},
	"SOLUSDT":  {150, 0.0011},
	"XRPUSDT":  {0.6, 0.0010},
	"ADAUSDT":  {0.45, 0.0011},
	"DOGEUSDT": {0.12, 0.0013},
	"AVAXUSDT": {30, 0.0012},
	"LINKUSDT": {15, 0.0011},
	"DOTUSDT":  {6, 0.0011},
	"LTCUSDT":  {80, 0.0009},
	"TRXUSDT":  {0.15, 0.0007},
}

// NewGenerator makes the market of one symbol.
func NewGenerator(seed uint64, symbol position.Symbol) *Generator {
	h := fnv.New64a()
	_, _ = h.Write([]byte(symbol)) // a hash never fails
	id := h.Sum64()
	usual, known := usualPrices[symbol]
	if !known {
		// Level and volatility belong to the symbol, not to the seed: a symbol always looks like itself.
		own := rand.New(rand.NewPCG(id, id>>32))
		usual.price = math.Pow(10, -1+4*own.Float64())
		usual.volatility = 0.0008 + 0.0010*own.Float64()
	}
	// Five to six digits, as exchanges quote.
	decimals := min(max(5-math.Floor(math.Log10(usual.price)), 0), 8)
	g := &Generator{
		rng: rand.New(rand.NewPCG(seed, id)), scale: math.Pow(10, decimals), usual: usual.volatility,
		home: math.Log(usual.price), variance: usual.volatility * usual.volatility,
	}
	g.price = g.home
	g.quote = g.round(g.price)
	g.changeRegime(regime(g.rng.IntN(int(regimes))))
	return g
}

// Next makes the next bar.
func (g *Generator) Next() Bar {
	if g.rng.Float64() < regimeChange {
		// To one of the other two: staying is what not changing means.
		g.changeRegime((g.mood + 1 + regime(g.rng.IntN(int(regimes)-1))) % regimes)
	}
	volatility := math.Sqrt(g.variance)
	if g.mood == regimeChop {
		volatility *= chopCalm
	}
	shock := volatility * g.fatTailed()
	g.variance = (1-garchNews-garchMemory)*g.usual*g.usual + garchNews*shock*shock + garchMemory*g.variance
	move := shock + g.drift + homePull*(g.home-g.price)
	if g.mood == regimeReverting {
		move += anchorPull * (g.anchor - g.price)
	}
	if g.rng.Float64() < jumpChance {
		size := (jumpLeast + (jumpMost-jumpLeast)*g.rng.Float64()) * g.usual
		if g.rng.IntN(2) == 0 {
			size = -size
		}
		move += size
	}
	return g.walk(min(max(move, -largestReturn), largestReturn), volatility)
}

// walk makes the path within a bar: a random walk tied to where the bar ends.
func (g *Generator) walk(move, volatility float64) Bar {
	var steps [barTicks]float64
	sum := 0.0
	for i := range steps {
		sum += g.rng.NormFloat64() * volatility / math.Sqrt(barTicks)
		steps[i] = sum
	}
	bar := Bar{Open: g.quote, High: g.quote, Low: g.quote}
	for i, step := range steps {
		done := float64(i+1) / barTicks
		p := g.round(g.price + step + done*(move-sum))
		bar.ticks[i] = p
		bar.High, bar.Low = max(bar.High, p), min(bar.Low, p)
	}
	bar.Close = bar.ticks[barTicks-1]
	g.price, g.quote = g.price+move, bar.Close
	return bar
}

func (g *Generator) changeRegime(to regime) {
	g.mood, g.drift, g.anchor = to, 0, g.price
	if to == regimeTrend {
		g.drift = trendDrift * g.usual
		if g.rng.IntN(2) == 0 {
			g.drift = -g.drift
		}
	}
}

// fatTailed draws from Student's t distribution, scaled to variance 1.
func (g *Generator) fatTailed() float64 {
	z, chi := g.rng.NormFloat64(), 0.0
	for range tailFreedom {
		n := g.rng.NormFloat64()
		chi += n * n
	}
	return z / math.Sqrt(chi/(tailFreedom-2))
}

// round gives the price of a log price on the tick, at least one tick.
func (g *Generator) round(logPrice float64) float64 {
	return max(math.Round(math.Exp(logPrice)*g.scale), 1) / g.scale
}
