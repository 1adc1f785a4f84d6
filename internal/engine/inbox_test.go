package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

func TestInboxKeepsTheNewestPriceAndEveryCandle(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	price := func(sym string, p float64, sec int) feed.Price {
		return feed.Price{Symbol: position.Symbol("S" + sym), Price: p, At: t0.Add(time.Duration(sec) * time.Second)}
	}
	span := func(p feed.Price, high, low float64) feed.Price {
		p.High, p.Low = high, low
		return p
	}
	open := func(bar int, last float64) feed.Candle {
		return feed.Candle{Symbol: "SA", OpenTime: t0.Add(time.Duration(bar) * time.Minute), Close: last}
	}
	closed := func(bar int, last float64) feed.Candle {
		c := open(bar, last)
		c.Closed = true
		return c
	}
	for name, tc := range map[string]struct {
		in     []feed.Event
		want   []feed.Event
		merged uint64
	}{
		"newest price of each symbol": {
			in:     []feed.Event{price("A", 1, 0), price("B", 5, 0), price("A", 2, 1), price("A", 3, 2)},
			want:   []feed.Event{span(price("A", 3, 2), 3, 1), price("B", 5, 0)},
			merged: 2,
		},
		"a late price does not turn the clock back": {
			in:     []feed.Event{price("A", 2, 5), price("A", 1, 1)},
			want:   []feed.Event{span(price("A", 2, 5), 2, 1)},
			merged: 1,
		},
		"revisions of one open candle": {
			in:     []feed.Event{open(1, 10), open(1, 11), open(1, 12)},
			want:   []feed.Event{open(1, 12)},
			merged: 2,
		},
		"open candles of two bars are two": {
			in:   []feed.Event{open(1, 10), open(2, 11)},
			want: []feed.Event{open(1, 10), open(2, 11)},
		},
		"a closed candle is never merged and ends its revisions": {
			in:   []feed.Event{open(1, 10), closed(1, 11), closed(2, 12), open(3, 13)},
			want: []feed.Event{open(1, 10), closed(1, 11), closed(2, 12), open(3, 13)},
		},
		"refusals are all kept": {
			in:   []feed.Event{feed.Refusal{Symbol: "SA"}, feed.Refusal{Symbol: "SA"}},
			want: []feed.Event{feed.Refusal{Symbol: "SA"}, feed.Refusal{Symbol: "SA"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newInbox()
			for _, ev := range tc.in {
				b.put(ev)
			}
			got, merged := b.take(nil)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if merged != tc.merged {
				t.Errorf("merged %d, want %d", merged, tc.merged)
			}
			select {
			case <-b.wake:
			default:
				t.Error("nobody was woken")
			}
			if rest, _ := b.take(nil); len(rest) != 0 {
				t.Errorf("%d events are still there", len(rest))
			}
		})
	}
}

func TestInboxUnderOverloadIsBoundedBySymbols(t *testing.T) {
	b := newInbox()
	t0 := time.Unix(1_700_000_000, 0)
	for i := range 100_000 {
		b.put(feed.Price{Symbol: position.Symbol("S" + string(rune(65+i%10))), Price: float64(i + 1), At: t0.Add(time.Duration(i))})
	}
	if events, merged := b.take(nil); len(events) != 10 || merged != 99_990 {
		t.Fatalf("%d events, %d merged", len(events), merged)
	}
}
