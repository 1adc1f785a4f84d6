// Package exporter shows what the store holds as Prometheus metrics. It reads at every scrape and keeps nothing: where
// the store cannot be read there are no metrics of any symbol, and quantum_harvest_up says so. Scrapes at the same time
// share one reading, and every scrape keeps to its deadline.
//
// A field that is missing or cannot be read has no sample and is counted; no value is ever made up.
package exporter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/listen"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// gatherTimeout bounds a gathering that brings no deadline of its own.
const gatherTimeout = 5 * time.Second

// Reader reads everything that the store holds: of the expected symbols and of those in extra.
type Reader interface {
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
}

// PositionCounter counts the open positions at their source, by the name of the source, independently of whoever
// publishes proposals for them.
type PositionCounter interface {
	OpenPositions(ctx context.Context) (map[string]int, error)
}

// Build says what the program was built from.
type Build struct{ Version, Revision, GoVersion string }

// Options are what an Exporter needs.
type Options struct {
	Reader Reader
	// Symbols are shown as expected, too: a publisher of the earlier deployment keeps no expected set.
	Symbols []position.Symbol
	// Counter counts positions at their source; nil leaves the metric out.
	Counter PositionCounter
	// PollInterval is how often at most a scrape is logged; 0 is 5 s.
	PollInterval time.Duration
	// Registry takes the exporter's own metrics and those of the Go runtime and the process, and is part of what is
	// gathered; nil is a new one.
	Registry *prometheus.Registry
	Logger   *slog.Logger // nil is slog.Default
	Build    Build
	Now      func() time.Time // nil is time.Now
	// Recheck is how long a proposal that was whole at the last scrape and is not at this one is given to come back
	// before it is shown as missing: somewhat longer than a heartbeat, within which a publisher repairs it. The wait ends
	// in time for the scrape. 0: no time.
	Recheck time.Duration
}

// Exporter gathers the metrics of what the store holds.
type Exporter struct {
	reader   Reader
	symbols  atomic.Pointer[[]position.Symbol] // sorted
	interval time.Duration
	recheck  time.Duration
	whole    []position.Symbol // with a whole proposal at the last reading, sorted; belongs to the run of a reading
	registry *prometheus.Registry
	logger   *slog.Logger
	now      func() time.Time
	bits     fieldBits

	reads  shared[*snapshot]
	counts *shared[map[string]int] // nil where nobody counts

	shared        prometheus.Counter
	attempts      prometheus.Counter
	failures      *prometheus.CounterVec
	duration      prometheus.Histogram
	badFields     *prometheus.CounterVec
	symbolErrors  *prometheus.CounterVec
	derived       prometheus.Counter
	countFailures *prometheus.CounterVec

	mu       sync.Mutex
	failing  reason    // of the last reading, blank where it succeeded
	loggedAt time.Time // the last line about a good scrape
	warnedAt time.Time // the last line about a failed reading
	blindAt  time.Time // the last line about an unreadable expected set
	partlyAt time.Time // the last line about a part that is out of reach
	last     Last
}

// Last is what came of the last page that was made.
type Last struct {
	At      time.Time // the zero time: none was made yet
	Symbols int       // that it showed
	Failed  string    // why the store could not be read; blank where it was
}

