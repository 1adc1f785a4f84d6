package position

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// move is one call that a book may receive.
type move struct {
	Snap     *Snapshot
	Strategy time.Time
	Symbol   Symbol
	Price    float64
	Low      float64 // with a candle
	Open     time.Time
	At       time.Time
}

var propertySymbols = []Symbol{"A", "B", "C"}

func drawMoves(t *rapid.T) []move {
	price := rapid.Float64Range(1, 1000)
	wall := t0
	instance := 0
	var moves []move
	for i := range rapid.IntRange(1, 60).Draw(t, "moves") {
		wall = wall.Add(time.Duration(rapid.IntRange(-2000, 40000).Draw(t, "ms")) * time.Millisecond)
		name := fmt.Sprint("move ", i)
		m := move{Symbol: rapid.SampledFrom(propertySymbols).Draw(t, name), At: wall, Strategy: wall.Add(-1e6 * time.Second)}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			m.Price = price.Draw(t, "price")
		case 1:
			m.Price, m.Low = price.Draw(t, "high"), price.Draw(t, "low")
			m.Price, m.Low = max(m.Price, m.Low), min(m.Price, m.Low)
			m.Open = wall.Add(-time.Duration(rapid.IntRange(0, 600).Draw(t, "open")) * time.Second)
		default:
			if rapid.IntRange(0, 20).Draw(t, "restart") == 0 {
				instance++
			}
			snap := &Snapshot{
				Source:   rapid.SampledFrom([]string{"hash", "json"}).Draw(t, "source"),
				At:       wall,
				Instance: fmt.Sprint(instance),
				Complete: rapid.IntRange(0, 9).Draw(t, "complete") > 0,
				Alive:    rapid.Bool().Draw(t, "alive"),
			}
			for _, sym := range propertySymbols {
				switch rapid.IntRange(0, 9).Draw(t, "has "+string(sym)) {
				case 0, 1:
				case 2:
					snap.Lost = append(snap.Lost, sym)
				case 3:
					snap.Refused = append(snap.Refused, sym)
				case 4:
					snap.Records = append(snap.Records, Record{Symbol: sym, HasQuantity: true})
				default:
					snap.Records = append(snap.Records, drawRecord(t, sym, wall))
				}
			}
			m.Snap = snap
		}
		moves = append(moves, m)
	}
	return moves
}

func drawRecord(t *rapid.T, sym Symbol, wall time.Time) Record {
	price := rapid.Float64Range(1, 1000)
	r := Record{
		Symbol: sym,
		Side:   rapid.SampledFrom([]Side{Long, Long, Long, Short}).Draw(t, "side"),
		Entry:  rapid.SampledFrom([]float64{100, 101}).Draw(t, "entry"),
	}
	if rapid.Bool().Draw(t, "has current") {
		r.Current = price.Draw(t, "current")
	}
	if rapid.Bool().Draw(t, "has peak") {
		r.Peak = price.Draw(t, "peak")
	}
	switch rapid.IntRange(0, 2).Draw(t, "opening") {
	case 0:
		r.OpenedAt = t0.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "opened")) * time.Second)
	case 1:
		r.Age, r.HasAge = time.Duration(rapid.IntRange(0, 200).Draw(t, "age"))*time.Second, true
	}
	if rapid.Bool().Draw(t, "stamped") {
		r.UpdatedAt = wall.Add(time.Duration(rapid.IntRange(-60, 10).Draw(t, "stamp")) * time.Second)
	}
	return r
}

func (m move) play(b *Book) []Change {
	switch {
	case m.Snap != nil:
		return b.Observe(*m.Snap, m.Strategy)
	case m.Low > 0:
		b.Range(m.Symbol, m.Price, m.Low, m.Open, m.At)
	default:
		b.Price(m.Symbol, m.Price, m.At)
	}
	return nil
}

