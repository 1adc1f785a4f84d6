package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	epoch = time.Date(2026, 11, 23, 14, 3, 22, 0, time.UTC)
	quiet = slog.New(slog.DiscardHandler)
)

// fresh is a proposal that was renewed at at.
func fresh(sym position.Symbol, at time.Time, changes ...func(*store.Proposal)) store.Entry {
	p := store.Proposal{
		Symbol: sym, Action: kernel.ActionNone, RNet: 1.5, KillScore: 0.25, Side: position.Long, Entry: 100, Current: 103,
		SchemaVersion: 1, Revision: 3, Episode: "e1", InputState: store.InputFresh, MarketSource: "redis", PositionSource: "redis_hash",
		Publisher: "desk", LastUpdate: at, ValidUntil: at.Add(5 * time.Second), ComputedAt: at,
	}
	for _, change := range changes {
		change(&p)
	}
	return store.Entry{Symbol: sym, Found: true, Proposal: p}
}

func action(a kernel.Action) func(*store.Proposal) {
	return func(p *store.Proposal) { p.Action = a }
}

func state(s store.InputState) func(*store.Proposal) {
	return func(p *store.Proposal) { p.InputState = s }
}

func episode(e string) func(*store.Proposal) { return func(p *store.Proposal) { p.Episode = e } }

// holding is a store that expects what it holds.
func holding(at time.Time, entries ...store.Entry) store.Collection {
	c := store.Collection{ServerTime: at, Entries: entries}
	for _, e := range entries {
		c.Expected = append(c.Expected, e.Symbol)
	}
	return c
}

