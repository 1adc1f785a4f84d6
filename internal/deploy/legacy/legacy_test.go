package legacy

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/config"
	"quantumharvest/kernel"
)

func TestCarry(t *testing.T) {
	rows := Carry([]Entry{
		{"REDIS_URL", "redis://:hunter2@10.0.0.1:6379/0", "a:1"},
		{"SYMBOLS", "BTCUSDT, ETHUSDT", "a:2"},
		{"EXPORTER_PORT", "8042", "a:3"},
		{"PYTHONPATH", "/opt", "a:4"},
		{"SYMBOLZ", "X", "a:5"},
		{"APPLY_MODE", "dry_run", "a:6"},
		{"LOG_LEVEL", "", "a:7"},
		{"PUBLISH_INTERVAL_SEC", "5", "unit"},
		{"PUBLISH_INTERVAL_SEC", "10", "a:8"},
		{"LEFT_OUT", "1", "a:9"},
		{"REDIS_PASSWORD", `pa"ss$word`, "a:10"},
	}, config.Publish, []string{"LEFT_OUT"})
	want := []Fate{Kept, Kept, Renamed, Ignored, Refused, Kept, Ignored, Ignored, Kept, Ignored, Kept}
	for i, r := range rows {
		if r.Fate != want[i] || r.Text == "" {
			t.Errorf("%s is %s (%s), not %s", r.Key, r.Fate, r.Text, want[i])
		}
		if strings.Contains(r.Value+r.Text, "hunter2") || strings.Contains(r.Value, "pa\"ss") {
			t.Errorf("%s shows its secret", r.Key)
		}
	}
	if !strings.Contains(rows[4].Text, "SYMBOLS") {
		t.Errorf("the refusal of SYMBOLZ does not say what was meant: %s", rows[4].Text)
	}
	text := Text("a.service", rows)
	entries, bad := config.ParseEnv(text)
	if len(bad) > 0 {
		t.Fatalf("our own file cannot be read: %v\n%s", bad, text)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Key] = e.Value
	}
	for key, v := range map[string]string{
		"REDIS_URL": "redis://:hunter2@10.0.0.1:6379/0", "SYMBOLS": "BTCUSDT, ETHUSDT", "METRICS_PORT": "8042", "PUBLISH_INTERVAL_SEC": "10",
		"REDIS_PASSWORD": `pa"ss$word`, "APPLY_MODE": "dry_run",
	} {
		if got[key] != v {
			t.Errorf("%s is %q in our file, not %q", key, got[key], v)
		}
	}
	if len(got) != 6 {
		t.Errorf("our file has %v", got)
	}
}

// lost is a hash as the earlier publisher writes it: the kernel on these inputs with p_trend 0.
func lost(t *testing.T) (theirs, ours map[string]string) {
	t.Helper()
	theirs = map[string]string{
		"new_sl_proposed": "None", "position_side": "LONG", "position_entry_price": "100", "position_current_price": "101", "position_unrealized_pnl": "1",
		"position_age_sec": "3600", "sigma": "0.01", "ts": "0.4", "p_trend": "0.0", "p_mr": "0.3", "p_chop": "0.3", "risk_unit": "2",
	}
	ours = maps.Clone(theirs)
	ours["p_trend"], ours["new_sl_proposed"] = "0.4", ""
	for h, trend := range map[*map[string]string]float64{&theirs: 0, &ours: 0.4} {
		p, err := kernel.Propose(
			kernel.Position{Side: kernel.Long, Entry: 100, Current: 101, AgeSec: 3600, UnrealizedPnL: 1},
			kernel.MarketState{Sigma: 0.01, TS: 0.4, PTrend: trend, PMR: 0.3, PChop: 0.3}, 0.02, kernel.DefaultHarvestParams())
		if err != nil {
			t.Fatal(err)
		}
		(*h)["kill_score"] = strconv.FormatFloat(p.KillScore, 'g', -1, 64)
		(*h)["k_regime_flip"] = strconv.FormatFloat(p.K.RegimeFlip, 'g', -1, 64)
		(*h)["harvest_action"], (*h)["reason_codes"] = string(p.Action), strings.Join(p.Reasons.Codes(), ",")
	}
	if theirs["harvest_action"] == ours["harvest_action"] {
		t.Fatal("the loss of p_trend changes no action: the test shows nothing")
	}
	return theirs, ours
}

func verdicts(all []Difference) map[string]Verdict {
	got := map[string]Verdict{}
	for _, d := range all {
		got[d.Field] = d.Verdict
	}
	return got
}

// What follows from the lost p_trend is computed anew: a difference that only could follow from it is not explained.
func TestLostTrendIsComputedAnew(t *testing.T) {
	theirs, ours := lost(t)
	got := verdicts(Compare("BTCUSDT", theirs, ours, nil, time.Second))
	for _, field := range fromTrend {
		if got[field] != Explained {
			t.Errorf("%s is %s, not explained", field, got[field])
		}
	}
	for field, wrong := range map[string]string{"kill_score": "0.91", "k_regime_flip": "0.5", "harvest_action": "PARTIAL_75", "reason_codes": "AGE"} {
		theirs, ours := lost(t)
		theirs[field] = wrong
		all := Compare("BTCUSDT", theirs, ours, nil, time.Second)
		if got := verdicts(all); got[field] != Unexplained {
			t.Errorf("%s=%s is %s: the loss of p_trend does not make that of it", field, wrong, got[field])
		}
		if table := Table(all); !strings.Contains(table, "computed anew it would be") {
			t.Errorf("the table does not say what %s would be:\n%s", field, table)
		}
	}
	for _, field := range []string{"position_side", "position_entry_price", "position_age_sec", "position_unrealized_pnl", "sigma", "ts", "p_mr", "p_chop", "risk_unit"} {
		theirs, ours := lost(t)
		delete(theirs, field)
		if got := verdicts(Compare("BTCUSDT", theirs, ours, nil, time.Second)); got["kill_score"] != Unexplained {
			t.Errorf("without %s the kill score cannot be computed anew, and is %s", field, got["kill_score"])
		}
	}
}

