package position

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var t0 = time.Unix(1_770_000_000, 0).UTC()

func at(sec float64) time.Time { return t0.Add(time.Duration(sec * float64(time.Second))) }

// desk drives a book through one source.
type desk struct {
	t    *testing.T
	book *Book
	snap Snapshot // template
}

func newDesk(t *testing.T) *desk {
	return &desk{t: t, book: NewBook(), snap: Snapshot{Source: "redis_hash", Instance: "run-1", Complete: true}}
}

func (d *desk) read(sec float64, records ...Record) []Change {
	snap := d.snap
	snap.At, snap.Records = at(sec), records
	return d.book.Observe(snap, snap.At)
}

func (d *desk) get(sym Symbol) Position {
	d.t.Helper()
	p, ok := d.book.Get(sym)
	if !ok {
		d.t.Fatalf("%s is not open", sym)
	}
	return p
}

func (d *desk) want(got []Change, want ...string) {
	d.t.Helper()
	var have []string
	for _, c := range got {
		have = append(have, string(c.Symbol)+" "+string(c.Kind)+" "+string(c.Reason))
	}
	if diff := cmp.Diff(want, have, cmpopts.EquateEmpty()); diff != "" {
		d.t.Fatalf("changes (-want +got):\n%s", diff)
	}
}

func long(sym Symbol, entry float64) Record { return Record{Symbol: sym, Side: Long, Entry: entry} }

func with(r Record, change func(*Record)) Record {
	change(&r)
	return r
}

func aged(r Record, sec float64) Record {
	r.Age, r.HasAge = time.Duration(sec*float64(time.Second)), true
	return r
}

