package tracing

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// receiver is an OTLP receiver over HTTP.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []*otlp.Span
	service string
	header  http.Header
	path    string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body io.Reader = req.Body
		if req.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(req.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = unzipped
		}
		content, err := io.ReadAll(body)
		var message collector.ExportTraceServiceRequest
		if err = errors.Join(err, proto.Unmarshal(content, &message)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.header, r.path = req.Header.Clone(), req.URL.Path
		for _, rs := range message.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					r.service = a.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				r.spans = append(r.spans, ss.Spans...)
			}
		}
		answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func newTracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	o.Service, o.exportEvery = "desk", 10*time.Millisecond
	if o.Sampler == "" {
		o.Sampler = "parentbased_always_on"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// walk lets one proposal of a symbol go all the way.
func walk(tr *Tracer, symbol position.Symbol, at time.Time, ms ...int) {
	when := func(i int) time.Time { return at.Add(time.Duration(ms[i]) * time.Millisecond) }
	tr.Received(symbol, Input{Kind: "price", Event: at.Add(-time.Second), Received: when(0)})
	batch := store.Batch{Publishes: []store.Proposal{{Symbol: symbol, Action: kernel.ActionFullClose, Episode: "e1"}}}
	b := tr.Begin(&batch, when(1), when(2), func(position.Symbol) string { return "action_changed" })
	b.Sent(when(3))
	b.Back(when(4))
	b.Confirmed(&batch, store.Results{RoundTrips: 1, Publishes: []store.Result{{Symbol: symbol, Outcome: store.Done, Revision: 7}}}, nil, when(5))
}

// A price leaves one trace from the moment it was taken in to the moment the store confirmed what it led to.
func TestTrace(t *testing.T) {
	rec := newReceiver(t)
	tr := newTracer(t, Options{Endpoint: rec.URL + "/", Headers: map[string]string{"Authorization": "Bearer s3cret"}})
	at := time.Now()
	walk(tr, "BTCUSDT", at, 0, 2, 3, 4, 9, 10)
	tr.Close()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.path != "/v1/traces" || rec.header.Get("Authorization") != "Bearer s3cret" || rec.service != "desk" {
		t.Errorf("%s, %v, service %s", rec.path, rec.header, rec.service)
	}
	attrs := func(s *otlp.Span) map[string]string {
		m := map[string]string{}
		for _, a := range s.Attributes {
			m[a.Key] = fmt.Sprint(a.Value.GetStringValue(), a.Value.GetIntValue())
		}
		return m
	}
	var root *otlp.Span
	for _, s := range rec.spans {
		if s.Name == "proposal" {
			root = s
		}
	}
	if root == nil {
		t.Fatalf("no root among %v", rec.spans)
	}
	a := attrs(root)
	if a["harvest.symbol"] != "BTCUSDT0" || a["harvest.action"] != "FULL_CLOSE_PROPOSED0" || !strings.HasSuffix(a["harvest.revision"], "7") ||
		a["harvest.publish_reason"] != "action_changed0" || !strings.HasPrefix(a["harvest.event_time"], at.Add(-time.Second).UTC().Format("2006-01-02T15:04")) {
		t.Errorf("root has %v", a)
	}
	length := map[string]time.Duration{}
	for _, s := range rec.spans {
		length[s.Name] = time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano)
		if s != root && (string(s.ParentSpanId) != string(root.SpanId) || string(s.TraceId) != string(root.TraceId)) {
			t.Errorf("%s is not a child of the root", s.Name)
		}
	}
	for name, ms := range map[string]int{"proposal": 10, "tick": 2, "evaluate": 1, "gate": 0, "batch": 1, "round trip": 5, "confirm": 1} {
		if got, ok := length[name]; !ok || got != time.Duration(ms)*time.Millisecond {
			t.Errorf("%s took %v, want %d ms", name, got, ms)
		}
	}
	if len(length) != 7 {
		t.Errorf("spans: %v", length)
	}
}

