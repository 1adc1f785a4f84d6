package kernel_test

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"quantumharvest/kernel"
)

// oddities are the values that arithmetic trips over; fuzzers and the seeds below mix them with plain numbers.
var oddities = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.5, 100, 1e-9, 1e9, math.NaN(), math.Inf(1), math.Inf(-1),
	math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 0x1p-1022, math.MaxFloat64, -math.MaxFloat64, 1e300, 1e-300,
}

// takeFloats fills dst from fuzz bytes: one byte chooses an oddity or announces eight raw bytes.
func takeFloats(data []byte, dst ...*float64) {
	for _, d := range dst {
		if len(data) == 0 {
			return
		}
		c := int(data[0])
		data = data[1:]
		switch {
		case c < len(oddities):
			*d = oddities[c]
		case c < 64 && len(data) >= 8:
			*d = math.Float64frombits(binary.LittleEndian.Uint64(data))
			data = data[8:]
		case c < 128:
			*d *= float64(c) / 96
		}
	}
}

// wantFinite walks a result and refuses NaN and infinities anywhere in it.
func wantFinite(t *testing.T, v any) {
	t.Helper()
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Array, reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Float64:
			if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
				t.Fatalf("a result holds %v", x)
			}
		}
	}
	walk(reflect.ValueOf(v))
}

// wantRefusal: every error names a field, and comes without a result.
func wantRefusal(t *testing.T, err error, got any) {
	t.Helper()
	var fe *kernel.FieldError
	if !errors.As(err, &fe) || fe.Field == "" || fe.Reason == "" {
		t.Fatalf("the error %v names no field", err)
	}
	if !reflect.ValueOf(got).IsZero() {
		t.Fatalf("the refusal %v came with %+v", err, got)
	}
}

// addSeeds gives every argument every oddity once, and a few mixtures.
func addSeeds(f *testing.F, args int) {
	f.Add([]byte{})
	for arg := range args {
		for o := range oddities {
			seed := make([]byte, args)
			for i := range seed {
				seed[i] = 255 // leave as it is
			}
			seed[arg] = byte(o)
			f.Add(seed)
			seed = append([]byte(nil), seed...)
			seed[(arg+1)%args] = byte((o + 3) % len(oddities))
			f.Add(seed)
		}
	}
}

func fuzzPosition(p *kernel.Position, data []byte) []*float64 {
	if len(data) > 0 && data[0]%2 == 1 {
		p.Side = kernel.Short
	}
	return []*float64{
		&p.Entry, &p.Current, &p.Peak, &p.Trough, &p.AgeSec, &p.UnrealizedPnL, &p.Stop, &p.Target,
	}
}

func fuzzState(ms *kernel.MarketState) []*float64 {
	return []*float64{&ms.Sigma, &ms.Mu, &ms.TS, &ms.PTrend, &ms.PMR, &ms.PChop}
}

func FuzzState(f *testing.F) {
	addSeeds(f, 40)
	f.Fuzz(func(t *testing.T, data []byte) {
		p := kernel.DefaultMarketParams()
		p.Vol.Window, p.Regime.Window, p.Regime.VRK = 16, 16, 3
		p.Trend.Windows, p.Trend.Weights = []int{8, 16}, []float64{1, 2}
		prices := walk(uint64(len(data)), 20, 0.01)
		args := []*float64{
			&p.Eps, &p.Vol.WinsorQLow, &p.Vol.WinsorQHigh, &p.Vol.EWMALambda, &p.Vol.SigmaFloor, &p.Vol.SpikeProxyCap,
			&p.Vol.SpikeCenter, &p.Vol.SpikeScale, &p.Trend.Weights[0], &p.Trend.Weights[1], &p.Regime.SoftmaxTemp,
			&p.Regime.Score.A1, &p.Regime.Score.A2, &p.Regime.Score.A3, &p.Regime.Score.B1, &p.Regime.Score.B2,
			&p.Regime.Score.B3, &p.Regime.Score.C1, &p.Regime.Score.C2, &p.Regime.Score.C3,
		}
		for i := range prices {
			args = append(args, &prices[i])
		}
		takeFloats(data, args...)
		e, err := kernel.NewEstimator(p)
		if err != nil {
			wantRefusal(t, err, kernel.MarketState{})
			return
		}
		st, ok, err := e.State(prices)
		if err != nil {
			wantRefusal(t, err, st)
			return
		}
		wantFinite(t, st)
		if !ok {
			t.Fatal("20 prices were too few")
		}
		if st.Sigma < 0 || st.TS < 0 || math.Abs(st.PTrend+st.PMR+st.PChop-1) > 1e-9 {
			t.Fatalf("%+v", st)
		}
	})
}

