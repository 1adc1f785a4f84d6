package position

import (
	"testing"
	"time"
)

func TestAdoptContinuesWhatAnotherWriterKnew(t *testing.T) {
	opened := at(0)
	known := func(change func(*Position)) Position {
		p := Position{Symbol: "BTCUSDT", Side: Long, Entry: 100, Episode: "theirs", OpenedAt: opened, Peak: 130, Trough: 90}
		if change != nil {
			change(&p)
		}
		return p
	}
	for name, c := range map[string]struct {
		p    Position
		want bool
	}{
		"the same":               {known(nil), true},
		"opened a moment before": {known(func(p *Position) { p.OpenedAt = opened.Add(-30 * time.Second) }), true},
		"opening not known":      {known(func(p *Position) { p.OpenedAt = time.Time{} }), true},
		"the other side":         {known(func(p *Position) { p.Side = Short }), false},
		"opened long before":     {known(func(p *Position) { p.OpenedAt = opened.Add(-2 * time.Minute) }), false},
		"without a name":         {known(func(p *Position) { p.Episode = "" }), false},
		"of another symbol":      {known(func(p *Position) { p.Symbol = "ETHUSDT" }), false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.read(0, long("BTCUSDT", 100))
			before := d.get("BTCUSDT")
			if got := d.book.Adopt(c.p); got != c.want {
				t.Fatalf("adopted: %v", got)
			}
			after := d.get("BTCUSDT")
			switch {
			case !c.want && after != before:
				t.Errorf("refused, and changed all the same: %+v", after)
			case c.want && (after.Episode != "theirs" || after.Peak != 130 || after.Trough != 90):
				t.Errorf("adopted: %+v", after)
			case c.want && !c.p.OpenedAt.IsZero() && after.OpenedAt.After(c.p.OpenedAt):
				t.Errorf("opened %v, they knew %v", after.OpenedAt, c.p.OpenedAt)
			}
			d.want(d.read(1, long("BTCUSDT", 100)))
		})
	}
}

func TestAdoptRefusesWhatThisBookSawEnd(t *testing.T) {
	d := newDesk(t)
	d.snap.Alive = true
	d.read(0, long("BTCUSDT", 100))
	first := d.get("BTCUSDT")
	d.read(1)
	d.read(2)
	d.read(3, long("BTCUSDT", 100))
	if d.book.Ended("BTCUSDT") != first.Episode {
		t.Fatalf("ended %q instead of %q", d.book.Ended("BTCUSDT"), first.Episode)
	}
	if d.book.Adopt(first) {
		t.Error("an episode that ended here was taken for the one that is open")
	}
	if d.book.Ended("NEVERUSDT") != "" {
		t.Error("a symbol that was never seen has ended")
	}
}

func TestWhatSomebodyElseSawEndIsOpenedAnewWhereItIsThere(t *testing.T) {
	d := newDesk(t)
	rec := long("BTCUSDT", 100)
	rec.OpenedAt = at(-60)
	d.read(0, rec)
	first := d.get("BTCUSDT").Episode
	d.book.End("BTCUSDT")
	if _, open := d.book.Get("BTCUSDT"); open {
		t.Fatal("it is still open")
	}
	d.book.End("BTCUSDT")
	d.book.End("NEVERUSDT")
	d.want(d.read(1, rec), "BTCUSDT opened seen")
	if got := d.get("BTCUSDT").Episode; got != first+".2" {
		t.Errorf("episode %q after %q", got, first)
	}
}

func TestRestoreAfterAnEndIsAPositionUntilItsSourceLacksIt(t *testing.T) {
	d := newDesk(t)
	d.snap.Alive = true
	d.read(0, long("BTCUSDT", 100))
	d.read(1)
	d.read(2)
	d.book.Restore(Position{Symbol: "BTCUSDT", Side: Long, Entry: 100, Episode: "theirs", Source: "redis_hash"})
	if d.get("BTCUSDT").Episode != "theirs" {
		t.Fatal("it was not put back")
	}
	d.want(d.read(3))
	d.want(d.read(4), "BTCUSDT closed absent")
}

func TestForgetLeavesNoTrace(t *testing.T) {
	d := newDesk(t)
	d.snap.Alive = true
	d.read(0, long("BTCUSDT", 100))
	first := d.get("BTCUSDT").Episode
	d.read(1)
	d.read(2)
	d.read(3, long("BTCUSDT", 100))
	d.book.Forget("BTCUSDT")
	if _, open := d.book.Get("BTCUSDT"); open || d.book.Ended("BTCUSDT") != first {
		t.Fatalf("open %v, ended %q instead of %q", open, d.book.Ended("BTCUSDT"), first)
	}
	d.book.Restore(Position{Symbol: "BTCUSDT", Side: Long, Entry: 100, Episode: "remembered", Source: "redis_hash"})
	d.want(d.read(4, long("BTCUSDT", 100)), "BTCUSDT updated confirmed")
	if got := d.get("BTCUSDT").Episode; got != "remembered" {
		t.Errorf("episode %q", got)
	}
}
