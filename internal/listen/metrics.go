package listen

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	defaultScrapeTimeout = 5 * time.Second
	maxScrapeTimeout     = 30 * time.Second // stays under the write timeout of the server
	defaultTimeoutOffset = 500 * time.Millisecond
	defaultMaxInFlight   = 8
	// maxPooledBytes keeps one unusually large answer from staying in memory for good.
	maxPooledBytes = 16 << 20

	scrapeTimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"
)

// MetricsOptions tune a MetricsHandler; the zero value is good.
type MetricsOptions struct {
	// Registry takes the handler's own metrics (see Metrics); nil keeps them to itself.
	Registry prometheus.Registerer
	// Logger takes what could not be gathered; nil is slog.Default.
	Logger *slog.Logger
	// DefaultTimeout is the time for a scrape that does not announce its own; 0 is 5 s.
	DefaultTimeout time.Duration
	// TimeoutOffset is what is taken off an announced timeout, for encoding and the way back; 0 is 500 ms. At least
	// half of the announced time is always used.
	TimeoutOffset time.Duration
	// MaxInFlight is how many scrapes gather and encode at the same time; 0 is 8. More wait, up to their deadline.
	MaxInFlight int
}

type metricsHandler struct {
	gather   func(context.Context) (Page, error)
	logger   *slog.Logger
	timeout  time.Duration
	offset   time.Duration
	slots    chan struct{}
	formats  []expfmt.Format
	scrapes  *prometheus.CounterVec
	inFlight prometheus.Gauge
	answers  sync.Pool // *answer
}

// answer is the scratch space of one scrape. The whole answer is made before its first byte is sent: a slow client
// holds memory, never a place among the scrapes under way.
type answer struct {
	body       bytes.Buffer
	compressed compressor
	gauges     gaugeWriter
}

// MetricsHandler serves what g gathers in the format that the client asks for (text 0.0.4, OpenMetrics, protobuf),
// compressed where it accepts gzip, within the scrape timeout that it announces. In both text formats gauges are plain
// decimals without an exponent. Metrics that cannot be gathered are counted and left out; the others are served.
// The query parameter name[] picks metrics by name.
//
// It panics where Registry already holds metrics of that name.
func MetricsHandler(g prometheus.Gatherer, o MetricsOptions) http.Handler {
	h := &metricsHandler{
		gather: func(context.Context) (Page, error) {
			families, err := g.Gather()
			return Page{Families: families}, err
		},
		logger:  o.Logger,
		timeout: orDefault(o.DefaultTimeout, defaultScrapeTimeout),
		offset:  orDefault(o.TimeoutOffset, defaultTimeoutOffset),
		formats: expfmt.DefaultOpenMetricsAcceptedFormats(),
		scrapes: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: descScrapes.Name, Help: descScrapes.Help}, descScrapes.Labels),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: descInFlight.Name, Help: descInFlight.Help}),
	}
	if pg, ok := g.(PageGatherer); ok {
		h.gather = pg.GatherPage
	}
	if h.logger == nil {
		h.logger = slog.Default()
	}
	slots := o.MaxInFlight
	if slots <= 0 {
		slots = defaultMaxInFlight
	}
	h.slots = make(chan struct{}, slots)
	h.answers.New = func() any { return &answer{} }
	for _, r := range []string{resultOK, resultPartial, resultFailed, resultBusy} {
		h.scrapes.WithLabelValues(r)
	}
	if o.Registry != nil {
		o.Registry.MustRegister(h.scrapes, h.inFlight)
	}
	return h
}

