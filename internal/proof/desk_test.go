package proof_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/golden"
	"quantumharvest/internal/position"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// fakeDesk is a desk that is in order, as far as it can be seen from outside. A sabotage changes one thing.
type fakeDesk struct {
	t     *testing.T
	begin time.Time

	mu       sync.Mutex
	proposal func(sym position.Symbol, p *store.Proposal)
	reading  func(*store.Collection)
	page     func(text string) string
	alerts   []map[string]any
	rules    []map[string]any
	up       map[string]float64
	answers  map[string]int // status by path, where it is not 200
	stale    float64        // seconds on top of the true age
	clock    time.Duration  // of Prometheus, off by
	lookups  int

	alertmanager fakeAlertmanager

	server *httptest.Server
}

var deskSymbols = []position.Symbol{"BTCUSDT", "ETHUSDT"}

func newDesk(t *testing.T) *fakeDesk {
	d := &fakeDesk{
		alertmanager: newAlertmanager(),
		t:            t, begin: time.Now(), answers: map[string]int{}, up: map[string]float64{"quantum-harvest-exporter": 1, "quantum-harvest-publisher": 1},
		alerts: []map[string]any{
			{"labels": map[string]string{"alertname": "Watchdog"}, "state": "firing"},
			{"labels": map[string]string{"alertname": "QuantumHarvestKillScoreHigh", "symbol": "BTCUSDT"}, "state": "firing"},
		},
		rules: []map[string]any{
			{"name": "QuantumHarvestStoreDown", "query": "up == 0", "duration": 10, "labels": map[string]string{"severity": "critical"}, "health": "ok"},
			{"name": "desk:x:sum", "query": "sum(x)", "health": "ok"},
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", d.serve)
	d.server = httptest.NewServer(mux)
	t.Cleanup(d.server.Close)
	return d
}

func (d *fakeDesk) Collect(_ context.Context, extra []position.Symbol) (store.Collection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookups++
	now := time.Now()
	c := store.Collection{Expected: deskSymbols, ServerTime: now, RTT: time.Millisecond, Lease: store.LeaseView{
		Now: now, Layout: "1 all", Shards: []store.ShardLease{{Holder: "desk-1#a", Fence: 7, Until: now.Add(time.Second), Since: d.begin}},
		Members: []store.Member{{Holder: "desk-1#a", Until: now.Add(time.Second)}},
	}}
	for _, sym := range deskSymbols {
		p := store.Proposal{
			Symbol: sym, Action: kernel.ActionNone, Side: position.Long, Revision: 3, SchemaVersion: 1, Publisher: "desk-1", Fence: 7,
			InputState: store.InputFresh, ComputedAt: d.begin.Add(-30 * time.Second),
			LastUpdate: now, MarketAt: now, PositionAt: now, // finer than on the wire, so that a short look sees it move
			ContentMarketAt: d.begin.Add(-31 * time.Second), ContentPositionAt: d.begin.Add(-31 * time.Second),
		}
		if d.proposal != nil {
			d.proposal(sym, &p)
		}
		c.Entries = append(c.Entries, store.Entry{Symbol: sym, Found: p.Revision > 0, Proposal: p})
	}
	for _, sym := range extra {
		if !slices.Contains(deskSymbols, sym) {
			c.Entries = append(c.Entries, store.Entry{Symbol: sym})
		}
	}
	if d.reading != nil {
		d.reading(&c)
	}
	return c, nil
}

func (d *fakeDesk) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if status := d.answers[r.URL.Path]; status != 0 {
		w.WriteHeader(status)
		return
	}
	reply := func(data any) { _ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) }
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/-/healthy"), strings.HasSuffix(path, "/-/ready"):
	case path == "/exporter/metrics":
		text := "quantum_harvest_open_positions{source=\"redis_hash\"} 2\n"
		for _, sym := range deskSymbols {
			text += fmt.Sprintf("quantum_harvest_last_update_epoch{symbol=%q} %d\n", sym, time.Now().UnixMilli())
		}
		if d.page != nil {
			text = d.page(text)
		}
		fmt.Fprint(w, text)
	case path == "/publisher/metrics":
		fmt.Fprintf(w, "quantum_harvest_publisher_clock_offset_seconds %v\n", 0.01)
	case strings.HasPrefix(path, "/alertmanager/"):
		d.alertmanager.serve(w, r)
	case path == "/prometheus/api/v1/alerts":
		reply(map[string]any{"alerts": d.alerts})
	case path == "/prometheus/api/v1/rules":
		reply(map[string]any{"groups": []any{map[string]any{"name": "quantum_harvest_alerts", "rules": d.rules}}})
	case path == "/prometheus/api/v1/query":
		var result []any
		sample := func(v float64, labels map[string]string) {
			result = append(result, map[string]any{"metric": labels, "value": []any{0, fmt.Sprint(v)}})
		}
		switch q := r.URL.Query().Get("query"); q {
		case "up":
			for job, v := range d.up {
				sample(v, map[string]string{"job": job, "instance": "x"})
			}
		case "vector(time())":
			sample(float64(time.Now().Add(d.clock).UnixMicro())/1e6, nil)
		default:
			if d.stale >= 0 {
				sample(0.5+d.stale, nil)
			}
		}
		reply(map[string]any{"result": result})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (d *fakeDesk) options() proof.Options {
	at := d.server.URL
	return proof.Options{
		Reader: d, Redis: "redis://test",
		RedisCommand: "redis-cli -h desk -p 7000", Amtool: "amtool --http.config.file=amtool.yml", Keys: store.NewKeys(store.KeysOptions{Prefix: "desk:"}),
		Exporter: at + "/exporter", Publishers: []string{at + "/publisher"}, Prometheus: at + "/prometheus", Alertmanager: at + "/alertmanager", Token: "secret",
		Rules: []proof.Rule{
			{Group: "quantum_harvest_alerts", Name: "QuantumHarvestStoreDown", Expr: "up==0", For: 10 * time.Second, Labels: map[string]string{"severity": "critical"}},
			{Group: "quantum_harvest_alerts", Name: "desk:x:sum", Expr: "sum( x )"},
		},
		Normalize: func(s string) (string, error) { return strings.ReplaceAll(s, " ", ""), nil },
		Verify:    func() (golden.Verdict, error) { return golden.Verdict{Strict: 943}, nil },
		Window:    1500 * time.Millisecond, Samples: 40, Stale: 30 * time.Second, Skew: 5 * time.Second, AlertWithin: 2 * time.Second, Beat: time.Second,
		Client: d.server.Client(),
	}
}
