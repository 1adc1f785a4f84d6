package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/freeport"
	"quantumharvest/internal/rules"
)

// Parts are what a copy is made of. Everything that depends on the settings of the product comes from outside.
type Parts struct {
	// Harvest is the program under test, and the name it is called by.
	Harvest, HarvestName string
	// Environ is the environment that every process of a copy gets, without settings of the program.
	Environ []string
	// Rules makes the rule file, Alertmanager the configuration that posts to the two addresses, at a time scale.
	Rules        func(rules.Thresholds) ([]byte, error)
	Alertmanager func(alerts, watchdog string, scale int) []byte
}

// stand is one private copy of the system.
type stand struct {
	dir   string
	scale int
	parts Parts
	tools tools

	redis, prometheus, alertmanager, exporter *child
	publishers                                []*child
	redisAddr                                 string // past the proxy
	ports                                     struct{ redis, prometheus, alertmanager, exporter int }
	publisherPorts                            []int
	proxy                                     *proxy
	receiver                                  *receiver
	writer                                    *writer
	keep                                      bool // Redis keeps its data over a restart
	ready                                     bool // the market state of the faulted symbol is written ready
	background                                sync.WaitGroup
	cancel                                    context.CancelFunc
	client                                    *http.Client
}

// tools are the servers of others.
type tools struct{ redis, prometheus, alertmanager string }

func findTools() (t tools, err error) {
	var errs []error
	for _, row := range []struct {
		at         *string
		name, hint string
	}{
		{&t.redis, "redis-server", "on Debian and Ubuntu: apt-get install redis-server"},
		{&t.prometheus, "prometheus", "on Debian and Ubuntu: apt-get install prometheus"},
		{&t.alertmanager, "prometheus-alertmanager alertmanager", "on Debian and Ubuntu: apt-get install prometheus-alertmanager"},
	} {
		*row.at, err = anyTool(row.name, row.hint)
		errs = append(errs, err)
	}
	return t, errors.Join(errs...)
}

// scaled is a duration of the real system on the clock of the copy.
func (s *stand) scaled(d time.Duration) time.Duration { return d / time.Duration(s.scale) }

// unscaled is what a bound gets on top in a copy that runs faster than real time: beats of whole seconds, processes that
// start and a busy machine do not run faster with it.
func (s *stand) unscaled() time.Duration {
	if s.scale == 1 {
		return 0
	}
	return time.Second
}

func (s *stand) thresholds() rules.Thresholds {
	return rules.Defaults().Scale(s.scale)
}

