package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

// timeScale is by how much the intervals of the deployment, and with them all rules, are shortened.
const timeScale = 5

// watchedDesk is a publisher and an exporter on a real Redis, watched by a real Prometheus with our rules.
type watchedDesk struct {
	t                   *testing.T
	redis               *realserver.RedisServer // nil where there are several
	where               []string                // settings that say how to reach Redis
	prom                string
	exporter, publisher int // ports
	running             *process
	receiver            *httptest.Server // in place of Alertmanager
}

func openWatchedDesk(t *testing.T, symbols ...position.Symbol) *watchedDesk {
	t.Helper()
	r := realserver.Redis(t)
	d := openWatchedDeskOn(t, dial(t, r.Addr()), []string{"--redis=" + r.URL()}, symbols...)
	d.redis = r
	return d
}

// openWatchedDeskOn is the same on any kind of Redis; where says how to reach it.
func openWatchedDeskOn(t *testing.T, c redis.UniversalClient, where []string, symbols ...position.Symbol) *watchedDesk {
	t.Helper()
	d := &watchedDesk{t: t, where: where, exporter: realserver.FreePort(t), publisher: realserver.FreePort(t)}
	seed(t, c, symbols...)
	trade(t, c, symbols...)
	d.publish()
	start(t, config.Export, app.Export, append([]string{fmt.Sprintf("--metrics-port=%d", d.exporter)}, where...)...)

	text, err := rules.Render(rules.Defaults().Scale(timeScale))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(realserver.Dir(t), rules.FileName)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	self := realserver.FreePort(t)
	d.receiver = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(d.receiver.Close)
	conf := "rule_files: ['" + file + "']\nalerting: {alertmanagers: [{static_configs: [{targets: ['" + d.receiver.Listener.Addr().String() + "']}]}]}\nscrape_configs:\n"
	for job, port := range map[string]int{rules.JobExporter: d.exporter, rules.JobPublisher: d.publisher, "prometheus": self} {
		conf += fmt.Sprintf("- job_name: %s\n  static_configs: [{targets: ['127.0.0.1:%d']}]\n", job, port)
	}
	d.prom = runPrometheus(t, self, conf)
	return d
}

// publish starts the publisher, with limits that are shortened like the rules about them.
func (d *watchedDesk) publish() {
	th := rules.Defaults().Scale(timeScale)
	d.running = start(d.t, config.Publish, app.Publish, append([]string{
		fmt.Sprintf("--publisher-port=%d", d.publisher), "--publish-interval-sec=2",
		fmt.Sprintf("--market-stale-sec=%v", th.MarketStale.Seconds()), fmt.Sprintf("--position-stale-sec=%v", th.PositionAge.Seconds()),
		fmt.Sprintf("--max-publish-age-sec=%v", th.PublishAge.Seconds()),
	}, d.where...)...)
}

// trade keeps the newest candle of each symbol moving until the test ends.
func trade(t *testing.T, c redis.UniversalClient, symbols ...position.Symbol) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	last := map[position.Symbol]float64{}
	for _, sym := range symbols {
		v, err := c.HGet(ctx, "quantum:state:positions:"+string(sym), "current_price").Float64()
		if err != nil {
			t.Fatal(err)
		}
		last[sym] = v
	}
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			open := time.Now().Truncate(time.Minute).UnixMilli()
			pipe := c.Pipeline()
			for sym, price := range last {
				key, at := "candles:"+string(sym)+":1m", strconv.FormatInt(open, 10)
				price *= 1 + 0.0001*float64(i%5)
				pipe.ZRemRangeByScore(ctx, key, at, at)
				pipe.ZAdd(ctx, key, redis.Z{Score: float64(open), Member: fmt.Sprintf(`{"t":%d,"o":%v,"h":%v,"l":%v,"c":%v}`, open, price, price, price, price)})
			}
			_, _ = pipe.Exec(ctx) // a Redis that is away is part of the test
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
}

// instant asks an instant query and returns labels and values.
func (d *watchedDesk) instant(expr string) (labels []map[string]string, values []float64, err error) {
	resp, err := http.Get(d.prom + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, nil, err
	}
	if answer.Status != "success" {
		return nil, nil, fmt.Errorf("%s", answer.Error)
	}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return nil, nil, err
		}
		labels, values = append(labels, r.Metric), append(values, v)
	}
	return labels, values, nil
}

// firing is the names of the alerts that fire.
func (d *watchedDesk) firing() ([]string, error) {
	labels, _, err := d.instant(`count by (alertname) (ALERTS{alertstate="firing"})`)
	var names []string
	for _, l := range labels {
		names = append(names, l["alertname"])
	}
	slices.Sort(names)
	return names, err
}

// unhealthy are those among the firing alerts that must not fire in a system that is in order.
func unhealthy(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return !strings.Contains(n, "Harvest") || strings.HasPrefix(n, "QuantumHarvestKillScore")
	})
}

// quiet fails while anything fires that must not in a system that is in order.
func (d *watchedDesk) quiet() error {
	names, err := d.firing()
	if err == nil && (len(unhealthy(names)) > 0 || !slices.Contains(names, "Watchdog")) {
		err = fmt.Errorf("firing: %v", names)
	}
	return err
}

// inHealth waits until every symbol beats and nothing fires.
func (d *watchedDesk) inHealth(symbols int) {
	d.t.Helper()
	eventually(d.t, 60*time.Second, func() error {
		if _, v, err := d.instant("count(changes(quantum_harvest_last_update_epoch[10s]) > 2)"); err != nil || len(v) == 0 || v[0] != float64(symbols) {
			return fmt.Errorf("heartbeats: %v %v", v, err)
		}
		return d.quiet()
	})
}

