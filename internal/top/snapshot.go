package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"quantumharvest/internal/store"
)

// plainWidth is what a table needs that is read by a program or kept in a file.
const plainWidth = 130

// Snapshot reads the store once and writes what it holds to o.Out: a plain table below lines that begin with #, or with
// asJSON one object a symbol, each on a line of its own. The error is that of the store or of the output.
func Snapshot(ctx context.Context, o Options, asJSON bool) error {
	if err := o.complete(); err != nil {
		return err
	}
	r := read(ctx, o)
	if r.err != nil {
		return r.err
	}
	p := newPicture(r, o.Symbols)
	write := writeTable
	if asJSON {
		write = writeJSON
	}
	if err := write(o, &p, r.end); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func writeTable(o Options, p *picture, now time.Time) error {
	var b strings.Builder
	comment := func(text string) { fmt.Fprintf(&b, "# %s\n", text) }
	server := p.serverNow(now)
	comment(strings.TrimSpace(clean(o.Header) + "  " + server.UTC().Format(time.RFC3339)))
	if text := p.notRealText(); text != "" {
		comment("NOT REAL: " + text)
	}
	if p.expectedErr != nil {
		comment("the expected symbols cannot be read: " + clean(p.expectedErr.Error()))
	}
	comment(p.countText() + "  redis " + roundTrip(p.rtt))
	m := model{style: newPalette()}
	for i := range m.style {
		m.style[i] = m.style[plain]
	}
	for _, w := range p.writers(now) {
		comment(m.writerText(w, true))
	}
	rows := p.shown(bySymbol, "", now)
	list := columns(plainWidth, rows)
	b.WriteString(strings.TrimRight(headingLine(list), " ") + "\n")
	for _, row := range rows {
		line := rowLine(list, row, server, 1<<10, func(_ *column, _ cell, text string) string { return text })
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(o.Out, b.String())
	return err
}

// object is one symbol as JSON. What is not known is left out.
type object struct {
	Symbol   string `json:"symbol"`
	Expected bool   `json:"expected"`
	Found    bool   `json:"found"`
	Status   status `json:"status"`
	Error    string `json:"error,omitempty"`
	// The ages are seconds on the clock of the server.
	HeartbeatAge *float64 `json:"heartbeat_age_sec,omitempty"`
	ContentAge   *float64 `json:"content_age_sec,omitempty"`
	MarketAge    *float64 `json:"market_input_age_sec,omitempty"`
	PositionAge  *float64 `json:"position_input_age_sec,omitempty"`
	ValidFor     *float64 `json:"valid_for_sec,omitempty"`
	NotReal      []string `json:"not_real,omitempty"`
	// Fields are those of the wire contract, as text; one that could not be read is in Problems instead.
	Fields   map[string]string `json:"fields,omitempty"`
	Problems []problem         `json:"problems,omitempty"`
}

type problem struct {
	Field string            `json:"field"`
	Kind  store.ProblemKind `json:"kind"`
	Value string            `json:"value,omitempty"`
}

func writeJSON(o Options, p *picture, now time.Time) error {
	enc := json.NewEncoder(o.Out)
	server := p.serverNow(now)
	for _, r := range p.shown(bySymbol, "", now) {
		if err := enc.Encode(r.object(server)); err != nil {
			return err
		}
	}
	return nil
}

func (r *row) object(server time.Time) object {
	out := object{Symbol: string(r.symbol), Expected: r.expected, Found: r.entry.Found, Status: r.status(server)}
	if r.entry.Err != nil {
		out.Error = r.entry.Err.Error()
	}
	if !r.entry.Found {
		return out
	}
	pr := &r.entry.Proposal
	age := func(at time.Time) *float64 {
		if at.IsZero() {
			return nil
		}
		sec := server.Sub(at).Round(time.Millisecond).Seconds()
		return &sec
	}
	out.HeartbeatAge, out.ContentAge = age(pr.LastUpdate), age(pr.ComputedAt)
	out.MarketAge, out.PositionAge = age(pr.MarketAt), age(pr.PositionAt)
	if left := age(pr.ValidUntil); left != nil {
		*left = -*left
		out.ValidFor = left
	}
	out.NotReal = notReal(pr)
	out.Fields = map[string]string{}
	for _, f := range r.wire() {
		if f.problem != "" {
			out.Problems = append(out.Problems, problem{f.name, f.problem, f.text})
		} else {
			out.Fields[f.name] = f.text
		}
	}
	return out
}
