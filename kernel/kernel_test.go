package kernel_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/golden/vector"
	"quantumharvest/kernel"
)

// TestProductionEndPoints are the end points that the specification quotes from a production run.
func TestProductionEndPoints(t *testing.T) {
	for _, c := range []struct {
		name             string
		entry, stopDist  float64
		state            kernel.MarketState
		rNet, k, newStop float64
		action           kernel.Action
	}{
		{"BTC", 100, 0.00699, kernel.MarketState{TS: 0.109, PTrend: 0.4, PChop: 0.6}, 7.01, 0.527, 100.2, kernel.ActionPartial75},
		{"ETH", 50, 0.005, kernel.MarketState{TS: 0.092, PTrend: 0.2, PChop: 0.8}, 9.80, 0.7533, 50.1, kernel.ActionFullClose},
		{"SOL", 50, 0.005, kernel.MarketState{TS: 0.014, PTrend: 0.2, PChop: 0.8}, 9.80, 0.7605, 50.1, kernel.ActionFullClose},
	} {
		pos := kernel.Position{Side: kernel.Long, Entry: c.entry, Current: 1.05 * c.entry, AgeSec: 3600, UnrealizedPnL: 0.05 * c.entry}
		h, err := kernel.Propose(pos, c.state, c.stopDist, kernel.DefaultHarvestParams())
		if err != nil {
			t.Fatal(c.name, err)
		}
		if math.Abs(h.RNet-c.rNet) > 0.005 || math.Abs(h.KillScore-c.k) > 0.0005 || math.Abs(h.NewStop-c.newStop) > 1e-9 || h.Action != c.action {
			t.Errorf("%s: R_net %.4f, K %.5f, stop %v, %s; want %v, %v, %v, %s",
				c.name, h.RNet, h.KillScore, h.NewStop, h.Action, c.rNet, c.k, c.newStop, c.action)
		}
	}
}

// TestDetailIntermediates compares what leads to a state with the reference, which is closer to a cause than the state.
func TestDetailIntermediates(t *testing.T) {
	f := loadVectors(t, "market_state.json")
	compared := 0
	for _, c := range f.Cases {
		var in struct {
			Theta        json.RawMessage
			Prices       []float64
			Intermediate json.RawMessage
		}
		if !c.Strict || string(c.Expected) == "null" {
			continue
		}
		if err := json.Unmarshal(c.Raw, &in); err != nil {
			t.Fatal(c.ID, err)
		}
		if string(in.Theta) != "null" {
			continue // overrides are read by package golden and covered through it
		}
		e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
		if err != nil {
			t.Fatal(err)
		}
		d, ok, err := e.Detail(in.Prices)
		if !ok || err != nil {
			t.Fatal(c.ID, ok, err)
		}
		got, err := json.Marshal(map[string]any{
			"sigma_ewma": d.SigmaEWMA, "sigma_mad": d.SigmaMAD, "blend_weight": d.BlendWeight,
			"sigma_raw": d.SigmaRaw, "mu_per_window": d.MuPerWindow,
		})
		if err != nil {
			t.Fatal(err)
		}
		diffs, err := vector.Compare(in.Intermediate, got, f.Tolerance)
		if err != nil {
			t.Fatal(c.ID, err)
		}
		for _, d := range diffs {
			t.Errorf("%s %v: %s", c.ID, c.Tags, d)
		}
		compared++
	}
	if compared < 50 {
		t.Errorf("only %d cases compared", compared)
	}
}

func TestStateRefuses(t *testing.T) {
	e, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	if e.Required() != 257 {
		t.Errorf("%d prices required, want 257", e.Required())
	}
	prices := walk(1, 300, 0.001)
	if _, ok, err := e.State(prices[:256]); ok || err != nil {
		t.Errorf("256 prices: %v, %v; want not enough and no error", ok, err)
	}
	if _, ok, err := e.State(nil); ok || err != nil {
		t.Errorf("no prices: %v, %v; want not enough and no error", ok, err)
	}
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		// Also where the price is older than any window, or there are too few: bad is bad.
		for _, n := range []int{300, 20} {
			p := append([]float64(nil), prices[:n]...)
			p[10] = bad
			_, ok, err := e.State(p)
			if ok {
				t.Errorf("a price of %v gave a state", bad)
			}
			wantFieldError(t, err, "prices[10]")
		}
	}
}