func TestFlatNeedsEvidence(t *testing.T) {
	btc, eth := long("BTCUSDT", 100), long("ETHUSDT", 50)
	t.Run("absent twice beside others", func(t *testing.T) {
		d := newDesk(t)
		d.want(d.read(0, btc, eth), "BTCUSDT opened seen", "ETHUSDT opened seen")
		d.want(d.read(1, btc))
		c := d.read(2, btc)
		d.want(c, "ETHUSDT closed absent")
		if c[0].Before.Episode != "ETHUSDT-L-1770000000" || c[0].After != (Position{}) {
			t.Errorf("closing change is %+v", c[0])
		}
		d.want(d.read(3, btc))
		if len(d.book.open) != 1 {
			t.Errorf("%d positions are open", len(d.book.open))
		}
	})
	t.Run("not in a row", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		for i := range 10 {
			d.want(d.read(float64(2*i+1), btc))
			d.want(d.read(float64(2*i+2), btc, eth))
		}
	})
	t.Run("an incomplete reading between breaks the row", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.read(1, btc)
		d.snap.Complete = false
		d.want(d.read(2, btc))
		d.snap.Complete = true
		d.want(d.read(3, btc))
		d.want(d.read(4, btc), "ETHUSDT closed absent")
	})
	t.Run("all vanish at once", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		for i := range 100 {
			d.want(d.read(float64(i + 1)))
		}
		if got := d.get("BTCUSDT").UpdatedAt; !got.Equal(at(0)) {
			t.Errorf("evidence moved to %v without any", got)
		}
	})
	t.Run("all vanish and return one by one", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.read(1)
		for i := range 14 {
			d.want(d.read(float64(i+2), btc))
		}
		d.want(d.read(16, btc, eth))
		d.want(d.read(17, btc))
		d.want(d.read(18, btc), "ETHUSDT closed absent")
	})
	t.Run("all vanish and one stays away", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.read(1)
		d.want(d.read(2, btc))
		d.want(d.read(17, btc))
		d.want(d.read(18, btc), "ETHUSDT closed absent")
	})
	t.Run("empty but alive", func(t *testing.T) {
		d := newDesk(t)
		d.snap.Alive = true
		d.read(0, btc)
		d.want(d.read(1))
		d.want(d.read(2), "BTCUSDT closed absent")
	})
	t.Run("refused is not absent", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.snap.Refused = []Symbol{"ETHUSDT"}
		for i := range 10 {
			d.want(d.read(float64(i+1), btc))
		}
		if got := d.get("ETHUSDT").UpdatedAt; !got.Equal(at(0)) {
			t.Errorf("a refused record moved the evidence to %v", got)
		}
		d.snap.Refused = nil
		d.want(d.read(11, btc))
		d.want(d.read(12, btc), "ETHUSDT closed absent")
	})
	t.Run("lost is not absent, and settles when it can be looked for again", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.want(d.read(1, btc))
		d.snap.Lost = []Symbol{"ETHUSDT"}
		for i := range 60 {
			d.want(d.read(float64(i+2), btc))
		}
		if got := d.get("ETHUSDT").UpdatedAt; !got.Equal(at(0)) {
			t.Errorf("a position that is out of sight moved the evidence to %v", got)
		}
		d.snap.Lost = nil
		for i := range 15 {
			d.want(d.read(float64(i+62), btc))
		}
		d.want(d.read(77, btc))
		d.want(d.read(78, btc), "ETHUSDT closed absent")
	})
	t.Run("lost and back", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.snap.Lost = []Symbol{"ETHUSDT"}
		d.want(d.read(1, btc))
		d.snap.Lost = nil
		d.want(d.read(2, btc, eth))
		d.want(d.read(3, btc))
		d.want(d.read(4, btc), "ETHUSDT closed absent")
	})
	t.Run("a lost neighbour is no sign of life", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.snap.Lost = []Symbol{"ETHUSDT"}
		for i := range 60 {
			d.want(d.read(float64(i + 1)))
		}
	})
	t.Run("a refused neighbour shows that the source lives", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc)
		d.snap.Refused = []Symbol{"ETHUSDT"}
		d.want(d.read(1))
		d.want(d.read(2), "BTCUSDT closed absent")
	})
	t.Run("another incarnation", func(t *testing.T) {
		d := newDesk(t)
		d.snap.Alive = true
		d.read(0, btc, eth)
		d.want(d.read(1, btc))
		d.snap.Instance = "run-2"
		d.want(d.read(2, btc)) // would have been the second absence
		d.want(d.read(3, btc))
		d.want(d.read(17, btc)) // still settling
		d.want(d.read(18, btc))
		d.want(d.read(19, btc), "ETHUSDT closed absent")
	})
	t.Run("one reading delivered twice", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc, eth)
		d.want(d.read(1, btc))
		d.want(d.read(1, btc))
		d.want(d.read(2, btc))
		d.want(d.read(3, btc), "ETHUSDT closed absent")
	})
	t.Run("quantity zero", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, func(r *Record) { r.Quantity, r.HasQuantity = 2, true }))
		d.want(d.read(1, Record{Symbol: "BTCUSDT", HasQuantity: true}), "BTCUSDT closed quantity_zero")
		d.want(d.read(2, Record{Symbol: "BTCUSDT", HasQuantity: true}))
		c := d.read(70, btc)
		d.want(c, "BTCUSDT opened seen")
		if c[0].After.Episode != "BTCUSDT-L-1770000070" {
			t.Errorf("reopened as %s", c[0].After.Episode)
		}
	})
	t.Run("close event", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc)
		d.want(d.read(1, Record{Symbol: "BTCUSDT", Closed: true}), "BTCUSDT closed close_event")
	})
	t.Run("clock steps back", func(t *testing.T) {
		d := newDesk(t)
		d.read(3600, btc, eth)
		d.want(d.read(0, btc))
		if got := d.get("BTCUSDT").UpdatedAt; !got.Equal(at(0)) {
			t.Errorf("evidence stays in the future: %v", got)
		}
		d.want(d.read(1, btc))
		d.want(d.read(2, btc), "ETHUSDT closed absent")
	})
}

