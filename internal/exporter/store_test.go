package exporter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"quantumharvest/internal/listen"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

func openStore(t *testing.T, address string, readTimeout time.Duration) *store.Store {
	t.Helper()
	s := store.New(store.Dial(store.ClientOptions{Addr: address, ReadTimeout: readTimeout}), store.NewKeys(store.KeysOptions{}))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func fill(t *testing.T, r *miniredis.Miniredis, p store.Proposal) {
	t.Helper()
	keys := store.NewKeys(store.KeysOptions{})
	r.HSet(keys.Proposal(p.Symbol), store.Encode(p)...)
	if _, err := r.SAdd("quantum:harvest:expected", string(p.Symbol)); err != nil {
		t.Fatal(err)
	}
}

// serve puts the exporter on a port as the program does.
func serve(t *testing.T, e *Exporter) string {
	t.Helper()
	s, err := listen.New(listen.Options{
		Name: "exporter", Address: "127.0.0.1:0", Logger: quiet,
		Handler: listen.NewMux(listen.Pages{
			Title: "Quantum Harvest exporter", Ready: e.Ready,
			Metrics: listen.MetricsHandler(e, listen.MetricsOptions{Registry: e.Registry(), Logger: quiet}),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

func get(t *testing.T, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// Faults 13, 14 and 15: not there yet, there, gone, back and empty, filled again.
func TestRedisComesAndGoes(t *testing.T) {
	r := miniredis.NewMiniRedis()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	address := r.Addr()
	r.Close()
	url := serve(t, newExporter(t, Options{Reader: openStore(t, address, 0), Symbols: []position.Symbol{"ETHUSDT"}}))

	expect := func(when string, ready int, want, not []string) {
		t.Helper()
		_, text, _ := get(t, url+"/metrics")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %s", when, w)
			}
		}
		for _, n := range not {
			if strings.Contains(text, n) {
				t.Errorf("%s: %s on the page", when, n)
			}
		}
		if code, reason, _ := get(t, url+"/-/ready"); code != ready {
			t.Errorf("%s: /-/ready says %d %s, want %d", when, code, reason, ready)
		}
		if code, _, _ := get(t, url+"/health"); code != http.StatusOK {
			t.Errorf("%s: /health says %d", when, code)
		}
	}
	beat := `quantum_harvest_last_update_epoch{symbol="BTCUSDT"} 1769163137` + "\n"
	expect("before Redis", 503, []string{"quantum_harvest_up 0\n", `failures_total{reason="refused"} 1`}, []string{"symbol="})

	r = miniredis.NewMiniRedis()
	if err := r.StartAddr(address); err != nil {
		t.Fatal(err)
	}
	defer func() { r.Close() }()
	fill(t, r, published("BTCUSDT"))
	expect("filled", 200, []string{
		"quantum_harvest_up 1\n", beat,
		`quantum_harvest_proposal_present{symbol="ETHUSDT"} 0`, `quantum_harvest_symbols{state="missing"} 1`,
	}, nil)

	r.Close()
	expect("gone", 503, []string{"quantum_harvest_up 0\n"}, []string{"symbol=", "cache_age"})

	r = miniredis.NewMiniRedis()
	if err := r.StartAddr(address); err != nil {
		t.Fatal(err)
	}
	expect("back and empty", 200, []string{"quantum_harvest_up 1\n", `quantum_harvest_expected{symbol="ETHUSDT"} 1`},
		[]string{"last_update_epoch{", "kill_score{"})
	fill(t, r, published("BTCUSDT"))
	expect("filled again", 200, []string{"quantum_harvest_up 1\n", beat}, nil)

	r.RequireAuth("secret")
	expect("password set", 503, []string{"quantum_harvest_up 0\n", `failures_total{reason="auth"} `}, []string{"symbol=", "secret"})
}

// counted is a Reader that knows how many readings are under way at most.
type counted struct {
	Reader
	now, most, total atomic.Int32
}

func (c *counted) Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error) {
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	defer c.now.Add(-1)
	c.total.Add(1)
	return c.Reader.Collect(ctx, extra)
}

// Fault 16, at its worst: a Redis that accepts and never answers.
func TestSilentRedisKeepsNoScrapeAndPilesUpNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, conn); conn.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })

	// Only the deadline of the scrape can end a reading.
	reader := &counted{Reader: openStore(t, l.Addr().String(), time.Hour)}
	counter := counterFunc(func(ctx context.Context) (map[string]int, error) { <-ctx.Done(); return nil, ctx.Err() })
	e := newExporter(t, Options{Reader: reader, Counter: counter})
	url := serve(t, e)
	var scrapes sync.WaitGroup
	for range 30 {
		scrapes.Go(func() {
			code, text, _ := get(t, url+"/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "0.6")
			busy := code == http.StatusServiceUnavailable // more at once than are let in together
			if !busy && (code != http.StatusOK || !strings.Contains(text, "quantum_harvest_up 0\n")) {
				t.Errorf("scrape: %d %s", code, text)
			}
		})
	}
	scrapes.Wait()
	if reader.most.Load() != 1 {
		t.Errorf("%d readings at the same time, want 1", reader.most.Load())
	}
	if got := failuresByReason(t, e); got["timeout"] == 0 || len(got) != 1 {
		t.Errorf("failures: %v, want timeouts alone", got)
	}
}

// Fault 16: an answer that comes late, but within the deadline, is shown.
func TestSlowStoreWithinTheDeadline(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	e := newExporter(t, Options{Reader: readerFunc(func(ctx context.Context, _ []position.Symbol) (store.Collection, error) {
		close(begun)
		select {
		case <-answer:
			return collection(), nil
		case <-ctx.Done():
			return store.Collection{}, ctx.Err()
		}
	})})
	url := serve(t, e)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, text, _ := get(t, url+"/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "30")
			if !strings.Contains(text, "quantum_harvest_up 1\n") {
				t.Error("not up though the answer came in time")
			}
		})
	}
	<-begun
	for joined := false; !joined; runtime.Gosched() {
		e.reads.mu.Lock()
		joined = e.reads.run.waiting == 8
		e.reads.mu.Unlock()
	}
	close(answer) // a second reading would close begun again and panic
	wg.Wait()
}

