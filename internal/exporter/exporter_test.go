package exporter

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"quantumharvest/internal/listen"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	at    = time.Date(2026, 1, 23, 10, 12, 18, 0, time.UTC) // 1769163138
)

type readerFunc func(context.Context, []position.Symbol) (store.Collection, error)

func (f readerFunc) Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error) {
	return f(ctx, extra)
}

type counterFunc func(context.Context) (map[string]int, error)

func (f counterFunc) OpenPositions(ctx context.Context) (map[string]int, error) { return f(ctx) }

func fixed(c store.Collection) Reader {
	return readerFunc(func(context.Context, []position.Symbol) (store.Collection, error) {
		c := c
		c.Entries = slices.Clone(c.Entries)
		return c, nil
	})
}

func newExporter(t testing.TB, o Options) *Exporter {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// entry is what the store reads from hash.
func entry(sym position.Symbol, hash map[string]string) store.Entry {
	p, problems := store.Decode(sym, hash)
	return store.Entry{Symbol: sym, Found: true, Proposal: p, Problems: problems}
}

func published(sym position.Symbol) store.Proposal {
	return store.Proposal{
		Symbol: sym, Action: kernel.ActionPartial50, NewStop: 91234.5, RNet: 4.25, RiskUnit: 912.5, CostEst: 0.00000015,
		KillScore: 0.43, Reasons: []string{"harvest_r4"},
		K:     kernel.KillComponents{RegimeFlip: 0, SigmaSpike: 0.25, TSDrop: 0.1, AgePenalty: 1},
		Sigma: 0.0012, TS: 0.4, PTrend: 0.5, PMR: 0.3, PChop: 0.2,
		ComputedAt: at.Add(-40 * time.Second), Side: position.Long, AgeSec: 86400,
		Current: 95000, Entry: 91000, UnrealizedPnL: 4000, Revision: 7, Episode: "e1",
		OpenedAt: at.Add(-24 * time.Hour), Stop: 90000, ContentMarketAt: at.Add(-41 * time.Second), ContentPositionAt: at.Add(-42 * time.Second),
		InputState: store.InputFresh, MarketSource: "redis", PositionSource: "redis_hash", Publisher: "desk-1", Fence: 1769163138123456,
		LastUpdate: at.Add(-1 * time.Second), MarketAt: at.Add(-2 * time.Second), PositionAt: at.Add(-3 * time.Second),
		ValidUntil: at.Add(4 * time.Second), Peak: 96000, Trough: 90500,
	}
}

func hashOf(p store.Proposal) map[string]string {
	pairs := store.Encode(p)
	hash := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		hash[pairs[i]] = pairs[i+1]
	}
	return hash
}

// earlierHash is what the earlier writer left, which knew no heartbeat of its own.
func earlierHash() map[string]string {
	return map[string]string{
		"harvest_action": "NONE", "new_sl_proposed": "None", "R_net": "-0.5", "risk_unit": "60", "cost_est": "1.2", "kill_score": "0.2689414213699951",
		"reason_codes": "", "k_regime_flip": "0.0", "k_sigma_spike": "0.0", "k_ts_drop": "0.0", "k_age_penalty": "1e-05", "sigma": "0.002",
		"ts": "0.1", "p_trend": "0.0", "p_mr": "0.5", "p_chop": "0.5", "computed_at_utc": "2026-01-23T10:11:58.250000", "position_side": "SHORT",
		"position_age_sec": "0.864", "position_current_price": "3030", "position_entry_price": "3000", "position_unrealized_pnl": "-30",
	}
}

