package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Batch is one batch on its way to the store.
type Batch struct {
	t          *Tracer
	begin, end time.Time // of the step that made it
	sent, back time.Time
	publishes  int
	beats      int
	stories    []story
}

// story is what is known of one proposal of the batch. index is its place among the publishes.
type story struct {
	index  int
	input  Input // its zero value: nothing that came in; a beat, or time that went by
	reason string
}

// Begin follows the proposals of a batch that a step from begin to end made; why is the gate's reason for each. It returns nil
// where there is nothing to follow, and every method of nil does nothing.
func (t *Tracer) Begin(b *store.Batch, begin, end time.Time, why func(position.Symbol) string) *Batch {
	if len(b.Publishes) == 0 {
		return nil
	}
	out := &Batch{t: t, begin: begin, end: end, publishes: len(b.Publishes), beats: len(b.Beats)}
	for i := range b.Publishes[:min(len(b.Publishes), mostOfBatch)] {
		p := &b.Publishes[i]
		in, _ := t.take(p.Symbol, begin)
		out.stories = append(out.stories, story{index: i, input: in, reason: why(p.Symbol)})
	}
	return out
}

// Sent and Back note when the batch went out and when its answer was there.
func (b *Batch) Sent(at time.Time) {
	if b != nil {
		b.sent = at
	}
}

// Back notes when the answer was there.
func (b *Batch) Back(at time.Time) {
	if b != nil {
		b.back = at
	}
}

// Confirmed tells the stories, with what the store said.
func (b *Batch) Confirmed(batch *store.Batch, res store.Results, err error, at time.Time) {
	if b == nil {
		return
	}
	for _, s := range b.stories {
		var r store.Result
		if err == nil && s.index < len(res.Publishes) {
			r = res.Publishes[s.index]
		}
		b.tell(s, &batch.Publishes[s.index], r, res.RoundTrips, err, at)
	}
}

// tell makes the spans of one proposal, with the times that were noted.
func (b *Batch) tell(s story, p *store.Proposal, r store.Result, trips int, err error, at time.Time) {
	began := b.begin
	if !s.input.Received.IsZero() {
		began = s.input.Received
	}
	ctx, root := b.t.tracer.Start(context.Background(), "proposal", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindInternal))
	defer root.End(trace.WithTimestamp(at))
	if !root.IsRecording() {
		return // not in the sample
	}
	child := func(name string, from, to time.Time, attrs ...attribute.KeyValue) {
		_, span := b.t.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attrs...))
		if name == "round trip" && err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End(trace.WithTimestamp(to))
	}
	root.SetAttributes(
		attribute.String("harvest.symbol", string(p.Symbol)), attribute.String("harvest.action", string(p.Action)),
		attribute.String("harvest.episode", p.Episode), attribute.String("harvest.publish_reason", s.reason),
	)
	if !s.input.Received.IsZero() {
		in := attribute.String("harvest.input", s.input.Kind)
		event := attribute.String("harvest.event_time", s.input.Event.UTC().Format(time.RFC3339Nano))
		root.SetAttributes(in, event)
		child("tick", s.input.Received, b.begin, in, event)
	}
	child("evaluate", b.begin, b.end)
	child("gate", b.end, b.end, attribute.String("harvest.publish_reason", s.reason), attribute.String("harvest.action", string(p.Action)))
	child("batch", b.end, b.sent, attribute.Int("harvest.batch.publishes", b.publishes), attribute.Int("harvest.batch.beats", b.beats))
	child("round trip", b.sent, b.back, attribute.Int("harvest.round_trips", trips))
	outcome := string(r.Outcome)
	if err != nil {
		outcome = "error"
	}
	child("confirm", b.back, at, attribute.String("harvest.outcome", outcome))
	root.SetAttributes(attribute.String("harvest.outcome", outcome))
	if r.Outcome == store.Done {
		root.SetAttributes(attribute.Int64("harvest.revision", r.Revision))
	} else {
		root.SetStatus(codes.Error, outcome)
	}
}