func TestEpisode(t *testing.T) {
	opened := func(sec float64) func(*Record) { return func(r *Record) { r.OpenedAt = at(sec) } }
	btc := long("BTCUSDT", 100)
	for _, tc := range []struct {
		name    string
		first   Record
		then    Record
		seconds float64 // between the two
		want    []string
		episode string
	}{
		{"reported opening", with(btc, opened(-500)), with(btc, opened(-500)), 1, nil, "BTCUSDT-L-1769999500"},
		{"opening moves by a minute", with(btc, opened(-500)), with(btc, opened(-440)), 1, nil, "BTCUSDT-L-1769999500"},
		{"opening moves by more", with(btc, opened(-500)), with(btc, opened(-439)), 1, []string{"BTCUSDT renewed opened_later"}, "BTCUSDT-L-1769999561"},
		{"opening corrected backwards", with(btc, opened(-500)), with(btc, opened(-9000)), 1, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1769999500"},
		{"scaling in", with(btc, opened(-500)), with(long("BTCUSDT", 103), opened(-500)), 1, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1769999500"},
		{"side flips", with(btc, opened(-500)), with(Record{Symbol: "BTCUSDT", Side: Short, Entry: 100}, opened(5)), 10, []string{"BTCUSDT flipped side"}, "BTCUSDT-S-1770000005"},
		{"side flips, old date", with(btc, opened(-500)), with(Record{Symbol: "BTCUSDT", Side: Short, Entry: 100}, opened(-500)), 10, []string{"BTCUSDT flipped side"}, "BTCUSDT-S-1770000010"},
		{"by age", aged(btc, 3600), aged(btc, 3610), 10, nil, "BTCUSDT-L-1769996400"},
		{"static age", aged(btc, 3600), aged(btc, 3600), 86400, nil, "BTCUSDT-L-1769996400"},
		{"static age, scaling in", aged(btc, 3600), aged(long("BTCUSDT", 103), 3600), 86400, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1769996400"},
		{"age fell", aged(btc, 3600), aged(btc, 5), 10, []string{"BTCUSDT renewed younger"}, "BTCUSDT-L-1770000005"},
		{"age fell a little", aged(btc, 3600), aged(btc, 3560), 10, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1769996400"},
		{"age fell behind, other entry", aged(btc, 30), aged(long("BTCUSDT", 103), 100), 600, []string{"BTCUSDT renewed younger"}, "BTCUSDT-L-1770000500"},
		{"age fell behind, same entry", aged(btc, 30), aged(btc, 100), 600, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1769999970"},
		{"nothing reported", btc, long("BTCUSDT", 103), 86400, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1770000000"},
		{"nothing, then an opening", btc, with(btc, opened(-100)), 1, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1770000000"},
		{"nothing, then an age", btc, aged(btc, 100), 1, []string{"BTCUSDT updated content"}, "BTCUSDT-L-1770000000"},
		{"age as of the record's own time", with(aged(btc, 100), func(r *Record) { r.UpdatedAt = at(-50) }), btc, 1, []string{}, "BTCUSDT-L-1769999850"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDesk(t)
			d.want(d.read(0, tc.first), "BTCUSDT opened seen")
			d.want(d.read(tc.seconds, tc.then), tc.want...)
			if got := d.get("BTCUSDT").Episode; got != tc.episode {
				t.Errorf("episode is %s, want %s", got, tc.episode)
			}
		})
	}

	t.Run("many small steps forward add up", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, opened(-500)))
		d.want(d.read(1, with(btc, opened(-460))))
		d.want(d.read(2, with(btc, opened(-420))), "BTCUSDT renewed opened_later")
	})
	t.Run("a correction taken back", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, opened(-100)))
		d.want(d.read(1, with(btc, opened(-500))), "BTCUSDT updated content")
		d.want(d.read(2, with(btc, opened(-100))))
	})
	t.Run("a flip dated late is one flip", func(t *testing.T) {
		d := newDesk(t)
		short := Record{Symbol: "BTCUSDT", Side: Short, Entry: 100}
		d.read(0, with(btc, opened(-500)))
		d.want(d.read(10, with(short, opened(-500))), "BTCUSDT flipped side")
		d.want(d.read(11, with(short, opened(-500))))
		d.want(d.read(12, with(short, opened(9))), "BTCUSDT updated content")
	})
	t.Run("restored", func(t *testing.T) {
		stored := Position{
			Symbol: "BTCUSDT", Side: Long, Episode: "BTCUSDT-L-1", Entry: 100, Peak: 130, Trough: 90,
			OpenedAt: at(-40000), UpdatedAt: at(-100), Source: "redis_hash",
		}
		for _, tc := range []struct {
			name    string
			record  Record
			want    string
			episode string
			peak    float64
		}{
			{"same opening", with(btc, opened(-40000)), "BTCUSDT updated confirmed", "BTCUSDT-L-1", 130},
			{"no opening", btc, "BTCUSDT updated confirmed", "BTCUSDT-L-1", 130},
			{"true age", aged(btc, 40000), "BTCUSDT updated confirmed", "BTCUSDT-L-1", 130},
			{"static age", aged(btc, 3600), "BTCUSDT updated confirmed", "BTCUSDT-L-1", 130},
			{"younger with another entry", aged(long("BTCUSDT", 103), 3600), "BTCUSDT renewed younger", "BTCUSDT-L-1769996400", 103},
			{"opened later", with(btc, opened(-50)), "BTCUSDT renewed opened_later", "BTCUSDT-L-1769999950", 100},
			{"other side", with(btc, func(r *Record) { r.Side = Short }), "BTCUSDT flipped side", "BTCUSDT-S-1770000000", 100},
		} {
			t.Run(tc.name, func(t *testing.T) {
				d := newDesk(t)
				d.book.Restore(stored)
				c := d.read(0, tc.record)
				d.want(c, tc.want)
				if c[0].Before.Episode != "BTCUSDT-L-1" {
					t.Errorf("before is %+v", c[0].Before)
				}
				p := d.get("BTCUSDT")
				if p.Episode != tc.episode || p.Peak != tc.peak {
					t.Errorf("episode %s, peak %v; want %s, %v", p.Episode, p.Peak, tc.episode, tc.peak)
				}
				d.want(d.read(86400, tc.record))
			})
		}
		t.Run("gone", func(t *testing.T) {
			d := newDesk(t)
			d.book.Restore(stored)
			eth := long("ETHUSDT", 50)
			d.want(d.read(0, eth), "ETHUSDT opened seen")
			d.want(d.read(1, eth))
			d.want(d.read(2, eth), "BTCUSDT closed absent")
		})
		t.Run("gone, from a source that is no more", func(t *testing.T) {
			for _, source := range []string{"", "demo"} {
				d := newDesk(t)
				p := stored
				p.Source = source
				d.book.Restore(p)
				closed := -1
				for i := range 60 {
					if c := d.read(float64(i), long("ETHUSDT", 50)); len(c) > 0 && c[0].Kind == Closed {
						closed = i
					}
				}
				if want := map[string]int{"": 2, "demo": 32}[source]; closed != want {
					t.Errorf("source %q: closed at %d, want %d", source, closed, want)
				}
			}
		})
		t.Run("by another source", func(t *testing.T) {
			d := newDesk(t)
			p := stored
			p.Source = "demo"
			d.book.Restore(p)
			d.want(d.read(0, btc), "BTCUSDT updated confirmed")
			if got := d.get("BTCUSDT"); got.Source != "redis_hash" || got.Episode != "BTCUSDT-L-1" {
				t.Errorf("got %+v", got)
			}
		})
		t.Run("from an earlier run of a replay", func(t *testing.T) {
			d := newDesk(t)
			d.book.Restore(stored)
			d.snap.Strategy = true
			d.want(d.read(0, with(btc, opened(-90000))), "BTCUSDT renewed other_clock")
			if p := d.get("BTCUSDT"); p.Peak != 100 || !p.OpenedAt.Equal(at(-90000)) {
				t.Errorf("got %+v", p)
			}
		})
		t.Run("too late or unusable", func(t *testing.T) {
			d := newDesk(t)
			d.read(0, with(btc, opened(-40000)))
			d.book.Restore(stored)
			d.book.Restore(Position{Symbol: "ETHUSDT", Side: Long})
			d.book.Restore(Position{Symbol: "ETHUSDT", Entry: 1})
			if p := d.get("BTCUSDT"); p.Episode == "BTCUSDT-L-1" || len(d.book.open) != 1 {
				t.Errorf("got %+v of %d", p, len(d.book.open))
			}
		})
	})
}