// collection is what the store holds in the golden test: every kind of entry there is.
func collection() store.Collection {
	broken := hashOf(published("SOLUSDT"))
	broken["harvest_action"] = "UPDATE_SL"
	broken["kill_score"] = "nan"
	broken["market_epoch"] = "yesterday"
	broken["input_state"] = "great"
	broken["publisher"] = "new\nline \"quoted\" \xff" + strings.Repeat("x", 200)
	delete(broken, "R_net")
	return store.Collection{
		Expected: []position.Symbol{"BTCUSDT", "GONEUSDT", "SOLUSDT", "TYPEUSDT"},
		Invalid:  1,
		Entries: []store.Entry{
			entry("BTCUSDT", hashOf(published("BTCUSDT"))),
			entry("ETHUSDT", earlierHash()),
			{Symbol: "GONEUSDT"},
			entry("SOLUSDT", broken),
			{Symbol: "TYPEUSDT", Err: fmt.Errorf("read: %w", replyError("WRONGTYPE Operation against a key"))},
			entry("BARE/USDT:USDT", map[string]string{"last_update_epoch": "1769163137"}), // a heartbeat that was left alone
			entry("BTCUSDT", earlierHash()), // a second time: the first one stands
		},
		ServerTime: at.Add(1500*time.Millisecond + 2*time.Millisecond),
		RTT:        4 * time.Millisecond,
		Lease: store.LeaseView{
			Now: at, Layout: "3 all",
			Shards: []store.ShardLease{
				{Shard: 0, Holder: "desk-1#x", Fence: 1769163137000001, Until: at.Add(3 * time.Second), Since: at.Add(-time.Hour)},
				{Shard: 1, Holder: "desk-2#y", Fence: 1769163137000002, Until: at.Add(-time.Second), Since: at.Add(-time.Hour)},
				{Shard: 2},
			},
			Members: []store.Member{{Holder: "desk-1#x", Until: at.Add(3 * time.Second)}, {Holder: "desk-3#z", Until: at.Add(time.Second)}},
		},
	}
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// checked gives everything the exporter gathers under our prefix to a pedantic registry, which checks each metric
// against its entry in the table and the whole for consistency.
type checked struct{ e *Exporter }

func (c checked) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range Metrics {
		ch <- prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
	}
}

func (c checked) Collect(ch chan<- prometheus.Metric) {
	families, err := c.e.Gather()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	for _, mf := range families {
		i := slices.IndexFunc(Metrics, func(d Desc) bool { return d.Name == mf.GetName() })
		if i < 0 {
			continue // the Go runtime and the process
		}
		d := Metrics[i]
		if string(d.Type) != strings.ToLower(mf.GetType().String()) {
			err := fmt.Errorf("%s is a %s, the table says %s", d.Name, mf.GetType(), d.Type)
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
		desc := prometheus.NewDesc(d.Name, mf.GetHelp(), d.Labels, nil)
		for _, m := range mf.Metric {
			ch <- protoMetric{desc, m}
		}
	}
}

type protoMetric struct {
	desc   *prometheus.Desc
	metric *dto.Metric
}

func (m protoMetric) Desc() *prometheus.Desc { return m.desc }
func (m protoMetric) Write(out *dto.Metric) error {
	proto.Merge(out, m.metric)
	slices.SortFunc(out.Label, byName)
	return nil
}

// page is one scrape in the text format, less the Go runtime and the process.
func page(t testing.TB, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body.String())
	}
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "quantum_harvest_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func handler(e *Exporter) http.Handler {
	return listen.MetricsHandler(e, listen.MetricsOptions{Logger: quiet})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got); rewrite with go test -run %s -update:\n%s", path, t.Name(), diff)
	}
}

func goldenExporter(t testing.TB) *Exporter {
	return newExporter(t, Options{
		Reader:  fixed(collection()),
		Symbols: []position.Symbol{"ETHUSDT", "BTCUSDT"},
		Counter: counterFunc(func(context.Context) (map[string]int, error) { return map[string]int{"redis_hash": 4, "file": 0}, nil }),
		Build:   Build{"v1.0.0", "abc123", "go1.26"},
		Now:     func() time.Time { return at },
	})
}