func TestStateAtTheEdges(t *testing.T) {
	p := kernel.DefaultMarketParams()
	for _, price := range []float64{math.SmallestNonzeroFloat64, 1e-300, 1, 1e300, math.MaxFloat64} {
		prices := make([]float64, 300)
		for i := range prices {
			prices[i] = price
		}
		st, ok, err := kernel.ComputeState(prices, p)
		if !ok || err != nil || st.Sigma != p.Vol.SigmaFloor || st.Mu != 0 || st.DP != 1 {
			t.Errorf("constant %v: %+v, %v, %v", price, st, ok, err)
		}
	}
	// eps of 0 makes quotients of a constant series undefined: refused, not NaN.
	constant := make([]float64, 300)
	for i := range constant {
		constant[i] = 7
	}
	p.Eps = 0
	_, ok, err := kernel.ComputeState(constant, p)
	if ok {
		t.Error("0/0 gave a state")
	}
	wantFieldError(t, err, "features.spike_proxy")
	p.Eps = math.MaxFloat64
	huge := append([]float64(nil), constant...)
	huge[299] = math.MaxFloat64
	_, _, err = kernel.ComputeState(huge, p)
	wantFieldError(t, err, "prices[299]")
	p = kernel.DefaultMarketParams()
	p.Regime.Score.A2 = math.MaxFloat64
	p.Regime.Score.A1 = math.MaxFloat64
	_, _, err = kernel.ComputeState(walk(1, 300, 0.001), p)
	if err != nil {
		t.Errorf("large but finite scores: %v", err)
	}
	p.Regime.Score.B1, p.Regime.Score.B2 = math.MaxFloat64, -math.MaxFloat64
	p.Regime.Score.B3 = -math.MaxFloat64
	p.Regime.Score.C1, p.Regime.Score.C2 = math.MaxFloat64, math.MaxFloat64
	_, _, err = kernel.ComputeState(walk(1, 300, 0.001), p)
	wantFieldError(t, err, "regime_probs")
}

func TestStopsRefuses(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(*kernel.Position, *kernel.MarketState, *kernel.StopParams)
	}{
		{"position.side", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Side = 0 }},
		{"position.side", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Side = 2 }},
		{"position.entry_price", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Entry = 0 }},
		{"position.current_price", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Current = 0 }},
		{"position.peak_price", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Peak = 0 }},
		{"position.peak_price", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Peak = math.Inf(1) }},
		{"position.trough_price", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) {
			p.Side, p.Trough = kernel.Short, 0
		}},
		{"position.age_sec", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.AgeSec = -1 }},
		{"position.unrealized_pnl", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.UnrealizedPnL = math.NaN() }},
		{"position.current_sl", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Stop = -1 }},
		{"position.current_tp", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Target = math.NaN() }},
		{"market_state.sigma", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.Sigma = -1e-9 }},
		{"market_state.mu", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.Mu = math.NaN() }},
		{"market_state.ts", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.TS = math.Inf(1) }},
		{"market_state.regime_probs.trend", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.PTrend = 1.5 }},
		{"market_state.regime_probs.mr", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.PMR = -0.1 }},
		{"market_state.regime_probs.chop", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.PChop = math.NaN() }},
		{"market_state.regime_probs", func(_ *kernel.Position, m *kernel.MarketState, _ *kernel.StopParams) { m.PChop = 0.1 }},
		{"theta.k_tp.mr", func(_ *kernel.Position, _ *kernel.MarketState, t *kernel.StopParams) { t.KTP.MR = math.NaN() }},
		{"theta.eps", func(_ *kernel.Position, _ *kernel.MarketState, t *kernel.StopParams) { t.Eps = -1 }},
		{"intermediates.stop_dist_pct", func(_ *kernel.Position, m *kernel.MarketState, t *kernel.StopParams) {
			m.Sigma, t.KSL.Chop = math.MaxFloat64, 100
		}},
		{"proposed_tp", func(p *kernel.Position, _ *kernel.MarketState, _ *kernel.StopParams) { p.Current = math.MaxFloat64 }},
	} {
		pos, ms, p := longPosition(), usualState(), kernel.DefaultStopParams()
		c.spoil(&pos, &ms, &p)
		got, err := kernel.Stops(pos, ms, p)
		wantFieldError(t, err, c.field)
		if got != (kernel.StopProposal{}) {
			t.Errorf("%s: a refusal came with %+v", c.field, got)
		}
	}
}