func (h *metricsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.deadline(r.Header))
	defer cancel()

	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		h.scrapes.WithLabelValues(resultBusy).Inc()
		http.Error(w, fmt.Sprintf("%d scrapes are under way already, try again later", cap(h.slots)),
			http.StatusServiceUnavailable)
		return
	}
	a := h.answers.Get().(*answer)
	defer h.release(a)

	format := expfmt.NegotiateAccept(r.Header, h.formats...)
	compress := acceptsGzip(r.Header)
	result, err := h.prepare(ctx, a, format, compress, r.URL.Query()["name[]"])
	h.scrapes.WithLabelValues(result).Inc()
	if err != nil {
		h.logger.Warn("scrape", "result", result, "err", err)
	}
	if result == resultFailed {
		http.Error(w, "no metrics could be gathered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", string(format))
	header.Add("Vary", "Accept")
	header.Add("Vary", "Accept-Encoding")
	if compress {
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	_, _ = w.Write(a.body.Bytes()) // a client that went away is nobody's error
}

// prepare gathers and encodes into a. It holds the place among the scrapes under way, and gives it back.
func (h *metricsHandler) prepare(
	ctx context.Context, a *answer, format expfmt.Format, compress bool, names []string,
) (result string, err error) {
	h.inFlight.Inc()
	defer func() { h.inFlight.Dec(); <-h.slots }()

	page, gatherErr := h.gather(ctx)
	if len(page.Families)+len(page.Gauges) == 0 && gatherErr != nil {
		return resultFailed, gatherErr
	}
	a.body.Reset()
	var hollow error
	page.Families, hollow = withSamples(page.Families)
	var encodeErr error
	if compress {
		a.compressed.begin(&a.body)
		encodeErr = encode(&a.compressed, &a.gauges, page, format, names)
		encodeErr = cmp.Or(encodeErr, a.compressed.close())
	} else {
		encodeErr = encode(&a.body, &a.gauges, page, format, names)
	}
	switch {
	case encodeErr != nil:
		return resultFailed, fmt.Errorf("encode metrics: %w", encodeErr)
	case gatherErr != nil || hollow != nil:
		return resultPartial, errors.Join(gatherErr, hollow)
	}
	return resultOK, nil
}

// withSamples leaves out families without samples, which no format can express: one of them must not cost the page.
func withSamples(families []*dto.MetricFamily) ([]*dto.MetricFamily, error) {
	isHollow := func(mf *dto.MetricFamily) bool { return len(mf.Metric) == 0 }
	i := slices.IndexFunc(families, isHollow)
	if i < 0 {
		return families, nil
	}
	return slices.DeleteFunc(slices.Clone(families), isHollow), fmt.Errorf("%s has no samples", families[i].GetName())
}

func (h *metricsHandler) release(a *answer) {
	if a.compressed.open() {
		_ = a.compressed.close() // whoever made the page panicked, and a block of it may still be on its way
	}
	if a.body.Cap() > maxPooledBytes {
		a.body = bytes.Buffer{}
	}
	a.gauges.out = nil
	h.answers.Put(a)
}

// encode writes a page in format; with names, only the families named.
func encode(out io.Writer, gauges *gaugeWriter, page Page, format expfmt.Format, names []string) error {
	enc := expfmt.NewEncoder(out, format)
	end := func() error { return nil }
	if c, ok := enc.(expfmt.Closer); ok {
		end = c.Close
	}
	gauges.out = out
	kind := format.FormatType()
	ours := kind == expfmt.TypeTextPlain || kind == expfmt.TypeOpenMetrics
	open := kind == expfmt.TypeOpenMetrics
	for _, f := range families(page) {
		if len(names) > 0 && !slices.Contains(names, f.name) {
			continue
		}
		var done bool
		var err error
		switch {
		case !ours:
		case f.gauges != nil:
			done, err = true, gauges.writeGauges(f.gauges, open)
		default:
			done, err = gauges.write(f.message, open)
		}
		if !done {
			err = enc.Encode(f.asMessage())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return end()
}

// family is one of a page, in one form or the other.
type family struct {
	name    string
	message *dto.MetricFamily
	gauges  *Gauges
}

func (f family) asMessage() *dto.MetricFamily {
	if f.gauges != nil {
		return f.gauges.message()
	}
	return f.message
}

// families lists what is on a page in the order of the names.
func families(page Page) []family {
	all := make([]family, 0, len(page.Families)+len(page.Gauges))
	for _, mf := range page.Families {
		all = append(all, family{name: mf.GetName(), message: mf})
	}
	for i := range page.Gauges {
		all = append(all, family{name: page.Gauges[i].Name, gauges: &page.Gauges[i]})
	}
	slices.SortStableFunc(all, func(a, b family) int { return strings.Compare(a.name, b.name) })
	return all
}

// deadline is how long this scrape may take: what the client announces less the offset, else the default.
func (h *metricsHandler) deadline(header http.Header) time.Duration {
	announced, err := strconv.ParseFloat(header.Get(scrapeTimeoutHeader), 64)
	if err != nil || math.IsNaN(announced) || announced <= 0 {
		return h.timeout
	}
	d := maxScrapeTimeout
	if announced < maxScrapeTimeout.Seconds() {
		d = time.Duration(announced * float64(time.Second))
	}
	return max(d-h.offset, d/2)
}

// acceptsGzip reads Accept-Encoding: gzip, or anything, and not excluded by a quality of zero.
func acceptsGzip(header http.Header) bool {
	accepted := false
	for _, field := range strings.Split(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		coding, params, _ := strings.Cut(field, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "*" {
			continue
		}
		wanted := true
		if q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); found {
			quality, err := strconv.ParseFloat(q, 64)
			wanted = err == nil && quality > 0
		}
		if coding == "gzip" {
			return wanted // named outright, which is more than the asterisk
		}
		accepted = wanted
	}
	return accepted
}
