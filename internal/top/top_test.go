package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

var (
	// epoch is the clock of the server; the machine's is the same unless a test says so.
	epoch = time.Date(2026, 11, 23, 14, 3, 22, 0, time.UTC)

	errAway = errors.New("read the proposals: redis at 127.0.0.1:6379 refused the connection: is it running? set REDIS_URL")
)

func proposal(sym position.Symbol, change func(*store.Proposal)) store.Entry {
	p := store.Proposal{
		Symbol: sym, Action: kernel.ActionNone, RNet: 0.4, RiskUnit: 1900, CostEst: 95, KillScore: 0.31,
		Sigma: 0.004, TS: 0.2, PTrend: 0.5, PMR: 0.3, PChop: 0.2,
		K:          kernel.KillComponents{SigmaSpike: 0.5, TSDrop: 0.25, AgePenalty: 0.05},
		ComputedAt: epoch.Add(-32 * time.Second), Side: position.Long, AgeSec: 3600, Current: 95760.5, Entry: 95000, UnrealizedPnL: 760.5,
		SchemaVersion: 1, Revision: 7, Episode: "e1", InputState: store.InputFresh, MarketSource: "redis", PositionSource: "redis_hash",
		Publisher: "desk-1", Fence: 1795442602000000, LastUpdate: epoch.Add(-time.Second), MarketAt: epoch.Add(-12 * time.Second),
		PositionAt: epoch.Add(-2 * time.Second), ValidUntil: epoch.Add(4 * time.Second), Peak: 96000, Trough: 94800,
		OpenedAt: epoch.Add(-time.Hour), ContentMarketAt: epoch.Add(-44 * time.Second), ContentPositionAt: epoch.Add(-34 * time.Second),
	}
	if change != nil {
		change(&p)
	}
	return store.Entry{Symbol: sym, Found: true, Proposal: p}
}