func TestPrices(t *testing.T) {
	btc := long("BTCUSDT", 100)
	current := func(v float64) func(*Record) { return func(r *Record) { r.Current = v } }
	type extremes struct{ Current, Peak, Trough float64 }
	have := func(d *desk) extremes {
		p := d.get("BTCUSDT")
		return extremes{p.Current, p.Peak, p.Trough}
	}
	check := func(d *desk, want extremes) {
		d.t.Helper()
		if diff := cmp.Diff(want, have(d)); diff != "" {
			d.t.Fatalf("(-want +got):\n%s", diff)
		}
	}
	t.Run("a static record is overtaken", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, current(101)))
		check(d, extremes{101, 101, 100})
		d.book.Price("BTCUSDT", 105, at(0.5))
		d.want(d.read(1, with(btc, current(101))))
		check(d, extremes{105, 105, 100})
		d.want(d.read(2, with(btc, current(99))), "BTCUSDT updated content")
		check(d, extremes{99, 105, 99})
	})
	t.Run("a dated record is as old as it says", func(t *testing.T) {
		d := newDesk(t)
		dated := with(with(btc, current(101)), func(r *Record) { r.UpdatedAt, r.OpenedAt = at(-10), at(-100) })
		d.book.Price("BTCUSDT", 105, at(-5))
		d.read(0, dated)
		check(d, extremes{105, 105, 100})
		d.read(1, with(dated, func(r *Record) { r.Current, r.UpdatedAt = 90, at(1) }))
		check(d, extremes{90, 105, 90})
	})
	t.Run("prices out of order", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc)
		check(d, extremes{0, 100, 100})
		d.book.Price("BTCUSDT", 104, at(3))
		d.book.Price("BTCUSDT", 109, at(2))
		check(d, extremes{104, 109, 100})
	})
	t.Run("a price from before the opening is no extreme", func(t *testing.T) {
		for _, strategy := range []bool{false, true} {
			d := newDesk(t)
			d.snap.Strategy = strategy
			d.book.Price("BTCUSDT", 120, at(-1))
			d.read(0, btc)
			check(d, extremes{120, 100, 100})
			d.book.Price("BTCUSDT", 101, at(1))
			check(d, extremes{101, 101, 100})
		}
	})
	t.Run("a lower reported peak loosens nothing", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, func(r *Record) { r.Peak, r.Trough = 120, 80 }))
		d.read(1, with(btc, func(r *Record) { r.Peak, r.Trough = 110, 90 }))
		check(d, extremes{0, 120, 80})
	})
	t.Run("a new episode begins anew", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, with(btc, func(r *Record) { r.Peak, r.Trough = 120, 80 }))
		d.book.Price("BTCUSDT", 130, at(1))
		d.read(2, Record{Symbol: "BTCUSDT", Side: Short, Entry: 125})
		check(d, extremes{130, 125, 125})
	})
	t.Run("candles", func(t *testing.T) {
		d := newDesk(t)
		d.book.Range("BTCUSDT", 200, 10, at(1), at(60)) // no position yet
		d.read(30, btc)
		d.book.Range("BTCUSDT", 200, 10, at(0), at(60)) // opened before
		check(d, extremes{0, 100, 100})
		d.book.Range("BTCUSDT", 110, 95, at(60), at(120))
		check(d, extremes{0, 110, 95})
		d.book.Range("BTCUSDT", 200, 10, time.Time{}, at(120))
		d.book.Range("BTCUSDT", math.Inf(1), 10, at(60), at(120))
		check(d, extremes{0, 110, 95})
	})
	t.Run("no price", func(t *testing.T) {
		d := newDesk(t)
		d.read(0, btc)
		for _, v := range []float64{0, -1, math.NaN(), math.Inf(1)} {
			d.book.Price("BTCUSDT", v, at(1))
		}
		check(d, extremes{0, 100, 100})
	})
	t.Run("a restored position goes on", func(t *testing.T) {
		d := newDesk(t)
		d.book.Price("BTCUSDT", 140, at(-1))
		d.book.Restore(Position{Symbol: "BTCUSDT", Side: Long, Entry: 100, Peak: 130, Trough: math.NaN(), OpenedAt: at(-500)})
		check(d, extremes{140, 140, 100})
		if got := d.get("BTCUSDT").Episode; got != "BTCUSDT-L-1769999500" {
			t.Errorf("episode is %s", got)
		}
	})
}

