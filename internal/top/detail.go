package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"quantumharvest/internal/store"
)

// reasonText says in words what a reason code stands for. Codes of other writers are shown as they are.
var reasonText = map[string]string{
	"harvest_partial_25":     "the first tier is reached: R is at least 2",
	"harvest_partial_50":     "the second tier is reached: R is at least 4",
	"harvest_partial_75":     "the third tier is reached: R is at least 6",
	"profit_lock":            "R is at least 1.5: the stop moves to break-even plus",
	"kill_score_triggered":   "K is at least 0.6: leave altogether, because of",
	"regime_flip":            "the market no longer trends",
	"sigma_spike":            "volatility is well above its usual",
	"ts_drop":                "the trend has lost its strength",
	"age_penalty":            "the position is old",
	"trail_active":           "the trailing stop is the tighter one",
	"sl_tightened_monotonic": "the new stop was looser, the existing one stays",
	"sl_tightening":          "the new stop is tighter than the existing one",
	"regime_trend":           "trend is the most probable regime",
	"regime_mr":              "mean reversion is the most probable regime",
	"regime_chop":            "chop is the most probable regime",
	"tp_extended":            "the target is farther because of a trend",
}

// symbolLines is the page of the selected symbol: what is advised and why, the clocks, and every field of the hash.
func (m *model) symbolLines() []string {
	p, now := m.picture()
	at := slices.IndexFunc(p.rows, func(r row) bool { return r.symbol == m.selected })
	if at < 0 {
		return []string{m.style.paint(strong, string(m.selected)), "  is neither in the store nor expected any more"}
	}
	r := &p.rows[at]
	if text, broken := r.noRow(); broken {
		return []string{m.style.paint(strong, string(r.symbol)), "  " + m.style.paint(red, text)}
	}
	server := p.serverNow(now)
	out := m.adviceLines(r, server)
	out = append(out, m.clockLines(r, server)...)
	out = append(out, m.style.paint(strong, "Fields"))
	out = append(out, m.fieldLines(r)...)
	if m.err != nil {
		for i := range out {
			out[i] = m.style.paint(dim, ansi.Strip(out[i]))
		}
	}
	return out
}

func (m *model) adviceLines(r *row, server time.Time) []string {
	paint := func(c cell) string { return m.style.paint(c.tone, c.text) }
	head := []string{
		m.style.paint(strong, string(r.symbol)),
		paint(sideCell(false)(r, server)),
		paint(actionCell(false)(r, server)),
		"R " + paint(rCell(8)(r, server)) + " " + paint(ladderCell(r, server)),
		"K " + paint(killCell(r, server)),
		"stop " + paint(stopCell(14)(r, server)),
		paint(stateCell(false)(r, server)),
	}
	out := []string{strings.Join(head, "  ")}
	if text := notReal(&r.entry.Proposal); len(text) > 0 {
		out = append(out, m.style.paint(alarm, " NOT REAL: "+strings.Join(text, ", ")+" "))
	}
	out = append(out, m.style.paint(strong, "Reasons"))
	if len(r.entry.Proposal.Reasons) == 0 {
		out = append(out, "  none")
	}
	for _, code := range r.entry.Proposal.Reasons {
		out = append(out, "  "+pad(clean(code), 22, false)+" "+reasonText[code])
	}
	var texts []string
	for _, part := range killTerms(r.entry.Proposal.K) {
		c := r.known(cell{fmt.Sprintf("%.2f of %g", part.value, part.of), plain}, part.field)
		texts = append(texts, part.name+" "+c.text)
	}
	return append(out, "  K: "+strings.Join(texts, ", "))
}

func (m *model) clockLines(r *row, server time.Time) []string {
	a, p := r.ages(server), &r.entry.Proposal
	line := func(name string, age time.Duration, l level, at time.Time, field, what string) string {
		c := cell{longAge(age) + marks[l], toneOf(l)}
		if l == unknown {
			c = r.known(cell{"-", dim}, field)
			return "  " + pad(name, 10, false) + m.style.paint(c.tone, c.text)
		}
		return "  " + pad(name, 10, false) + m.style.paint(c.tone, pad(c.text, 10, false)) + " " + at.UTC().Format("2006-01-02 15:04:05") + "  " + what
	}
	out := []string{
		m.style.paint(strong, "Clocks") + m.style.paint(dim, " (UTC, ages on the clock of the server)"),
		line("heartbeat", a.beat, a.beatLevel, p.LastUpdate, "last_update_epoch", "the symbol was evaluated"),
		line("content", a.content, a.contentLevel, p.ComputedAt, "computed_at_utc", "this advice was computed"),
		line("market", a.market, a.marketLevel, p.MarketAt, "market_epoch", "newest input, from "+orNone(clean(p.MarketSource))),
		line("position", a.position, a.positionLevel, p.PositionAt, "position_epoch", "newest input, from "+orNone(clean(p.PositionSource))),
	}
	if until := p.ValidUntil; !until.IsZero() {
		left := until.Sub(server)
		text := m.style.paint(green, "for "+longAge(left))
		if left < 0 {
			text = m.style.paint(alarm, "expired "+longAge(-left)+" ago")
		}
		out = append(out, "  "+pad("valid", 10, false)+text)
	}
	if r.rated {
		out = append(out, "  "+pad("observed", 10, false)+"publishes "+perSecond(r.rates.publishes)+"  beats "+perSecond(r.rates.beats))
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "a source that is not named"
	}
	return s
}

// wireField is one field as on the wire; problem is set where it could not be read, and text is then what was there.
type wireField struct {
	name, text string
	problem    store.ProblemKind
}

// wire gives every field of the hash in the order of the contract. What an earlier writer does not have is left out.
func (r *row) wire() []wireField {
	p := &r.entry.Proposal
	flat := store.Encode(*p)
	var list []wireField
	for i := 0; i < len(flat); i += 2 {
		name, text := flat[i], flat[i+1]
		if problem, broken := r.bad[name]; broken {
			list = append(list, wireField{name, problem.Value, problem.Kind})
			continue
		}
		if p.SchemaVersion == 0 {
			switch name {
			case "schema_version":
				continue
			case "revision", "fence":
				if text == "0" {
					continue
				}
			case "new_sl_proposed", "reason_codes":
			case "last_update_epoch":
				if p.LastUpdateDerived {
					continue
				}
			default:
				if text == "" {
					continue
				}
			}
		}
		list = append(list, wireField{name: name, text: text})
	}
	return list
}

// fieldLines lists the fields, in two columns where they fit.
func (m *model) fieldLines(r *row) []string {
	fields := r.wire()
	texts := make([]string, len(fields))
	for i, f := range fields {
		text := clean(f.text)
		switch {
		case f.problem != "":
			text = "? (" + strings.TrimSpace(string(f.problem)+" "+text) + ")"
		case text == "":
			text = "-"
		}
		texts[i] = pad(f.name, 24, false) + " " + text
		if f.problem != "" {
			texts[i] = m.style.paint(red, texts[i])
		}
	}
	half := (len(texts) + 1) / 2
	if m.width < 100 {
		half = len(texts)
	}
	var out []string
	for i := range half {
		line := "  " + pad(texts[i], m.width-2, false)
		if half < len(texts) {
			line = "  " + pad(texts[i], m.width/2-4, false)
			if i+half < len(texts) {
				line += "  " + texts[i+half]
			}
		}
		out = append(out, strings.TrimRight(line, " "))
	}
	return out
}
