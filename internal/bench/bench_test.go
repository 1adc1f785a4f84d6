package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/exporter"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// page is the exporter's, as app makes it.
func page(s *store.Store) (http.Handler, error) {
	e, err := exporter.New(exporter.Options{Reader: s, Registry: prometheus.NewRegistry()})
	if err != nil {
		return nil, err
	}
	return listen.MetricsHandler(e, listen.MetricsOptions{}), nil
}

// on gives a run against a real redis-server.
func on(t testing.TB, e Effort) *run {
	t.Helper()
	server := realserver.Redis(t)
	return &run{prefix: ownPrefix(), Options: Options{Effort: e, Parts: Parts{
		Dial: func() redis.UniversalClient { return store.Dial(store.ClientOptions{Addr: server.Addr()}) },
		Page: page,
	}}}
}

// little is an effort that says nothing about speed.
var little = Effort{Rounds: 2, Round: time.Millisecond, Symbols: [2]int{10, 20}}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.99, 10},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0, 1},
	} {
		if got := quantile(slices.Clone(c.values), c.q); got != c.want {
			t.Errorf("quantile %v of %v is %v, want %v", c.q, c.values, got, c.want)
		}
	}
}

func TestFiguresOfTheKernelAllocateNothing(t *testing.T) {
	r := &run{Options: Options{Effort: little}}
	if err := measureKernel(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	names := []string{"state_next_ns", "state_revise_ns", "state_cold_ns", "propose_ns"}
	for i, f := range r.figures {
		if f.Name != names[i] || f.Value == nil || *f.Value <= 0 || f.Target == nil || f.Allocs != nil && *f.Allocs != 0 {
			t.Errorf("%+v", f)
		}
	}
	if len(r.figures) != len(names) {
		t.Errorf("%d figures", len(r.figures))
	}
}

// Everything that is written stands below one prefix and is gone afterwards; what others have is as it was.
func TestCyclesLeaveNothingBehind(t *testing.T) {
	r := on(t, little)
	client := r.Dial()
	defer client.Close()
	if err := client.Set(t.Context(), "quantum:harvest:proposal:BTCUSDT", "theirs", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := measureCycles(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if keys := client.Keys(t.Context(), "*").Val(); len(keys) != 1 {
		t.Errorf("left behind: %v", keys)
	}
	var names []string
	for _, f := range r.figures {
		names = append(names, f.Name)
		if f.Value == nil || *f.Value <= 0 || f.Ratio == nil || f.Rival == "" {
			t.Errorf("%+v", f)
		}
	}
	want := "cycle_10_full_ratio cycle_10_full_ms scrape_10_ratio scrape_10_ms cycle_10_beat_ratio cycle_10_beat_ms " +
		"cycle_20_full_ratio cycle_20_full_ms scrape_20_ratio scrape_20_ms"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("figures %s", got)
	}
}

// The raw rival sends what the step sent, batch by batch.
func TestTheRivalSendsTheSame(t *testing.T) {
	r := on(t, little)
	for eps, pipes := range map[float64]int{0: 1, 1: 6} {
		err := r.within(t.Context(), "rival", func(client redis.UniversalClient, prefix string) error {
			c, err := newCycle(t.Context(), client, prefix, 600, eps)
			if err != nil {
				return err
			}
			w, err := c.recorded(t.Context())
			if err != nil {
				return err
			}
			commands, keys := 0, map[string]bool{}
			for _, pipe := range c.rec.pipes {
				commands += len(pipe)
				for _, args := range pipe {
					keys[*args[3].(*string)] = true // behind EVALSHA, the script and the number of keys
				}
			}
			if w.publishes+w.beats != 600 || commands != 600 || len(keys) != 600 || len(c.rec.pipes) != pipes {
				t.Errorf("%+v, recorded %d commands for %d keys in %d pipelines", w, commands, len(keys), len(c.rec.pipes))
			}
			return c.raw(t.Context(), 1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestARunThatIsCalledOffCleansUp(t *testing.T) {
	r := on(t, little)
	ctx, cancel := context.WithCancel(t.Context())
	r.Options.Begin = func(stage string, _, _ int) {
		if stage == "cycles" {
			time.AfterFunc(30*time.Millisecond, cancel)
		}
	}
	r.Options.Effort.Symbols = [2]int{2000, 20_000}
	figures, err := Run(ctx, r.Options)
	if !errors.Is(err, context.Canceled) || len(figures) < 4 {
		t.Errorf("%d figures, %v", len(figures), err)
	}
	client := r.Dial()
	defer client.Close()
	if keys := client.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("%d keys were left behind", len(keys))
	}
}

func TestWhatCannotBeReachedIsSaid(t *testing.T) {
	o := Options{Effort: little, Parts: Parts{
		Page: page,
		Dial: func() redis.UniversalClient {
			return store.Dial(store.ClientOptions{Addr: fmt.Sprintf("127.0.0.1:%d", realserver.FreePort(t)), DialTimeout: time.Second})
		},
	}}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
}

func TestMemoryNow(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		if _, err := memoryNow(os.Getpid()); err == nil {
			t.Error("there is no /proc")
		}
		return
	}
	if m, err := memoryNow(os.Getpid()); err != nil || m.own < 1<<20 || m.resident < m.own {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := memoryNow(-1); err == nil {
		t.Error("no process has that number")
	}
}

func TestTable(t *testing.T) {
	got := Table([]Figure{
		{Name: "state_next_ns", Value: ptr(4711), Unit: "ns", Target: ptr(5000), Rival: "from closes", Ratio: ptr(0.137), Allocs: ptr(0)},
		{Name: "propose_ns", Value: ptr(151), Unit: "ns", Target: ptr(150), Allocs: ptr(1)},
		{Name: "cycle_ratio", Value: ptr(1.25), Unit: "1", Target: ptr(1.3), Rival: "raw", Ratio: ptr(1.25)},
		{Name: "rss_mb", Unit: "MB", Target: ptr(25), Note: "there is no /proc"},
		{Name: "cycle_ms", Value: ptr(12.34), Unit: "ms"},
	})
	for _, want := range []string{"met, 0 allocs", "0.14 [1]", "MISSED, 1 allocs", "1.25 [2]", "not measured", "rss_mb: there is no /proc", "[2] raw", "12.3"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing:\n%s", want, got)
		}
	}
}

func TestFiguresAsJSON(t *testing.T) {
	text, err := json.Marshal(Figure{Name: "x", Value: ptr(1.5), Unit: "ms"})
	if err != nil || string(text) != `{"name":"x","value":1.5,"unit":"ms","target":null,"rival":"","ratio":null}` {
		t.Errorf("%s, %v", text, err)
	}
}

// BenchmarkCycle compares a whole cycle of 1,000 symbols (prices and positions in, evaluation, gate, encoding, round
// trips, confirmation) with sending the same scripts and bytes raw, in turns, so that both meet the same machine.
func BenchmarkCycle(b *testing.B) {
	for name, eps := range map[string]float64{"publish": 0, "beat": 1} {
		b.Run(name, func(b *testing.B) {
			r := on(b, little)
			client := r.Dial()
			defer client.Close()
			c, err := newCycle(b.Context(), client, r.prefix, 1000, eps)
			if err != nil {
				b.Fatal(err)
			}
			var d duel
			for b.Loop() {
				one, err := c.compare(b.Context(), 1, eps == 1)
				if err != nil {
					b.Fatal(err)
				}
				d.ours, d.theirs = append(d.ours, one.ours...), append(d.theirs, one.theirs...)
			}
			b.ReportMetric(1e3*quantile(slices.Clone(d.ours), 0.5), "cycle-ms")
			b.ReportMetric(1e3*quantile(slices.Clone(d.theirs), 0.5), "raw-ms")
			b.ReportMetric(d.ratio(), "ratio")
		})
	}
}

// BenchmarkScrape is a whole scrape of 1,000 symbols, in turns with reading the same hashes.
func BenchmarkScrape(b *testing.B) {
	r := on(b, little)
	client := r.Dial()
	defer client.Close()
	c, err := newCycle(b.Context(), client, r.prefix, 1000, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := r.measureScrape(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	var ratios, times []float64
	for _, f := range r.figures {
		if strings.HasSuffix(f.Name, "_ratio") {
			ratios = append(ratios, *f.Value)
		} else {
			times = append(times, *f.Value)
		}
	}
	b.ReportMetric(quantile(ratios, 0.5), "ratio")
	b.ReportMetric(quantile(times, 0.5), "scrape-ms")
}