func FuzzStops(f *testing.F) {
	addSeeds(f, 28)
	f.Fuzz(func(t *testing.T, data []byte) {
		pos, ms, p := longPosition(), usualState(), kernel.DefaultStopParams()
		takeFloats(data, append(append(fuzzPosition(&pos, data), fuzzState(&ms)...),
			&p.SLMinPct, &p.TPMinPct, &p.KSL.Trend, &p.KSL.MR, &p.KSL.Chop, &p.KTP.Trend, &p.KTP.MR, &p.KTP.Chop,
			&p.KTrail.Trend, &p.KTrail.MR, &p.KTrail.Chop, &p.TPExtendGain, &p.TPExtendMax, &p.Eps)...)
		s, err := kernel.Stops(pos, ms, p)
		if err != nil {
			wantRefusal(t, err, s)
			return
		}
		wantFinite(t, s)
		if pos.Stop > 0 && looser(pos.Side, s.ProposedSL, pos.Stop) > p.Eps {
			t.Fatalf("loosened %v to %v", pos.Stop, s.ProposedSL)
		}
	})
}

func FuzzPropose(f *testing.F) {
	addSeeds(f, 37)
	f.Fuzz(func(t *testing.T, data []byte) {
		pos, ms, dist, p := longPosition(), usualState(), 0.01, kernel.DefaultHarvestParams()
		takeFloats(data, append(append(fuzzPosition(&pos, data), fuzzState(&ms)...), &dist,
			&p.FallbackStopPct, &p.CostBps, &p.T1R, &p.T2R, &p.T3R, &p.U1, &p.U2, &p.U3, &p.SoftmaxTemp, &p.LockR,
			&p.BEPlusPct, &p.TrendMin, &p.SigmaRef, &p.SigmaSpikeCap, &p.TSRef, &p.TSDropCap, &p.MaxAgeSec,
			&p.KRegimeFlip, &p.KSigmaSpike, &p.KTSDrop, &p.KAgePenalty, &p.KillThreshold)...)
		h, err := kernel.Propose(pos, ms, dist, p)
		if err != nil {
			wantRefusal(t, err, h)
			return
		}
		wantFinite(t, h)
		if !h.Action.Valid() || h.KillScore < 0 || h.KillScore >= 1 || h.NewStop < 0 || h.RiskUnit <= 0 {
			t.Fatalf("%+v", h)
		}
		if h.NewStop > 0 && pos.Stop > 0 && looser(pos.Side, h.NewStop, pos.Stop) >= 0 {
			t.Fatalf("stop %v proposed over %v", h.NewStop, pos.Stop)
		}
	})
}

func FuzzGate(f *testing.F) {
	addSeeds(f, 8)
	f.Fuzz(func(t *testing.T, data []byte) {
		last := kernel.Published{Action: kernel.ActionNone, NewStop: 100, KillScore: 0.5, AtSec: 1000}
		next, p := last, kernel.DefaultGateParams()
		takeFloats(data, &last.NewStop, &last.KillScore, &last.AtSec, &next.NewStop, &next.KillScore, &next.AtSec,
			&p.ChangeEpsPct, &p.MaxPublishAgeSec)
		if len(data) > 8 {
			next.Action = kernel.Action(data[8:])
		}
		reason := kernel.Gate(last, true, next, p)
		if err := next.Validate(); err != nil {
			wantRefusal(t, err, "")
			if reason.Open() {
				t.Fatalf("the gate opened (%s) for %+v: %v", reason, next, err)
			}
			return
		}
		if kernel.Gate(last, false, next, p) != kernel.GateFirst {
			t.Fatal("the first publication was held back")
		}
		if p.Validate() == nil && kernel.Gate(next, true, next, p).Open() {
			t.Fatalf("the gate opened for what was just published: %+v", next)
		}
	})
}
