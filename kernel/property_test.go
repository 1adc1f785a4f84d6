package kernel_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"quantumharvest/kernel"
)

func drawProbabilities(t *rapid.T, ms *kernel.MarketState) {
	a := rapid.Float64Range(0, 1).Draw(t, "p_trend")
	b := rapid.Float64Range(0, 1).Draw(t, "p_mr of the rest") * (1 - a)
	ms.PTrend, ms.PMR, ms.PChop = a, b, max(0, 1-a-b)
}

func drawState(t *rapid.T) kernel.MarketState {
	ms := kernel.MarketState{
		Sigma: rapid.Float64Range(0, 0.2).Draw(t, "sigma"),
		Mu:    rapid.Float64Range(-0.01, 0.01).Draw(t, "mu"),
		TS:    rapid.Float64Range(0, 3).Draw(t, "ts"),
	}
	drawProbabilities(t, &ms)
	return ms
}

func drawPosition(t *rapid.T) kernel.Position {
	entry := math.Pow(10, rapid.Float64Range(-4, 6).Draw(t, "log10 entry"))
	at := func(name string) float64 { return entry * rapid.Float64Range(0.7, 1.3).Draw(t, name) }
	p := kernel.Position{
		Side:  rapid.SampledFrom([]kernel.Side{kernel.Long, kernel.Short}).Draw(t, "side"),
		Entry: entry, Current: at("current"), AgeSec: rapid.Float64Range(0, 2e5).Draw(t, "age"),
	}
	p.Peak = max(entry, p.Current) * rapid.Float64Range(1, 1.1).Draw(t, "peak")
	p.Trough = min(entry, p.Current) * rapid.Float64Range(0.9, 1).Draw(t, "trough")
	p.UnrealizedPnL = float64(p.Side) * (p.Current - p.Entry)
	if rapid.Bool().Draw(t, "has stop") {
		p.Stop = at("stop")
	}
	return p
}

// looser is how much looser stop a is than b, in price.
func looser(side kernel.Side, a, b float64) float64 { return float64(side) * (b - a) }

func TestMonotonicStopNeverLoosens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, pos := kernel.DefaultStopParams(), drawPosition(t)
		// A position's whole life: whatever the market does, each stop is at least as tight as the one before.
		for range 8 {
			s, err := kernel.Stops(pos, drawState(t), p)
			if err != nil {
				t.Fatal(err)
			}
			if pos.Stop > 0 && looser(pos.Side, s.ProposedSL, pos.Stop) > p.Eps {
				t.Fatalf("%v stop went from %v to %v", pos.Side, pos.Stop, s.ProposedSL)
			}
			if both := kernel.ReasonTightening | kernel.ReasonTightenedMonotonic; s.Reasons.Has(both) {
				t.Fatalf("both tightening and clamped: %v", s.Reasons)
			}
			pos.Stop = max(s.ProposedSL, 0)
			pos.Current = pos.Entry * rapid.Float64Range(0.7, 1.3).Draw(t, "next price")
			pos.Peak, pos.Trough = max(pos.Peak, pos.Current), min(pos.Trough, pos.Current)
		}
	})
}

func TestProfitLockNeverLoosens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, pos := kernel.DefaultHarvestParams(), drawPosition(t)
		h, err := kernel.Propose(pos, drawState(t), rapid.Float64Range(0, 0.1).Draw(t, "stop distance"), p)
		if err != nil {
			t.Fatal(err)
		}
		if (h.NewStop > 0) != h.Reasons.Has(kernel.ReasonProfitLock) {
			t.Fatalf("new stop %v with reasons %v", h.NewStop, h.Reasons)
		}
		if h.NewStop > 0 && pos.Stop > 0 && looser(pos.Side, h.NewStop, pos.Stop) >= 0 {
			t.Fatalf("%v stop %v proposed over %v", pos.Side, h.NewStop, pos.Stop)
		}
		if h.NewStop > 0 && h.RNet < p.LockR {
			t.Fatalf("locked at R %v", h.RNet)
		}
	})
}