func TestEvidenceTime(t *testing.T) {
	stamped := func(sec float64) Record {
		return with(long("BTCUSDT", 100), func(r *Record) { r.UpdatedAt = at(sec) })
	}
	for _, tc := range []struct {
		name     string
		snap     Snapshot
		readings []Record
		want     []float64
	}{
		{"none: the reading", Snapshot{}, []Record{long("BTCUSDT", 100), long("BTCUSDT", 100)}, []float64{0, 1}},
		{"reported", Snapshot{}, []Record{stamped(-7), stamped(-7), stamped(1.5)}, []float64{-7, -7, 1.5}},
		{"never backwards", Snapshot{}, []Record{stamped(-7), stamped(-9)}, []float64{-7, -7}},
		{"from the future, moving", Snapshot{}, []Record{stamped(120), stamped(121), stamped(122)}, []float64{0, 1, 2}},
		{"from the future, stopped", Snapshot{}, []Record{stamped(120), stamped(120), stamped(120)}, []float64{0, 0, 0}},
		{"strategy time is no evidence", Snapshot{Strategy: true}, []Record{stamped(-7), stamped(-7)}, []float64{0, 1}},
		{"an event stands", Snapshot{Standing: true}, []Record{stamped(-7), stamped(-7)}, []float64{0, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDesk(t)
			d.snap = tc.snap
			for i, r := range tc.readings {
				d.read(float64(i), r)
				if got := d.get("BTCUSDT").UpdatedAt; !got.Equal(at(tc.want[i])) {
					t.Errorf("reading %d: evidence is %v, want %v", i, got, at(tc.want[i]))
				}
			}
		})
	}
}

