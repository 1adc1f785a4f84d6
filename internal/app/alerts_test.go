package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

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
	counted := strings.HasPrefix(expr, "count(") // over the symbols
	for _, sym := range symbols {
		if strings.Contains(expr, "by (symbol)") && !counted && !seen[string(sym)] {
			return fmt.Errorf("nothing about %s", sym)
		}
	}
	return nil
}

// With a publisher and one that stands by every panel has its answers, no alert about the desk fires, and the pages are
// as Prometheus wants them. When the first one ends the other takes over, and nobody is told that anything was lost.
func TestAWatchedDeskInHealth(t *testing.T) {
	t.Parallel()
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	queries := shippedQueries(t)
	d := openWatchedDesk(t, 2, symbols...)
	livetest.Eventually(t, 120*time.Second, func() error {
		for where, expr := range queries {
			if err := finite(d, expr, symbols); err != nil {
				return fmt.Errorf("%s: %w\n%s", where, err, expr)
			}
		}
		return nil
	})
	d.calm(30) // long enough for what waits at most a minute, five times as fast
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
	pages := ""
	for _, port := range append([]int{d.exporter}, d.publishers...) {
		_, page := get(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		pages += page
		cmd := exec.Command(realserver.Tool(t, "promtool"), "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics, port %d: %v\n%s", port, err, out)
		}
	}
	labelsExist(t, pages, queries)

	first, err := d.holder()
	if err != nil {
		t.Fatal(err)
	}
	d.end(first)
	d.calm(20, "QuantumHarvestStandbyDown")
	if second, err := d.holder(); err != nil || second == first {
		t.Errorf("after publisher %d had ended, %d holds the lease: %v", first, second, err)
	}
}

// labelsExist checks that what rules and panels ask of a label is a value that the label has. Known values are there from
// the start, so that a rule about one that never is would be silent for ever.
func labelsExist(t *testing.T, pages string, queries map[string]string) {
	t.Helper()
	pair := regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	has := map[string]bool{} // metric, label, value
	knows := map[string]bool{}
	for line := range strings.Lines(pages) {
		name, labels, _ := strings.Cut(line, "{")
		for _, m := range pair.FindAllStringSubmatch(labels, -1) {
			has[name+" "+m[1]+" "+m[3]], knows[name+" "+m[1]] = true, true
		}
	}
	exprs := maps.Clone(queries)
	for _, a := range rules.Alerts() {
		exprs[a.Name] = a.Expr
	}
	for _, r := range rules.Recordings() {
		exprs[r.Record] = r.Expr
	}
	selector := regexp.MustCompile(`(quantum_harvest_[a-z0-9_]+)\{([^}]*)\}`)
	looked := 0
	for where, expr := range exprs {
		for _, sel := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range pair.FindAllStringSubmatch(sel[2], -1) {
				if m[1] == "symbol" || !knows[sel[1]+" "+m[1]] {
					continue // not from a fixed list, or of a feed that this desk has not
				}
				for value := range strings.SplitSeq(m[3], "|") {
					if looked++; !has[sel[1]+" "+m[1]+" "+value] {
						t.Errorf("%s asks for %s{%s}, and there is no %q", where, sel[1], m[0], value)
					}
				}
			}
		}
	}
	if looked < 15 {
		t.Errorf("only %d values of labels were looked at", looked)
	}
}

