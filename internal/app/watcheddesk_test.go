package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

// timeScale is by how much the intervals of the deployment, and with them all rules, are shortened.
const timeScale = 5

// watchedDesk is a publisher and an exporter on a real Redis, watched by a real Prometheus with our rules.
type watchedDesk struct {
	t          *testing.T
	redis      *realserver.RedisServer // nil where there are several
	where      []string                // settings that say how to reach Redis
	prom       string
	exporter   int   // port
	publishers []int // ports
	running    []*process
	receiver   *httptest.Server // in place of Alertmanager
}

// openWatchedDesk starts all of it, with so many publishers that share one prefix. The last position is short.
func openWatchedDesk(t *testing.T, publishers int, symbols ...position.Symbol) *watchedDesk {
	t.Helper()
	r := realserver.Redis(t)
	d := openWatchedDeskOn(t, dial(t, r.Addr()), []string{"--redis=" + r.URL()}, publishers, symbols...)
	d.redis = r
	return d
}

// openWatchedDeskOn is the same on any kind of Redis; where says how to reach it.
func openWatchedDeskOn(t *testing.T, c redis.UniversalClient, where []string, publishers int, symbols ...position.Symbol) *watchedDesk {
	t.Helper()
	d := &watchedDesk{t: t, where: where, exporter: realserver.FreePort(t)}
	seed(t, c, symbols...)
	goShort(t, c, symbols[len(symbols)-1])
	trade(t, c, symbols...)
	for i := range publishers {
		d.publishers, d.running = append(d.publishers, realserver.FreePort(t)), append(d.running, nil)
		d.publish(i)
	}
	start(t, config.Export, app.Export, append([]string{fmt.Sprintf("--metrics-port=%d", d.exporter)}, where...)...)

	d.watch(rules.Defaults().Scale(timeScale))
	return d
}

// watch starts Prometheus with our rules, on what runs, and something in place of Alertmanager.
func (d *watchedDesk) watch(th rules.Thresholds) {
	t := d.t
	t.Helper()
	text, err := rules.Render(th)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(realserver.Dir(t), rules.FileName)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	self := realserver.FreePort(t)
	d.receiver = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(func() { d.receiver.Close() })
	conf := "rule_files: ['" + file + "']\nalerting: {alertmanagers: [{static_configs: [{targets: ['" + d.receiver.Listener.Addr().String() + "']}]}]}\nscrape_configs:\n"
	for job, ports := range map[string][]int{rules.JobExporter: {d.exporter}, rules.JobPublisher: d.publishers, "prometheus": {self}} {
		var targets []string
		for _, port := range ports {
			targets = append(targets, fmt.Sprintf("'127.0.0.1:%d'", port))
		}
		conf += fmt.Sprintf("- job_name: %s\n  static_configs: [{targets: [%s]}]\n", job, strings.Join(targets, ", "))
	}
	d.prom = runPrometheus(t, self, th, conf)
}

// publish starts a publisher, with limits that are shortened like the rules about them.
func (d *watchedDesk) publish(i int, more ...string) {
	th := rules.Defaults().Scale(timeScale)
	d.running[i] = start(d.t, config.Publish, app.Publish, append([]string{
		fmt.Sprintf("--publisher-port=%d", d.publishers[i]), fmt.Sprintf("--publisher-id=desk-%d", i),
		fmt.Sprintf("--market-stale-sec=%v", th.MarketStale.Seconds()), fmt.Sprintf("--position-stale-sec=%v", th.PositionAge.Seconds()),
		fmt.Sprintf("--max-publish-age-sec=%v", th.PublishAge.Seconds()), "--publish-interval-sec=2", "--lease-interval-sec=0.5",
	}, slices.Concat(d.where, more)...)...)
}

// end stops a publisher.
func (d *watchedDesk) end(i int) {
	d.t.Helper()
	if err := d.running[i].end(); err != nil {
		d.t.Fatal(err)
	}
}

// holder is the number of the publisher that holds the lease, as Prometheus sees it.
func (d *watchedDesk) holder() (int, error) {
	labels, _, err := d.instant("quantum_harvest_lease_info")
	if err != nil {
		return 0, err
	}
	if len(labels) != 1 {
		return 0, fmt.Errorf("holders: %v", labels)
	}
	var i int
	_, err = fmt.Sscanf(labels[0]["holder"], "desk-%d", &i)
	return i, err
}

// goShort turns a position round, with the same profit.
func goShort(t *testing.T, c redis.UniversalClient, sym position.Symbol) {
	t.Helper()
	key := "quantum:state:positions:" + string(sym)
	price, err := c.HGet(t.Context(), key, "current_price").Float64()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.HSet(t.Context(), key, "side", "SHORT", "entry_price", price*1.03).Err(); err != nil {
		t.Fatal(err)
	}
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

// calm looks for a while, and fails as soon as an alert about the desk fires that is not named.
func (d *watchedDesk) calm(looks int, but ...string) {
	d.t.Helper()
	for range looks {
		names, err := d.firing()
		if err != nil {
			d.t.Fatal(err)
		}
		bad := slices.DeleteFunc(unhealthy(names), func(n string) bool { return slices.Contains(but, n) })
		if len(bad) > 0 {
			d.t.Fatalf("these fire: %v", bad)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// late is what a loaded machine may add to a bound: a scrape and an evaluation.
const late = 4 * time.Second

// scaled is a time of the fault table at the speed of the desk.
func scaled(seconds float64) time.Duration {
	return time.Duration(seconds / timeScale * float64(time.Second))
}

// quiet tells that no alert about the desk fires, and that the watchdog does.
func (d *watchedDesk) quiet() error {
	names, err := d.firing()
	if err == nil && (len(unhealthy(names)) > 0 || !slices.Contains(names, "Watchdog")) {
		err = fmt.Errorf("firing: %v", names)
	}
	return err
}

// fires waits until an alert does, for a time that is counted from the fault.
func (d *watchedDesk) fires(name string, within time.Duration, since time.Time) {
	d.t.Helper()
	livetest.Eventually(d.t, within-time.Since(since), func() error {
		names, err := d.firing()
		if err == nil && !slices.Contains(names, name) {
			err = fmt.Errorf("%s does not fire: %v", name, names)
		}
		return err
	})
	d.t.Logf("%s fires after %.1f s", name, time.Since(since).Seconds())
}

// clears waits until nothing fires, for as long as it may take after a repair.
func (d *watchedDesk) clears(after string) {
	d.t.Helper()
	begin := time.Now()
	livetest.Eventually(d.t, scaled(60)+late, d.quiet)
	d.t.Logf("quiet %.1f s after %s", time.Since(begin).Seconds(), after)
}

// steady waits until the heartbeats of so many symbols are known and nothing fires.
func (d *watchedDesk) steady(symbols float64) {
	d.t.Helper()
	livetest.Eventually(d.t, 60*time.Second, func() error {
		if _, v, err := d.instant("count(changes(quantum_harvest_last_update_epoch[10s]) > 2)"); err != nil || len(v) == 0 || v[0] != symbols {
			return fmt.Errorf("heartbeats: %v %v", v, err)
		}
		return d.quiet()
	})
}
