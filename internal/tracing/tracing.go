// Package tracing follows what leads to a proposal, from the moment its price was taken in to the moment the store confirmed
// it, and hands what it saw to an OpenTelemetry receiver. It only watches: the desk never waits for it, and what cannot be
// handed over is dropped and counted.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"quantumharvest/internal/position"
)

const (
	// mostWaiting bounds the spans that wait for the receiver.
	mostWaiting = 4096
	// exportEvery and exportTimeout bound how old a span gets before it is sent, and how long one attempt may take.
	exportEvery   = 2 * time.Second
	exportTimeout = 10 * time.Second
	// stopWithin is how long the end of the run waits for what is left.
	stopWithin = 3 * time.Second
	// mostOfBatch bounds the proposals of one batch that are followed: a start with ten thousand symbols is not ten thousand
	// stories worth telling.
	mostOfBatch = 64
	// sayEvery is how often a receiver that does not answer is mentioned in the log.
	sayEvery = time.Minute
)

// Options say where spans go, and which.
type Options struct {
	Endpoint   string // base URL of an OTLP receiver over HTTP; never blank
	Headers    map[string]string
	Service    string
	Instance   string // the publisher
	Version    string
	Sampler    string // a name that OpenTelemetry defines
	SamplerArg float64
	Log        *slog.Logger
	Metrics    prometheus.Registerer

	exportEvery time.Duration // tests
}

// Tracer follows proposals. Its methods may be called from any goroutine.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	queue    *queue

	mu     sync.Mutex
	inputs map[position.Symbol]Input
}

// Input is what moved a symbol last.
type Input struct {
	Kind     string    // "price", "candle", "market state"
	Event    time.Time // its own time
	Received time.Time // when it reached this process
}

// New prepares the way to the receiver; it does not connect.
func New(o Options) (*Tracer, error) {
	sampler, err := samplerOf(o.Sampler, o.SamplerArg)
	if err != nil {
		return nil, err
	}
	// Certificates and timeouts come from the standard variables, which the library reads itself.
	exporter, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(o.Endpoint, "/")+"/v1/traces"), otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	every := exportEvery
	if o.exportEvery > 0 {
		every = o.exportEvery
	}
	q := newQueue(exporter, o.Log, o.Metrics)
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(q.out(), sdktrace.WithMaxQueueSize(2*mostWaiting), sdktrace.WithBatchTimeout(every),
		sdktrace.WithExportTimeout(exportTimeout))
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(q), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", o.Service), attribute.String("service.instance.id", o.Instance), attribute.String("service.version", o.Version),
	)))
	return &Tracer{
		provider: provider, tracer: provider.Tracer("quantumharvest"), queue: q, inputs: make(map[position.Symbol]Input),
	}, nil
}

// samplerOf gives the sampler of that name.
func samplerOf(name string, share float64) (sdktrace.Sampler, error) {
	// Every trace of ours begins here, so that there never is a parent: both forms mean the same.
	switch strings.TrimPrefix(name, "parentbased_") {
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(share), nil
	}
	return nil, fmt.Errorf("traces: there is no sampler %q", name)
}

// Received notes what moved a symbol. Of several the newest counts: it is the one that is evaluated.
func (t *Tracer) Received(symbol position.Symbol, in Input) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inputs[symbol] = in
}

// take gives what moved a symbol before that moment, once.
func (t *Tracer) take(symbol position.Symbol, before time.Time) (Input, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in, ok := t.inputs[symbol]
	if !ok || in.Received.After(before) {
		return Input{}, false
	}
	delete(t.inputs, symbol)
	return in, true
}

// Close hands over what is left, for a few seconds at most.
func (t *Tracer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.queue.say(err)
	}
}

// queue stands before the library's: it knows how many spans wait and drops what is beyond that.
type queue struct {
	sdktrace.SpanProcessor
	exporter sdktrace.SpanExporter
	log      *slog.Logger
	waiting  atomic.Int64
	spans    *prometheus.CounterVec

	mu   sync.Mutex
	said time.Time
}

// What becomes of a span.
const (
	sent    = "sent"
	dropped = "dropped" // too many waited
	failed  = "failed"  // the receiver did not take it
)

// Spans is the metric of the traces.
func Spans() *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quantum_harvest_trace_spans_total",
		Help: "Spans of OpenTelemetry traces by what became of them: sent, dropped (too many waited), failed (the receiver did not take them).",
	}, []string{"result"})
	for _, result := range []string{sent, dropped, failed} {
		c.WithLabelValues(result)
	}
	return c
}

func newQueue(exporter sdktrace.SpanExporter, log *slog.Logger, reg prometheus.Registerer) *queue {
	q := &queue{exporter: exporter, log: log, spans: Spans()}
	if reg != nil {
		reg.MustRegister(q.spans)
	}
	return q
}

// OnEnd takes a span or drops it; it never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > mostWaiting {
		q.waiting.Add(-1)
		q.spans.WithLabelValues(dropped).Inc()
		return
	}
	q.SpanProcessor.OnEnd(s)
}

func (q *queue) say(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); now.Sub(q.said) >= sayEvery {
		q.said = now
		q.log.Warn("traces do not reach their receiver: they are dropped, the desk goes on", "err", err)
	}
}

// out is the exporter behind the library's queue.
func (q *queue) out() sdktrace.SpanExporter { return counted{q} }

// counted is an exporter that counts what became of spans.
type counted struct{ q *queue }

func (c counted) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.q.exporter.ExportSpans(ctx, spans)
	c.q.waiting.Add(-int64(len(spans)))
	if err != nil {
		c.q.spans.WithLabelValues(failed).Add(float64(len(spans)))
		c.q.say(err)
		return nil // said here; the library would print it past the log
	}
	c.q.spans.WithLabelValues(sent).Add(float64(len(spans)))
	return nil
}

func (c counted) Shutdown(ctx context.Context) error { return c.q.exporter.Shutdown(ctx) }