// Faults 17, 13, 8 and 12, at five times the speed: what fires, how soon, and that all is quiet again after the repair.
func TestAlertsOfAWatchedDesk(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		return
	}
	t.Parallel()
	d := openWatchedDesk(t, 1, "BTCUSDT", "ETHUSDT")
	d.steady(2)

	begin := time.Now()
	d.end(0)
	d.fires("QuantumHarvestHeartbeatLost", scaled(45)+late, begin)
	d.fires("QuantumHarvestLeaseUnheld", scaled(60)+late, begin)
	d.fires("QuantumHarvestMetricsStale", scaled(160)+late, begin)
	d.publish(0)
	d.clears("the publisher is back")

	begin = time.Now()
	d.redis.Pause()
	d.fires("QuantumHarvestStoreDown", scaled(45)+late, begin)
	d.redis.Continue()
	d.clears("Redis is back")

	c := dial(t, d.redis.Addr())
	key := "quantum:state:positions:BTCUSDT"
	entry := c.HGet(t.Context(), key, "entry_price").Val()
	begin = time.Now()
	c.HSet(t.Context(), key, "entry_price", "0")
	d.fires("QuantumHarvestInputRefused", scaled(60)+late, begin)
	c.HSet(t.Context(), key, "entry_price", entry)
	d.clears("the record is good again")

	begin = time.Now()
	c.Set(t.Context(), "quantum:harvest:proposal:ETHUSDT", "text", 0)
	d.fires("QuantumHarvestStoreErrors", scaled(60)+late, begin)
	d.clears("the key was replaced")
}

// A publisher with other shards gets no lease and says so; a lease that goes to and fro is seen.
func TestAlertsAboutLeases(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		return
	}
	t.Parallel()
	d := openWatchedDesk(t, 2, "BTCUSDT", "ETHUSDT")
	d.steady(2)
	first, err := d.holder()
	if err != nil {
		t.Fatal(err)
	}
	d.end(1 - first)
	begin := time.Now()
	d.publish(1-first, "--shards=2")
	d.fires("QuantumHarvestLeaseRefused", scaled(90)+late, begin)
	if names, err := d.firing(); err != nil || !slices.Equal(unhealthy(names), []string{"QuantumHarvestLeaseRefused"}) {
		t.Errorf("a publisher that is refused makes these fire: %v, %v", names, err)
	}
	d.end(1 - first)
	d.publish(1 - first)
	d.clears("it divides the symbols as the other does")

	begin = time.Now()
	for range 4 {
		was, err := d.holder()
		if err != nil {
			t.Fatal(err)
		}
		d.end(was)
		livetest.Eventually(t, 20*time.Second, func() error {
			is, err := d.holder()
			if err == nil && is == was {
				err = fmt.Errorf("publisher %d still holds the lease", is)
			}
			return err
		})
		d.publish(was)
	}
	d.fires("QuantumHarvestLeaseFlapping", scaled(160)+late, begin)
	d.clears("the lease stays where it is")
}

// Fault 24, with an Alertmanager that is told every 10 s, in real time and at five times the speed.
func TestAlertsThatDoNotArrive(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		return
	}
	t.Parallel()
	for _, scale := range []int{1, 5} {
		t.Run(fmt.Sprintf("scale %d", scale), func(t *testing.T) {
			t.Parallel()
			th := rules.Defaults()
			th.ResendDelay = 10 * time.Second
			d := &watchedDesk{t: t}
			d.watch(th.Scale(scale))
			failing := func() (bool, error) {
				names, err := d.firing()
				if err == nil && !slices.Contains(names, "Watchdog") {
					err = fmt.Errorf("firing: %v", names)
				}
				return slices.Contains(names, "QuantumHarvestNotificationsFailing"), err
			}
			livetest.Eventually(t, 60*time.Second, func() error {
				is, err := failing()
				if is {
					err = fmt.Errorf("notifications fail")
				}
				return err
			})
			address := d.receiver.Listener.Addr().String()
			d.receiver.CloseClientConnections()
			d.receiver.Close()
			begin := time.Now()
			bound := 120*time.Second/time.Duration(scale) + late
			d.fires("QuantumHarvestNotificationsFailing", bound, begin)
			// It stays, whatever the moments of sending, scraping and evaluating.
			for end := time.Now().Add(60 * time.Second / time.Duration(scale)); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				if is, err := failing(); err != nil || !is {
					t.Fatalf("failing: %v, %v", is, err)
				}
			}
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			d.receiver = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			d.receiver.Listener = listener
			d.receiver.Start()
			begin = time.Now()
			livetest.Eventually(t, 60*time.Second/time.Duration(scale)+late, func() error {
				is, err := failing()
				if is {
					err = fmt.Errorf("notifications fail")
				}
				return err
			})
			t.Logf("quiet after %.1f s", time.Since(begin).Seconds())
		})
	}
}