// A price that arrives after the step began belongs to the next one, and one is told of once only.
func TestInputsBelongToTheirStep(t *testing.T) {
	tr := newTracer(t, Options{Endpoint: "http://127.0.0.1:1", Sampler: "always_off"})
	defer tr.Close()
	at := time.Now()
	tr.Received("A", Input{Received: at.Add(time.Second)})
	if _, ok := tr.take("A", at); ok {
		t.Error("a price of later was taken")
	}
	if _, ok := tr.take("A", at.Add(time.Second)); !ok {
		t.Error("it is lost")
	}
	if _, ok := tr.take("A", at.Add(time.Second)); ok {
		t.Error("it was taken twice")
	}
}

// What the store refuses, and a store that is away, are errors in the trace.
func TestFailedWrites(t *testing.T) {
	rec := newReceiver(t)
	tr := newTracer(t, Options{Endpoint: rec.URL})
	at := time.Now()
	batch := store.Batch{Publishes: []store.Proposal{{Symbol: "A"}}}
	for _, c := range []struct {
		res store.Results
		err error
	}{{store.Results{Publishes: []store.Result{{Outcome: store.Fenced}}}, nil}, {store.Results{}, errors.New("away")}} {
		b := tr.Begin(&batch, at, at, func(position.Symbol) string { return "first" })
		b.Sent(at)
		b.Back(at)
		b.Confirmed(&batch, c.res, c.err, at)
	}
	tr.Close()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var said []string
	for _, s := range rec.spans {
		if s.Name == "proposal" {
			said = append(said, s.Status.GetCode().String()+" "+s.Status.GetMessage())
		}
	}
	slices.Sort(said)
	if want := []string{"STATUS_CODE_ERROR error", "STATUS_CODE_ERROR fenced"}; !slices.Equal(said, want) {
		t.Errorf("got %q, want %q", said, want)
	}
}

// A receiver that takes connections and never answers costs nothing but what waits in a bounded queue.
func TestDeadReceiver(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(release)
	tr := newTracer(t, Options{Endpoint: srv.URL})
	for range 3 * mostWaiting / 7 {
		walk(tr, "BTCUSDT", time.Now(), 0, 2, 3, 4, 9, 10)
	}
	if n := tr.queue.waiting.Load(); n > mostWaiting {
		t.Errorf("%d spans wait", n)
	}
	if n := testutil.ToFloat64(tr.queue.spans.WithLabelValues(dropped)); n < mostWaiting {
		t.Errorf("%v spans were dropped", n)
	}
	begin := time.Now()
	tr.Close()
	if took := time.Since(begin); took > 4*stopWithin {
		t.Errorf("the end waited %s for it", took)
	}
}

// Refused spans are counted, and said once in a while.
func TestRefusingReceiver(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }))
	defer srv.Close()
	var log livetest.Buffer
	tr := newTracer(t, Options{Endpoint: srv.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer tr.Close()
	for range 3 {
		walk(tr, "BTCUSDT", time.Now(), 0, 2, 3, 4, 9, 10)
		livetest.Eventually(t, 30*time.Second, func() error {
			if n := tr.queue.waiting.Load(); n > 0 {
				return fmt.Errorf("%d spans wait", n)
			}
			return nil
		})
	}
	if n := testutil.ToFloat64(tr.queue.spans.WithLabelValues(failed)); n != 21 {
		t.Errorf("%v spans failed, want 21", n)
	}
	if n := strings.Count(log.String(), "do not reach"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

func TestSampler(t *testing.T) {
	for _, name := range []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"} {
		if _, err := samplerOf(name, 0.5); err != nil {
			t.Error(err)
		}
	}
	if _, err := samplerOf("sometimes", 1); err == nil {
		t.Error("a sampler that does not exist is accepted")
	}
	rec := newReceiver(t)
	tr := newTracer(t, Options{Endpoint: rec.URL, Sampler: "traceidratio", SamplerArg: 0})
	walk(tr, "BTCUSDT", time.Now(), 0, 2, 3, 4, 9, 10)
	tr.Close()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.spans) > 0 {
		t.Errorf("%d spans of a share of 0", len(rec.spans))
	}
}

// Nobody who does not trace pays for it.
func TestOffCostsNothing(t *testing.T) {
	var b *Batch
	batch := &store.Batch{Publishes: make([]store.Proposal, 3)}
	var res store.Results
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		b.Sent(now)
		b.Back(now)
		b.Confirmed(batch, res, nil, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