func (m move) mentions(sym Symbol) bool {
	if slices.Contains(m.Snap.Refused, sym) || slices.Contains(m.Snap.Lost, sym) {
		return true
	}
	for _, r := range m.Snap.Records {
		if r.Symbol == sym {
			return true
		}
	}
	return false
}

func open(b *Book) map[Symbol]Position {
	all := make(map[Symbol]Position)
	for _, s := range b.open {
		all[s.pos.Symbol] = s.pos
	}
	return all
}

func TestPropertyBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moves := drawMoves(t)
		b, twin := NewBook("hash"), NewBook("hash")
		if rapid.Bool().Draw(t, "restore") {
			p := Position{Symbol: "A", Side: Long, Episode: "kept", Entry: 100, Peak: 110, Trough: 95, OpenedAt: t0.Add(-90 * time.Second), Source: "json"}
			b.Restore(p)
			twin.Restore(p)
		}
		lacking := make(map[Symbol]int) // snapshots in a row, of the source in question, that lack the symbol
		for i, m := range moves {
			before := open(b)
			changes := m.play(b)
			if diff := cmp.Diff(changes, m.play(twin)); diff != "" {
				t.Fatalf("move %d: two books differ:\n%s", i, diff)
			}
			after := open(b)

			if m.Snap != nil {
				for sym, p := range before {
					if p.Source != m.Snap.Source {
						continue
					}
					if m.mentions(sym) || !m.Snap.Complete {
						lacking[sym] = 0
					} else {
						lacking[sym]++
					}
				}
			}
			expect := before
			for _, c := range changes {
				if c.Kind == Opened {
					if _, was := expect[c.Symbol]; was {
						t.Fatalf("move %d: opened what was open: %+v", i, c)
					}
				} else if was := expect[c.Symbol]; was != c.Before {
					t.Fatalf("move %d: before is %+v, was %+v", i, c.Before, was)
				}
				switch c.Kind {
				case Closed:
					checkClosed(t, i, m, c, lacking[c.Symbol])
					delete(expect, c.Symbol)
					lacking[c.Symbol] = 0
				case Flipped:
					if c.Before.Side == c.After.Side {
						t.Fatalf("move %d: flipped to the same side", i)
					}
				case Renewed, Updated:
					if c.Before.Side != c.After.Side {
						t.Fatalf("move %d: %s with another side", i, c.Kind)
					}
				}
				if (c.Kind == Flipped || c.Kind == Renewed) && c.Before.Episode == c.After.Episode {
					t.Fatalf("move %d: %s kept the episode %s", i, c.Kind, c.After.Episode)
				}
				if c.Kind == Updated && c.Before.Episode != c.After.Episode {
					t.Fatalf("move %d: an update changed the episode", i)
				}
				if c.Kind != Closed {
					expect[c.Symbol] = c.After
				}
			}
			for sym, p := range after {
				was, ok := expect[sym]
				if !ok {
					t.Fatalf("move %d: %s opened without a change", i, sym)
				}
				checkPosition(t, i, was, p, m, b)
			}
			if len(after) != len(expect) || len(b.open) != len(after) {
				t.Fatalf("move %d: %d positions are open, expected %d", i, len(after), len(expect))
			}
		}
	})
}

func checkClosed(t *rapid.T, i int, m move, c Change, lacking int) {
	switch c.Reason {
	case ReasonAbsent:
		if !m.Snap.Complete || m.mentions(c.Symbol) || (!m.Snap.Alive && len(m.Snap.Records)+len(m.Snap.Refused) == 0) {
			t.Fatalf("move %d: closed without evidence by %+v", i, *m.Snap)
		}
		if c.Before.Source == m.Snap.Source && lacking < absencesNeeded {
			t.Fatalf("move %d: closed after %d absences", i, lacking)
		}
	case ReasonQuantityZero:
		if !m.mentions(c.Symbol) {
			t.Fatalf("move %d: closed by a record that is not there", i)
		}
	default:
		t.Fatalf("move %d: closed for %q", i, c.Reason)
	}
}

