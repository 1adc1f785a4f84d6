package storetest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

func streams(h *harness) {
	h.store, h.trips = h.open(store.WithStreams(true))
	p := Proposal(btc, 1)
	p.Revision = h.published(p)
	entries := h.stream(h.proposalStream)
	if len(entries) != 1 {
		h.Fatalf("%d entries after one publish", len(entries))
	}
	want := map[string]any{"symbol": "BTCUSDT"}
	for k, v := range wire(p) {
		want[k] = v
	}
	h.equal("stream entry", entries[0].Values, want)

	r := h.write(store.Batch{
		Beats:  []store.Beat{Beat(p, p.Revision, noon.Add(time.Second))},
		States: []store.MarketStateRecord{stateRecord(btc)},
		Stops:  []store.StopsRecord{stopsRecord(btc)},
	})
	h.outcome(r.Beats[0], store.Done)
	h.outcome(r.States[0], store.Done)
	h.outcome(r.Stops[0], store.Done)
	if n := len(h.stream(h.proposalStream)); n != 1 {
		h.Errorf("a beat went to the stream: %d entries", n)
	}
	for _, c := range []struct{ stream, hash string }{
		{h.marketStream, h.keys.MarketState(btc)},
		{h.riskStream, h.keys.Risk(btc)},
	} {
		entries := h.stream(c.stream)
		if len(entries) != 1 {
			h.Fatalf("%s: %d entries", c.stream, len(entries))
		}
		want := map[string]any{"symbol": "BTCUSDT"}
		for k, v := range h.hash(c.hash) {
			want[k] = v
		}
		h.equal(c.stream, entries[0].Values, want)
	}

	// A broken stream is reported and holds nothing back.
	for _, stream := range []string{h.proposalStream, h.marketStream} {
		h.do("DEL", stream)
		h.do("SET", stream, "x")
	}
	res := h.write(store.Batch{Publishes: []store.Proposal{p}})
	h.outcome(res.Publishes[0], store.Done)
	if res.StreamErr == nil || res.Publishes[0].Revision != p.Revision+1 {
		h.Errorf("publish beside a broken stream: %+v, %v", res.Publishes[0], res.StreamErr)
	}
	res = h.write(store.Batch{
		States: []store.MarketStateRecord{stateRecord(btc)},
		Closes: []store.Close{{Symbol: btc, Episode: p.Episode, Fence: p.Fence, At: noon, Last: p}},
	})
	h.outcome(res.Closes[0], store.Done)
	h.outcome(res.States[0], store.Done)
	if res.StreamErr == nil {
		h.Error("a closing record was lost without a word")
	}
	if n := h.raw.Exists(h.ctx, h.keys.Proposal(btc)).Val(); n != 0 {
		h.Error("a broken stream kept a proposal from being closed")
	}
}

func stopsRecord(sym position.Symbol) store.StopsRecord {
	return store.StopsRecord{
		Symbol: sym, At: noon, TTL: 10 * time.Minute, Publisher: "test-a", Source: "replay", AgeSec: 60,
		Stops: kernel.StopProposal{ProposedSL: 99, ProposedTP: 110, StopDistPct: 0.00699, TPDistPct: 0.01, TrailGapPct: 0.005},
		State: kernel.MarketState{Sigma: 0.004, TS: 0.0025, PTrend: 0.2, PMR: 0.3, PChop: 0.5},
		Position: position.Position{
			Symbol: sym, Side: position.Short, Entry: 100, Current: 98, Peak: 101, Trough: 97, ReportedPnL: 5, HasPnL: true,
		},
	}
}