func brief(events []Event) string {
	var parts []string
	for _, e := range events {
		text := string(e.Kind)
		if e.Symbol != "" {
			text += ":" + string(e.Symbol)
		}
		switch e.Kind {
		case Action:
			text += fmt.Sprintf("(%s>%s)", e.PreviousAction, e.Proposal.Action)
		case State:
			text += fmt.Sprintf("(%s>%s)", e.PreviousState, e.Proposal.InputState)
		case Closed, Appeared:
			text += "/" + e.Proposal.Episode
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

func TestTracker(t *testing.T) {
	at := func(sec int) time.Time { return epoch.Add(time.Duration(sec) * time.Second) }
	expectedOnly := func(sec int, syms ...position.Symbol) store.Collection {
		c := store.Collection{ServerTime: at(sec), Expected: syms}
		for _, sym := range syms {
			c.Entries = append(c.Entries, store.Entry{Symbol: sym})
		}
		return c
	}
	type reading struct {
		c      store.Collection
		before func(*tracker)
		want   string
	}
	for _, c := range []struct {
		name     string
		initial  bool
		readings []reading
	}{
		{"first sight is silent, what comes later is not", false, []reading{
			{c: holding(at(0), fresh("A", at(0)), fresh("OLD", at(-60)))},
			{c: holding(at(1), fresh("A", at(1)), fresh("B", at(1)), fresh("OLD", at(-60))), want: "appeared:B/e1"},
		}},
		{"first sight with initial", true, []reading{
			{c: holding(at(0), fresh("A", at(0)), fresh("OLD", at(-60))), want: "appeared:A/e1 appeared:OLD/e1 stale:OLD"},
		}},
		{"action and state", false, []reading{
			{c: holding(at(0), fresh("A", at(0)))},
			{c: holding(at(1), fresh("A", at(1), action(kernel.ActionPartial25))), want: "action:A(NONE>PARTIAL_25)"},
			{c: holding(at(2), fresh("A", at(2), action(kernel.ActionPartial25))), want: ""},
			{
				c:    holding(at(3), fresh("A", at(3), action(kernel.ActionFullClose), state(store.InputStaleMarket))),
				want: "action:A(PARTIAL_25>FULL_CLOSE_PROPOSED) state:A(fresh>stale_market)",
			},
		}},
		{"stale once, live once", false, []reading{
			{c: holding(at(0), fresh("A", at(0)))},
			{c: holding(at(5), fresh("A", at(0))), want: ""},
			{c: holding(at(6), fresh("A", at(0))), want: "stale:A"},
			{c: holding(at(7), fresh("A", at(0))), want: ""},
			{c: holding(at(8), fresh("A", at(8))), want: "live:A"},
		}},
		{"closed", false, []reading{
			{c: holding(at(0), fresh("A", at(0)), fresh("B", at(0)))},
			{c: holding(at(1), fresh("B", at(1))), want: "closed:A/e1"},
			{c: store.Collection{ServerTime: at(2)}, want: "closed:B/e1"},
			{c: holding(at(3), fresh("A", at(3), episode("e2"))), want: "appeared:A/e2"},
		}},
		{"closed and opened between two readings", false, []reading{
			{c: holding(at(0), fresh("A", at(0), action(kernel.ActionFullClose)))},
			{c: holding(at(1), fresh("A", at(1), episode("e2"))), want: "closed:A/e1 appeared:A/e2"},
		}},
		{"deleted while it is read", false, []reading{
			{c: holding(at(0), fresh("A", at(0)))},
			{c: expectedOnly(1, "A"), want: ""},
			{c: store.Collection{ServerTime: at(2)}, want: "closed:A/e1"},
		}},
		{"lost, and written again", false, []reading{
			{c: holding(at(0), fresh("A", at(0)))},
			{c: expectedOnly(1, "A"), want: ""},
			{c: expectedOnly(2, "A"), want: "missing:A"},
			{c: expectedOnly(3, "A"), want: ""},
			{c: holding(at(4), fresh("A", at(4), action(kernel.ActionPartial50))), want: "live:A action:A(NONE>PARTIAL_50)"},
		}},
		{"everything wiped at once is not closed", false, []reading{
			{c: holding(at(0), fresh("A", at(0)), fresh("B", at(0)))},
			{c: store.Collection{ServerTime: at(1)}, want: "missing:A missing:B"},
			{c: holding(at(2), fresh("B", at(2))), want: "live:B"},
			{c: holding(at(3), fresh("A", at(3)), fresh("B", at(3))), want: "live:A"},
		}},
		{"gone after the store was away is not closed", false, []reading{
			{c: holding(at(0), fresh("A", at(0)))},
			{before: (*tracker).suspect, c: store.Collection{ServerTime: at(9)}, want: "missing:A"},
			{c: store.Collection{ServerTime: at(10)}, want: ""},
		}},
		{"what cannot be read is no change", false, []reading{
			{c: holding(at(0), fresh("A", at(0), action(kernel.ActionPartial25)), fresh("B", at(0)))},
			{c: func() store.Collection {
				e := fresh("A", at(1), action(""), state(""), episode(""))
				e.Proposal.ValidUntil, e.Proposal.LastUpdate = time.Time{}, time.Time{}
				for _, f := range []string{"harvest_action", "input_state", "episode", "valid_until_epoch", "last_update_epoch"} {
					e.Problems = append(e.Problems, store.Problem{Field: f, Kind: store.FieldUnparsable})
				}
				return holding(at(1), e, store.Entry{Symbol: "B", Err: errors.New("WRONGTYPE")})
			}(), want: ""},
			{c: holding(at(2), fresh("A", at(2), action(kernel.ActionPartial25)), fresh("B", at(2))), want: ""},
		}},
		{"a hash of a newer release is no change", false, []reading{
			{c: holding(at(0), fresh("A", at(0), action(kernel.ActionPartial25)))},
			{c: func() store.Collection {
				e := fresh("A", at(1), action(kernel.ActionPartial25), state(""), episode(""))
				e.Proposal.ValidUntil = time.Time{}
				e.Problems = []store.Problem{{Field: "schema_version", Kind: store.FieldNewer, Value: "3"}}
				return holding(at(1), e)
			}(), want: ""},
			{c: holding(at(2), fresh("A", at(2), action(kernel.ActionPartial50))), want: "action:A(PARTIAL_25>PARTIAL_50)"},
		}},
		{"an unreadable set closes nothing", false, []reading{
			{c: holding(at(0), fresh("A", at(0)), fresh("B", at(0)))},
			{c: store.Collection{ServerTime: at(1), ExpectedErr: errors.New("NOPERM"), Entries: []store.Entry{fresh("A", at(1))}}, want: ""},
			{c: holding(at(2), fresh("A", at(2)), fresh("B", at(2))), want: ""},
		}},
		{"an earlier writer without validity", false, []reading{
			{c: holding(at(0), fresh("A", at(0), func(p *store.Proposal) { p.ValidUntil = time.Time{} }), fresh("B", at(0), func(p *store.Proposal) {
				p.ValidUntil, p.LastUpdateDerived = time.Time{}, true
			}))},
			{c: holding(at(31), fresh("A", at(0), func(p *store.Proposal) { p.ValidUntil = time.Time{} }), fresh("B", at(0), func(p *store.Proposal) {
				p.ValidUntil, p.LastUpdateDerived = time.Time{}, true
			})), want: "stale:A"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTracker(c.initial)
			for i, r := range c.readings {
				if r.before != nil {
					r.before(tr)
				}
				if got := brief(tr.observe(r.c)); got != r.want {
					t.Errorf("reading %d: got %q, want %q", i, got, r.want)
				}
			}
		})
	}
}

// A position that closes while its proposal is missing is told in the end.
func TestMissingThenClosed(t *testing.T) {
	tr := newTracker(false)
	tr.observe(holding(epoch, fresh("A", epoch), fresh("B", epoch)))
	tr.observe(store.Collection{ServerTime: epoch})
	var got []Event
	for i := range droppedAfter + 5 {
		at := epoch.Add(time.Duration(i+1) * time.Second)
		got = append(got, tr.observe(holding(at, fresh("B", at)))...)
	}
	if text := brief(got); text != "live:B closed:A/e1" {
		t.Errorf("got %q", text)
	}
	if len(tr.seen) != 1 {
		t.Errorf("%d symbols are remembered", len(tr.seen))
	}
}

// Whatever comes: changes chain (the action before is the one of the event before), stale and live alternate, and a
// symbol that closed is not heard of before it appears again.
func TestTrackerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTracker(true)
		type known struct {
			open, stale, missing bool
			action               kernel.Action
			state                store.InputState
		}
		symbols := []position.Symbol{"A", "B", "C"}
		of := map[position.Symbol]*known{}
		at := epoch
		for range rapid.IntRange(1, 40).Draw(t, "readings") {
			at = at.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "seconds")) * time.Second)
			c := store.Collection{ServerTime: at}
			for _, sym := range symbols {
				what := rapid.IntRange(0, 9).Draw(t, "what")
				if what == 0 {
					continue
				}
				c.Expected = append(c.Expected, sym)
				switch what {
				case 1:
					c.Entries = append(c.Entries, store.Entry{Symbol: sym})
				case 2:
					c.Entries = append(c.Entries, store.Entry{Symbol: sym, Err: errors.New("WRONGTYPE")})
				default:
					c.Entries = append(c.Entries, fresh(sym, at.Add(-time.Duration(rapid.IntRange(0, 8).Draw(t, "age"))*time.Second),
						action(rapid.SampledFrom(kernel.Actions[:]).Draw(t, "action")),
						state(rapid.SampledFrom([]store.InputState{store.InputFresh, store.InputStaleMarket}).Draw(t, "state")),
						episode(rapid.SampledFrom([]string{"e1", "e1", "e1", "e2"}).Draw(t, "episode"))))
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "away") == 0 {
				tr.suspect()
			}
			for _, e := range tr.observe(c) {
				k := of[e.Symbol]
				if k == nil {
					k = &known{}
					of[e.Symbol] = k
				}
				if e.Kind != Appeared && !k.open {
					t.Fatalf("%s of %s, which has not appeared", e.Kind, e.Symbol)
				}
				switch e.Kind {
				case Appeared:
					if k.open {
						t.Fatalf("%s appeared twice", e.Symbol)
					}
					*k = known{open: true, action: e.Proposal.Action, state: e.Proposal.InputState}
				case Closed:
					k.open = false
				case Action:
					if e.PreviousAction != k.action || e.Proposal.Action == k.action {
						t.Fatalf("%s: from %s to %s, known %s", e.Symbol, e.PreviousAction, e.Proposal.Action, k.action)
					}
					k.action = e.Proposal.Action
				case State:
					if e.PreviousState != k.state || e.Proposal.InputState == k.state {
						t.Fatalf("%s: from %s to %s, known %s", e.Symbol, e.PreviousState, e.Proposal.InputState, k.state)
					}
					k.state = e.Proposal.InputState
				case Stale:
					if k.stale {
						t.Fatalf("%s is stale twice", e.Symbol)
					}
					k.stale, k.missing = true, false
				case Live:
					if !k.stale && !k.missing {
						t.Fatalf("%s was live", e.Symbol)
					}
					k.stale, k.missing = false, false
				case Missing:
					if k.missing {
						t.Fatalf("%s is missing twice", e.Symbol)
					}
					k.stale, k.missing = false, true
				}
			}
		}
	})
}

