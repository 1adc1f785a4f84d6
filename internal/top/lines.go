package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// layout is how the screen is divided: lines above and below, and room for rows between them.
type layout struct {
	above, below []string
	room         int
}

// least is the fewest rows that the lines around them must leave.
const least = 3

// layout gives up what is needed least until there is room for rows: the pane, the figures, the keys, the summary.
func (m *model) layout() layout {
	title, warnings := []string{m.titleLine()}, m.warningLines()
	summary, figures := []string{m.summaryLine()}, []string{m.figuresLine()}
	if !m.have {
		summary, figures = nil, nil
	}
	pane, keys := m.paneLines(), []string{m.keysLine()}
	head := 1 // of the table
	for _, part := range []*[]string{&pane, &figures, &keys, &summary} {
		if m.height-head-len(title)-len(warnings)-len(summary)-len(figures)-len(pane)-len(keys) >= least {
			break
		}
		*part = nil
	}
	l := layout{above: slices.Concat(title, warnings, summary, figures), below: slices.Concat(pane, keys)}
	l.room = max(1, m.height-head-len(l.above)-len(l.below))
	return l
}

// lines is the screen: at most height lines, none wider than width.
func (m *model) lines() []string {
	if m.width <= 0 || m.height <= 0 || m.left {
		return nil
	}
	l := m.layout()
	var middle []string
	switch m.page {
	case pageHelp:
		middle = m.helpLines()
	case pageSymbol:
		all := m.symbolLines()
		middle = all[min(m.scroll, len(all)):]
	default:
		middle = m.tableLines(l.room)
	}
	middle = middle[:min(len(middle), l.room+1)]
	for len(middle) < l.room+1 {
		middle = append(middle, "")
	}
	all := slices.Concat(l.above, middle, l.below)
	all = all[:min(len(all), m.height)]
	for i := range all {
		all[i] = cut(all[i], m.width)
	}
	return all
}

// titleLine names what is looked at and, on the right, the time.
func (m *model) titleLine() string {
	now := m.now.Format("15:04:05")
	room := m.width - len(now) - 1
	if room < 8 {
		return m.style.paint(strong, pad(m.header, m.width, false))
	}
	return m.style.paint(strong, pad(m.header, room, false)) + " " + now
}

// warningLines is what must not be overlooked.
func (m *model) warningLines() []string {
	var list []string
	warn := func(format string, args ...any) {
		list = append(list, m.style.paint(alarm, cut(" "+fmt.Sprintf(format, args...)+" ", m.width)))
	}
	p, now := m.picture()
	switch since := m.now.Sub(p.at); {
	case m.err != nil && m.have:
		warn("REDIS IS AWAY for %s, the picture is %s old", longAge(m.now.Sub(m.failing)), longAge(m.now.Sub(m.live.at)))
	case m.err != nil:
		warn("REDIS IS AWAY for %s", longAge(m.now.Sub(m.failing)))
	case m.have && !m.paused && since > slow:
		warn("REDIS DOES NOT ANSWER, the picture is %s old", longAge(since))
	}
	if m.err != nil {
		list = append(list, m.style.paint(red, cut(" "+clean(m.err.Error()), m.width)))
	}
	if m.paused {
		warn("PAUSED for %s: nothing here moves; p goes on", longAge(m.now.Sub(m.pausedAt)))
	}
	if !m.have {
		return list
	}
	if text := p.notRealText(); text != "" {
		warn("NOT REAL: %s", text)
	}
	if p.expectedErr != nil {
		warn("the expected symbols cannot be read: %s", clean(p.expectedErr.Error()))
	}
	if expired := p.expired(now); expired > 0 && m.err == nil {
		warn("%d of %d proposals EXPIRED: nobody renews them", expired, p.found)
	}
	return list
}

// slow is how old a picture may get before that is worth a line.
const slow = 3 * time.Second

