package legacy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"quantumharvest/kernel"
)

// Verdict is what comes of holding one field against ours.
type Verdict string

// The verdicts, from good to bad.
const (
	Equal       Verdict = "equal"
	Rounding    Verdict = "within rounding"
	Explained   Verdict = "explained"
	Unexplained Verdict = "unexplained"
)

// Verdicts lists them in that order.
var Verdicts = []Verdict{Equal, Rounding, Explained, Unexplained}

// Difference is one field of one symbol, as the earlier publisher wrote it and as ours does.
type Difference struct {
	Symbol, Field string
	Theirs, Ours  string
	Verdict       Verdict
	Why           string // of one that is explained, or why one that could be is not
}

// Fields are those of the contract that the earlier publisher writes.
var Fields = []string{
	"harvest_action", "new_sl_proposed", "R_net", "risk_unit", "cost_est", "kill_score", "reason_codes", "k_regime_flip", "k_sigma_spike",
	"k_ts_drop", "k_age_penalty", "sigma", "ts", "p_trend", "p_mr", "p_chop", "computed_at_utc", "last_update_epoch", "position_side",
	"position_age_sec", "position_current_price", "position_entry_price", "position_unrealized_pnl",
}

// Known defects of the earlier services, as the table names them.
const (
	WhyTrend     = "the earlier risk publisher lost p_trend and always wrote 0"
	WhyFromTrend = "computed anew from the earlier publisher's own inputs with p_trend 0, ours is the same"
	WhyNone      = "the earlier publisher writes the word None where there is no stop"
	WhyHeartbeat = "the earlier publisher has no heartbeat: it stamps full publishes alone"
	WhyMoment    = "computed at another moment"
	WhyLacking   = "the earlier publisher does not write it"
)

// fromTrend are the fields that p_trend has a part in.
var fromTrend = []string{"k_regime_flip", "kill_score", "harvest_action", "reason_codes"}

// rounding is how far numbers may be apart, relative to the larger; ageSlack how far ages may be.
const (
	rounding = 1e-6
	ageSlack = 1500 * time.Millisecond
)

// perAge is by how much the penalty for age, and with it the kill score, may differ because of that slack.
const perAge = 1e-4

// lostTrend is what the kernel says on the inputs that the earlier publisher shows, with the p_trend that it lost.
type lostTrend struct {
	fields map[string]string
	why    string // it cannot be computed
}

// withoutTrend computes the fields of fromTrend anew. The stop of before is not among what the earlier publisher shows; of it
// only the reason PROFIT_LOCK comes, which goes by whether that publisher proposed a stop.
func withoutTrend(theirs map[string]string) lostTrend {
	var bad string
	number := func(field string) float64 {
		v, ok := parse(theirs[field])
		if !ok && bad == "" {
			bad = field
		}
		return v
	}
	pos := kernel.Position{
		Side: kernel.Long, Entry: number("position_entry_price"), Current: number("position_current_price"), AgeSec: number("position_age_sec"),
		UnrealizedPnL: number("position_unrealized_pnl"),
	}
	ms := kernel.MarketState{Sigma: number("sigma"), TS: number("ts"), PMR: number("p_mr"), PChop: number("p_chop")}
	unit := number("risk_unit")
	switch strings.ToUpper(theirs["position_side"]) {
	case "LONG":
	case "SHORT":
		pos.Side = kernel.Short
	default:
		bad = "position_side"
	}
	if bad != "" {
		return lostTrend{why: "p_trend was lost, and without " + bad + " nothing can be computed anew"}
	}
	if pos.Entry <= 0 {
		return lostTrend{why: "p_trend was lost, and nothing can be computed anew: position_entry_price is not positive"}
	}
	p, err := kernel.Propose(pos, ms, unit/pos.Entry, kernel.DefaultHarvestParams())
	if err != nil {
		return lostTrend{why: "p_trend was lost, and nothing can be computed anew: " + err.Error()}
	}
	if p.Reasons &^= kernel.ReasonProfitLock; !none(theirs["new_sl_proposed"]) {
		p.Reasons |= kernel.ReasonProfitLock
	}
	text := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return lostTrend{fields: map[string]string{
		"k_regime_flip": text(p.K.RegimeFlip), "kill_score": text(p.KillScore), "harvest_action": string(p.Action),
		"reason_codes": strings.Join(p.Reasons.Codes(), ","),
	}}
}

// explains tells whether what the earlier publisher wrote is what the kernel says without p_trend.
func (l lostTrend) explains(field, theirs string) (Verdict, string) {
	if l.why != "" {
		return Unexplained, l.why
	}
	is, ok := parse(theirs)
	want, number := parse(l.fields[field])
	switch {
	case number:
		ok = ok && math.Abs(is-want) <= max(rounding*max(math.Abs(is), math.Abs(want)), 1e-9)
	case field == "reason_codes":
		ok = sameWords(theirs, l.fields[field])
	default:
		ok = theirs == l.fields[field]
	}
	if !ok {
		return Unexplained, fmt.Sprintf("without p_trend it would be %q", l.fields[field])
	}
	return Explained, WhyFromTrend
}