// scripted is a Reader that gives one answer after the other, and the last one for ever.
type scripted struct {
	mu      sync.Mutex
	answers []func() (store.Collection, error)
}

func (s *scripted) Collect(context.Context, []position.Symbol) (store.Collection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return answer()
}

type collected struct {
	mu     sync.Mutex
	events []Event
}

func (c *collected) Handle(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

func TestRunTellsOfTheStore(t *testing.T) {
	away := func() (store.Collection, error) { return store.Collection{}, errors.New("refused") }
	blind := func() (store.Collection, error) { return store.Collection{ExpectedErr: errors.New("NOPERM")}, nil }
	there := func(changes ...func(*store.Proposal)) func() (store.Collection, error) {
		return func() (store.Collection, error) {
			now := time.Now()
			return holding(now, fresh("A", now, changes...)), nil
		}
	}
	for _, c := range []struct {
		name    string
		on      []Kind
		answers []func() (store.Collection, error)
		want    string
	}{
		{"one failure is a hiccup", nil, []func() (store.Collection, error){there(), away, there()}, ""},
		{
			"lost and back, with what changed meanwhile", nil,
			[]func() (store.Collection, error){there(), away, away, away, blind, there(action(kernel.ActionPartial25))},
			"store_lost store_back action:A(NONE>PARTIAL_25)",
		},
		{"never reached", nil, []func() (store.Collection, error){away}, "store_lost"},
		{
			"only some events",
			[]Kind{State, StoreBack},
			[]func() (store.Collection, error){there(), away, away, there(action(kernel.ActionPartial25), state(store.InputStaleMarket))},
			"store_back state:A(fresh>stale_market)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				var got collected
				if err := Run(ctx, Options{Reader: &scripted{answers: c.answers}, Handler: &got, On: c.on, Log: quiet}); err != nil {
					t.Fatal(err)
				}
				if text := brief(got.events); text != c.want {
					t.Errorf("got %q, want %q", text, c.want)
				}
			})
		})
	}
	if err := Run(context.Background(), Options{}); err == nil {
		t.Error("without a reader")
	}
	if err := Run(context.Background(), Options{Reader: &scripted{}, Handler: &collected{}, On: []Kind{"boom"}}); err == nil {
		t.Error("an event that is none")
	}
}