func TestCompare(t *testing.T) {
	ours := map[string]string{
		"harvest_action": "NONE", "new_sl_proposed": "", "R_net": "1.5", "kill_score": "0.5", "p_trend": "0.4", "k_regime_flip": "0.2",
		"reason_codes": "a,b", "position_age_sec": "101", "last_update_epoch": "200", "risk_unit": "2", "position_side": "LONG",
	}
	theirs := map[string]string{
		"harvest_action": "NONE", "new_sl_proposed": "None", "R_net": "1.5000000001", "kill_score": "0.9", "p_trend": "0.0", "k_regime_flip": "0.7",
		"reason_codes": "b, a", "position_age_sec": "100", "last_update_epoch": "190", "risk_unit": "3", "position_side": "SHORT",
	}
	want := map[string]Verdict{
		"harvest_action": Equal, "new_sl_proposed": Explained, "R_net": Rounding, "kill_score": Unexplained, "p_trend": Explained,
		"k_regime_flip": Unexplained, "reason_codes": Equal, "position_age_sec": Rounding, "last_update_epoch": Explained, "risk_unit": Unexplained,
		"position_side": Unexplained,
	}
	for _, d := range Compare("BTCUSDT", theirs, ours, nil, time.Second) {
		if v, ok := want[d.Field]; ok && d.Verdict != v {
			t.Errorf("%s: %s (%s), not %s", d.Field, d.Verdict, d.Why, v)
		}
		if d.Verdict == Explained && d.Why == "" {
			t.Errorf("%s is explained by nothing", d.Field)
		}
	}
	// A kill score that differs is explained only where p_trend was lost.
	theirs["p_trend"] = "0.4"
	all := Compare("BTCUSDT", theirs, ours, nil, time.Second)
	if n := len(Worst(all)); n != 4 { // kill_score, k_regime_flip, risk_unit, position_side
		t.Errorf("%d differences cannot be explained, not 4: %v", n, Worst(all))
	}
	if table := Table(all); !strings.Contains(table, `BTCUSDT: "3" is "2" here`) {
		t.Errorf("the table does not show what differs:\n%s", table)
	}
}

// Prices move faster than ours is written: what follows from another price is computed anew, and the price must lie within
// what ours shows around that moment.
func TestCompareWhatMoved(t *testing.T) {
	theirs, ours := lost(t)
	price, _ := parse(theirs["position_current_price"])
	entry, _ := parse(theirs["position_entry_price"])
	side := 1.0
	if theirs["position_side"] == "SHORT" {
		side = -1
	}
	// The earlier publisher wrote at a price that lies between two of ours.
	at := func(hash map[string]string, price float64) map[string]string {
		hash = maps.Clone(hash)
		hash["position_current_price"], hash["position_unrealized_pnl"] = text(price), text(side*(price-entry))
		hash = maps.Clone(hash)
		for field, v := range computeAnew(hash).fields {
			hash[field] = v
		}
		return hash
	}
	theirs = at(theirs, price)
	ours = at(ours, price*1.001)
	around := []map[string]string{ours, at(ours, price*0.9995)}
	all := Compare("BTCUSDT", theirs, ours, around, time.Second)
	if worst := Worst(all); len(worst) > 0 {
		t.Errorf("a price that moved is not explained:\n%s", Table(all))
	}
	for _, why := range []string{WhyMoved, WhyAnew} {
		if !strings.Contains(Table(all), why) {
			t.Errorf("the table does not say %q:\n%s", why, Table(all))
		}
	}
	far := Worst(Compare("BTCUSDT", theirs, ours, []map[string]string{ours, at(ours, price*1.0008)}, time.Second))
	if len(far) != 1 || far[0].Field != "position_current_price" || !OnlyInputs(far) {
		t.Errorf("of a price that ours never had around it is told: %v", far)
	}
	for _, field := range following {
		if field == "new_sl_proposed" {
			continue
		}
		wrong := maps.Clone(theirs)
		if wrong[field] = "0.7654321"; field == "reason_codes" {
			wrong[field] = "NOBODY_KNOWS"
		}
		worst := Worst(Compare("BTCUSDT", wrong, ours, around, time.Second))
		if len(worst) != 1 || worst[0].Field != field || OnlyInputs(worst) {
			t.Errorf("a wrong %s beside another price is not seen: %v", field, worst)
		}
	}
	wrong := maps.Clone(theirs)
	wrong["position_unrealized_pnl"] = text(side*(price-entry) + 1)
	if worst := Worst(Compare("BTCUSDT", wrong, ours, around, time.Second)); len(worst) == 0 {
		t.Error("a profit that the price does not make is not seen")
	}
}