// A client that went away says nothing about Redis.
func TestScrapeThatWasGivenUp(t *testing.T) {
	entered := make(chan struct{})
	ended := make(chan struct{})
	e := newExporter(t, Options{Reader: readerFunc(func(ctx context.Context, _ []position.Symbol) (store.Collection, error) {
		defer close(ended)
		close(entered)
		<-ctx.Done()
		return store.Collection{}, ctx.Err()
	})})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _, _ = e.GatherPage(ctx) }()
	<-entered
	cancel()
	<-done
	<-ended
	for free := false; !free; runtime.Gosched() {
		e.reads.mu.Lock()
		free = e.reads.run == nil
		e.reads.mu.Unlock()
	}
	if diff := cmp.Diff(map[string]float64{"canceled": 1}, failuresByReason(t, e)); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

// failuresByReason gives the counts above zero.
func failuresByReason(t *testing.T, e *Exporter) map[string]float64 {
	t.Helper()
	own, err := e.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]float64)
	for _, mf := range own {
		if mf.GetName() != descReadFailures.Name {
			continue
		}
		for _, m := range mf.Metric {
			if v := m.Counter.GetValue(); v > 0 {
				counts[m.Label[0].GetValue()] = v
			}
		}
	}
	return counts
}

var openMetricsLine = regexp.MustCompile(`^(# (HELP|TYPE|UNIT) [a-zA-Z_:][a-zA-Z0-9_:]* .*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="([^"\\\n]|\\[\\n"])*",?)*\})? (NaN|[+-]Inf|-?[0-9.]+(e[+-][0-9]+)?)( # \{.*\} .*)?)$`)

// The same samples in all three formats, each as its format wants it.
func TestFormatsAgree(t *testing.T) {
	h := handler(goldenExporter(t))
	ask := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	ours := func(samples map[string]float64) map[string]float64 {
		for name := range samples {
			if !strings.HasPrefix(name, "quantum_") || strings.Contains(name, "_total") || strings.Contains(name, "read_duration") {
				delete(samples, name) // counters move from scrape to scrape
			}
		}
		return samples
	}
	read := func(text string) map[string]float64 {
		samples := make(map[string]float64)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.HasPrefix(line, "#") {
				var v float64
				i := strings.LastIndexByte(line, ' ')
				if _, err := fmt.Sscan(line[i+1:], &v); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				samples[line[:i]] = v
			}
		}
		return ours(samples)
	}
	plain := read(ask("text/plain").Body.String())
	if len(plain) < 100 {
		t.Fatalf("only %d samples", len(plain))
	}

	open := ask("application/openmetrics-text;version=1.0.0")
	text, whole := strings.CutSuffix(open.Body.String(), "# EOF\n")
	if !whole || !strings.HasPrefix(open.Header().Get("Content-Type"), "application/openmetrics-text; version=1.0.0") {
		t.Fatalf("no OpenMetrics: %s", open.Header().Get("Content-Type"))
	}
	typed := make(map[string]bool)
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		line := scanner.Text()
		if !openMetricsLine.MatchString(line) {
			t.Errorf("no line of OpenMetrics: %q", line)
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if typed[name] && strings.HasPrefix(name, "quantum_") { // the Go runtime's collector has a gauge and a counter of one name
				t.Errorf("%s comes twice", name)
			}
			typed[name] = true
		}
	}
	if diff := cmp.Diff(plain, read(text)); diff != "" {
		t.Errorf("samples (-text +OpenMetrics):\n%s", diff)
	}

	binary := ask("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	dec := expfmt.NewDecoder(binary.Body, expfmt.ResponseFormat(binary.Header()))
	var again strings.Builder
	for {
		var mf dto.MetricFamily
		if err := dec.Decode(&mf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if mf.GetName() == descReadDuration.Name && mf.Metric[0].Histogram.Schema == nil {
			t.Error("no native histogram in protobuf")
		}
		if _, err := expfmt.MetricFamilyToText(&again, &mf); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(plain, read(again.String())); diff != "" {
		t.Errorf("samples (-text +protobuf):\n%s", diff)
	}
}
