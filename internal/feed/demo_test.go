package feed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
)

// demoClock runs at a multiple of wall time from its start.
type demoClock struct {
	wall, strategy time.Time
	speed          int
}

func (c demoClock) Strategy(wall time.Time) time.Time {
	return c.strategy.Add(wall.Sub(c.wall) * time.Duration(c.speed))
}

var demoStart = time.Date(2025, time.May, 4, 12, 0, 0, 0, time.UTC)

func demoHistory(sym position.Symbol, n int) History {
	h := History{Symbol: sym}
	for i := range n {
		price := 100 + float64(i)/10
		h.Candles = append(h.Candles, Candle{
			Symbol: sym, OpenTime: demoStart.Add(time.Duration(i-n) * time.Minute), Interval: time.Minute,
			Open: price, High: price + 1, Low: price - 1, Close: price, Closed: true,
		})
	}
	return h
}

// demoRun runs a demonstration for a while and returns its snapshots and what a book makes of them.
func demoRun(t *testing.T, seed uint64, speed int, long time.Duration, events ...Event) (snaps []Snapshot, changes []position.Change) {
	synctest.Test(t, func(t *testing.T) {
		clock := demoClock{time.Now(), demoStart, speed}
		demo := NewDemo(DemoOptions{Symbols: []position.Symbol{"BTCUSDT", "ETHUSDT"}, Seed: seed, Clock: clock})
		ctx, cancel := context.WithCancel(t.Context())
		book := position.NewBook()
		for _, ev := range events {
			demo.Watch(ev)
		}
		done := make(chan error, 1)
		go func() {
			done <- demo.Run(ctx, func(ev Event) {
				snap := ev.(Snapshot)
				snaps = append(snaps, snap)
				changes = append(changes, book.Observe(snap.Snapshot, clock.Strategy(snap.At))...)
			})
		}()
		time.Sleep(long)
		cancel()
		if err := <-done; err != nil || demo.Name() != "demo" {
			t.Errorf("%s: %v", demo.Name(), err)
		}
	})
	return snaps, changes
}

func TestDemoOpensInThePast(t *testing.T) {
	snaps, changes := demoRun(t, 1, 1, 10*time.Second, demoHistory("BTCUSDT", 300), demoHistory("ETHUSDT", 300))
	if len(changes) != 2 || len(snaps) < 9 {
		t.Fatalf("%d changes, %d snapshots", len(changes), len(snaps))
	}
	sides := map[position.Side]bool{}
	for _, c := range changes {
		p := c.After
		age := demoStart.Sub(p.OpenedAt)
		if c.Kind != position.Opened || age <= 0 || age > (demoBack+1)*time.Minute || p.Peak < p.Entry+1-1e-9 || p.Trough > p.Entry || p.Quantity <= 0 {
			t.Errorf("%s: age %v, %+v", c.Kind, age, p)
		}
		// The close of the candle that ended when the position was opened.
		if want := 100 + (300-age.Minutes()-1)/10; p.Entry < want-1e-9 || p.Entry > want+1e-9 {
			t.Errorf("entry %v, %v ago; want %v", p.Entry, age, want)
		}
		if !p.Strategy || p.Source != "demo" {
			t.Errorf("not labelled: %+v", p)
		}
		sides[p.Side] = true
	}
	if len(sides) != 2 {
		t.Error("only one side to see")
	}
	if s := snaps[0]; !s.Complete || !s.Alive || !s.Strategy || s.Source != "demo" {
		t.Errorf("snapshot %+v", s)
	}
}

func TestDemoLives(t *testing.T) {
	events := []Event{
		demoHistory("BTCUSDT", 300),
		Price{Symbol: "ETHUSDT", Price: 50},
		Candle{Symbol: "BTCUSDT", Close: 130},
		Price{Symbol: "OTHERUSDT", Price: 1},
		Refusal{},
	}
	_, changes := demoRun(t, 7, 600, 10*time.Minute, events...)
	open := map[position.Symbol]position.Position{}
	sides := map[position.Side]int{}
	closed := 0
	for _, c := range changes {
		switch c.Kind {
		case position.Opened:
			open[c.Symbol] = c.After
			sides[c.After.Side]++
		case position.Closed:
			if c.Reason != position.ReasonQuantityZero || open[c.Symbol].Episode != c.Before.Episode {
				t.Errorf("closed %+v", c)
			}
			closed++
		default:
			t.Errorf("unexpected %s of %s: %+v", c.Kind, c.Symbol, c)
		}
	}
	// A hundred hours of strategy time, in turns of one to six hours, for two symbols.
	if closed < 30 || closed > 200 || sides[position.Long] < 5 || sides[position.Short] < 5 {
		t.Errorf("%d closed, opened %v", closed, sides)
	}
	_, again := demoRun(t, 7, 600, 10*time.Minute, events...)
	if diff := cmp.Diff(demoIdentities(changes), demoIdentities(again)); diff != "" {
		t.Errorf("the same seed gave something else:\n%s", diff)
	}
	_, other := demoRun(t, 8, 600, 10*time.Minute, events...)
	if cmp.Equal(demoIdentities(changes), demoIdentities(other)) {
		t.Error("another seed gave the same")
	}
}

func demoIdentities(changes []position.Change) (ids []string) {
	for _, c := range changes {
		ids = append(ids, string(c.Kind)+" "+c.Before.Episode+c.After.Episode)
	}
	return ids
}

func TestDemoHoldsForALook(t *testing.T) {
	const turns = 10
	_, changes := demoRun(t, 3, 100_000, turns*(demoWallHold+demoPoll), Price{Symbol: "BTCUSDT", Price: 50})
	if n := len(changes); n < turns || n > 2*turns+1 {
		t.Errorf("%d changes: a position is held for a look and gone for one poll", n)
	}
}

// A first position does not wait for the next poll.
func TestDemoOpensWithTheFirstPrice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		demo := NewDemo(DemoOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		opened := map[position.Symbol]time.Duration{}
		done := make(chan error, 1)
		go func() {
			done <- demo.Run(ctx, func(ev Event) {
				for _, r := range ev.(Snapshot).Records {
					if _, known := opened[r.Symbol]; !known {
						opened[r.Symbol] = time.Since(start)
					}
				}
			})
		}()
		time.Sleep(300 * time.Millisecond)
		demo.Watch(demoHistory("BTCUSDT", 10))
		time.Sleep(200 * time.Millisecond)
		demo.Watch(Price{Symbol: "ETHUSDT", Price: 50})
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := map[position.Symbol]time.Duration{"BTCUSDT": 300 * time.Millisecond, "ETHUSDT": 500 * time.Millisecond}
		if diff := cmp.Diff(want, opened); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDemoNeedsAPrice(t *testing.T) {
	snaps, _ := demoRun(t, 1, 1, time.Minute)
	if len(snaps) != 0 {
		t.Errorf("made up without a market: %+v", snaps[0])
	}
}

func TestDemoFollowsTheMarket(t *testing.T) {
	demo := NewDemo(DemoOptions{Seed: 1})
	demo.Watch(Price{Symbol: "SOLUSDT", Price: 20})
	demo.Watch(Price{Symbol: "ADAUSDT", Price: 1e-9})
	snap, ok := demo.snapshot()
	if !ok || len(snap.Records) != 2 || snap.Records[0].Symbol != "ADAUSDT" || snap.Records[1].Quantity < 40 || snap.Records[1].Quantity > 60 {
		t.Errorf("got %+v", snap.Records)
	}
	for _, r := range snap.Records {
		checkRecord(t, r)
	}
}