func TestProfitPerUnit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		record Record
		want   float64
		has    bool
	}{
		{"none", Record{}, 0, false},
		{"per unit", Record{PnL: 10, HasPnL: true}, 10, true},
		{"of the position", Record{PnL: 10, HasPnL: true, Quantity: 4, HasQuantity: true}, 2.5, true},
		{"of next to nothing", Record{PnL: 1e10, HasPnL: true, Quantity: 1e-308, HasQuantity: true}, 0, false},
	} {
		d := newDesk(t)
		r := tc.record
		r.Symbol, r.Side, r.Entry = "BTCUSDT", Short, 100
		d.read(0, r)
		if p := d.get("BTCUSDT"); p.ReportedPnL != tc.want || p.HasPnL != tc.has {
			t.Errorf("%s: %v, %v", tc.name, p.ReportedPnL, p.HasPnL)
		}
	}
}

func TestAge(t *testing.T) {
	d := newDesk(t)
	d.read(0, aged(long("A", 1), 100), with(long("B", 1), func(r *Record) { r.OpenedAt = at(500) }))
	d.read(10, aged(long("A", 1), 100), with(long("B", 1), func(r *Record) { r.OpenedAt = at(500) }))
	strategy := at(-1e6)
	for sym, want := range map[Symbol]time.Duration{"A": 110 * time.Second, "B": 0, "C": 0} {
		if got := d.book.Age(sym, at(10), strategy); got != want {
			t.Errorf("%s: age %v, want %v", sym, got, want)
		}
	}
	s := newDesk(t)
	s.snap.Strategy = true
	snap := s.snap
	snap.At, snap.Records = at(0), []Record{with(long("A", 1), func(r *Record) { r.OpenedAt = strategy.Add(-time.Hour) })}
	s.book.Observe(snap, strategy)
	if got := s.book.Age("A", at(10), strategy.Add(10*time.Minute)); got != 70*time.Minute {
		t.Errorf("strategy age is %v", got)
	}
}
