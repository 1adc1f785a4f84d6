//go:build unix

package deploy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/realserver"
)

var symbols = []string{"BTCUSDT", "ETHUSDT", "SOLUSDT"}

// host is a server that runs the earlier services: units, env files, Redis, Prometheus and Alertmanager, all real but the
// services themselves.
type host struct {
	t                                             *testing.T
	root                                          string
	redis                                         *realserver.RedisServer
	rdb                                           *redis.Client
	exporter, publisher, prometheus, alertmanager int
	told                                          *told
}

// told is who is told of alerts.
type told struct {
	mu    sync.Mutex
	names []string
}

func (h *told) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	var body struct {
		Alerts []struct{ Labels map[string]string }
	}
	_ = json.NewDecoder(req.Body).Decode(&body)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range body.Alerts {
		h.names = append(h.names, a.Labels["alertname"])
	}
}

func (h *host) file(path, text string) string {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// newHost sets the server up and starts what runs there.
func newHost(t *testing.T, more ...string) *host {
	t.Helper()
	return setUp(t, true, more...)
}

// setUp makes a host that is watched by a Prometheus, or by none.
func setUp(t *testing.T, watched bool, more ...string) *host {
	t.Helper()
	h := &host{t: t, root: realserver.Dir(t), redis: realserver.Redis(t), told: &told{}}
	h.rdb = redis.NewClient(&redis.Options{Addr: h.redis.Addr()})
	t.Cleanup(func() { h.rdb.Close() })
	for _, p := range []*int{&h.exporter, &h.publisher, &h.prometheus, &h.alertmanager} {
		*p = realserver.FreePort(t)
	}
	h.market()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for unit, what := range map[string]string{"quantum-harvest-proposal": "publisher", "quantum-harvest-metrics-exporter": "exporter"} {
		env := strings.Replace(unit, "quantum-", "", 1)
		h.file("etc/systemd/system/"+unit+".service", "[Unit]\nDescription=Earlier service\n\n[Service]\nType=simple\nEnvironment=PYTHONSTANDIN="+what+" PYTHONUNBUFFERED=1\n"+
			"EnvironmentFile="+h.root+"/etc/quantum/"+env+".env\nExecStart="+self+" -c 'import service'\nRestart=always\nRestartSec=1\n\n[Install]\nWantedBy=multi-user.target\n")
	}
	h.file("etc/quantum/harvest-proposal.env", fmt.Sprintf("# earlier settings\nREDIS_HOST=127.0.0.1\nREDIS_PORT=%d\nSYMBOLS=\"%s\"\nPUBLISH_INTERVAL_SEC=2\n"+
		"MAX_PUBLISH_AGE_SEC=8\nLOG_LEVEL=INFO\nPYTHONPATH=/opt/quantum\n%s\n", h.redis.Port(), strings.Join(symbols, ","), strings.Join(more, "\n")))
	h.file("etc/quantum/harvest-metrics-exporter.env", fmt.Sprintf("REDIS_HOST=127.0.0.1\nREDIS_PORT=%d\nSYMBOLS=%s\nEXPORTER_PORT=%d\nMETRICS_PORT=%d\n",
		h.redis.Port(), strings.Join(symbols, ","), h.exporter, h.exporter))
	h.file("etc/quantum/harvest-monitor.env", fmt.Sprintf("MONITOR_SCRAPE_INTERVAL_SEC=1\nPUBLISH_INTERVAL_SEC=2\nMAX_PUBLISH_AGE_SEC=8\n"+
		"MONITOR_EXPORTER_TARGETS=127.0.0.1:%d\nMONITOR_PUBLISHER_TARGETS=127.0.0.1:%d\n", h.exporter, h.publisher))
	if watched {
		h.monitoring()
	} else {
		receiver := httptest.NewServer(h.told)
		t.Cleanup(receiver.Close)
		// The rest is carried over from the earlier services.
		h.file("etc/quantum/harvest-monitor.env", fmt.Sprintf("MONITOR_SCRAPE_INTERVAL_SEC=1\nMONITOR_PORT=%d\nALERTMANAGER_PORT=%d\nNOTIFY_WEBHOOK_URL=%s\n",
			h.prometheus, h.alertmanager, receiver.URL))
	}
	h.endWithTest("quantum-harvest-monitor.service")
	for _, unit := range []string{"quantum-harvest-proposal.service", "quantum-harvest-metrics-exporter.service"} {
		h.supervise(unit)
		link := filepath.Join(h.root, "etc/systemd/system/multi-user.target.wants", unit)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(h.root, "etc/systemd/system", unit), link); err != nil {
			t.Fatal(err)
		}
	}
	// A position that was closed long ago, whose hash the earlier publisher left.
	h.rdb.HSet(t.Context(), "quantum:harvest:proposal:DOGEUSDT", "harvest_action", "NONE", "kill_score", "0.1", "last_update_epoch", time.Now().Unix(),
		"computed_at_utc", "2026-01-01T00:00:00")
	h.until("the earlier services work", func() bool {
		text := h.page(fmt.Sprintf("http://127.0.0.1:%d/metrics", h.exporter))
		for _, sym := range symbols {
			if !strings.Contains(text, `quantum_harvest_kill_score{symbol="`+sym+`"}`) {
				return false
			}
		}
		return !watched || h.query(`min(up{job="quantum-harvest-exporter"})`) == "1"
	})
	return h
}

