package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/store"
)

// sights are what was seen while we looked.
type sights struct {
	readings []reading // of Redis
	pages    []page    // of the exporter
	ages     []float64 // of the heartbeats, as Prometheus sees them, seconds
	misses   []string  // samples of the age that gave nothing
	faults   []string  // readings that failed
}

type reading struct {
	at time.Time
	c  store.Collection
}

type page struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// look reads Redis and the exporter every second or so, and samples the age of the heartbeat at random moments: sampling
// at the period of the cycle would see the same phase of a sawtooth again and again.
func look(ctx context.Context, o Options) *sights {
	s := &sights{}
	var mu sync.Mutex
	fault := func(err error) {
		if err != nil && ctx.Err() == nil {
			mu.Lock()
			s.faults = append(s.faults, err.Error())
			mu.Unlock()
		}
	}
	end := time.Now().Add(o.Window)
	var all sync.WaitGroup
	repeat := func(pause func() time.Duration, do func()) {
		all.Go(func() {
			for {
				do()
				wait := pause()
				if time.Now().Add(wait).After(end) {
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait):
				}
			}
		})
	}
	often := func() time.Duration { return min(o.Window/10, 900*time.Millisecond) }
	repeat(often, func() {
		c, err := o.Reader.Collect(ctx, o.Symbols)
		if err != nil {
			fault(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		s.readings = append(s.readings, reading{time.Now(), c})
	})
	repeat(often, func() {
		p, err := readPage(ctx, o, o.Exporter+"/metrics")
		if err != nil {
			fault(fmt.Errorf("read the exporter: %w", err))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		s.pages = append(s.pages, p)
	})
	mean := float64(o.Window) / float64(max(o.Samples, MinSamples)+5)
	random := func() time.Duration { return time.Duration(mean * (0.2 + 1.6*rand.Float64())) }
	repeat(random, func() {
		age, err := query(ctx, o, "max(time() - quantum_harvest_last_update_epoch)")
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			s.misses = append(s.misses, err.Error())
		case len(age) == 0:
			s.misses = append(s.misses, "Prometheus has no heartbeat")
		default:
			s.ages = append(s.ages, age[0].value)
		}
	})
	all.Wait()
	return s
}

func fetch(ctx context.Context, o Options, method, address string, body io.Reader) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		if o.Token != "" {
			req.Header.Set("Authorization", "Bearer "+o.Token)
		}
	}
	resp, err := o.Client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return text, resp.StatusCode, err
}

// get reads a page that must be there.
func get(ctx context.Context, o Options, address string) ([]byte, error) {
	text, status, err := fetch(ctx, o, http.MethodGet, address, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answers %d %s", address, status, http.StatusText(status))
	}
	return text, err
}

func readPage(ctx context.Context, o Options, address string) (page, error) {
	text, err := get(ctx, o, address)
	if err != nil {
		return page{}, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		return page{}, fmt.Errorf("%s: %w", address, err)
	}
	return page{time.Now(), families}, nil
}

// value is the sample of a family with these labels; ok is false where there is none.
func (p page) value(name string, labels ...string) (float64, bool) {
	mf := p.families[name]
	for _, m := range mf.GetMetric() {
		if hasLabels(m, labels) {
			switch {
			case m.Gauge != nil:
				return m.Gauge.GetValue(), true
			case m.Counter != nil:
				return m.Counter.GetValue(), true
			case m.Untyped != nil:
				return m.Untyped.GetValue(), true
			}
		}
	}
	return 0, false
}

func hasLabels(m *dto.Metric, pairs []string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		found := false
		for _, l := range m.Label {
			found = found || (l.GetName() == pairs[i] && l.GetValue() == pairs[i+1])
		}
		if !found {
			return false
		}
	}
	return true
}

// total adds the samples of a family with these labels.
func (p page) total(name string, labels ...string) float64 {
	sum := 0.0
	for _, m := range p.families[name].GetMetric() {
		if !hasLabels(m, labels) {
			continue
		}
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
	}
	return sum
}

// result is one sample of a query.
type result struct {
	labels map[string]string
	value  float64
}

// query asks Prometheus.
func query(ctx context.Context, o Options, expr string) ([]result, error) {
	text, err := get(ctx, o, o.Prometheus+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	if answer.Status != "success" {
		return nil, errors.New(answer.Error)
	}
	var all []result
	for _, r := range answer.Data.Result {
		number, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", expr, err)
		}
		all = append(all, result{r.Metric, v})
	}
	return all, nil
}