// desk is a store with one of everything.
func desk() store.Collection {
	broken := proposal("DOGEUSDT", nil)
	broken.Proposal.RNet, broken.Proposal.Action = 0, ""
	broken.Problems = []store.Problem{
		{Field: "R_net", Kind: store.FieldUnparsable, Value: "NaN\x1b[2J"}, {Field: "harvest_action", Kind: store.FieldMissing},
	}
	return store.Collection{
		Expected: []position.Symbol{"ADAUSDT", "BNBUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}, Invalid: 1,
		ServerTime: epoch, RTT: 400 * time.Microsecond, RoundTrips: 2,
		Entries: []store.Entry{
			{Symbol: "ADAUSDT", Err: errors.New("read the proposal of ADAUSDT: redis answered WRONGTYPE\x1b]0;owned\a")},
			proposal("BNBUSDT", func(p *store.Proposal) {
				p.Action, p.RNet, p.KillScore, p.Side = kernel.ActionFullClose, -1.25, 0.83, position.Short
				p.K = kernel.KillComponents{RegimeFlip: 1, SigmaSpike: 2, TSDrop: 0.5, AgePenalty: 1}
				p.Reasons = []string{"kill_score_triggered", "regime_flip", "sigma_spike", "somebody\x1b[31melse"}
				p.MarketAt, p.InputState = epoch.Add(-130*time.Second), store.InputStaleMarket
			}),
			proposal("BTCUSDT", func(p *store.Proposal) {
				p.Action, p.RNet, p.NewStop, p.Stop = kernel.ActionPartial50, 4.2, 95190, 94000
				p.Reasons = []string{"harvest_partial_50", "profit_lock"}
			}),
			broken,
			proposal("ETHUSDT", func(p *store.Proposal) {
				p.LastUpdate, p.ValidUntil = epoch.Add(-45*time.Second), epoch.Add(-40*time.Second)
				p.ComputedAt, p.PositionAt = epoch.Add(-75*time.Second), epoch.Add(-46*time.Second)
				p.MarketSource, p.PositionSource, p.Publisher = "synthetic", "demo", "laptop\x1b[5m"
			}),
			proposal("SOLUSDT", func(p *store.Proposal) {
				// An earlier writer.
				p.SchemaVersion, p.Revision, p.Fence, p.Publisher, p.Episode = 0, 0, 0, "", ""
				p.MarketSource, p.PositionSource, p.InputState = "", "", ""
				p.MarketAt, p.PositionAt, p.ValidUntil = time.Time{}, time.Time{}, time.Time{}
				p.OpenedAt, p.ContentMarketAt, p.ContentPositionAt, p.Peak, p.Trough = time.Time{}, time.Time{}, time.Time{}, 0, 0
				p.RNet, p.NewStop, p.LastUpdate, p.LastUpdateDerived = 12.345, 0.00012345, p.ComputedAt, true
			}),
			{Symbol: "XRPUSDT"},
		},
	}
}

func newTestModel(width, height int) model {
	m := newModel(Options{Header: "Quantum Harvest  redis://127.0.0.1:6379/0", Now: func() time.Time { return epoch }})
	return send(m, tea.WindowSizeMsg{Width: width, Height: height})
}

func send(m model, msgs ...tea.Msg) model {
	for _, msg := range msgs {
		m, _ = m.update(msg)
	}
	return m
}

func readAt(at time.Time, c store.Collection) reading {
	return reading{begin: at.Add(-c.RTT / 2), end: at, c: c}
}

// press makes the messages of keys: names of keys, or the letters of a text.
func press(keys ...string) []tea.Msg {
	var msgs []tea.Msg
	for _, key := range keys {
		switch key {
		case "enter":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyEnter})
		case "esc":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyEscape})
		case "up":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyUp})
		case "down":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyDown})
		case "pgdown":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyPgDown})
		case "backspace":
			msgs = append(msgs, tea.KeyPressMsg{Code: tea.KeyBackspace})
		case "ctrl+c":
			msgs = append(msgs, tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
		default:
			for _, r := range key {
				msgs = append(msgs, tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
	}
	return msgs
}

// screen is what stands on the screen, without looks.
func screen(m model) string { return ansi.Strip(strings.Join(m.lines(), "\n")) + "\n" }

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestScreens(t *testing.T) {
	watched := func(width, height int) model {
		m := newTestModel(width, height)
		c := desk()
		for i := range 10 {
			at := epoch.Add(time.Duration(i-9) * time.Second)
			for j := range c.Entries {
				if p := &c.Entries[j].Proposal; c.Entries[j].Found && p.Symbol != "ETHUSDT" {
					p.LastUpdate = at.Add(-time.Second)
				}
			}
			c.Entries[2].Proposal.Revision = int64(7 + i/5)
			c.ServerTime = at
			m = send(m, readAt(at, c))
			c.Entries = append([]store.Entry(nil), c.Entries...)
		}
		return m
	}
	for _, c := range []struct {
		name          string
		width, height int
		do            func(model) model
	}{
		{"wide", 140, 24, nil},
		{"plain", 80, 24, nil},
		{"narrow", 45, 24, nil},
		{"tiny", 30, 6, nil},
		{"sorted", 80, 24, func(m model) model { return send(m, press("s")...) }},
		{"filter-typed", 80, 24, func(m model) model { return send(m, press("/", "eth x", "backspace", "backspace")...) }},
		{"filter-nothing", 80, 24, func(m model) model { return send(m, press("/", "zzz", "enter")...) }},
		{"help", 80, 24, func(m model) model { return send(m, press("?")...) }},
		{"symbol", 80, 30, func(m model) model { return send(m, press("down", "down", "enter")...) }},
		{"symbol-wide", 140, 40, func(m model) model { return send(m, press("down", "enter")...) }},
		{"symbol-broken", 80, 60, func(m model) model { return send(m, press("down", "down", "down", "enter")...) }},
		{"symbol-earlier", 80, 50, func(m model) model { return send(m, press("down", "down", "down", "down", "down", "enter")...) }},
		{"symbol-missing", 80, 24, func(m model) model { return send(m, press("G", "enter")...) }},
		{"paused", 80, 24, func(m model) model {
			m = send(m, press("p")...)
			return send(m, clock(epoch.Add(20*time.Second)), readAt(epoch.Add(20*time.Second), store.Collection{ServerTime: epoch}))
		}},
		{"away", 80, 24, func(m model) model {
			at := epoch.Add(50 * time.Second)
			return send(m, reading{begin: at, end: at, err: errAway}, clock(at.Add(10*time.Second)))
		}},
		{"pane", 80, 24, func(m model) model {
			m.withPane = true
			for i := range 60 {
				m = send(m, notice(fmt.Sprintf("line %d \x1b[31mred", i)))
			}
			return m
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := watched(c.width, c.height)
			if c.do != nil {
				m = c.do(m)
			}
			got := screen(m)
			golden(t, c.name, got)
			if strings.ContainsRune(got, '\x1b') {
				t.Error("an escape sequence from the store reached the screen")
			}
		})
	}
}

// No screen, however small, is overflowed, and every one shows the symbol under the cursor.
func TestEverySize(t *testing.T) {
	c := desk()
	for i := range 40 {
		c.Entries = append(c.Entries, proposal(position.Symbol(fmt.Sprintf("S%02dUSDT", i)), nil))
	}
	for _, width := range []int{1, 2, 7, 20, 33, 45, 60, 79, 80, 81, 99, 100, 127, 160} {
		for _, height := range []int{1, 2, 3, 4, 6, 8, 12, 24, 40} {
			m := send(newTestModel(width, height), readAt(epoch, c))
			for _, keys := range [][]string{{"pgdown"}, {"enter"}, {"down"}, {"?"}, {"?", "esc"}, {"G"}} {
				m = send(m, press(keys...)...)
				lines := m.lines()
				if len(lines) > height {
					t.Fatalf("%dx%d after %v: %d lines", width, height, keys, len(lines))
				}
				for _, line := range lines {
					if w := ansi.StringWidth(line); w > width {
						t.Fatalf("%dx%d after %v: a line of %d: %q", width, height, keys, w, line)
					}
				}
			}
			if m.page == pageTable && width >= 20 && height >= 8 && !strings.Contains(screen(m), string(m.selected)) {
				t.Fatalf("%dx%d: %s is selected and not shown:\n%s", width, height, m.selected, screen(m))
			}
		}
	}
}

func TestEightyColumnsHoldEveryAnswer(t *testing.T) {
	var ids []string
	for _, c := range columns(80, nil) {
		ids = append(ids, c.id)
	}
	want := "symbol side action r ladder k parts stop beat content market position state"
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("got %s", got)
	}
	for width := 40; width < 200; width++ {
		if sum := total(columns(width, nil)); sum > width {
			t.Errorf("at %d the columns take %d", width, sum)
		}
	}
}