// notRealText says how many of the proposals rest on what, blank where everything is real.
func (p *picture) notRealText() string {
	n := map[string]int{}
	for i := range p.rows {
		if e := &p.rows[i].entry; e.Found {
			for _, source := range notReal(&e.Proposal) {
				n[source]++
			}
		}
	}
	var parts []string
	for _, source := range []string{"synthetic", "replay", "demo"} {
		if n[source] == 0 {
			continue
		}
		text := madeUp[source]
		if n[source] < p.found {
			text += fmt.Sprintf(" for %d of %d", n[source], p.found)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func (p *picture) expired(now time.Time) int {
	n, server := 0, p.serverNow(now)
	for i := range p.rows {
		if p.rows[i].status(server) == statusExpired {
			n++
		}
	}
	return n
}

// summaryLine is what is there and who wrote it.
func (m *model) summaryLine() string {
	p, now := m.picture()
	parts := []string{m.style.paint(toneOf(p.coverage()), p.countText())}
	writers := p.writers(now)
	for i, w := range writers {
		if i == 2 {
			parts = append(parts, fmt.Sprintf("and %d more writers", len(writers)-i))
			break
		}
		parts = append(parts, m.writerText(w, len(writers) > 1))
	}
	if text := m.leaseText(p); text != "" {
		parts = append(parts, text)
	}
	return strings.Join(parts, "  ")
}

// leaseText says whether every symbol has a writer, and how many more would take over.
func (m *model) leaseText(p *picture) string {
	v := &p.lease
	if p.leaseErr != nil {
		return m.style.paint(toneOf(late), "lease out of reach")
	}
	if v.Layout == "" {
		return "" // no publisher that takes leases
	}
	held, busy := 0, map[string]bool{}
	for _, l := range v.Shards {
		if l.Live(v.Now) {
			held++
			busy[l.Holder] = true
		}
	}
	tone := good
	if held < len(v.Shards) {
		tone = bad
	}
	text := "lease held"
	switch {
	case len(v.Shards) > 1:
		text = fmt.Sprintf("leases %d/%d", held, len(v.Shards))
	case held == 0:
		text = "lease free: nobody writes"
	}
	text = m.style.paint(toneOf(tone), text)
	standby := 0
	for _, member := range v.Members {
		if !busy[member.Holder] {
			standby++
		}
	}
	if standby > 0 {
		text += fmt.Sprintf(", %d standing by", standby)
	}
	return text
}

func (p *picture) coverage() level {
	switch {
	case len(p.missing) > 0:
		return bad
	case p.expectedErr != nil, p.invalid > 0:
		return late
	}
	return good
}

func (p *picture) countText() string {
	text := fmt.Sprintf("expected %d found %d", p.expected, p.found)
	switch n := len(p.missing); {
	case n == 1:
		text += " missing " + string(p.missing[0])
	case n > 1:
		text += fmt.Sprintf(" missing %s and %d more", p.missing[0], n-1)
	}
	if p.invalid > 0 {
		text += fmt.Sprintf(" (invalid names: %d)", p.invalid)
	}
	return text
}

func (m *model) writerText(w writer, several bool) string {
	text := "publisher " + clean(w.id)
	if w.id == "" {
		text = "an earlier publisher"
	}
	if several {
		text += fmt.Sprintf(" (%d)", w.symbols)
	}
	switch {
	case !w.valid:
	case w.validFor < 0:
		text += " " + m.style.paint(red, "expired "+shortAge(-w.validFor)+" ago")
	default:
		text += " " + m.style.paint(green, "valid "+shortAge(w.validFor))
	}
	if w.fence > 0 {
		text += fmt.Sprintf(" fence %d", w.fence)
	}
	return text
}

// figuresLine is what was measured, and what the table shows.
func (m *model) figuresLine() string {
	p, now := m.picture()
	rates := "publishes …  beats …"
	if p.rated {
		rates = "publishes " + perSecond(p.rates.publishes) + "  beats " + perSecond(p.rates.beats)
	}
	parts := []string{rates, "redis " + roundTrip(p.rtt), "sort " + m.sort.String()}
	if m.filter != "" || m.typing {
		parts = append(parts, fmt.Sprintf("filter %q: %d of %d", m.filter, len(p.shown(m.sort, m.filter, now)), len(p.rows)))
	}
	if off := p.offset(); off > ahead || off < -ahead {
		side := "ahead of"
		if off < 0 {
			side, off = "behind", -off
		}
		parts = append(parts, fmt.Sprintf("this clock is %s %s Redis", longAge(off), side))
	}
	return strings.Join(parts, "  ")
}

// tableLines is the heading and the rows that fit into room.
func (m *model) tableLines(room int) []string {
	if !m.have {
		text := "reading …"
		if m.err != nil {
			text = "nothing has been read yet; this goes on by itself as soon as Redis answers"
		}
		return []string{"", m.style.paint(dim, text)}
	}
	rows := m.rows()
	p, now := m.picture()
	list := columns(m.width, rows)
	out := []string{m.style.paint(heading, pad(headingLine(list), m.width, false))}
	if len(rows) == 0 {
		if len(p.rows) > 0 {
			return append(out, m.style.paint(dim, "no symbol matches the filter"))
		}
		return append(out,
			m.style.paint(dim, "no proposals, and none expected: is a publisher running, under this prefix?"),
			m.style.paint(dim, "beside an earlier publisher name the symbols: --symbols BTCUSDT,ETHUSDT"))
	}
	server := p.serverNow(now)
	for _, r := range rows[m.firstSeen:min(len(rows), m.firstSeen+room)] {
		out = append(out, m.rowText(list, r, server))
	}
	return out
}

// rowText draws one row: greyed where the store is away, except for what goes on ageing; reversed under the cursor.
func (m *model) rowText(list []column, r *row, server time.Time) string {
	line := rowLine(list, r, server, m.width, func(c *column, one cell, text string) string {
		if m.err != nil && !c.keeps {
			return m.style.paint(dim, text)
		}
		return m.style.paint(one.tone, text)
	})
	if r.symbol == m.selected {
		return m.style.paint(selected, pad(ansi.Strip(line), m.width, false))
	}
	return line
}

// paneLines is the newest of the notices.
func (m *model) paneLines() []string {
	if !m.withPane {
		return nil
	}
	out := []string{m.style.paint(dim, "── log "+strings.Repeat("─", max(0, m.width-7)))}
	for _, line := range m.notices[max(0, len(m.notices)-noticesShown):] {
		out = append(out, cut(line, m.width))
	}
	for len(out) < noticesShown+1 {
		out = append(out, "")
	}
	return out
}

func (m *model) keysLine() string {
	if m.typing {
		return "/" + m.filter + "▏ " + m.style.paint(dim, "enter keeps it, esc drops it")
	}
	var text string
	switch m.page {
	case pageHelp:
		text = "? back  q quit"
	case pageSymbol:
		text = "esc back  n b next, previous  ↑ ↓ scroll  p pause  ? help  q quit"
	default:
		text = "q quit  s sort  / filter  enter open  p pause  ? help"
		if rows := m.rows(); len(rows) > 0 {
			text += fmt.Sprintf("   %d/%d", m.at(rows)+1, len(rows))
		}
	}
	return m.style.paint(dim, text)
}

// helpLines is the page that ? opens.
func (m *model) helpLines() []string {
	between := func(l limit) string {
		return fmt.Sprintf("! from %.0f s, X from %.0f s", l.late.Seconds(), l.bad.Seconds())
	}
	return []string{
		m.style.paint(strong, "Keys"),
		"  ↑ ↓ j k   move; pgup pgdn a page       s     sort by symbol, action, R, K, age",
		"  enter     open a symbol, esc back      /     filter by words of what is shown",
		"  p         pause and go on              q     quit",
		m.style.paint(strong, "Columns"),
		"  T1 T2 T3  R on its way to the tiers at 2, 4 and 6; ━━╋━─┼──┼ has reached one",
		"  FLIP SPIK DROP AGE  the terms of K: regime flip, volatility, lost trend, age;",
		"            where narrow as bars of the greatest value of each",
		"  BEAT      since the symbol was evaluated:  " + between(beatLimit),
		"  CONT      since the advice was computed:   " + between(contentLimit),
		"  MKT       since the newest market input:   " + between(marketLimit),
		"  POS       since the newest position input: " + between(positionLimit),
		"  STATE     of the inputs, as published; EXPIRED: nobody renews the proposal",
		"  ~         the symbol rests on a synthetic, replayed or demo source",
	}
}