// fires waits for an alert.
func (d *watchedDesk) fires(name string, within time.Duration, since time.Time) {
	d.t.Helper()
	eventually(d.t, within, func() error {
		names, err := d.firing()
		if err == nil && !slices.Contains(names, name) {
			err = fmt.Errorf("%s does not fire: %v", name, names)
		}
		return err
	})
	d.t.Logf("%s fires after %.1f s, at %d times the speed", name, time.Since(since).Seconds(), timeScale)
}

// shippedQueries are the questions of every panel of the dashboards that users take, by where they are asked.
func shippedQueries(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/dashboards/*.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	all := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr, RefID string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all[d.Title+", "+p.Title+", "+q.RefID] = q.Expr
			}
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d queries in %v", len(all), files)
	}
	return all
}

func finite(d *watchedDesk, expr string, symbols []position.Symbol) error {
	labels, values, err := d.instant(strings.ReplaceAll(expr, "$symbol", ".+"))
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return fmt.Errorf("no answer")
	}
	seen := map[string]bool{}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%v is %v", labels[i], v)
		}
		seen[labels[i]["symbol"]] = true
	}
	for _, sym := range symbols {
		if strings.Contains(expr, "by (symbol)") && !seen[string(sym)] {
			return fmt.Errorf("nothing about %s", sym)
		}
	}
	return nil
}

// In health every panel has its answers, no alert about the desk fires, and both pages are as Prometheus wants them.
func TestAWatchedDeskInHealth(t *testing.T) {
	t.Parallel()
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	queries := shippedQueries(t)
	d := openWatchedDesk(t, symbols...)
	eventually(t, 120*time.Second, func() error {
		for where, expr := range queries {
			if err := finite(d, expr, symbols); err != nil {
				return fmt.Errorf("%s: %w\n%s", where, err, expr)
			}
		}
		return nil
	})
	// Long enough for what waits at most a minute, five times as fast.
	for range 30 {
		names, err := d.firing()
		if err != nil {
			t.Fatal(err)
		}
		if bad := unhealthy(names); len(bad) > 0 {
			t.Fatalf("in health these fire: %v", bad)
		}
		time.Sleep(500 * time.Millisecond)
	}
	if names, err := d.firing(); err != nil || !slices.Contains(names, "Watchdog") {
		t.Errorf("the watchdog does not fire: %v, %v", names, err)
	}
	_, own := get(t, d.prom+"/metrics")
	theirs := regexp.MustCompile(`\bprometheus_[a-z_]+`)
	for _, a := range rules.Alerts() {
		for _, name := range theirs.FindAllString(a.Expr, -1) {
			if !strings.Contains(own, "# TYPE "+name+" ") {
				t.Errorf("%s asks for %s, which Prometheus does not export", a.Name, name)
			}
		}
	}
	for _, port := range []int{d.exporter, d.publisher} {
		_, page := get(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		cmd := exec.Command(realserver.Tool(t, "promtool"), "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics, port %d: %v\n%s", port, err, out)
		}
	}
}

// Faults 17, 13, 8, 12 and 24, at five times the speed: what fires, how soon, and that all is quiet again after the repair.
func TestAlertsOfAWatchedDesk(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		return
	}
	t.Parallel()
	d := openWatchedDesk(t, "BTCUSDT", "ETHUSDT")
	scaled := func(s float64) time.Duration { return time.Duration(s / timeScale * float64(time.Second)) }
	// A loaded machine may be late by a scrape and an evaluation; nothing else is added to the bounds.
	const late = 4 * time.Second
	quiet, fires := d.quiet, d.fires
	d.inHealth(2)

	begin := time.Now()
	if err := d.running.end(); err != nil {
		t.Fatal(err)
	}
	fires("QuantumHarvestHeartbeatLost", scaled(45)+late, begin)
	fires("QuantumHarvestMetricsStale", scaled(160)+late-time.Since(begin), begin)
	d.publish()
	begin = time.Now()
	eventually(t, scaled(60)+late, quiet)
	t.Logf("quiet %.1f s after the publisher is back", time.Since(begin).Seconds())

	begin = time.Now()
	d.redis.Pause()
	fires("QuantumHarvestStoreDown", scaled(45)+late, begin)
	d.redis.Continue()
	begin = time.Now()
	eventually(t, scaled(60)+late, quiet)
	t.Logf("quiet %.1f s after Redis is back", time.Since(begin).Seconds())

	c := dial(t, d.redis.Addr())
	key := "quantum:state:positions:BTCUSDT"
	entry := c.HGet(t.Context(), key, "entry_price").Val()
	begin = time.Now()
	c.HSet(t.Context(), key, "entry_price", "0")
	fires("QuantumHarvestInputRefused", scaled(60)+late, begin)
	c.HSet(t.Context(), key, "entry_price", entry)
	begin = time.Now()
	eventually(t, scaled(60)+late, quiet)
	t.Logf("quiet %.1f s after the record is good again", time.Since(begin).Seconds())

	begin = time.Now()
	c.Set(t.Context(), "quantum:harvest:proposal:ETHUSDT", "text", 0)
	fires("QuantumHarvestStoreErrors", scaled(60)+late, begin)
	eventually(t, scaled(60)+late, quiet)

	begin = time.Now()
	d.receiver.Close()
	fires("QuantumHarvestNotificationsFailing", scaled(120)+late, begin)
}