func TestEventInWords(t *testing.T) {
	e := Event{
		Kind: Action, At: epoch, Symbol: "BTCUSDT", PreviousAction: kernel.ActionNone, PreviousState: store.InputFresh,
		Proposal: fresh("BTCUSDT", epoch, action(kernel.ActionPartial50), func(p *store.Proposal) {
			p.RNet, p.NewStop, p.Reasons = 4.25, 101.5, []string{"harvest_partial_50", "odd\x1b[2J\n$(id)\x00"}
			p.MarketSource, p.PositionSource, p.Publisher = "synthetic", "demo", strings.Repeat("é", 4000)
		}).Proposal,
	}
	want := `2026-11-23T14:03:22Z action BTCUSDT LONG PARTIAL_50 (was NONE) R=4.25 K=0.25 stop=101.5 fresh [harvest_partial_50,odd?[2J?$(id)?] NOT REAL: synthetic, demo`
	if got := e.Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (Event{Kind: StoreLost, At: epoch, Error: "redis refused"}).Line(); got != "2026-11-23T14:03:22Z store_lost redis refused" {
		t.Errorf("got %s", got)
	}

	env := map[string]string{}
	for _, line := range e.environment() {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
		if strings.ContainsRune(value, 0) || len(value) > maxValue {
			t.Errorf("%s cannot be in an environment", name)
		}
	}
	for name, want := range map[string]string{
		"HARVEST_EVENT": "action", "HARVEST_SYMBOL": "BTCUSDT", "HARVEST_ACTION": "PARTIAL_50", "HARVEST_PREVIOUS_ACTION": "NONE",
		"HARVEST_R": "4.25", "HARVEST_KILL_SCORE": "0.25", "HARVEST_NEW_STOP": "101.5", "HARVEST_STATE": "fresh", "HARVEST_ERROR": "",
		"HARVEST_REASONS": "harvest_partial_50,odd\x1b[2J\n$(id)?", "HARVEST_NOT_REAL": "synthetic,demo", "HARVEST_REVISION": "3",
		"HARVEST_AT": "2026-11-23T14:03:22Z", "HARVEST_VALID_UNTIL": "2026-11-23T14:03:27Z",
	} {
		if diff := cmp.Diff(want, env[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	lost := Event{Kind: StoreLost, At: epoch, Error: "x"}
	if a, b := len(e.environment()), len(lost.environment()); a != b {
		t.Errorf("%d names for one event, %d for another", a, b)
	}

	var js map[string]any
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &js); err != nil {
		t.Fatal(err)
	}
	if js["event"] != "action" || js["previous_action"] != "NONE" || js["r"] != 4.25 || js["new_stop"] != 101.5 {
		t.Errorf("got %s", body)
	}
	body, err = json.Marshal(lost)
	if want := `{"event":"store_lost","at":"2026-11-23T14:03:22Z","error":"x"}`; err != nil || string(body) != want {
		t.Errorf("got %s (%v)", body, err)
	}
}

func TestPrinter(t *testing.T) {
	var out, log bytes.Buffer
	e := Event{Kind: StoreBack, At: epoch}
	(&Printer{Out: &out, Log: quiet}).Handle(e)
	(&Printer{Out: &out, JSON: true, Log: quiet}).Handle(e)
	if got := out.String(); got != "2026-11-23T14:03:22Z store_back\n{\"event\":\"store_back\",\"at\":\"2026-11-23T14:03:22Z\"}\n" {
		t.Errorf("got %s", got)
	}
	r, w := io.Pipe()
	r.Close()
	broken := &Printer{Out: w, Log: slog.New(slog.NewTextHandler(&log, nil))}
	broken.Handle(e)
	broken.Handle(e)
	if n := strings.Count(log.String(), "events cannot be written"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