func TestEverythingOnThePage(t *testing.T) {
	golden(t, "page.prom", page(t, handler(goldenExporter(t))))
	f, err := os.Open(filepath.Join("testdata", "page.prom"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		t.Fatal(err)
	}
	var sorted bytes.Buffer // labels by name, as the registry has them
	for _, mf := range families {
		for _, m := range mf.Metric {
			slices.SortFunc(m.Label, byName)
		}
		if _, err := expfmt.MetricFamilyToText(&sorted, mf); err != nil {
			t.Fatal(err)
		}
	}
	if err := testutil.CollectAndCompare(checked{goldenExporter(t)}, &sorted); err != nil {
		t.Errorf("through a pedantic registry: %v", err)
	}
}

func byName(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }

func TestEarlierWriterOnThePage(t *testing.T) {
	withBeat := earlierHash()
	withBeat["last_update_epoch"] = "1769163137"
	e := newExporter(t, Options{
		Reader: readerFunc(func(_ context.Context, extra []position.Symbol) (store.Collection, error) {
			if diff := cmp.Diff([]position.Symbol{"BTCUSDT", "ETHUSDT"}, extra); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			return store.Collection{ServerTime: at, Entries: []store.Entry{entry("BTCUSDT", withBeat), entry("ETHUSDT", earlierHash())}}, nil
		}),
		Symbols: []position.Symbol{"ETHUSDT", "BTCUSDT", "ETHUSDT"},
		Now:     func() time.Time { return at },
	})
	var kept strings.Builder
	for line := range strings.Lines(page(t, handler(e))) {
		if strings.Contains(line, "symbol=") || strings.HasPrefix(line, descDerived.Name) || strings.HasPrefix(line, descSymbols.Name) {
			kept.WriteString(line)
		}
	}
	golden(t, "earlier.prom", kept.String())
}

// The same values, field by field: whichever field is removed or spoilt, only what rests on it vanishes.
func TestABadFieldTakesOnlyItsOwnSamples(t *testing.T) {
	whole := hashOf(published("BTCUSDT"))
	gather := func(hash map[string]string) map[string]float64 {
		e := newExporter(t, Options{Reader: fixed(store.Collection{ServerTime: at, Entries: []store.Entry{entry("BTCUSDT", hash)}}), Now: func() time.Time { return at }})
		families, err := e.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := make(map[string]float64)
		for _, mf := range families {
			for _, m := range mf.Metric {
				for _, l := range m.Label {
					switch mf.GetName() {
					case descProblems.Name, descPresent.Name, descInfo.Name:
						continue // about the hash as a whole
					}
					if l.GetName() == "symbol" {
						values[mf.GetName()+fmt.Sprint(m.Label)] = m.Gauge.GetValue()
					}
				}
			}
		}
		return values
	}
	all := gather(whole)
	for name := range whole {
		for _, spoilt := range []string{"\x00junk", ""} {
			hash := make(map[string]string)
			for k, v := range whole {
				hash[k] = v
			}
			if hash[name] = spoilt; spoilt == "" {
				delete(hash, name)
			}
			got := gather(hash)
			for series, v := range got {
				if want, ok := all[series]; !ok || v != want {
					t.Errorf("%s = %q: %s became %v, was %v", name, spoilt, series, v, want)
				}
			}
			for _, c := range columns {
				_, there := got[c.Name+fmt.Sprint([]*dto.LabelPair{{Name: proto.String("symbol"), Value: proto.String("BTCUSDT")}})]
				legacyView := name == "schema_version" && spoilt == "" // then our fields are another writer's business
				if want := c.field != name; there != want && !legacyView && !(name == "schema_version") {
					t.Errorf("%s = %q: sample of %s there: %v, want %v", name, spoilt, c.Name, there, want)
				}
			}
		}
	}
}

func TestStoreFailureRemovesEverySymbol(t *testing.T) {
	var fail error
	e := newExporter(t, Options{
		Reader: readerFunc(func(context.Context, []position.Symbol) (store.Collection, error) {
			if fail != nil {
				return store.Collection{}, fail
			}
			return collection(), nil
		}),
		Counter: counterFunc(func(context.Context) (map[string]int, error) { return nil, fail }),
		Now:     func() time.Time { return at },
	})
	h := handler(e)
	if text := page(t, h); !strings.Contains(text, "\nquantum_harvest_up 1\n") || !strings.Contains(text, `quantum_harvest_kill_score{symbol="BTCUSDT"} 0.43`) {
		t.Fatalf("while all is well:\n%s", text)
	}
	fail = fmt.Errorf("read the expected set: %w", replyError("LOADING Redis is loading the dataset in memory"))
	text := page(t, h)
	for _, bad := range []string{"symbol=", descCacheAge.Name, descRoundTrip.Name, descClockOffset.Name, descSymbols.Name, descOpenPositions.Name} {
		if strings.Contains(text, bad) {
			t.Errorf("%s on the page of a store that cannot be read", bad)
		}
	}
	for _, want := range []string{
		"quantum_harvest_up 0\n", "quantum_harvest_store_reads_total 2\n",
		`quantum_harvest_store_read_failures_total{reason="not_ready"} 1`, `quantum_harvest_store_read_failures_total{reason="timeout"} 0`,
		`quantum_harvest_position_count_failures_total{reason="not_ready"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if ok, reason := e.Ready(t.Context()); ok || !strings.Contains(reason, "not ready") {
		t.Errorf("ready: %v %q", ok, reason)
	}
	fail = nil
	if ok, reason := e.Ready(t.Context()); !ok {
		t.Errorf("ready: %v %q", ok, reason)
	}
	if text := page(t, h); !strings.Contains(text, `quantum_harvest_kill_score{symbol="BTCUSDT"} 0.43`) {
		t.Errorf("after repair:\n%s", text)
	}
}

func TestUnreadableExpectedSet(t *testing.T) {
	wrong := replyError("WRONGTYPE Operation against a key holding the wrong kind of value")
	c := store.Collection{ExpectedErr: wrong, ServerTime: at}
	var log bytes.Buffer
	e := newExporter(t, Options{Reader: fixed(c), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if text := page(t, handler(e)); !strings.Contains(text, "quantum_harvest_up 0\n") {
		t.Error("up while nothing can be seen")
	}
	c.Entries = []store.Entry{entry("BTCUSDT", hashOf(published("BTCUSDT")))}
	e = newExporter(t, Options{Reader: fixed(c), Symbols: []position.Symbol{"BTCUSDT"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	text := page(t, handler(e))
	for _, want := range []string{
		"quantum_harvest_up 1\n", `quantum_harvest_kill_score{symbol="BTCUSDT"} 0.43`, `quantum_harvest_symbol_errors_total{reason="wrong_type"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	page(t, handler(e))
	if n := strings.Count(log.String(), "the set of expected symbols cannot be read"); n != 1 {
		t.Errorf("said %d times in two scrapes, want once", n)
	}
}

func TestLogLines(t *testing.T) {
	var log bytes.Buffer
	now := at
	var fail error
	e := newExporter(t, Options{
		Reader: readerFunc(func(context.Context, []position.Symbol) (store.Collection, error) {
			return collection(), fail
		}),
		PollInterval: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
		Now: func() time.Time { return now },
	})
	step := func(d time.Duration, err error) {
		now, fail = now.Add(d), err
		if _, err := e.Gather(); err != nil {
			t.Fatal(err)
		}
	}
	refused := errors.New("redis at 127.0.0.1:1 is out of reach")
	step(0, nil)
	step(4*time.Second, nil)
	step(time.Second, nil)
	step(10*time.Second, refused)
	step(10*time.Second, refused)
	step(10*time.Second, replyError("NOAUTH Authentication required."))
	step(59*time.Second, replyError("NOAUTH Authentication required."))
	step(1*time.Second, replyError("NOAUTH Authentication required."))
	step(10*time.Second, nil)
	want := []string{
		`level=INFO msg="Metrics updated: 4 symbols"`,
		`level=INFO msg="Metrics updated: 4 symbols"`,
		`level=WARN msg="the store cannot be read: no metrics of any symbol are shown" reason=other err="redis at 127.0.0.1:1 is out of reach"`,
		`level=WARN msg="the store cannot be read: no metrics of any symbol are shown" reason=auth err="NOAUTH Authentication required."`,
		`level=WARN msg="the store cannot be read: no metrics of any symbol are shown" reason=auth err="NOAUTH Authentication required."`,
		`level=INFO msg="the store can be read again" was=auth`,
		`level=INFO msg="Metrics updated: 4 symbols"`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(log.String()), "\n")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestConstructor(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("an exporter without a reader was made")
	}
	reg := prometheus.NewRegistry()
	o := Options{Reader: fixed(store.Collection{}), Registry: reg}
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); err == nil {
		t.Error("two exporters share one registry")
	}
}

// Any mix of callers sees whole pages, whatever happens to the store.
func TestConcurrentScrapes(t *testing.T) {
	e := goldenExporter(t)
	h := handler(e)
	want := strings.Count(page(t, h), `symbol="BTCUSDT"`)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if got := strings.Count(page(t, h), `symbol="BTCUSDT"`); got != want {
					t.Errorf("%d series of BTCUSDT, want %d", got, want)
				}
			}
		})
	}
	wg.Wait()
}
