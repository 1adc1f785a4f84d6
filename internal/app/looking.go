package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/config"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/flight"
	"quantumharvest/internal/inside"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/tracing"
)

// looking is what looks into a publisher while it runs, each part of it off by default. Nothing of it may hold up or end the
// publisher.
type looking struct {
	debug    *listen.Server   // nil: off
	recorder *flight.Recorder // nil: off
	late     *lateness        // with recorder
	trace    *tracing.Tracer  // nil: off
	log      *slog.Logger
}

// openLooking opens what the settings switch on.
func openLooking(env Env, reg prometheus.Registerer, r *publisherRole, nextPort bool) (_ *looking, err error) {
	c := env.Config
	l := &looking{log: env.Log}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	var window func(io.Writer) (int64, error)
	if c.Debug.Dir != "" {
		if l.recorder, err = flight.Open(flight.Options{Dir: c.Debug.Dir, Log: env.Log, Metrics: reg}); err != nil {
			return nil, err
		}
		window = l.recorder.WriteTo
		l.late = &lateness{interval: c.Heartbeat, save: l.recorder.Save, begun: time.Now()}
		r.pub.late = l.late
	}
	if endpoint := c.Tracing.Endpoint.Reveal(); endpoint != "" {
		headers, err := config.ParseHeaders(c.Tracing.Headers.Reveal())
		if err != nil {
			return nil, fmt.Errorf("traces: OTEL_EXPORTER_OTLP_HEADERS: %w", err)
		}
		l.trace, err = tracing.New(tracing.Options{
			Endpoint: endpoint, Headers: headers, Service: c.Tracing.Service, Instance: r.id, Version: env.Build.Version,
			Sampler: c.Tracing.Sampler, SamplerArg: c.Tracing.SamplerArg, Log: env.Log, Metrics: reg,
		})
		if err != nil {
			return nil, err
		}
		r.pub.trace = l.trace
	}
	l.debug, err = openDebug(env, "Quantum Harvest publisher", func() any { return r.pub.inner() }, window, nextPort)
	return l, err
}

// run serves and watches until ctx ends.
func (l *looking) run(ctx context.Context) {
	var all sync.WaitGroup
	if l.recorder != nil {
		all.Go(func() { l.recorder.Run(ctx) })
		all.Go(func() { l.late.watch(ctx) })
	}
	all.Go(func() { serveDebug(ctx, l.debug, l.log) })
	all.Wait()
}

// close releases what was opened.
func (l *looking) close() {
	if l == nil {
		return
	}
	if l.debug != nil {
		_ = l.debug.Close() // one that was served is closed already
	}
	if l.recorder != nil {
		l.recorder.Close()
	}
	if l.trace != nil {
		l.trace.Close()
	}
}

// openDebug binds the debug port; nil where it is off.
func openDebug(env Env, role string, state func() any, window func(io.Writer) (int64, error), next bool) (*listen.Server, error) {
	c := env.Config
	if !c.Debug.On {
		return nil, nil
	}
	settings := func() any { return c.InForce }
	if env.Settings != nil { // a reload changes them
		settings = func() any { return env.Settings.InForce() }
	}
	return inside.Open(inside.Options{
		Role: role, Port: c.Debug.Port, NextFree: next, WebConfigFile: c.WebConfigFile, Build: env.Build,
		Settings: settings, State: state, Flight: window, Log: env.Log,
	})
}

// serveDebug serves until ctx ends. That it fails is said, and nothing else stops for it.
func serveDebug(ctx context.Context, srv *listen.Server, log *slog.Logger) {
	if srv == nil {
		return
	}
	log.Info("debug pages are served, for this host only", "address", srv.URL()+"/debug")
	if err := srv.Run(ctx); err != nil {
		log.Error("debug pages are not served any more", "err", err)
	}
}

// note tells a trace what moved a symbol.
func note(t *tracing.Tracer, ev feed.Event, now time.Time) {
	switch ev := ev.(type) {
	case feed.Price:
		t.Received(ev.Symbol, tracing.Input{Kind: "price", Event: ev.At, Received: now})
	case feed.Candle:
		t.Received(ev.Symbol, tracing.Input{Kind: "candle", Event: ev.At, Received: now})
	case feed.State:
		t.Received(ev.Symbol, tracing.Input{Kind: "market state", Event: ev.At, Received: now})
	}
}

