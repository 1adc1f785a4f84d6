package kernel

import (
	"math"
	"math/rand/v2"
)

// market makes up closes that look like those of a traded symbol, reproducibly: volatility that comes in clusters,
// jumps, prices on ticks, and now and then one of the oddities that feeds deliver.
type market struct {
	rng   *rand.Rand
	price float64
	tick  float64
	calm  float64 // logarithm of the volatility
	odd   bool    // oddities, too
	mode  string
	left  int // candles of that mode
}

func newMarket(seed uint64, price, tick float64, odd bool) *market {
	return &market{rng: rand.New(rand.NewPCG(seed, 2)), price: price, tick: tick, odd: odd}
}

// modes are the stretches of an odd market. An empty one is the usual market.
var modes = []string{"", "", "", "", "flat", "last bit", "quiet", "growth", "ramp", "two prices", "wild", "huge", "gap", "spikes"}

func (m *market) next() float64 {
	if m.left--; m.odd && m.left < 0 {
		m.mode, m.left = modes[m.rng.IntN(len(modes))], m.rng.IntN(400)
		if m.mode == "gap" {
			m.price *= math.Exp(m.rng.NormFloat64())
		}
		m.price = min(max(m.price, 1e-6), 1e9)
	}
	m.calm = 0.97*m.calm + 0.1*m.rng.NormFloat64()
	move := 6e-4 * math.Exp(m.calm) * m.rng.NormFloat64()
	if m.rng.IntN(200) == 0 {
		move *= 8
	}
	switch m.mode {
	case "flat":
		return m.price
	case "last bit":
		m.price = math.Nextafter(m.price, m.price*float64(m.rng.IntN(3)))
		return m.price
	case "quiet":
		m.price = m.onTick(m.price + m.tick*float64(m.rng.IntN(10)/9*(m.rng.IntN(3)-1)))
		return m.price
	case "growth":
		m.price *= 1 + 1e-5
		return m.price
	case "ramp":
		m.price += m.tick
		return m.price
	case "two prices":
		return m.price * (1 + 1e-4*float64(m.rng.IntN(2)))
	case "wild":
		move *= 100
	case "huge":
		return m.price * math.Exp(60*(m.rng.Float64()-0.5))
	case "spikes":
		if m.rng.IntN(20) == 0 {
			return m.price * math.Exp(5*m.rng.NormFloat64())
		}
	}
	m.price = m.onTick(m.price * math.Exp(move))
	return m.price
}

func (m *market) onTick(price float64) float64 { return max(math.Round(price/m.tick), 1) * m.tick }

// within is a price on the way of a candle that opened at m.price.
func (m *market) within() float64 {
	return m.onTick(m.price * math.Exp(3e-4*m.rng.NormFloat64()))
}

func (m *market) closes(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = m.next()
	}
	return out
}