// TestHarvestMirror: reflecting all prices about entry turns a long into a short with the same profit. Everything but
// the new stop is the same, bit for bit, and the new stop is the reflection.
func TestHarvestMirror(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, pos, ms := kernel.DefaultHarvestParams(), drawPosition(t), drawState(t)
		dist := rapid.Float64Range(0, 0.1).Draw(t, "stop distance")
		reflect := func(x float64) float64 { return 2*pos.Entry - x }
		mirror := pos
		mirror.Side = -pos.Side
		mirror.Current, mirror.Peak, mirror.Trough = reflect(pos.Current), reflect(pos.Trough), reflect(pos.Peak)
		if pos.Stop > 0 {
			mirror.Stop = reflect(pos.Stop)
			breakEven := pos.Entry * (1 + float64(pos.Side)*p.BEPlusPct)
			if math.Abs(breakEven-pos.Stop) < 1e-9*pos.Entry {
				t.Skip("reflection rounds: too close to call")
			}
		}
		a, errA := kernel.Propose(pos, ms, dist, p)
		b, errB := kernel.Propose(mirror, ms, dist, p)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if (a.NewStop > 0) != (b.NewStop > 0) ||
			a.NewStop > 0 && math.Abs(b.NewStop-reflect(a.NewStop)) > 1e-12*pos.Entry {
			t.Fatalf("new stops %v and %v are no mirror images about %v", a.NewStop, b.NewStop, pos.Entry)
		}
		a.NewStop, b.NewStop = 0, 0
		if a != b {
			t.Fatalf("not the same:\n%+v\n%+v", a, b)
		}
	})
}

// TestStopsMirror: distances are fractions of the price they start from, so a short whose current price equals a long's
// and whose trough equals the long's peak has the same distances on the other side of the same prices.
func TestStopsMirror(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, ms, long := kernel.DefaultStopParams(), drawState(t), drawPosition(t)
		long.Side, long.Stop = kernel.Long, 0
		short := long
		short.Side, short.Trough, short.Peak = kernel.Short, long.Peak, long.Peak
		a, errA := kernel.Stops(long, ms, p)
		b, errB := kernel.Stops(short, ms, p)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.StopDistPct != b.StopDistPct || a.TrailGapPct != b.TrailGapPct || a.TPDistPct != b.TPDistPct {
			t.Fatalf("distances differ:\n%+v\n%+v", a, b)
		}
		for _, c := range []struct {
			name          string
			about, la, sb float64
		}{
			{"raw stop", long.Current, a.RawSL, b.RawSL},
			{"trailing stop", long.Peak, a.TrailSL, b.TrailSL},
			{"target", long.Current, a.RawTP, b.RawTP},
		} {
			if math.Abs((c.about-c.la)-(c.sb-c.about)) > 1e-12*c.about {
				t.Fatalf("%s: %v and %v are not at the same distance from %v", c.name, c.la, c.sb, c.about)
			}
		}
		if a.ProposedSL != max(a.RawSL, a.TrailSL) || b.ProposedSL != min(b.RawSL, b.TrailSL) {
			t.Fatalf("not the tighter of the two:\n%+v\n%+v", a, b)
		}
	})
}

func TestKillScoreRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, ms := kernel.DefaultHarvestParams(), drawState(t)
		for _, w := range []*float64{&p.KRegimeFlip, &p.KSigmaSpike, &p.KTSDrop, &p.KAgePenalty} {
			*w = rapid.OneOf(rapid.Float64Range(0, 5), rapid.Float64Range(0, 1e6)).Draw(t, "weight")
		}
		h, err := kernel.Propose(drawPosition(t), ms, 0, p)
		if err != nil {
			t.Fatal(err)
		}
		if !(h.KillScore >= 0.5 && h.KillScore < 1) {
			t.Fatalf("kill score %v is not in [0.5, 1)", h.KillScore)
		}
		if (h.Action == kernel.ActionFullClose) != (h.KillScore >= p.KillThreshold) {
			t.Fatalf("action %v with kill score %v", h.Action, h.KillScore)
		}
	})
}

func TestStateIsADistribution(t *testing.T) {
	e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		prices := walk(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(257, 300).Draw(t, "n"),
			math.Pow(10, rapid.Float64Range(-7, -1).Draw(t, "log10 sigma")))
		st, ok, err := e.State(prices)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if math.Abs(st.PTrend+st.PMR+st.PChop-1) > 1e-12 || st.Sigma < 1e-6 || st.TS < 0 || st.DP < 0 || st.DP > 1 || st.VR < 0 {
			t.Fatalf("%+v", st)
		}
		// Nothing is remembered: a fresh estimator gives the same bits.
		again, _, err := kernel.ComputeState(prices, kernel.DefaultMarketParams())
		if err != nil || again != st {
			t.Fatalf("a fresh estimator gives %+v, not %+v (%v)", again, st, err)
		}
		// Prices older than the longest window have no say.
		if cut, _, _ := e.State(prices[len(prices)-257:]); cut != st {
			t.Fatalf("without older prices %+v, not %+v", cut, st)
		}
	})
}

// wantFieldError fails unless err is a *FieldError of the field.
func wantFieldError(t *testing.T, err error, field string) {
	t.Helper()
	var fe *kernel.FieldError
	if !errors.As(err, &fe) {
		t.Errorf("got error %v, want a refusal of %s", err, field)
		return
	}
	if fe.Field != field || fe.Reason == "" {
		t.Errorf("refused %q (%s), want %q", fe.Field, fe.Reason, field)
	}
}