// Last tells what came of the last page that was made, by whoever asked for it.
func (e *Exporter) Last() Last {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *Exporter) noteLast(s *snapshot, err error) {
	last := Last{At: e.now()}
	if err != nil {
		last.Failed = classifyRead(err).explanation()
	} else {
		last.Symbols = len(s.Entries)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = last
}

// New makes an Exporter and registers its own metrics.
func New(o Options) (*Exporter, error) {
	if o.Reader == nil {
		return nil, fmt.Errorf("exporter: no reader")
	}
	e := &Exporter{
		reader:   o.Reader,
		interval: o.PollInterval,
		recheck:  o.Recheck,
		registry: o.Registry,
		logger:   o.Logger,
		now:      o.Now,
		bits:     newFieldBits(),

		shared:       newCounter(descShared),
		attempts:     newCounter(descReads),
		failures:     newCounterVec(descReadFailures),
		badFields:    newCounterVec(descBadFields),
		symbolErrors: newCounterVec(descSymbolErrors),
		derived:      newCounter(descDerived),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: descReadDuration.Name, Help: descReadDuration.Help,
			Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		countFailures: newCounterVec(descCountFailures),
	}
	e.SetSymbols(o.Symbols)
	if e.interval <= 0 {
		e.interval = 5 * time.Second
	}
	if e.registry == nil {
		e.registry = prometheus.NewRegistry()
	}
	if e.logger == nil {
		e.logger = slog.Default()
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.reads.read = e.read
	if o.Counter != nil {
		e.counts = &shared[map[string]int]{read: e.countWith(o.Counter)}
	}
	for _, r := range readReasons {
		e.failures.WithLabelValues(string(r))
		e.countFailures.WithLabelValues(string(r))
	}
	for _, r := range symbolReasons {
		e.symbolErrors.WithLabelValues(string(r))
	}
	for _, name := range store.FieldNames() {
		for _, kind := range []store.ProblemKind{store.FieldMissing, store.FieldUnparsable} {
			e.badFields.WithLabelValues(name, string(kind))
		}
	}
	e.badFields.WithLabelValues("schema_version", string(store.FieldNewer))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: descBuildInfo.Name, Help: descBuildInfo.Help}, descBuildInfo.Labels)
	build.WithLabelValues(labelText(o.Build.Version), labelText(o.Build.Revision), labelText(o.Build.GoVersion)).Set(1)

	own := []prometheus.Collector{
		e.shared, e.attempts, e.failures, e.duration, e.badFields, e.symbolErrors, e.derived, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	if e.counts != nil {
		own = append(own, e.countFailures)
	}
	for _, c := range own {
		if err := e.registry.Register(c); err != nil {
			return nil, fmt.Errorf("exporter: register metrics: %w", err)
		}
	}
	return e, nil
}

// SetSymbols says which symbols are shown beside the expected ones, from the next reading on.
func (e *Exporter) SetSymbols(symbols []position.Symbol) {
	sorted := slices.Compact(slices.Sorted(slices.Values(symbols)))
	e.symbols.Store(&sorted)
}

func newCounter(d Desc) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: d.Name, Help: d.Help})
}

func newCounterVec(d Desc) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
}

// Registry is where the exporter's own metrics are, for others that are shown on the same page.
func (e *Exporter) Registry() *prometheus.Registry { return e.registry }

// Gather is GatherPage within 5 s, as messages. It makes the Exporter a prometheus.Gatherer.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	page, err := e.GatherPage(ctx)
	return page.Messages(), err
}

// GatherPage reads the store and gives everything there is to show. A store that cannot be read by the end of ctx is no
// error: it shows as quantum_harvest_up 0.
func (e *Exporter) GatherPage(ctx context.Context) (listen.Page, error) {
	var f families
	counted := e.beginCount(ctx)
	s, joined, err := e.reads.get(ctx)
	if joined {
		e.shared.Inc()
	}
	if err != nil {
		f.one(&descUp, 0)
	} else {
		e.logScrape(s)
		f.one(&descUp, 1)
		f.one(&descCacheAge, max(0, e.now().Sub(s.readAt).Seconds()))
		f.one(&descRoundTrip, s.RTT.Seconds())
		if !s.ServerTime.IsZero() {
			f.one(&descClockOffset, s.offset.Seconds())
		}
		f.symbols(s, e.bits)
		f.leases(&s.Lease)
	}
	f.positions(<-counted)

	own, gatherErr := e.registry.Gather()
	e.noteLast(s, err)
	return listen.Page{Families: own, Gauges: f}, gatherErr
}

// Ready tells whether the store can be read now, and if not why.
func (e *Exporter) Ready(ctx context.Context) (ok bool, reason string) {
	if _, _, err := e.reads.get(ctx); err != nil {
		return false, classifyRead(err).explanation()
	}
	return true, ""
}

// read is one reading of the store, with everything that is counted once per reading and not once per scrape.
func (e *Exporter) read(ctx context.Context) (*snapshot, error) {
	c, start, end, err := e.collect(ctx)
	for again := 0; err == nil && again < rechecks && e.wait(ctx, c, end.Sub(start)); again++ {
		c, start, end, err = e.collect(ctx)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			// The last one who waited left because the time was up, and was a moment faster than the clock of the run.
			err = fmt.Errorf("%w: %v", context.DeadlineExceeded, err)
		}
		r := classifyRead(err)
		e.failures.WithLabelValues(string(r)).Inc()
		e.logFailure(r, err, end)
		return nil, err
	}
	e.logRecovery()
	e.remember(c)

	// A series that is there twice would make Prometheus refuse the whole page.
	slices.SortStableFunc(c.Entries, func(a, b store.Entry) int { return cmp.Compare(a.Symbol, b.Symbol) })
	c.Entries = slices.CompactFunc(c.Entries, func(a, b store.Entry) bool { return a.Symbol == b.Symbol })
	s := &snapshot{
		Collection: c,
		expected:   slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.Expected, *e.symbols.Load())))),
		readAt:     end,
		// The clock was read half way through the first round trip.
		offset: c.ServerTime.Sub(start.Add(c.RTT / 2)),
	}
	e.count(s)
	return s, nil
}

