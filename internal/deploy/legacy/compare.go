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

// Why a difference is none: known defects of the earlier services, as the table names them, and time.
const (
	WhyTrend     = "the earlier risk publisher lost p_trend and always wrote 0"
	WhyFromTrend = "computed anew from the earlier publisher's own inputs with p_trend 0, ours is the same"
	WhyAnew      = "computed anew from the earlier publisher's own inputs, ours is the same"
	WhyMoved     = "the market moved between the two: ours had it just before and after"
	WhyNone      = "the earlier publisher writes the word None where there is no stop"
	WhyHeartbeat = "the earlier publisher has no heartbeat: it stamps full publishes alone"
	WhyMoment    = "computed at another moment"
	WhyLacking   = "the earlier publisher does not write it"
)

// Which fields are inputs that move, which follow from them, and which of those p_trend has a part in.
var (
	moving    = []string{"position_current_price", "position_unrealized_pnl", "risk_unit", "sigma", "ts", "p_trend", "p_mr", "p_chop"}
	following = []string{
		"R_net", "new_sl_proposed", "k_regime_flip", "k_sigma_spike", "k_ts_drop", "k_age_penalty", "kill_score", "harvest_action", "reason_codes",
	}
	fromTrend = []string{"k_regime_flip", "kill_score", "harvest_action", "reason_codes"}
)

// rounding is how far numbers may be apart, relative to the larger; ageSlack how far ages may be.
const (
	rounding = 1e-6
	ageSlack = 1500 * time.Millisecond
)

// perAge is by how much the penalty for age, and with it the kill score, may differ because of that slack.
const perAge = 1e-4

// anew is what the kernel says on the inputs that the earlier publisher shows.
type anew struct {
	fields map[string]string
	why    string // it cannot be computed
}

// computeAnew computes what follows from the inputs in a hash. The stop of before is not among what the earlier publisher
// shows; of it only the proposed stop and the reason PROFIT_LOCK come, which go by whether that publisher proposed one.
func computeAnew(theirs map[string]string) anew {
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
	ms := kernel.MarketState{Sigma: number("sigma"), TS: number("ts"), PTrend: number("p_trend"), PMR: number("p_mr"), PChop: number("p_chop")}
	unit := number("risk_unit")
	switch strings.ToUpper(theirs["position_side"]) {
	case "LONG":
	case "SHORT":
		pos.Side = kernel.Short
	default:
		bad = "position_side"
	}
	if bad != "" {
		return anew{why: "without " + bad + " nothing can be computed anew"}
	}
	if pos.Entry <= 0 {
		return anew{why: "nothing can be computed anew: position_entry_price is not positive"}
	}
	p, err := kernel.Propose(pos, ms, unit/pos.Entry, kernel.DefaultHarvestParams())
	if err != nil {
		return anew{why: "nothing can be computed anew: " + err.Error()}
	}
	stop := ""
	if p.Reasons &^= kernel.ReasonProfitLock; !none(theirs["new_sl_proposed"]) {
		p.Reasons |= kernel.ReasonProfitLock
		stop = text(p.NewStop)
	}
	return anew{fields: map[string]string{
		"R_net": text(p.RNet), "new_sl_proposed": stop, "k_regime_flip": text(p.K.RegimeFlip), "k_sigma_spike": text(p.K.SigmaSpike),
		"k_ts_drop": text(p.K.TSDrop), "k_age_penalty": text(p.K.AgePenalty), "kill_score": text(p.KillScore), "harvest_action": string(p.Action),
		"reason_codes": strings.Join(p.Reasons.Codes(), ","),
		// What the price makes of the position must be told by the same price.
		"position_unrealized_pnl": text((pos.Current - pos.Entry) * float64(pos.Side)),
	}}
}

func text(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// explains tells whether what the earlier publisher wrote is what the kernel says.
func (a anew) explains(field, theirs, why string) (Verdict, string) {
	if a.why != "" {
		return Unexplained, a.why
	}
	is, ok := parse(theirs)
	want, number := parse(a.fields[field])
	switch {
	case number:
		ok = ok && math.Abs(is-want) <= max(rounding*max(math.Abs(is), math.Abs(want)), 1e-9)
	case field == "new_sl_proposed":
		ok = none(theirs)
	case field == "reason_codes":
		ok = sameWords(theirs, a.fields[field])
	default:
		ok = theirs == a.fields[field]
	}
	if !ok {
		return Unexplained, fmt.Sprintf("computed anew it would be %q", a.fields[field])
	}
	return Explained, why
}

// comparing is what is known of two hashes beyond their fields.
type comparing struct {
	theirs anew
	lost   bool // p_trend was
	moved  bool // they do not rest on the same inputs
	around []map[string]string
	apart  time.Duration
}

// Compare holds a hash of the earlier publisher against one of ours that was computed apart from it by no more than apart.
// Around are ours of the seconds before and after: what the two rest on may have moved within what those show.
func Compare(symbol string, theirs, ours map[string]string, around []map[string]string, apart time.Duration) []Difference {
	c := comparing{
		theirs: computeAnew(theirs), lost: isZero(theirs["p_trend"]) && !isZero(ours["p_trend"]), moved: !SameInputs(theirs, ours),
		around: around, apart: apart,
	}
	var list []Difference
	for _, field := range Fields {
		t, there := theirs[field]
		d := Difference{Symbol: symbol, Field: field, Theirs: t, Ours: ours[field]}
		d.Verdict, d.Why = c.verdict(field, t, ours[field], there)
		list = append(list, d)
	}
	return list
}

func (c *comparing) verdict(field, theirs, ours string, there bool) (Verdict, string) {
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
		if okA && okB && math.Abs(a-b) <= (c.apart+ageSlack).Seconds() {
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
	switch {
	case field == "p_trend" && c.lost:
		return Explained, WhyTrend
	case c.lost && slices.Contains(fromTrend, field):
		return c.theirs.explains(field, theirs, WhyFromTrend)
	case c.moved && slices.Contains(following, field):
		return c.theirs.explains(field, theirs, WhyAnew)
	case c.moved && field == "position_unrealized_pnl":
		return c.theirs.explains(field, theirs, WhyMoved)
	case c.moved && slices.Contains(moving, field):
		return c.within(field, a, okA)
	}
	return Unexplained, ""
}

// within tells whether an input lies between what ours shows of it in the seconds around, or as far beyond as that is wide:
// ours shows it once a second, and it may move in between.
func (c *comparing) within(field string, v float64, ok bool) (Verdict, string) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, hash := range c.around {
		if is, known := parse(hash[field]); known {
			low, high = min(low, is), max(high, is)
		}
	}
	if !ok || low > high {
		return Unexplained, ""
	}
	if wide := high - low; v < low-wide || v > high+wide {
		return Unexplained, fmt.Sprintf("just before and after ours had %s to %s", text(low), text(high))
	}
	return Explained, WhyMoved
}

// OnlyInputs tells whether nothing but what the two rest on differs.
func OnlyInputs(all []Difference) bool {
	return !slices.ContainsFunc(all, func(d Difference) bool { return !slices.Contains(moving, d.Field) })
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

// SamePosition tells whether two hashes are of one position: where it was added to, or another one took its place, nothing of
// them can be compared.
func SamePosition(theirs, ours map[string]string) bool {
	a, okA := parse(theirs["position_entry_price"])
	b, okB := parse(ours["position_entry_price"])
	return strings.EqualFold(theirs["position_side"], ours["position_side"]) && okA == okB && math.Abs(a-b) <= rounding*max(math.Abs(a), math.Abs(b))
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