func TestProposeRefuses(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(*kernel.Position, *kernel.MarketState, *float64, *kernel.HarvestParams)
	}{
		{"position.side", func(p *kernel.Position, _ *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) { p.Side = 0 }},
		{"position.entry_price", func(p *kernel.Position, _ *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) { p.Entry = -1 }},
		{"position.unrealized_pnl", func(p *kernel.Position, _ *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) {
			p.UnrealizedPnL = math.Inf(-1)
		}},
		{"market_state.sigma", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) {
			m.Sigma = math.NaN()
		}},
		{"market_state.ts", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) { m.TS = -0.1 }},
		{"market_state.p_chop", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) { m.PChop = 2 }},
		{"market_state.p_trend", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) {
			m.PTrend, m.PMR, m.PChop = 0, 0, 0
		}},
		{"market_state.p_trend", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) { m.PTrend = 0.9 }},
		{"p1_proposal.stop_dist_pct", func(_ *kernel.Position, _ *kernel.MarketState, d *float64, _ *kernel.HarvestParams) { *d = -0.01 }},
		{"p1_proposal.stop_dist_pct", func(_ *kernel.Position, _ *kernel.MarketState, d *float64, _ *kernel.HarvestParams) { *d = math.NaN() }},
		{"risk_unit", func(p *kernel.Position, _ *kernel.MarketState, d *float64, _ *kernel.HarvestParams) {
			p.Entry, *d = 1e300, 1e300
		}},
		{"cost_est", func(p *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) {
			p.Entry, t.CostBps = 1e300, 1e300
		}},
		{"R_net", func(p *kernel.Position, _ *kernel.MarketState, _ *float64, _ *kernel.HarvestParams) {
			p.Entry, p.UnrealizedPnL = 1e-9, 1e300
		}},
		{"new_sl_proposed", func(p *kernel.Position, _ *kernel.MarketState, d *float64, _ *kernel.HarvestParams) {
			p.Entry, p.UnrealizedPnL, *d = math.MaxFloat64, math.MaxFloat64, 0.1
		}},
		{"kill_score", func(_ *kernel.Position, m *kernel.MarketState, _ *float64, t *kernel.HarvestParams) {
			m.PTrend, t.KRegimeFlip, t.KAgePenalty, t.MaxAgeSec = 0.2, math.MaxFloat64, math.MaxFloat64, 1
		}},
		{"tranche_weights", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) { t.U2 = 1000 }},
		{"theta.T2_R", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) { t.T2R = 1 }},
		{"theta.T3_R", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) { t.T3R = 3 }},
		{"theta.be_plus_pct", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) { t.BEPlusPct = 1 }},
		{"theta.kill_threshold", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) {
			t.KillThreshold = 1.1
		}},
		{"theta.kill_threshold", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) {
			t.KillThreshold = 0
		}},
		{"theta.cost_bps", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) { t.CostBps = -1 }},
		{"theta.u3", func(_ *kernel.Position, _ *kernel.MarketState, _ *float64, t *kernel.HarvestParams) {
			t.U3 = math.NaN()
		}},
	} {
		pos, ms, dist, p := longPosition(), usualState(), 0.01, kernel.DefaultHarvestParams()
		c.spoil(&pos, &ms, &dist, &p)
		got, err := kernel.Propose(pos, ms, dist, p)
		wantFieldError(t, err, c.field)
		if got != (kernel.Proposal{}) {
			t.Errorf("%s: a refusal came with %+v", c.field, got)
		}
	}
}

func TestMarketParamsRefused(t *testing.T) {
	for field, spoil := range map[string]func(*kernel.MarketParams){
		"theta.eps":                 func(p *kernel.MarketParams) { p.Eps = -1 },
		"theta.vol.window":          func(p *kernel.MarketParams) { p.Vol.Window = 0 },
		"theta.vol.winsor_q_low":    func(p *kernel.MarketParams) { p.Vol.WinsorQLow = -0.1 },
		"theta.vol.winsor_q_high":   func(p *kernel.MarketParams) { p.Vol.WinsorQHigh = 0.001 },
		"theta.vol.ewma_lambda":     func(p *kernel.MarketParams) { p.Vol.EWMALambda = 1.1 },
		"theta.vol.sigma_floor":     func(p *kernel.MarketParams) { p.Vol.SigmaFloor = math.NaN() },
		"theta.vol.spike_proxy_cap": func(p *kernel.MarketParams) { p.Vol.SpikeProxyCap = -1 },
		"theta.vol.spike_center":    func(p *kernel.MarketParams) { p.Vol.SpikeCenter = math.Inf(1) },
		"theta.vol.spike_scale":     func(p *kernel.MarketParams) { p.Vol.SpikeScale = 0 },
		"theta.trend.method":        func(p *kernel.MarketParams) { p.Trend.Method = "linear" },
		"theta.trend.windows":       func(p *kernel.MarketParams) { p.Trend.Windows = nil },
		"theta.trend.windows[1]":    func(p *kernel.MarketParams) { p.Trend.Windows = []int{64, 1, 256} },
		"theta.trend.windows[2]":    func(p *kernel.MarketParams) { p.Trend.Windows = []int{64, 128, 1 << 20} },
		"theta.trend.weights":       func(p *kernel.MarketParams) { p.Trend.Weights = []float64{1} },
		"theta.trend.weights[0]":    func(p *kernel.MarketParams) { p.Trend.Weights = []float64{-1, 1, 1} },
		"theta.regime.window":       func(p *kernel.MarketParams) { p.Regime.Window = 1 << 30 },
		"theta.regime.vr_k":         func(p *kernel.MarketParams) { p.Regime.VRK = 0 },
		"theta.regime.softmax_temp": func(p *kernel.MarketParams) { p.Regime.SoftmaxTemp = 0 },
		"theta.regime.score.b3":     func(p *kernel.MarketParams) { p.Regime.Score.B3 = math.NaN() },
	} {
		p := kernel.DefaultMarketParams()
		spoil(&p)
		_, err := kernel.NewEstimator(p)
		wantFieldError(t, err, field)
	}
	p := kernel.DefaultMarketParams()
	p.Trend.Weights = []float64{0, 0, 0}
	wantFieldError(t, p.Validate(), "theta.trend.weights")
}