// checkPosition compares a position with what it was before prices of the same move.
func checkPosition(t *rapid.T, i int, was, p Position, m move, b *Book) {
	if was.Episode == p.Episode && (p.Peak < was.Peak || p.Trough > was.Trough) {
		t.Fatalf("move %d: extremes narrowed from %v..%v to %v..%v", i, was.Trough, was.Peak, p.Trough, p.Peak)
	}
	if !(p.Trough <= p.Entry && p.Entry <= p.Peak) || p.Side.Sign() == 0 || p.Episode == "" || p.Source == "" {
		t.Fatalf("move %d: broken position %+v", i, p)
	}
	if age := b.Age(p.Symbol, m.At, m.Strategy); age < 0 {
		t.Fatalf("move %d: age %v", i, age)
	}
	if m.Snap != nil && p.Source == m.Snap.Source && m.mentions(p.Symbol) && p.UpdatedAt.After(m.At) && !was.UpdatedAt.Equal(p.UpdatedAt) {
		t.Fatalf("move %d: evidence from the future: %v", i, p.UpdatedAt)
	}
	if math.IsNaN(p.Current) || p.Current < 0 {
		t.Fatalf("move %d: current price %v", i, p.Current)
	}
}

// A book that is restored from another one's positions, as after a restart, goes on with the same episodes and
// extremes, as long as the sources report what they reported before.
func TestPropertyRestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		for _, sym := range propertySymbols {
			records = append(records, drawRecord(t, sym, t0))
		}
		b := NewBook()
		b.Observe(Snapshot{Source: "hash", At: t0, Complete: true, Records: records}, t0)
		b.Price("A", rapid.Float64Range(1, 1000).Draw(t, "price"), t0.Add(time.Hour))
		next := NewBook()
		for _, s := range b.open {
			next.Restore(s.pos)
		}
		away := t0.Add(time.Duration(rapid.IntRange(1, 1e6).Draw(t, "away")) * time.Second)
		for _, c := range next.Observe(Snapshot{Source: "hash", At: away, Complete: true, Records: records}, away) {
			if c.Kind != Updated || c.Before.Episode != c.After.Episode || c.Before.Peak != c.After.Peak || c.Before.Trough != c.After.Trough {
				t.Fatalf("restart changed %+v into %+v", c.Before, c.After)
			}
		}
	})
}

func TestPriceAllocates(t *testing.T) {
	b := NewBook()
	var records []Record
	for i := range 10_000 {
		records = append(records, Record{Symbol: Symbol(fmt.Sprintf("S%dUSDT", i)), Side: Long, Entry: 100})
	}
	snap := Snapshot{Source: "hash", At: t0, Complete: true, Records: records}
	if n := len(b.Observe(snap, t0)); n != len(records) {
		t.Fatalf("%d changes", n)
	}
	price := 100.0
	if n := testing.AllocsPerRun(1000, func() {
		price++
		b.Price("S77USDT", price, t0)
		b.Range("S77USDT", price, price, t0, t0)
	}); n != 0 {
		t.Errorf("a price allocates %v times", n)
	}
	if n := testing.AllocsPerRun(10, func() {
		snap.At = snap.At.Add(time.Second)
		b.Observe(snap, snap.At)
	}); n != 0 {
		t.Errorf("a snapshot without changes allocates %v times", n)
	}
}

func BenchmarkObserve10000(b *testing.B) {
	book := NewBook()
	var records []Record
	for i := range 10_000 {
		records = append(records, Record{Symbol: Symbol(fmt.Sprintf("S%dUSDT", i)), Side: Long, Entry: 100})
	}
	snap := Snapshot{Source: "hash", At: t0, Complete: true, Records: records}
	b.ReportAllocs()
	for b.Loop() {
		snap.At = snap.At.Add(time.Second)
		book.Observe(snap, snap.At)
	}
}