// market writes positions, market states and stops as the services beside the publisher do, until the test ends.
func (h *host) market() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	h.t.Cleanup(func() { cancel(); wg.Wait() })
	write := func(n int) {
		for i, sym := range symbols {
			price := 100*float64(i+1) + 0.5*math.Sin(float64(n/3)/5+float64(i))
			now := time.Now()
			h.rdb.HSet(ctx, "quantum:state:positions:"+sym, "symbol", sym, "side", "LONG", "entry_price", 99*(i+1), "quantity", 2,
				"current_price", strconv.FormatFloat(price, 'f', 4, 64), "opened_at_epoch", 1769129938,
				"updated_at_epoch", strconv.FormatFloat(float64(now.UnixMilli())/1000, 'f', 3, 64))
			h.rdb.HSet(ctx, "quantum:marketstate:"+sym, "sigma", "0.004", "mu", "0.00001", "ts", "0.4", "p_trend", "0.4", "p_mr", "0.3", "p_chop", "0.3",
				"dp", "0.5", "vr", "1", "spike_proxy", "1", "buffer_size", "300", "ts_timestamp", now.Unix())
			h.rdb.HSet(ctx, "quantum:risk:proposal:"+sym, "proposed_sl", 97*(i+1), "proposed_tp", 110*(i+1), "stop_dist_pct", "0.02",
				"computed_at_utc", now.UTC().Format("2006-01-02T15:04:05.000000"))
		}
	}
	write(0)
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
				write(n)
			}
		}
	})
}