func TestGate(t *testing.T) {
	last := kernel.Published{Action: kernel.ActionPartial25, NewStop: 100, KillScore: 0.5, AtSec: 1000}
	next := func(change func(*kernel.Published)) kernel.Published {
		n := last
		n.AtSec += 10
		change(&n)
		return n
	}
	for _, c := range []struct {
		name string
		next kernel.Published
		want kernel.GateReason
	}{
		{"nothing new", next(func(*kernel.Published) {}), kernel.GateHeld},
		{"action", next(func(n *kernel.Published) { n.Action = kernel.ActionNone }), kernel.GateAction},
		{"stop moves by exactly eps", next(func(n *kernel.Published) { n.NewStop = 100.1 - 1e-9 }), kernel.GateHeld},
		{"stop moves", next(func(n *kernel.Published) { n.NewStop = 99.8 }), kernel.GateStop},
		{"stop goes", next(func(n *kernel.Published) { n.NewStop = 0 }), kernel.GateStop},
		{"kill score", next(func(n *kernel.Published) { n.KillScore = 0.502 }), kernel.GateKillScore},
		{"age at the limit", next(func(n *kernel.Published) { n.AtSec = 1060 }), kernel.GateHeld},
		{"age", next(func(n *kernel.Published) { n.AtSec = 1060.5 }), kernel.GateAge},
		{"clock steps back", next(func(n *kernel.Published) { n.AtSec = 0 }), kernel.GateHeld},
		{"no action", next(func(n *kernel.Published) { n.Action = "" }), kernel.GateHeld},
		{"kill score is not a number", next(func(n *kernel.Published) { n.KillScore = math.NaN() }), kernel.GateHeld},
		{"negative stop", next(func(n *kernel.Published) { n.NewStop = -1 }), kernel.GateHeld},
	} {
		got := kernel.Gate(last, true, c.next, kernel.DefaultGateParams())
		if got != c.want || got.Open() != (c.want != "") || got.String() != string(c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := kernel.Gate(kernel.Published{}, false, last, kernel.DefaultGateParams()); got != kernel.GateFirst {
		t.Errorf("nothing published before: %q", got)
	}
	damaged := last
	damaged.KillScore = math.NaN()
	if got := kernel.Gate(damaged, true, last, kernel.DefaultGateParams()); got != kernel.GateKillScore {
		t.Errorf("damaged memory: %q, want the gate open", got)
	}
	wantFieldError(t, kernel.GateParams{ChangeEpsPct: math.NaN()}.Validate(), "change_eps_pct")
	wantFieldError(t, kernel.GateParams{MaxPublishAgeSec: -1}.Validate(), "max_publish_age_sec")
	wantFieldError(t, kernel.Published{}.Validate(), "harvest_action")
}

func TestReasons(t *testing.T) {
	all := ^kernel.Reasons(0)
	want := []string{
		"harvest_partial_75", "harvest_partial_50", "harvest_partial_25", "profit_lock", "kill_score_triggered",
		"regime_flip", "sigma_spike", "ts_drop", "age_penalty", "trail_active", "sl_tightened_monotonic",
		"sl_tightening", "regime_trend", "regime_mr", "regime_chop", "tp_extended",
	}
	if d := cmp.Diff(want, all.Codes()); d != "" {
		t.Error(d)
	}
	r := kernel.ReasonTPExtended | kernel.ReasonProfitLock
	if got := r.String(); got != "profit_lock,tp_extended" {
		t.Errorf("%q", got)
	}
	if got := string(kernel.ReasonKill.AppendTo([]byte("x="))); got != "x=kill_score_triggered" {
		t.Errorf("%q", got)
	}
	if got := kernel.Reasons(0); got.String() != "" || got.Codes() == nil || len(got.Codes()) != 0 {
		t.Errorf("no reasons: %q %v", got.String(), got.Codes())
	}
	if !r.Has(kernel.ReasonProfitLock) || r.Has(kernel.ReasonKill) {
		t.Error("Has is wrong")
	}
}