// Compare holds a hash of the earlier publisher against one of ours that was computed apart from it by no more than apart.
func Compare(symbol string, theirs, ours map[string]string, apart time.Duration) []Difference {
	var list []Difference
	var lost *lostTrend
	if isZero(theirs["p_trend"]) && !isZero(ours["p_trend"]) {
		l := withoutTrend(theirs)
		lost = &l
	}
	for _, field := range Fields {
		t, there := theirs[field]
		d := Difference{Symbol: symbol, Field: field, Theirs: t, Ours: ours[field]}
		d.Verdict, d.Why = verdict(field, t, ours[field], there, lost, apart)
		list = append(list, d)
	}
	return list
}

func verdict(field, theirs, ours string, there bool, lost *lostTrend, apart time.Duration) (Verdict, string) {
	if there && theirs == ours {
		return Equal, ""
	}
	switch field {
	case "computed_at_utc":
		return Explained, WhyMoment
	case "last_update_epoch":
		return Explained, WhyHeartbeat
	case "new_sl_proposed":
		if none(theirs) && none(ours) {
			return Explained, WhyNone
		}
	case "reason_codes":
		if sameWords(theirs, ours) {
			return Equal, ""
		}
	case "position_age_sec":
		a, okA := parse(theirs)
		b, okB := parse(ours)
		if okA && okB && math.Abs(a-b) <= (apart+ageSlack).Seconds() {
			return Rounding, ""
		}
	}
	if !there {
		return Explained, WhyLacking
	}
	a, okA := parse(theirs)
	b, okB := parse(ours)
	if okA && okB {
		switch gap := math.Abs(a - b); {
		case gap == 0:
			return Equal, ""
		case gap <= rounding*max(math.Abs(a), math.Abs(b)), gap <= 1e-9:
			return Rounding, ""
		case (field == "k_age_penalty" || field == "kill_score") && gap <= perAge:
			return Rounding, ""
		}
	}
	if field == "p_trend" && lost != nil {
		return Explained, WhyTrend
	}
	if lost != nil && slices.Contains(fromTrend, field) {
		return lost.explains(field, theirs)
	}
	return Unexplained, ""
}

func parse(s string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}

func isZero(s string) bool { v, ok := parse(s); return ok && v == 0 }
func none(s string) bool   { return s == "" || s == "None" || isZero(s) }

func sameWords(a, b string) bool {
	words := func(s string) []string {
		list := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '[' || r == ']' || r == '\'' || r == '"' })
		slices.Sort(list)
		return list
	}
	return slices.Equal(words(a), words(b))
}

// SameInputs tells whether two hashes rest on the same price and market state, so that what follows can be compared.
func SameInputs(theirs, ours map[string]string) bool {
	for _, field := range []string{"position_current_price", "position_entry_price", "sigma", "ts", "p_mr", "p_chop"} {
		a, okA := parse(theirs[field])
		b, okB := parse(ours[field])
		if okA != okB || okA && math.Abs(a-b) > rounding*max(math.Abs(a), math.Abs(b), 1e-9) {
			return false
		}
	}
	return true
}

// ComputedAt is the moment in computed_at_utc.
func ComputedAt(hash map[string]string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04:05Z07:00"} {
		if t, err := time.Parse(layout, hash["computed_at_utc"]); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// Table counts the verdicts field by field, with the reasons and the first of what is not explained.
func Table(all []Difference) string {
	var b strings.Builder
	b.WriteString("| field | compared | equal | within rounding | explained | unexplained | why |\n|---|---|---|---|---|---|---|\n")
	for _, field := range Fields {
		n := map[Verdict]int{}
		var why []string
		total := 0
		for _, d := range all {
			if d.Field != field {
				continue
			}
			total++
			n[d.Verdict]++
			text := d.Why
			if d.Verdict == Unexplained {
				text = fmt.Sprintf("%s: %q is %q here", d.Symbol, d.Theirs, d.Ours)
				if d.Why != "" {
					text += ", " + d.Why
				}
			}
			if text != "" && !slices.Contains(why, text) && (d.Verdict != Unexplained || len(why) < 3) {
				why = append(why, text)
			}
		}
		if total > 0 {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s |\n", field, total, n[Equal], n[Rounding], n[Explained], n[Unexplained], strings.Join(why, "; "))
		}
	}
	return b.String()
}

// Worst are the differences that nobody can explain, in order.
func Worst(all []Difference) []Difference {
	list := slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return d.Verdict != Unexplained })
	slices.SortStableFunc(list, func(a, b Difference) int { return cmp.Compare(a.Symbol, b.Symbol) })
	return list
}
