package store

import (
	"errors"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// state writes a market state under its legacy key.
func (p *plan) state(m *MarketStateRecord, res *Result) {
	h := p.produce(res, m.Symbol, p.s.keys.marketState, p.s.withState, m.Publisher, m.TTL)
	st := &m.State
	h.number("sigma", st.Sigma)
	h.number("mu", st.Mu)
	h.number("ts", st.TS)
	h.regime(st)
	h.number("dp", st.DP)
	h.number("vr", st.VR)
	h.number("spike_proxy", st.SpikeProxy)
	h.text("ts_timestamp", string(appendEpoch(nil, m.At)))
	h.whole("buffer_size", int64(m.BufferSize))
	h.text("market_source", m.Source)
	h.done()
}

// stops writes a stop proposal under its legacy key.
func (p *plan) stops(r *StopsRecord, res *Result) {
	h := p.produce(res, r.Symbol, p.s.keys.risk, p.s.withStops, r.Publisher, r.TTL)
	h.number("proposed_sl", r.Stops.ProposedSL)
	h.number("proposed_tp", r.Stops.ProposedTP)
	h.number("stop_dist_pct", r.Stops.StopDistPct)
	h.number("tp_dist_pct", r.Stops.TPDistPct)
	h.number("trail_gap_pct", r.Stops.TrailGapPct)
	h.text("reason_codes", r.Stops.Reasons.String())
	h.number("sigma", r.State.Sigma)
	h.number("ts", r.State.TS)
	h.regime(&r.State)
	h.text("computed_at_utc", string(appendComputed(nil, r.At)))
	h.text("market_source", r.Source)
	pos := &r.Position
	h.text("position_side", string(pos.Side))
	h.number("position_entry_price", pos.Entry)
	h.number("position_current_price", pos.Current)
	h.number("position_peak_price", pos.Peak)
	h.number("position_trough_price", pos.Trough)
	h.number("position_age_sec", r.AgeSec)
	h.number("position_unrealized_pnl", perUnit(pos))
	h.done()
}

// perUnit is the profit of one unit of base: price arithmetic where there is a price, else as reported.
func perUnit(p *position.Position) float64 {
	if p.Current > 0 {
		return p.Side.Sign() * (p.Current - p.Entry)
	}
	return p.ReportedPnL
}

// produced is one record on its way into a plan.
type produced struct {
	p   *plan
	res *Result
	m   mark
	bad string // the first field that is not finite
	ttl time.Duration
}

func (p *plan) produce(res *Result, sym position.Symbol, prefix string, stream []string, publisher string, ttl time.Duration) *produced {
	res.Symbol = sym
	m := p.begin(produceScript, sym, prefix, string(sym), stream...)
	p.text(p.s.keys.producerMark())
	p.whole(ttl.Milliseconds())
	p.each(string(sym), "publisher", p.s.keys.producer(publisher))
	return &produced{p: p, res: res, m: m, ttl: ttl}
}

func (h *produced) text(name, value string) { h.p.each(name, value) }

func (h *produced) whole(name string, n int64) {
	h.p.text(name)
	h.p.whole(n)
}

func (h *produced) number(name string, v float64) {
	if !finite(v) && h.bad == "" {
		h.bad = name
	}
	h.p.text(name)
	h.p.buf = appendNumber(h.p.buf, v)
	h.p.done()
}

func (h *produced) regime(st *kernel.MarketState) {
	h.number("p_trend", st.PTrend)
	h.number("p_mr", st.PMR)
	h.number("p_chop", st.PChop)
}

func (h *produced) done() {
	var err error
	switch {
	case h.ttl < time.Millisecond:
		err = errors.New("a produced record needs a time to live: one that outlives its writer would be taken for fresh")
	case h.bad != "":
		err = errors.New("field " + h.bad + " is not finite")
	}
	if err != nil {
		h.p.drop(h.m)
		h.p.refuse(h.res, produceScript.name, err)
		return
	}
	h.p.end(h.m, produceScript, h.res)
}