func TestLosesRedisAndRecovers(t *testing.T) {
	m := newTestModel(80, 24)
	if got := screen(m); !strings.Contains(got, "reading") {
		t.Errorf("before the first reading:\n%s", got)
	}
	m = send(m, reading{begin: epoch, end: epoch, err: errAway})
	if got := screen(m); !strings.Contains(got, "REDIS IS AWAY for 0s \n read the proposals") || !strings.Contains(got, "nothing has been read yet") {
		t.Errorf("never reached:\n%s", got)
	}
	m = send(m, readAt(epoch, desk()))
	if got := screen(m); strings.Contains(got, "AWAY") || !strings.Contains(got, "BTCUSDT") {
		t.Errorf("reached:\n%s", got)
	}

	// Away: the picture stays, grey, and goes on ageing.
	at := epoch.Add(20 * time.Second)
	m = send(m, press("G")...) // the cursor would take the looks of its row
	m = send(m, reading{begin: at, end: at, err: errAway})
	line := lineWith(t, m, "BTCUSDT")
	if !strings.Contains(ansi.Strip(line), "21s!") || !strings.Contains(line, "\x1b[33m") || !strings.Contains(line, "\x1b[2m") {
		t.Errorf("not greyed and ageing: %q", line)
	}
	m = send(m, clock(epoch.Add(40*time.Second)))
	if got := ansi.Strip(lineWith(t, m, "BTCUSDT")); !strings.Contains(got, "41sX") || !strings.Contains(got, "EXPIRED") {
		t.Errorf("does not age: %q", got)
	}
	m = send(m, readAt(epoch.Add(time.Minute), desk()))
	if got := screen(m); strings.Contains(got, "AWAY") {
		t.Errorf("back:\n%s", got)
	}

	// A server that accepts and never answers shows before the reading gives up.
	m = send(m, clock(epoch.Add(time.Minute+4*time.Second)))
	if got := screen(m); !strings.Contains(got, "REDIS DOES NOT ANSWER, the picture is 4s old") {
		t.Errorf("silent:\n%s", got)
	}
}

func lineWith(t *testing.T, m model, text string) string {
	t.Helper()
	for _, line := range m.lines() {
		if strings.Contains(line, text) {
			return line
		}
	}
	t.Fatalf("%s is not on the screen:\n%s", text, screen(m))
	return ""
}

// A machine whose clock is wrong sees the same ages as one whose clock is right.
func TestAgesAreOnTheServersClock(t *testing.T) {
	local := epoch.Add(-7 * time.Minute)
	m := send(newTestModel(140, 24), readAt(local, desk()), clock(local.Add(3*time.Second)))
	got := screen(m)
	if line := ansi.Strip(lineWith(t, m, " BTCUSDT")); !strings.Contains(line, "  4s   35s   15s    5s") {
		t.Errorf("got %s", line)
	}
	if !strings.Contains(got, "this clock is 7m0s behind Redis") {
		t.Errorf("does not say so:\n%s", got)
	}
}

