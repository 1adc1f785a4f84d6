package golden

import (
	"encoding/json"

	"quantumharvest/kernel"
)

// marketTheta merges an override key by key into the defaults.
func marketTheta(c object) (kernel.MarketParams, error) {
	p := kernel.DefaultMarketParams()
	if !c.has("theta") {
		return p, nil
	}
	o, err := c.object("theta")
	if err != nil {
		return p, err
	}
	s := &p.Regime.Score
	err = o.override(
		num("eps", &p.Eps),
		group("vol",
			whole("window", &p.Vol.Window),
			num("winsor_q_low", &p.Vol.WinsorQLow),
			num("winsor_q_high", &p.Vol.WinsorQHigh),
			num("ewma_lambda", &p.Vol.EWMALambda),
			num("sigma_floor", &p.Vol.SigmaFloor),
			num("spike_proxy_cap", &p.Vol.SpikeProxyCap),
			num("spike_center", &p.Vol.SpikeCenter),
			num("spike_scale", &p.Vol.SpikeScale),
		),
		group("trend",
			parameter{"windows", func(o object, key string) (err error) {
				p.Trend.Windows, err = o.wholes(key)
				return err
			}},
			parameter{"weights", func(o object, key string) (err error) {
				p.Trend.Weights, err = o.numbers(key)
				return err
			}},
			parameter{"method", func(o object, key string) error {
				m, err := o.text(key)
				p.Trend.Method = kernel.TrendMethod(m)
				return err
			}},
		),
		group("regime",
			whole("window", &p.Regime.Window),
			whole("vr_k", &p.Regime.VRK),
			num("softmax_temp", &p.Regime.SoftmaxTemp),
			group("score",
				num("a1", &s.A1), num("a2", &s.A2), num("a3", &s.A3),
				num("b1", &s.B1), num("b2", &s.B2), num("b3", &s.B3),
				num("c1", &s.C1), num("c2", &s.C2), num("c3", &s.C3),
			),
		),
	)
	return p, err
}

func (o object) wholes(key string) ([]int, error) {
	xs, err := o.numbers(key)
	if err != nil {
		return nil, err
	}
	ns := make([]int, len(xs))
	for i, x := range xs {
		n, ok := integer(x)
		if !ok {
			return nil, o.refuse(indexed(key, i), "must be a whole number")
		}
		ns[i] = n
	}
	return ns, nil
}

// stopTheta: an override replaces the whole set of weights, and one that is left out counts as 1.
func stopTheta(c object) (kernel.StopParams, error) {
	p := kernel.DefaultStopParams()
	if !c.has("theta") {
		return p, nil
	}
	o, err := c.object("theta")
	if err != nil {
		return p, err
	}
	even := kernel.RegimeWeights{Trend: 1, MR: 1, Chop: 1}
	p.KSL, p.KTP, p.KTrail = even, even, even
	weights := func(key string, w *kernel.RegimeWeights) parameter {
		return group(key, num("trend", &w.Trend), num("mr", &w.MR), num("chop", &w.Chop))
	}
	err = o.override(
		num("sl_min_pct", &p.SLMinPct),
		num("tp_min_pct", &p.TPMinPct),
		weights("k_sl", &p.KSL),
		weights("k_tp", &p.KTP),
		weights("k_trail", &p.KTrail),
		num("tp_extend_gain", &p.TPExtendGain),
		num("tp_extend_max", &p.TPExtendMax),
		parameter{"monotonic_sl", func(o object, key string) error {
			if json.Unmarshal(o.fields[key], &p.MonotonicSL) != nil {
				return o.refuse(key, "must be true or false")
			}
			return nil
		}},
		num("eps", &p.Eps),
	)
	return p, err
}

// harvestTheta merges an override key by key into the defaults.
func harvestTheta(c object) (kernel.HarvestParams, error) {
	p := kernel.DefaultHarvestParams()
	if !c.has("theta") {
		return p, nil
	}
	o, err := c.object("theta")
	if err != nil {
		return p, err
	}
	err = o.override(
		num("fallback_stop_pct", &p.FallbackStopPct),
		num("cost_bps", &p.CostBps),
		num("T1_R", &p.T1R), num("T2_R", &p.T2R), num("T3_R", &p.T3R),
		num("u1", &p.U1), num("u2", &p.U2), num("u3", &p.U3),
		num("softmax_temp", &p.SoftmaxTemp),
		num("lock_R", &p.LockR),
		num("be_plus_pct", &p.BEPlusPct),
		num("trend_min", &p.TrendMin),
		num("sigma_ref", &p.SigmaRef),
		num("sigma_spike_cap", &p.SigmaSpikeCap),
		num("ts_ref", &p.TSRef),
		num("ts_drop_cap", &p.TSDropCap),
		num("max_age_sec", &p.MaxAgeSec),
		num("k_regime_flip", &p.KRegimeFlip),
		num("k_sigma_spike", &p.KSigmaSpike),
		num("k_ts_drop", &p.KTSDrop),
		num("k_age_penalty", &p.KAgePenalty),
		num("kill_threshold", &p.KillThreshold),
	)
	return p, err
}