func (h *host) monitoring() {
	receiver := httptest.NewServer(h.told)
	h.t.Cleanup(receiver.Close)
	am := h.file("etc/prometheus/alertmanager.yml", "# the operator's own\nroute:\n  receiver: people # on call\n  group_wait: 1s\n  group_interval: 1s\n\nreceivers:\n"+
		"  - name: people\n    webhook_configs:\n      - url: "+receiver.URL+"\n")
	h.file("etc/prometheus/rules/earlier.yml", "groups:\n  - name: quantum_harvest_alerts\n    interval: 1s\n    rules:\n      - alert: QuantumHarvestMetricsStale\n"+
		"        expr: (time() - quantum_harvest_last_update_epoch{symbol!=\"DOGEUSDT\"}) > 30\n        for: 2m\n        labels: {severity: warning}\n")
	config := h.file("etc/prometheus/prometheus.yml", fmt.Sprintf("# the operator's own\nglobal:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n"+
		"  - %s/etc/prometheus/rules/earlier.yml # ours\nalerting:\n  alertmanagers:\n    - static_configs: [{targets: ['127.0.0.1:%d']}]\nscrape_configs:\n"+
		"  - job_name: quantum-harvest-exporter\n    static_configs:\n      - targets: ['127.0.0.1:%d']\n  - job_name: prometheus\n    static_configs:\n      - targets: ['127.0.0.1:%d']\n",
		h.root, h.alertmanager, h.exporter, h.prometheus))
	data := realserver.Dir(h.t)
	h.start(realserver.Tool(h.t, "prometheus-alertmanager"), "--config.file="+am, "--storage.path="+filepath.Join(data, "am"),
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", h.alertmanager), "--cluster.listen-address=")
	h.start(realserver.Tool(h.t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(data, "tsdb"), "--web.enable-lifecycle",
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", h.prometheus), "--rules.alert.resend-delay=10s")
	for _, port := range []int{h.prometheus, h.alertmanager} {
		h.until("the monitoring is ready", func() bool { return h.page(fmt.Sprintf("http://127.0.0.1:%d/-/ready", port)) != "" })
	}
}

func (h *host) start(binary string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(binary, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if h.t.Failed() && log.Len() > 0 {
			h.t.Logf("%s:\n%s", filepath.Base(binary), last(log.String(), 3000))
		}
	})
	return cmd
}

// supervise starts a unit as the init of a container does; whatever runs under that name ends with the test.
func (h *host) supervise(unit string) {
	h.t.Helper()
	cmd := exec.Command(harvest, "supervise", "--root", h.root, "--unit", unit)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	h.endWithTest(unit)
}

func (h *host) endWithTest(unit string) {
	h.t.Cleanup(func() {
		text, _ := os.ReadFile(filepath.Join(h.root, "run/quantum-harvest", unit+".pid"))
		for i, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				if i == 1 {
					pid = -pid
				}
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
}

func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	h.t.Fatalf("not within a minute: %s", what)
}

func (h *host) page(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

func (h *host) query(expr string) string {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	text := h.page(fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=%s", h.prometheus, url.QueryEscape(expr)))
	if json.Unmarshal([]byte(text), &answer) != nil || len(answer.Data.Result) == 0 {
		return ""
	}
	if name := answer.Data.Result[0].Metric["alertname"]; name != "" {
		return name
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// deploy is the command that an operator gives.
func (h *host) deploy(more ...string) *exec.Cmd {
	args := []string{
		"deploy", "--root", h.root, "--service-manager", "exec", "--cycles", "2", "--window-sec", "6", "--samples", "30",
		"--publisher-port", strconv.Itoa(h.publisher),
		"--prometheus-url", fmt.Sprintf("http://127.0.0.1:%d", h.prometheus), "--alertmanager-url", fmt.Sprintf("http://127.0.0.1:%d", h.alertmanager),
	}
	cmd := exec.Command(harvest, append(args, more...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(realserver.Tool(h.t, "promtool"))+":"+os.Getenv("PATH"))
	return cmd
}

func (h *host) mustDeploy(more ...string) string {
	h.t.Helper()
	out, err := h.deploy(more...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("harvest deploy %v: %v\n%s", more, err, out)
	}
	return string(out)
}

// tree is every file of the host with its sum and mode, but for what runs leave: logs, process ids and the folder of deploy.
func (h *host) tree() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(h.root, path)
		if rel == "run" || rel == "var" {
			return fs.SkipDir
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			all[rel], err = os.Readlink(path)
		case d.IsDir():
			all[rel] = "folder"
		default:
			var raw []byte
			raw, err = os.ReadFile(path)
			info, _ := d.Info()
			all[rel] = fmt.Sprintf("%x %s", sha256.Sum256(raw), info.Mode())
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// shape is every key of Redis with its fields.
func (h *host) shape() map[string][]string {
	h.t.Helper()
	all := map[string][]string{}
	for _, k := range h.rdb.Keys(h.t.Context(), "*").Val() {
		fields := h.rdb.HKeys(h.t.Context(), k).Val()
		slices.Sort(fields)
		all[k] = fields
	}
	return all
}

// earlier demands that everything is as it was before anything was begun, and that the earlier publisher writes.
func (h *host) earlier(tree map[string]string, shape map[string][]string) {
	h.t.Helper()
	if diff := cmp.Diff(tree, h.tree()); diff != "" {
		h.t.Errorf("files differ (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(shape, h.shape()); diff != "" {
		h.t.Errorf("Redis differs (-before +after):\n%s", diff)
	}
	was := h.rdb.HGet(h.t.Context(), "quantum:harvest:proposal:"+symbols[0], "computed_at_utc").Val()
	h.until("the earlier publisher writes", func() bool {
		hash := h.rdb.HGetAll(h.t.Context(), "quantum:harvest:proposal:"+symbols[0]).Val()
		return hash["computed_at_utc"] != was && hash["schema_version"] == ""
	})
	h.until("the earlier exporter shows it", func() bool {
		return strings.Contains(h.page(fmt.Sprintf("http://127.0.0.1:%d/metrics", h.exporter)), "quantum_harvest_exporter_cache_age_seconds 1")
	})
	if name := h.fired(); name != "" {
		h.t.Errorf("%s fired", name)
	}
}

// fired names an alert of the desk that fired while we looked; blank: none.
func (h *host) fired() string {
	return h.query(`count by (alertname) (count_over_time(ALERTS{alertname=~".*Harvest.*", alertstate="firing"}[15m]))`)
}

// pauses watches last_update_epoch of every symbol from outside, and gives the longest pause of each.
func (h *host) pauses() func() map[string]int {
	ctx, cancel := context.WithCancel(context.Background())
	seen, longest := map[string]int{}, map[string]int{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			for _, sym := range symbols {
				v, err := h.rdb.HGet(ctx, "quantum:harvest:proposal:"+sym, "last_update_epoch").Int()
				if err != nil {
					continue
				}
				if was := seen[sym]; was != 0 {
					longest[sym] = max(longest[sym], v-was)
				}
				seen[sym] = v
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	return func() map[string]int { cancel(); wg.Wait(); return longest }
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }
