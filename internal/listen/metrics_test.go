package listen

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

var quiet = slog.New(slog.DiscardHandler)

func testRegistry() *prometheus.Registry {
	reg := prometheus.NewPedanticRegistry()
	epoch := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "epoch", Help: "An epoch."}, []string{"symbol"})
	epoch.WithLabelValues("BTCUSDT").Set(1769129938)
	work := prometheus.NewCounter(prometheus.CounterOpts{Name: "work_total", Help: "Work."})
	work.Add(3)
	took := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "took_seconds", Help: "Time.", Buckets: []float64{0.1, 1},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})
	took.Observe(0.5)
	reg.MustRegister(epoch, work, took)
	return reg
}

func scrape(t *testing.T, h http.Handler, header map[string]string, query string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics"+query, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestMetricsNegotiation(t *testing.T) {
	const prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
	h := MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})
	tests := []struct {
		name, accept, wantType string
		wantText               []string
	}{
		{"nothing asked", "", "text/plain; version=0.0.4", []string{"epoch{symbol=\"BTCUSDT\"} 1769129938\n", "work_total 3\n", "took_seconds_bucket{le=\"1\"} 1\n"}},
		{"curl", "*/*", "text/plain; version=0.0.4", []string{"epoch{symbol=\"BTCUSDT\"} 1769129938\n"}},
		{"browser", "text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4", nil},
		{"prometheus", prometheus3, "application/openmetrics-text; version=1.0.0", []string{"epoch{symbol=\"BTCUSDT\"} 1769129938\n", "# TYPE work counter\n", "# EOF\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := scrape(t, h, map[string]string{"Accept": tt.accept}, "")
			if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), tt.wantType) {
				t.Fatalf("got %d %q, want 200 %q", w.Code, w.Header().Get("Content-Type"), tt.wantType)
			}
			for _, want := range tt.wantText {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("no %q in\n%s", want, w.Body.String())
				}
			}
		})
	}
}

func TestMetricsAsProtobufCarryNativeHistograms(t *testing.T) {
	h := MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})
	w := scrape(t, h, map[string]string{
		"Accept": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
	}, "")
	dec := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	native := false
	for {
		var mf dto.MetricFamily
		if err := dec.Decode(&mf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if mf.GetName() == "took_seconds" {
			hist := mf.Metric[0].Histogram
			native = hist.Schema != nil && len(hist.PositiveSpan) > 0 && len(hist.Bucket) == 2
		}
	}
	if !native {
		t.Error("no native histogram beside the classic buckets")
	}
}

func TestMetricsCompression(t *testing.T) {
	h := MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})
	plain := scrape(t, h, nil, "").Body.String()
	for range 3 { // the writers are used again
		w := scrape(t, h, map[string]string{"Accept-Encoding": "deflate, gzip;q=0.5"}, "")
		if got := w.Header().Get("Content-Encoding"); got != "gzip" {
			t.Fatalf("content encoding %q, want gzip", got)
		}
		zr, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(zr)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain, string(body)); diff != "" {
			t.Errorf("unpacked (-plain +gzip):\n%s", diff)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	tests := map[string]bool{
		"": false, "gzip": true, "GZIP": true, "identity": false, "gzip;q=0": false, "gzip; q=0.0": false,
		"gzip; q=0.1": true, "*": true, "*;q=0": false, "gzip;q=0, *": false, "*;q=0,gzip": true, "br, gzip": true,
		"gzip;q=x": false, "xgzip": false, ",;,": false,
	}
	for field, want := range tests {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {field}}); got != want {
			t.Errorf("acceptsGzip(%q) = %v, want %v", field, got, want)
		}
	}
}

func FuzzAcceptsGzip(f *testing.F) {
	for _, s := range []string{"", "gzip", "gzip;q=0", "*;q=0.5, gzip;q=0.0", "br;q=1.0, *;q=0", "gzip;;q=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if acceptsGzip(http.Header{"Accept-Encoding": {s}}) && !strings.Contains(strings.ToLower(s), "gzip") && !strings.Contains(s, "*") {
			t.Errorf("gzip accepted by %q", s)
		}
	})
}

func TestMetricsByName(t *testing.T) {
	h := MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})
	got := scrape(t, h, nil, "?name[]=work_total&name[]=absent").Body.String()
	if want := "# HELP work_total Work.\n# TYPE work_total counter\nwork_total 3\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type gathererFunc func(context.Context) ([]*dto.MetricFamily, error)

func (f gathererFunc) Gather() ([]*dto.MetricFamily, error) { return f(context.Background()) }
func (f gathererFunc) GatherPage(ctx context.Context) (Page, error) {
	families, err := f(ctx)
	return Page{Families: families}, err
}

func TestMetricsGatherErrors(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	some := []*dto.MetricFamily{gauge("g", "G.", sample(1))}
	var families []*dto.MetricFamily
	var gatherErr error
	h := MetricsHandler(gathererFunc(func(context.Context) ([]*dto.MetricFamily, error) { return families, gatherErr }),
		MetricsOptions{Registry: reg, Logger: quiet})

	gatherErr = errors.New("a collector failed")
	if w := scrape(t, h, nil, ""); w.Code != http.StatusInternalServerError {
		t.Errorf("nothing gathered: got %d, want 500", w.Code)
	}
	families = some
	if w := scrape(t, h, nil, ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "g 1\n") {
		t.Errorf("partly gathered: got %d %q, want what there is", w.Code, w.Body.String())
	}
	gatherErr = nil
	scrape(t, h, nil, "")
	families = []*dto.MetricFamily{gauge("empty", "no samples"), some[0]}
	if w := scrape(t, h, nil, ""); w.Code != http.StatusOK || w.Body.String() != "# HELP g G.\n# TYPE g gauge\ng 1\n" {
		t.Errorf("with a family without samples: got %d %q, want the others", w.Code, w.Body.String())
	}
	families = []*dto.MetricFamily{gauge("hollow", "no value", &dto.Metric{})}
	if w := scrape(t, h, map[string]string{"Accept-Encoding": "gzip"}, ""); w.Code != http.StatusInternalServerError || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("cannot be encoded: got %d, encoding %q, want a plain 500", w.Code, w.Header().Get("Content-Encoding"))
	}
	want := `
# HELP quantum_harvest_scrapes_in_flight Scrapes of this port under way, the one that shows this included.
# TYPE quantum_harvest_scrapes_in_flight gauge
quantum_harvest_scrapes_in_flight 0
# HELP quantum_harvest_scrapes_total Scrapes of this port by result: ok, partial (some metrics could not be gathered), failed, busy (too many at once).
# TYPE quantum_harvest_scrapes_total counter
quantum_harvest_scrapes_total{result="busy"} 0
quantum_harvest_scrapes_total{result="failed"} 2
quantum_harvest_scrapes_total{result="ok"} 1
quantum_harvest_scrapes_total{result="partial"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	if len(Metrics) != 2 {
		t.Errorf("the table lists %d metrics, the registry has 2", len(Metrics))
	}
}

func TestScrapeDeadline(t *testing.T) {
	h := MetricsHandler(testRegistry(), MetricsOptions{}).(*metricsHandler)
	tests := []struct {
		header string
		want   time.Duration
	}{
		{"", 5 * time.Second},
		{"10", 9500 * time.Millisecond},
		{"0.6", 300 * time.Millisecond},
		{"3600", 29500 * time.Millisecond},
		{"1e300", 29500 * time.Millisecond},
		{"-1", 5 * time.Second},
		{"0", 5 * time.Second},
		{"NaN", 5 * time.Second},
		{"soon", 5 * time.Second},
	}
	for _, tt := range tests {
		if got := h.deadline(http.Header{scrapeTimeoutHeader: {tt.header}}); got != tt.want {
			t.Errorf("deadline(%q) = %v, want %v", tt.header, got, tt.want)
		}
	}
}

func TestScrapeDeadlineReachesTheGatherer(t *testing.T) {
	h := MetricsHandler(gathererFunc(func(ctx context.Context) ([]*dto.MetricFamily, error) {
		<-ctx.Done() // ends only with the deadline of the scrape
		return []*dto.MetricFamily{gauge("up", "Up.", sample(0))}, nil
	}), MetricsOptions{Logger: quiet})
	w := scrape(t, h, map[string]string{scrapeTimeoutHeader: "0.02"}, "")
	if !strings.Contains(w.Body.String(), "up 0\n") {
		t.Errorf("got %d %q", w.Code, w.Body.String())
	}
}

func TestScrapesAboveTheLimitWaitForTheirDeadline(t *testing.T) {
	reg := prometheus.NewRegistry()
	entered, leave := make(chan struct{}), make(chan struct{})
	h := MetricsHandler(gathererFunc(func(context.Context) ([]*dto.MetricFamily, error) {
		entered <- struct{}{}
		<-leave
		return []*dto.MetricFamily{gauge("g", "G.", sample(1))}, nil
	}), MetricsOptions{Registry: reg, Logger: quiet, MaxInFlight: 1})

	first := make(chan int)
	go func() { first <- scrape(t, h, nil, "").Code }()
	<-entered
	if w := scrape(t, h, map[string]string{scrapeTimeoutHeader: "0.02"}, ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("second scrape: got %d, want 503", w.Code)
	}
	patient := make(chan int)
	go func() { patient <- scrape(t, h, map[string]string{scrapeTimeoutHeader: "30"}, "").Code }()
	leave <- struct{}{}
	if got := <-first; got != http.StatusOK {
		t.Errorf("first scrape: got %d, want 200", got)
	}
	<-entered // the place went to the one that waited
	leave <- struct{}{}
	if got := <-patient; got != http.StatusOK {
		t.Errorf("patient scrape: got %d, want 200", got)
	}
	if n := testutil.ToFloat64(h.(*metricsHandler).scrapes.WithLabelValues(resultBusy)); n != 1 {
		t.Errorf("%v scrapes counted as busy, want 1", n)
	}
}

func BenchmarkTextGauges(b *testing.B) {
	mf := gauge("quantum_harvest_kill_score", "K.")
	for range 1000 {
		mf.Metric = append(mf.Metric, sample(0.4381624613, "symbol", "BTCUSDT"))
	}
	var out bytes.Buffer
	w := gaugeWriter{out: &out}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if done, err := w.write(mf, false); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}

// brittle gives a page that ends in a panic, or not.
type brittle struct{ breaks bool }

func (b *brittle) Gather() ([]*dto.MetricFamily, error) { return nil, nil }

func (b *brittle) GatherPage(context.Context) (Page, error) {
	return Page{Gauges: []Gauges{{Name: "long", Samples: func(yield func(Sample) bool) {
		for i := range 20_000 {
			if !yield(Sample{Value: float64(i)}) {
				return
			}
		}
		if b.breaks {
			panic("a page that breaks")
		}
	}}}}, nil
}

// A page that panics half way leaves nothing behind that the next one could meet.
func TestPanicHalfWay(t *testing.T) {
	b := &brittle{}
	h := MetricsHandler(b, MetricsOptions{})
	for range 4 {
		b.breaks = true
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			scrape(t, h, map[string]string{"Accept-Encoding": "gzip"}, "")
		}()
		b.breaks = false
		w := scrape(t, h, map[string]string{"Accept-Encoding": "gzip"}, "")
		zr, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(zr)
		if lines := strings.Count(string(page), "\nlong "); err != nil || lines != 20_000 {
			t.Fatalf("%d lines, %v", lines, err)
		}
	}
}
