package top

import (
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// cell is one place of the table.
type cell struct {
	text string
	tone tone
}

// column is one column of the table: its heading, its width and what stands in it. Ages keep their colours when the rest
// of the picture is greyed.
type column struct {
	id    string
	title string
	width int
	right bool
	keeps bool
	cell  func(r *row, at time.Time) cell
}

// The widths of the column of symbols, the mark for what is not real included.
const (
	symbolLeast = 9
	symbolMost  = 15
)

// columns gives the columns that fit into width: first in their long form, then shorter, then fewer. The order of the
// steps says what is needed least.
func columns(width int, rows []*row) []column {
	name := symbolLeast
	for _, r := range rows {
		name = min(max(name, ansi.StringWidth(string(r.symbol))+1), symbolMost)
	}
	list := []column{
		{id: "symbol", title: " SYMBOL", width: name, cell: symbolCell},
		{id: "side", title: "SIDE", width: 5, cell: sideCell(false)},
		{id: "action", title: "ACTION", width: 10, cell: actionCell(false)},
		{id: "r", title: "R", width: 7, right: true, cell: rCell(7)},
		{id: "ladder", title: "T1 T2 T3", width: 9, cell: ladderCell},
		{id: "k", title: "K", width: 5, right: true, cell: killCell},
		{id: "parts", title: "FLIP SPIK DROP  AGE", width: 19, cell: partsCell},
		{id: "stop", title: "STOP", width: 10, right: true, cell: stopCell(10)},
		{id: "beat", title: "BEAT ", width: 5, right: true, keeps: true, cell: beatCell},
		{id: "content", title: "CONT ", width: 5, right: true, keeps: true, cell: contentCell},
		{id: "market", title: "MKT ", width: 5, right: true, keeps: true, cell: marketCell},
		{id: "position", title: "POS ", width: 5, right: true, keeps: true, cell: positionCell},
		{id: "state", title: "STATE", width: 14, keeps: true, cell: stateCell(false)},
	}
	steps := []struct {
		id   string
		with column // its shorter form; without a width the column goes
	}{
		{"parts", column{title: "PART", width: 4, cell: sparkCell}},
		{"state", column{title: "STATE", width: 7, cell: stateCell(true)}},
		{"action", column{title: "ACT", width: 5, cell: actionCell(true)}},
		{"side", column{title: "S", width: 1, cell: sideCell(true)}},
		{"symbol", column{title: " SYMBOL", width: min(name, 11), cell: symbolCell}},
		{"k", column{title: "K", width: 4, right: true, cell: killCell}},
		{"r", column{title: "R", width: 6, right: true, cell: rCell(6)}},
		{"content", column{title: "CON ", width: 4, right: true, cell: contentCell}},
		{"beat", column{title: "BEA ", width: 4, right: true, cell: beatCell}},
		{"market", column{title: "MKT ", width: 4, right: true, cell: marketCell}},
		{"position", column{title: "POS ", width: 4, right: true, cell: positionCell}},
		{"stop", column{title: "STOP", width: 8, right: true, cell: stopCell(8)}},
		{"symbol", column{title: " SYMBOL", width: symbolLeast, cell: symbolCell}},
		{"stop", column{title: "STOP", width: 7, right: true, cell: stopCell(7)}},
		{"parts", column{}},
		{"ladder", column{}},
		{"content", column{}},
		{"stop", column{}},
		{"position", column{}},
		{"market", column{}},
		{"k", column{}},
		{"side", column{}},
	}
	for _, step := range steps {
		if total(list) <= width {
			break
		}
		for i := range list {
			if list[i].id != step.id {
				continue
			}
			if step.with.width == 0 {
				list = append(list[:i], list[i+1:]...)
				break
			}
			step.with.id, step.with.keeps = step.id, list[i].keeps
			list[i] = step.with
			break
		}
	}
	return list
}

func total(list []column) int {
	sum := len(list) - 1
	for _, c := range list {
		sum += c.width
	}
	return sum
}

// headingLine is the line above the rows.
func headingLine(list []column) string {
	parts := make([]string, len(list))
	for i, c := range list {
		parts[i] = pad(c.title, c.width, c.right)
	}
	return strings.Join(parts, " ")
}

// rowLine is one row; tint decides how a cell looks.
func rowLine(list []column, r *row, at time.Time, width int, tint func(c *column, one cell, text string) string) string {
	if text, broken := r.noRow(); broken {
		first := list[0].cell(r, at)
		line := pad(first.text, list[0].width, false) + " " + text
		return tint(&list[0], cell{tone: red}, cut(line, width))
	}
	parts := make([]string, len(list))
	for i := range list {
		one := list[i].cell(r, at)
		parts[i] = tint(&list[i], one, pad(one.text, list[i].width, list[i].right))
	}
	return strings.Join(parts, " ")
}

// noRow says why there is nothing to show of a symbol.
func (r *row) noRow() (string, bool) {
	switch {
	case r.entry.Err != nil:
		return "unreadable: " + clean(r.entry.Err.Error()), true
	case !r.entry.Found && r.expected:
		return "no proposal, although it is expected", true
	case !r.entry.Found:
		return "no proposal", true
	}
	return "", false
}

// known makes a cell, or a question mark where one of its fields could not be read.
func (r *row) known(c cell, fields ...string) cell {
	for _, f := range fields {
		if _, broken := r.bad[f]; broken {
			return cell{"?", red}
		}
	}
	return c
}

func symbolCell(r *row, _ time.Time) cell {
	mark := " "
	if r.entry.Found && len(notReal(&r.entry.Proposal)) > 0 {
		mark = "~"
	}
	return cell{mark + string(r.symbol), strong}
}

func sideCell(short bool) func(*row, time.Time) cell {
	return func(r *row, _ time.Time) cell {
		text := string(r.entry.Proposal.Side)
		if short && text != "" {
			text = text[:1]
		}
		c := cell{text, plain}
		if r.entry.Proposal.Side == position.Short {
			c.tone = yellow
		}
		return r.known(c, "position_side")
	}
}

func actionCell(short bool) func(*row, time.Time) cell {
	return func(r *row, _ time.Time) cell {
		var c cell
		switch r.entry.Proposal.Action {
		case kernel.ActionNone:
			c = cell{"NONE", dim}
		case kernel.ActionPartial25:
			c = cell{"25%", yellow}
		case kernel.ActionPartial50:
			c = cell{"50%", yellow}
		case kernel.ActionPartial75:
			c = cell{"75%", yellow}
		case kernel.ActionFullClose:
			c = cell{"CLOSE", alarm}
		}
		if !short && c.tone == yellow {
			c.text = string(r.entry.Proposal.Action)
		} else if !short && c.tone == alarm {
			c.text = "FULL_CLOSE"
		}
		return r.known(c, "harvest_action")
	}
}

func rCell(width int) func(*row, time.Time) cell {
	return func(r *row, _ time.Time) cell {
		v := r.entry.Proposal.RNet
		c := cell{fitNumber(v, width, 2, true), plain}
		if v < 0 {
			c.tone = red
		} else if v >= kernel.DefaultHarvestParams().T1R {
			c.tone = green
		}
		return r.known(c, "R_net")
	}
}

// ladderCell shows R on the way to the three tiers, at 2, 4 and 6: ━━╋━─┼──┼ has reached the first and is at 3.
func ladderCell(r *row, _ time.Time) cell {
	return r.known(cell{ladder(r.entry.Proposal.RNet), plain}, "R_net")
}

func ladder(r float64) string {
	p := kernel.DefaultHarvestParams()
	var b strings.Builder
	low := 0.0
	for _, tier := range []float64{p.T1R, p.T2R, p.T3R} {
		for _, third := range []float64{1, 2} {
			if r >= low+(tier-low)*third/3 {
				b.WriteString("━")
			} else {
				b.WriteString("─")
			}
		}
		if r >= tier {
			b.WriteString("╋")
		} else {
			b.WriteString("┼")
		}
		low = tier
	}
	return b.String()
}

// The kill scores from which an alert speaks.
const (
	killWarning  = 0.6
	killCritical = 0.8
)

func killCell(r *row, _ time.Time) cell {
	k := r.entry.Proposal.KillScore
	c := cell{fitNumber(k, 4, 2, false), plain}
	switch {
	case k >= killCritical:
		c.tone = red
	case k >= killWarning:
		c.tone = yellow
	}
	return r.known(c, "kill_score")
}

// killTerm is one of the four terms of the kill score, with the most that it can be.
type killTerm struct {
	name, field string
	value, of   float64
}

func killTerms(k kernel.KillComponents) [4]killTerm {
	p := kernel.DefaultHarvestParams()
	return [4]killTerm{
		{"flip", "k_regime_flip", k.RegimeFlip, 1},
		{"spike", "k_sigma_spike", k.SigmaSpike, p.SigmaSpikeCap},
		{"drop", "k_ts_drop", k.TSDrop, p.TSDropCap},
		{"age", "k_age_penalty", k.AgePenalty, 1},
	}
}

func partsCell(r *row, _ time.Time) cell {
	var texts []string
	for _, part := range killTerms(r.entry.Proposal.K) {
		texts = append(texts, pad(r.known(cell{fitNumber(part.value, 4, 2, false), plain}, part.field).text, 4, true))
	}
	return cell{strings.Join(texts, " "), plain}
}

// sparkCell shows each term as a bar of its greatest value.
func sparkCell(r *row, _ time.Time) cell {
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, part := range killTerms(r.entry.Proposal.K) {
		switch _, broken := r.bad[part.field]; {
		case broken:
			b.WriteByte('?')
		case part.value <= 0:
			b.WriteByte('.')
		default:
			b.WriteRune(bars[min(int(part.value/part.of*float64(len(bars))), len(bars)-1)])
		}
	}
	return cell{b.String(), plain}
}

func stopCell(width int) func(*row, time.Time) cell {
	return func(r *row, _ time.Time) cell {
		c := cell{price(r.entry.Proposal.NewStop, width), strong}
		if r.entry.Proposal.NewStop == 0 {
			c.tone = dim
		}
		return r.known(c, "new_sl_proposed")
	}
}

func ageCell(r *row, age time.Duration, l level, field string) cell {
	c := cell{shortAge(age) + marks[l], toneOf(l)}
	if l == unknown {
		c = cell{"- ", dim}
	}
	if c = r.known(c, field); c.text == "?" {
		c.text = "? "
	}
	return c
}

func beatCell(r *row, at time.Time) cell {
	a := r.ages(at)
	return ageCell(r, a.beat, a.beatLevel, "last_update_epoch")
}

func contentCell(r *row, at time.Time) cell {
	a := r.ages(at)
	return ageCell(r, a.content, a.contentLevel, "computed_at_utc")
}

func marketCell(r *row, at time.Time) cell {
	a := r.ages(at)
	return ageCell(r, a.market, a.marketLevel, "market_epoch")
}

func positionCell(r *row, at time.Time) cell {
	a := r.ages(at)
	return ageCell(r, a.position, a.positionLevel, "position_epoch")
}

func stateCell(short bool) func(*row, time.Time) cell {
	return func(r *row, at time.Time) cell {
		s := r.status(at)
		c := cell{string(s), toneOf(s.level())}
		if s == statusExpired {
			c = cell{"EXPIRED", alarm}
		}
		if short {
			switch s {
			case statusMarket:
				c.text = "old mkt"
			case statusPosition:
				c.text = "old pos"
			}
		}
		if s == statusExpired {
			return c
		}
		return r.known(c, "input_state")
	}
}