func (e *Exporter) count(s *snapshot) {
	if s.ExpectedErr != nil {
		e.symbolErrors.WithLabelValues(string(classifySymbol(s.ExpectedErr))).Inc()
		e.logExpected(s)
	}
	lost, why := 0, s.LeaseErr
	for i := range s.Entries {
		entry := &s.Entries[i]
		if entry.Err != nil {
			if entry.Lost {
				lost, why = lost+1, entry.Err
			}
			e.symbolErrors.WithLabelValues(string(classifyEntry(entry))).Inc()
			e.logger.Debug("a proposal cannot be read", "symbol", entry.Symbol, "err", entry.Err)
			continue
		}
		if entry.Proposal.LastUpdateDerived {
			e.derived.Inc()
		}
		for _, p := range entry.Problems {
			e.badFields.WithLabelValues(p.Field, string(p.Kind)).Inc()
		}
	}
	if why != nil {
		e.logLost(s, lost, why)
	}
}

// beginCount counts the positions beside the reading of the store. The channel gives one map, nil where there is
// nothing to show, no later than half way to the end of ctx: the count must not cost the scrape its deadline.
func (e *Exporter) beginCount(ctx context.Context) <-chan map[string]int {
	counted := make(chan map[string]int, 1)
	if e.counts == nil {
		counted <- nil
		return counted
	}
	cancel := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	go func() {
		defer cancel()
		open, _, err := e.counts.get(ctx)
		if err != nil {
			open = nil // counted and logged by the run itself
		}
		counted <- open
	}()
	return counted
}

func (e *Exporter) countWith(counter PositionCounter) func(context.Context) (map[string]int, error) {
	return func(ctx context.Context) (map[string]int, error) {
		open, err := counter.OpenPositions(ctx)
		if err != nil {
			e.countFailures.WithLabelValues(string(classifyRead(err))).Inc()
			e.logger.Debug("open positions cannot be counted", "err", err)
			return nil, err
		}
		return open, nil
	}
}

// positions adds the counts by source. Two names that shorten to the same label are one source.
func (f *families) positions(open map[string]int) {
	byLabel := make(map[string]int, len(open))
	for source, n := range open {
		byLabel[labelText(source)] += n
	}
	var samples []listen.Sample
	for _, source := range slices.Sorted(maps.Keys(byLabel)) {
		samples = append(samples, with(float64(byLabel[source]), "source", source))
	}
	f.few(&descOpenPositions, samples...)
}

// logScrape leaves the line that operators look for, at most once every interval.
func (e *Exporter) logScrape(s *snapshot) {
	e.mu.Lock()
	due := s.readAt.Sub(e.loggedAt) >= e.interval
	if due {
		e.loggedAt = s.readAt
	}
	e.mu.Unlock()
	if !due {
		return
	}
	found := 0
	for i := range s.Entries {
		if s.Entries[i].Found {
			found++
		}
	}
	e.logger.Info(fmt.Sprintf("Metrics updated: %d symbols", found))
}

// warnEvery is how often a failure that goes on is logged again.
const warnEvery = time.Minute

func (e *Exporter) logFailure(r reason, err error, now time.Time) {
	if r == reasonCanceled {
		return // says nothing about the store
	}
	e.mu.Lock()
	due := e.failing != r || now.Sub(e.warnedAt) >= warnEvery
	e.failing = r
	if due {
		e.warnedAt = now
	}
	e.mu.Unlock()
	if due {
		e.logger.Warn("the store cannot be read: no metrics of any symbol are shown", "reason", string(r), "err", err)
	}
}

func (e *Exporter) logExpected(s *snapshot) {
	e.mu.Lock()
	due := s.readAt.Sub(e.blindAt) >= warnEvery
	if due {
		e.blindAt = s.readAt
	}
	e.mu.Unlock()
	if due {
		e.logger.Warn("the set of expected symbols cannot be read: only those of SYMBOLS are shown", "err", s.ExpectedErr)
	}
}

// logLost says that a part of the store is out of reach.
func (e *Exporter) logLost(s *snapshot, symbols int, why error) {
	e.mu.Lock()
	due := s.readAt.Sub(e.partlyAt) >= warnEvery
	if due {
		e.partlyAt = s.readAt
	}
	e.mu.Unlock()
	if due {
		e.logger.Warn("a part of the store cannot be read: there are no metrics of some symbols", "symbols", symbols, "lease", s.LeaseErr == nil, "err", why)
	}
}

func (e *Exporter) logRecovery() {
	e.mu.Lock()
	was := e.failing
	e.failing = ""
	e.mu.Unlock()
	if was != "" {
		e.logger.Info("the store can be read again", "was", string(was))
	}
}