// open makes everything and starts it, but for Redis where it is to come last.
func (s *stand) open(ctx context.Context, redisLast bool) error {
	for _, p := range []*int{&s.ports.redis, &s.ports.prometheus, &s.ports.alertmanager, &s.ports.exporter} {
		port, err := freeport.Find()
		if err != nil {
			return err
		}
		*p = port
	}
	s.client = &http.Client{Timeout: 5 * time.Second}
	s.redisAddr = loopback(s.ports.redis)
	s.redis = newChild(s.dir, "redis", s.tools.redis, s.redisArgs(false), s.environ())
	var err error
	if s.proxy, err = newProxy(s.redisAddr); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if s.receiver, err = newReceiver(); err != nil {
		return fmt.Errorf("receiver: %w", err)
	}
	s.writer = newWriter(s.redisAddr)
	if s.ready {
		s.writer.states[faulted] = goodState()
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.background.Go(func() { s.writer.run(ctx) })
	if !redisLast {
		if err := s.startRedis(ctx); err != nil {
			return err
		}
	}
	s.exporter = s.harvest("exporter", nil, "export", "--metrics-port", strconv.Itoa(s.ports.exporter))
	if _, err := s.addPublisher(); err != nil {
		return err
	}
	if err := s.exporter.start(); err != nil {
		return err
	}
	return s.startMonitor(ctx)
}

func (s *stand) redisArgs(keep bool) []string {
	args := []string{
		"redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(s.ports.redis), "--save", "", "--dir", s.dir,
		"--loglevel", "warning", "--logfile", "", "--daemonize", "no", "--appendfsync", "always", "--appendonly",
	}
	if keep {
		return append(args, "yes")
	}
	return append(args, "no")
}

func (s *stand) startRedis(ctx context.Context) error {
	s.redis.args = s.redisArgs(s.keep)
	if err := s.redis.start(); err != nil {
		return err
	}
	return await(ctx, 20*time.Second, "redis-server does not answer", func() error { return s.writer.rdb.Ping(ctx).Err() })
}

// harvest is one process of the program under test, with the intervals of the copy.
func (s *stand) harvest(name string, env []string, args ...string) *child {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	args = append([]string{s.parts.HarvestName}, append(args, "--redis", "redis://"+s.proxy.addr()+"/0")...)
	env = append(
		[]string{"LOG_LEVEL=INFO", "POLL_INTERVAL_SEC=" + seconds(s.scaled(5*time.Second))}, env...)
	return newChild(s.dir, name, s.parts.Harvest, args, s.environ(env...))
}

// environ is what a process of the copy gets; never nil, which would be that of this process.
func (s *stand) environ(settings ...string) []string {
	return slices.Concat([]string{}, s.parts.Environ, settings)
}

func (s *stand) publisher(name string, port int, env ...string) *child {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	t := s.thresholds()
	return s.harvest(name, append([]string{
		"PUBLISH_INTERVAL_SEC=" + seconds(s.scaled(10*time.Second)), "MAX_PUBLISH_AGE_SEC=" + seconds(t.PublishAge),
		"MARKET_STALE_SEC=" + seconds(t.MarketStale), "POSITION_STALE_SEC=" + seconds(t.PositionAge),
		"LEASE_INTERVAL_SEC=" + seconds(max(s.scaled(2*time.Second), 500*time.Millisecond)),
		"MARKETSTATE_PUBLISH_INTERVAL=" + seconds(s.scaled(time.Minute)),
	}, env...), "publish", "--publisher-id", name, "--publisher-port", strconv.Itoa(port))
}

// addPublisher starts one more publisher. Prometheus knows the ports of two from the start.
func (s *stand) addPublisher() (*child, error) {
	for len(s.publisherPorts) < 2 {
		port, err := freeport.Find()
		if err != nil {
			return nil, err
		}
		s.publisherPorts = append(s.publisherPorts, port)
	}
	n := len(s.publishers)
	p := s.publisher("publisher-"+strconv.Itoa(n+1), s.publisherPorts[n])
	s.publishers = append(s.publishers, p)
	return p, p.start()
}

const prometheusConfig = `global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
  evaluation_interval: %[1]s
rule_files: ['%[2]s']
alerting:
  alertmanagers:
    - static_configs: [{targets: ['%[3]s']}]
scrape_configs:
  - job_name: %[4]s
    static_configs: [{targets: ['%[5]s']}]
  - job_name: %[6]s
    file_sd_configs: [{files: ['%[7]s'], refresh_interval: 1s}]
  - job_name: prometheus
    static_configs: [{targets: ['%[8]s']}]
`

func (s *stand) startMonitor(ctx context.Context) error {
	t := s.thresholds()
	text, err := s.parts.Rules(t)
	if err != nil {
		return err
	}
	rulesFile, targets := filepath.Join(s.dir, rules.FileName), filepath.Join(s.dir, "publishers.json")
	config := fmt.Sprintf(prometheusConfig, duration(t.Interval), rulesFile, loopback(s.ports.alertmanager), rules.JobExporter,
		loopback(s.ports.exporter), rules.JobPublisher, targets, loopback(s.ports.prometheus))
	files := map[string][]byte{
		rulesFile: text, filepath.Join(s.dir, "prometheus.yml"): []byte(config),
		filepath.Join(s.dir, "alertmanager.yml"): s.parts.Alertmanager(s.receiver.url("/alerts"), s.receiver.url("/watchdog"), s.scale),
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	if err := s.scrapePublishers(); err != nil {
		return err
	}
	s.alertmanager = newChild(s.dir, "alertmanager", s.tools.alertmanager, []string{
		"alertmanager", "--config.file=" + filepath.Join(s.dir, "alertmanager.yml"), "--storage.path=" + filepath.Join(s.dir, "alertmanager"),
		"--web.listen-address=" + loopback(s.ports.alertmanager), "--cluster.listen-address=", "--log.level=warn",
	}, s.environ())
	s.prometheus = newChild(s.dir, "prometheus", s.tools.prometheus, []string{
		"prometheus", "--config.file=" + filepath.Join(s.dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(s.dir, "tsdb"),
		"--web.listen-address=" + loopback(s.ports.prometheus), "--storage.tsdb.retention.time=6h", "--log.level=warn",
		"--rules.alert.resend-delay=" + duration(t.ResendDelay), "--rules.alert.for-grace-period=" + duration(t.Interval),
	}, s.environ())
	if err := s.alertmanager.start(); err != nil {
		return err
	}
	return s.prometheus.start()
}

// scrapePublishers tells Prometheus which publishers there are.
func (s *stand) scrapePublishers() error {
	var targets []string
	for i := range s.publishers {
		targets = append(targets, loopback(s.publisherPorts[i]))
	}
	text, err := json.Marshal([]map[string]any{{"targets": targets}})
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "publishers.json")
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s *stand) children() []*child {
	var list []*child
	for _, c := range append([]*child{s.redis, s.exporter, s.prometheus, s.alertmanager}, s.publishers...) {
		if c != nil {
			list = append(list, c)
		}
	}
	return list
}

// close ends everything.
func (s *stand) close() {
	if s.cancel != nil {
		s.cancel()
	}
	for _, c := range s.children() {
		c.kill()
	}
	s.background.Wait()
	if s.proxy != nil {
		s.proxy.close()
	}
	if s.receiver != nil {
		s.receiver.close()
	}
	if s.writer != nil {
		_ = s.writer.rdb.Close()
	}
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// duration writes a duration as Prometheus reads it.
func duration(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// query asks Prometheus for the value of an expression with one result; ok is false where it has none.
func (s *stand) query(ctx context.Context, expr string) (value float64, ok bool, err error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := s.get(ctx, "http://"+loopback(s.ports.prometheus)+"/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return 0, false, err
	}
	if len(answer.Data.Result) == 0 {
		return 0, false, nil
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	value, err = strconv.ParseFloat(text, 64)
	return value, err == nil, err
}

// alerts are those that Prometheus holds, with their state.
func (s *stand) alerts(ctx context.Context) (map[alertKey]string, error) {
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string `json:"labels"`
				State  string            `json:"state"`
			} `json:"alerts"`
		} `json:"data"`
	}
	if err := s.get(ctx, "http://"+loopback(s.ports.prometheus)+"/api/v1/alerts", &answer); err != nil {
		return nil, err
	}
	states := map[alertKey]string{}
	for _, a := range answer.Data.Alerts {
		key := alertKey{a.Labels["alertname"], a.Labels["symbol"]}
		if states[key] != "firing" {
			states[key] = a.State
		}
	}
	return states, nil
}

func (s *stand) get(ctx context.Context, address string, into any) error {
	body, err := s.fetch(ctx, address)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func (s *stand) fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, resp.Status)
	}
	return body, err
}

// proposal reads one hash past the proxy; nil where there is none.
func (s *stand) proposal(ctx context.Context, symbol string) (map[string]string, error) {
	h, err := s.writer.rdb.HGetAll(ctx, "quantum:harvest:proposal:"+symbol).Result()
	if errors.Is(err, redis.Nil) || len(h) == 0 {
		return nil, err
	}
	return h, err
}