// The node of a Cluster that keeps the lease, and its clock, may be away while others answer.
func TestLeaseOutOfReach(t *testing.T) {
	c := desk()
	c.Lease = store.LeaseView{Layout: "1 all", Now: epoch, Shards: []store.ShardLease{{Holder: "desk-1#a", Until: epoch.Add(time.Second)}}}
	m := send(newTestModel(240, 30), readAt(epoch, c))
	lineWith(t, m, "lease held")
	before := lineWith(t, m, "BTCUSDT")
	c.Lease, c.LeaseErr, c.ServerTime = store.LeaseView{}, errors.New("node away"), time.Time{}
	m = send(newTestModel(240, 30), readAt(epoch, c))
	lineWith(t, m, "lease out of reach")
	if got := lineWith(t, m, "BTCUSDT"); got != before {
		t.Errorf("%q\n%q", got, before)
	}
}

func TestKeys(t *testing.T) {
	m := send(newTestModel(80, 24), readAt(epoch, desk()))
	if m.selected != "ADAUSDT" {
		t.Errorf("at first %s is selected", m.selected)
	}
	m = send(m, press("down", "down")...)
	m = send(m, press("s")...)
	if m.selected != "BTCUSDT" {
		t.Errorf("the cursor does not stay with its symbol: %s", m.selected)
	}
	for range orders - 1 {
		m = send(m, press("s")...)
	}
	if m.sort != bySymbol {
		t.Errorf("sorting does not come around: %s", m.sort)
	}
	m = send(m, press("/", "sol", "enter")...)
	if m.selected != "SOLUSDT" || m.filter != "sol" || m.typing {
		t.Errorf("filtered: %+v", m.selected)
	}
	m = send(m, press("/", "q?ps", "esc")...)
	if m.filter != "sol" || m.paused || m.page != pageTable {
		t.Errorf("keys typed into a filter acted: %q", m.filter)
	}
	m = send(m, tea.PasteMsg{Content: "ignored"})
	m = send(m, press("/")...)
	m = send(m, tea.PasteMsg{Content: "\x1busdt\nmore"})
	m = send(m, press("enter")...)
	if m.filter != "sol?usdt" {
		t.Errorf("pasted: %q", m.filter)
	}
	m = send(m, press("esc")...)
	if m.filter != "" {
		t.Errorf("esc keeps the filter %q", m.filter)
	}
	// The page of a symbol stays with it, whatever comes and goes.
	m = send(m, press("enter")...)
	if m.page != pageSymbol || m.selected != "SOLUSDT" {
		t.Fatalf("page %d of %s", m.page, m.selected)
	}
	m = send(m, readAt(epoch, store.Collection{ServerTime: epoch}))
	if got := screen(m); !strings.Contains(got, "SOLUSDT\n  is neither in the store nor expected any more") {
		t.Errorf("gone:\n%s", got)
	}
	m = send(m, press("esc")...)
	if got := screen(m); !strings.Contains(got, "no proposals, and none expected") {
		t.Errorf("empty:\n%s", got)
	}
	m = send(m, readAt(epoch, desk()))
	m = send(m, press("enter", "n")...)
	if m.page != pageSymbol || m.selected != "XRPUSDT" {
		t.Errorf("next: page %d of %s", m.page, m.selected)
	}
	for _, key := range []string{"q", "ctrl+c"} {
		if _, quit := m.update(press(key)[0]); !quit {
			t.Errorf("%s does not quit", key)
		}
	}
	m = send(m, press("esc", "/")...)
	if _, quit := m.update(press("ctrl+c")[0]); !quit {
		t.Error("ctrl+c does not quit while typing")
	}
	if _, quit := m.update(press("q")[0]); quit {
		t.Error("the letter q in a filter quits")
	}
	if m := send(newTestModel(80, 24), press("p")...); m.paused {
		t.Error("nothing was read and it is held")
	}
}

func TestSorting(t *testing.T) {
	p := newPicture(readAt(epoch, desk()), nil)
	for o, want := range map[order]string{
		bySymbol: "ADAUSDT BNBUSDT BTCUSDT DOGEUSDT ETHUSDT SOLUSDT XRPUSDT",
		byAction: "ADAUSDT XRPUSDT BNBUSDT BTCUSDT ETHUSDT SOLUSDT DOGEUSDT",
		byR:      "ADAUSDT XRPUSDT SOLUSDT BTCUSDT ETHUSDT DOGEUSDT BNBUSDT",
		byK:      "ADAUSDT XRPUSDT BNBUSDT BTCUSDT DOGEUSDT ETHUSDT SOLUSDT",
		byAge:    "ADAUSDT XRPUSDT BNBUSDT ETHUSDT SOLUSDT BTCUSDT DOGEUSDT",
	} {
		var got []string
		for _, r := range p.shown(o, "", epoch) {
			got = append(got, string(r.symbol))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("by %s: %s", o, text)
		}
	}
	// SYMBOLS are expected, too, found or not.
	p = newPicture(readAt(epoch, store.Collection{Entries: []store.Entry{{Symbol: "NEWUSDT"}}}), []position.Symbol{"NEWUSDT"})
	if p.expected != 1 || len(p.missing) != 1 {
		t.Errorf("expected %d, missing %v", p.expected, p.missing)
	}
}

func TestRates(t *testing.T) {
	var m meter
	var p picture
	at := epoch
	for i := range 100 {
		at = epoch.Add(time.Duration(i) * 500 * time.Millisecond)
		c := store.Collection{Entries: []store.Entry{proposal("BTCUSDT", func(p *store.Proposal) {
			p.LastUpdate, p.Revision = at.Truncate(time.Second), int64(10+i/20)
		})}}
		if i >= 40 {
			c.Entries = append(c.Entries, proposal("ETHUSDT", nil))
		}
		p = newPicture(readAt(at, c), nil)
		m = m.observe(&p)
		if early := at.Sub(epoch) < rateLeast; p.rated == early {
			t.Fatalf("rates shown after %s: %v", at.Sub(epoch), p.rated)
		}
	}
	if got := p.rates; got.beats < 0.95 || got.beats > 1.1 || got.publishes < 0.09 || got.publishes > 0.15 {
		t.Errorf("got %+v", got)
	}
	if got := p.rows[0]; !got.rated || got.rates.beats < 0.95 || got.rates.publishes < 0.06 {
		t.Errorf("of BTCUSDT %+v", got.rates)
	}
	if len(m.history) > 62 {
		t.Errorf("%d readings are kept", len(m.history))
	}
	// A hash that was deleted and written anew is one publish, whatever its revision; an earlier writer has none.
	if got := steps(sight{revision: 9}, sight{revision: 1}, true, false, &store.Proposal{Revision: 1}); got.publishes != 1 {
		t.Errorf("restarted: %+v", got)
	}
	if got := steps(sight{content: epoch}, sight{content: at}, true, false, &store.Proposal{}); got.publishes != 1 || got.beats != 0 {
		t.Errorf("earlier writer: %+v", got)
	}
	m = m.lost()
	if m.observe(&p); p.rated && len(m.history) != 0 {
		t.Error("what happened while Redis was away is not forgotten")
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	codes := (^kernel.Reasons(0)).Codes()
	if len(codes) != len(reasonText) {
		t.Errorf("%d reasons, %d explained", len(codes), len(reasonText))
	}
	for _, code := range codes {
		if reasonText[code] == "" {
			t.Errorf("%s is not explained", code)
		}
	}
}

func TestFormats(t *testing.T) {
	for v, want := range map[float64]string{
		0: "-", 95190: "95190.00", 123456789: "1.23e+08", 0.00001234567: "1.23e-05", 0.00012345: "0.000123", 0.5: "0.5", 1.23456789: "1.234568", -3.5: "-3.5", 12345678: "12345678",
	} {
		if got := price(v, 8); got != want {
			t.Errorf("price %v: %q, want %q", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", -5 * time.Second: "-5s", 59 * time.Second: "59s", time.Hour - 1: "59m", 25 * time.Hour: "1d", 1 << 62: "999d",
	} {
		if got := shortAge(d); got != want {
			t.Errorf("age %s: %q, want %q", d, got, want)
		}
	}
	for r, want := range map[float64]string{
		-3: "──┼──┼──┼", 0: "──┼──┼──┼", 1: "━─┼──┼──┼", 2: "━━╋──┼──┼", 3: "━━╋━─┼──┼", 4: "━━╋━━╋──┼", 6: "━━╋━━╋━━╋", 99: "━━╋━━╋━━╋",
	} {
		if got := ladder(r); got != want {
			t.Errorf("ladder %v: %s, want %s", r, got, want)
		}
	}
	for _, v := range []float64{1, -1, 123456, 1e18, -1e300, 1e-9} {
		if got := fitNumber(v, 6, 2, true); len(got) > 6 {
			t.Errorf("%v in 6 characters: %s", v, got)
		}
	}
	if got := clean("a\x1b[2Jb\nc\u202ed\xff"); got != "a?[2Jb c?d?" {
		t.Errorf("clean: %q", got)
	}
}