func produced(h *harness) {
	r := h.write(store.Batch{
		States: []store.MarketStateRecord{stateRecord(btc)},
		Stops:  []store.StopsRecord{stopsRecord(btc)},
	})
	h.outcome(r.States[0], store.Done)
	h.outcome(r.Stops[0], store.Done)
	h.equal("market state", h.hash(h.keys.MarketState(btc)), map[string]string{
		"publisher": h.producer + "/test-a", "sigma": "0.004", "mu": "-0.00001", "ts": "0.0025", "p_trend": "0.2", "p_mr": "0.3",
		"p_chop": "0.5", "dp": "0.5", "vr": "1.1", "spike_proxy": "0.9", "ts_timestamp": "1769169600", "buffer_size": "300",
		"market_source": "synthetic",
	})
	h.equal("stop proposal", h.hash(h.keys.Risk(btc)), map[string]string{
		"publisher": h.producer + "/test-a", "proposed_sl": "99", "proposed_tp": "110", "stop_dist_pct": "0.00699",
		"tp_dist_pct": "0.01", "trail_gap_pct": "0.005", "reason_codes": "", "sigma": "0.004", "ts": "0.0025", "p_trend": "0.2",
		"p_mr": "0.3", "p_chop": "0.5", "computed_at_utc": "2026-01-23T12:00:00.000000", "position_side": "SHORT",
		"position_entry_price": "100", "position_current_price": "98", "position_peak_price": "101", "position_trough_price": "97",
		"position_age_sec": "60", "position_unrealized_pnl": "2", "market_source": "replay",
	})
	for _, key := range []string{h.keys.MarketState(btc), h.keys.Risk(btc)} {
		if ttl := h.raw.PTTL(h.ctx, key).Val(); ttl <= 9*time.Minute || ttl > 10*time.Minute {
			h.Errorf("%s lives for %v, want about 10m", key, ttl)
		}
	}
	for _, key := range []string{h.marketStream, h.riskStream} {
		if n := h.raw.Exists(h.ctx, key).Val(); n != 0 {
			h.Errorf("%s was written although streams are off", key)
		}
	}
	// Ours are replaced, whichever process of ours wrote them.
	again := stateRecord(btc)
	again.Publisher, again.State.Sigma = "test-b", 0.5
	h.outcome(h.write(store.Batch{States: []store.MarketStateRecord{again}}).States[0], store.Done)
	if got := h.hash(h.keys.MarketState(btc))["sigma"]; got != "0.5" {
		h.Errorf("sigma = %s", got)
	}

	// Another service's are not touched, whatever they look like.
	for name, foreign := range map[string][]any{
		"a market state without publisher":   {"HSET", h.keys.MarketState("AUSDT"), "sigma", "0.01", "ts_timestamp", "1"},
		"another publisher":                  {"HSET", h.keys.MarketState("AUSDT"), "sigma", "0.01", "publisher", "someone"},
		"an instance with another prefix":    {"HSET", h.keys.MarketState("AUSDT"), "publisher", "quantum-harvest@b:/x"},
		"a key of another type":              {"SET", h.keys.MarketState("AUSDT"), "x"},
		"a blank publisher":                  {"HSET", h.keys.MarketState("AUSDT"), "publisher", ""},
		"one that only begins like our name": {"HSET", h.keys.MarketState("AUSDT"), "publisher", "quantum-harvester/x"},
	} {
		h.do("DEL", h.keys.MarketState("AUSDT"))
		h.do(foreign...)
		before := h.look(h.keys.MarketState("AUSDT"))
		r := h.write(store.Batch{States: []store.MarketStateRecord{stateRecord("AUSDT")}}).States[0]
		if r.Outcome != store.Foreign {
			h.Errorf("%s: outcome %+v", name, r)
		}
		if after := h.look(h.keys.MarketState("AUSDT")); after != before {
			h.Errorf("%s was touched", name)
		}
	}

	endless, nan := stateRecord("BUSDT"), stateRecord("CUSDT")
	endless.TTL, nan.State.VR = 0, math.NaN()
	r = h.write(store.Batch{States: []store.MarketStateRecord{endless, nan, stateRecord("DUSDT")}})
	h.outcome(r.States[0], store.Failed)
	h.outcome(r.States[1], store.Failed)
	h.outcome(r.States[2], store.Done)
	if r.States[1].Err == nil || !strings.Contains(r.States[1].Err.Error(), "vr") {
		h.Errorf("error %v does not name the field", r.States[1].Err)
	}

	// They expire by themselves.
	short := stateRecord("EUSDT")
	short.TTL = 20 * time.Millisecond
	h.outcome(h.write(store.Batch{States: []store.MarketStateRecord{short}}).States[0], store.Done)
	deadline := time.Now().Add(time.Minute)
	for h.raw.Exists(h.ctx, h.keys.MarketState("EUSDT")).Val() != 0 {
		if time.Now().After(deadline) {
			h.Fatal("a produced record outlives its time")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// look describes a key of any type.
func (h *harness) look(key string) string {
	h.Helper()
	kind := h.raw.Type(h.ctx, key).Val()
	if kind == "string" {
		return kind + h.raw.Get(h.ctx, key).Val()
	}
	return fmt.Sprint(kind, h.hash(key), h.raw.TTL(h.ctx, key).Val())
}

func reading(h *harness) {
	p := Proposal(btc, 1)
	p.Revision = h.published(p)
	h.do("SET", h.keys.Proposal("WRONGUSDT"), "x")
	h.do("HSET", h.keys.Proposal("LEGACYUSDT"), "harvest_action", "FULL_CLOSE_PROPOSED", "new_sl_proposed", "None",
		"R_net", "7.01", "kill_score", "1e-05", "computed_at_utc", "2026-01-23T12:00:00.123456")
	syms := []position.Symbol{btc, "GONEUSDT", "WRONGUSDT", "LEGACYUSDT"}
	entries, err := h.store.Read(h.ctx, syms)
	if err != nil {
		h.Fatal(err)
	}
	h.equal("read back", entries[0].Proposal, p)
	if !entries[0].Found || len(entries[0].Problems) > 0 {
		h.Errorf("own proposal: %+v", entries[0])
	}
	if e := entries[1]; e.Found || e.Err != nil || e.Symbol != "GONEUSDT" {
		h.Errorf("absent proposal: %+v", e)
	}
	if e := entries[2]; e.Found || e.Err == nil {
		h.Errorf("proposal of another type: %+v", e)
	}
	e := entries[3]
	if !e.Found || !e.Proposal.LastUpdateDerived || !e.Proposal.LastUpdate.Equal(noon) || e.Proposal.SchemaVersion != 0 {
		h.Errorf("legacy proposal: %+v", e)
	}
	missing := map[string]store.ProblemKind{}
	for _, pr := range e.Problems {
		missing[pr.Field] = pr.Kind
	}
	if missing["sigma"] != store.FieldMissing || missing["last_update_epoch"] != "" || missing["fence"] != "" {
		h.Errorf("problems of a legacy proposal: %v", missing)
	}
	if none, err := h.store.Read(h.ctx, nil); none != nil || err != nil {
		h.Errorf("reading nothing: %v, %v", none, err)
	}

	// Collect adds those that are expected, each once, with the clock of the server.
	h.write(store.Batch{Expect: []position.Symbol{btc, "ETHUSDT"}})
	c, err := h.store.Collect(h.ctx, []position.Symbol{"WRONGUSDT", btc})
	if err != nil {
		h.Fatal(err)
	}
	var names []position.Symbol
	for _, e := range c.Entries {
		names = append(names, e.Symbol)
	}
	h.equal("collected", names, []position.Symbol{btc, "ETHUSDT", "WRONGUSDT"})
	h.equal("expected", c.Expected, []position.Symbol{btc, "ETHUSDT"})
	if c.ServerTime.IsZero() || c.RTT <= 0 {
		h.Errorf("clock %v, round trip %v", c.ServerTime, c.RTT)
	}
}