// lateness tells what a publisher is late with: a beat that came more than an interval after it was due, a batch that was
// under way for longer than two, or was not carried out, and a loop that does not come round at all.
type lateness struct {
	interval time.Duration
	save     func(what, detail string)
	begun    time.Time
	last     atomic.Int64 // of the last beat, in nanoseconds since begun; 0: there was none
}

func (l *lateness) beat(due, now time.Time) {
	l.last.Store(int64(time.Since(l.begun)))
	if due.IsZero() {
		return // the first
	}
	if by := now.Round(0).Sub(due.Round(0)); by > l.interval {
		l.save("late beat", fmt.Sprintf("a heartbeat came %s after it was due", by.Round(time.Millisecond)))
	}
}

func (l *lateness) batch(took time.Duration, err error) {
	switch {
	case err != nil:
		l.save("failed batch", fmt.Sprintf("a batch was not carried out after %s: %v", took.Round(time.Millisecond), err))
	case took > 2*l.interval:
		l.save("slow batch", fmt.Sprintf("a batch took %s", took.Round(time.Millisecond)))
	}
}

// watch looks from outside the loop, which cannot say itself that it stands still.
func (l *lateness) watch(ctx context.Context) {
	every := time.NewTicker(l.interval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if last := time.Duration(l.last.Load()); last > 0 {
			if silent := time.Since(l.begun) - last; silent > 3*l.interval {
				l.save("no beat", fmt.Sprintf("no heartbeat for %s", silent.Round(time.Millisecond)))
			}
		}
	}
}

// innerState is what a publisher shows of itself.
type innerState struct {
	At            time.Time `json:"at"`
	LastBeat      time.Time `json:"last_beat"` // the picture is taken at every beat
	Restored      bool      `json:"restored"`
	Open          int       `json:"open"`
	Advised       int       `json:"advised"`
	Uncovered     int       `json:"uncovered"`
	Refused       int       `json:"refused"`
	EventsWaiting int       `json:"events_waiting"`
	WritingSec    float64   `json:"writing_sec"` // for how long what is urgent has been under way to the store; 0: nothing is
	RoutineSec    float64   `json:"routine_sec"` // the same for heartbeats
	LeasingSec    float64   `json:"leasing_sec"` // and for the lease
	StoreDown     bool      `json:"store_down"`
	Shards        int       `json:"shards"`
	LeasesHeld    int       `json:"leases_held"`
	Publishers    int       `json:"publishers"` // that live, this one included
	Holder        string    `json:"holder"`     // of the first shard that is not held here
	Conflict      string    `json:"conflict"`
	Evaluations   uint64    `json:"evaluations"`
	Publishes     uint64    `json:"publishes"`
	Beats         uint64    `json:"beats"`
	RateLimited   uint64    `json:"rate_limited"`
	Closes        uint64    `json:"closes"`
	Refusals      uint64    `json:"refusals"`
	Repairs       uint64    `json:"repairs"`
	MergedTicks   uint64    `json:"merged_ticks"`
	StoreErrors   uint64    `json:"store_errors"`
	WithoutAdvice []string  `json:"open_without_advice"`
}

func (p *publisher) inner() innerState {
	st := p.engine.Status()
	now := time.Now()
	since := func(at *atomic.Int64) float64 {
		if began := at.Load(); began != 0 {
			return now.Sub(time.Unix(0, began)).Seconds()
		}
		return 0
	}
	s := innerState{
		At: now.UTC(), LastBeat: st.At.UTC(), Restored: st.Restored, Open: st.Open, Advised: st.Advised, Uncovered: st.Uncovered, Refused: len(st.Refused),
		EventsWaiting: p.engine.Waiting(), WritingSec: since(&p.writingSince), RoutineSec: since(&p.routineSince), LeasingSec: since(&p.leasingSince), StoreDown: p.storeDown.Load(),
		Shards: st.Lease.Shards, LeasesHeld: st.Lease.Held, Publishers: st.Lease.Members, Holder: st.Lease.Holder, Conflict: st.Lease.Conflict,
		Evaluations: st.Evaluations, Publishes: st.Publishes, Beats: st.Beats, RateLimited: st.RateLimited, Closes: st.Closes, Refusals: st.Refusals,
		Repairs: st.Repairs, MergedTicks: st.MergedTicks, StoreErrors: st.StoreErrors, WithoutAdvice: []string{},
	}
	for _, sym := range st.Symbols {
		if sym.Open && sym.Covered && sym.Waiting != "" {
			s.WithoutAdvice = append(s.WithoutAdvice, string(sym.Symbol)+": "+sym.Waiting)
		}
	}
	return s
}
