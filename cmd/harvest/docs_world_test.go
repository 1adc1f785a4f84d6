//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/realserver"
)

// world is what the documents speak of: a desk on the usual ports with a Redis and its monitoring, files where
// documents say they are, and the programs of a host. The ports are others, and so are the folders; what a document
// says is rewritten accordingly.
type world struct {
	ports     map[string]int // by the usual one
	programs  string         // folder that comes first on the path
	data      string         // of the desk
	log       *livetest.Buffer
	receiver  string // takes what is told
	tree      string // the parts of the repository that documents speak of
	sentinels func() []string
	cluster   func() []string
	code      string // of everything that is not a test
}

const repository = "../.."

// newWorld starts a Redis, and a desk on it, and waits until the desk is watched.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		ports: map[string]int{}, log: &livetest.Buffer{}, data: filepath.Join(t.TempDir(), "desk"),
		programs: t.TempDir(), tree: t.TempDir(),
		sentinels: sync.OnceValue(func() []string {
			var addrs []string
			for _, r := range realserver.Sentinel(t, realserver.SentinelOptions{}).Sentinels() {
				addrs = append(addrs, r.Addr())
			}
			return addrs
		}),
		cluster: sync.OnceValue(func() []string { return realserver.Cluster(t, realserver.ClusterOptions{}).Addrs() }),
	}
	r := realserver.Redis(t)
	w.ports["6379"] = r.Port()
	for _, usual := range []string{"8041", "8042", "9091", "9093", "6060"} {
		w.ports[usual] = realserver.FreePort(t)
	}
	told := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(told.Close)
	w.receiver = told.URL
	w.copyTree(t)
	w.writePrograms(t)
	w.startDesk(t, r.URL())
	return w
}

func (w *world) startDesk(t *testing.T, redisURL string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	port := func(usual string) string { return strconv.Itoa(w.ports[usual]) }
	cmd := exec.Command(self)
	cmd.Args = []string{
		"harvest", "up", "--plain", "--redis", redisURL, "--feed", "synthetic", "--positions", "demo", "--data", w.data,
		"--metrics-port", port("8042"), "--publisher-port", port("8041"), "--monitor-port", port("9091"), "--alertmanager-port", port("9093"),
		"--scrape-interval-sec", "2", "--notify-webhook-url", w.receiver,
		// All that shows metrics is on, so that the reference is compared with all of them.
		"--debug-dir", filepath.Join(w.data, "flight"), "--otlp-endpoint", w.receiver,
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cmd.Stdout, cmd.Stderr = w.log, w.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	livetest.Eventually(t, 2*time.Minute, func() error {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=quantum_harvest_last_update_epoch", w.ports["9091"]))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		page := make([]byte, 1<<20)
		n, _ := resp.Body.Read(page)
		if !strings.Contains(string(page[:n]), "BTCUSDT") {
			return fmt.Errorf("the desk is not seen by its Prometheus: %s\n%s", page[:n], w.log)
		}
		return nil
	})
}

// copyTree takes what documents speak of, so that no command of theirs changes the repository.
func (w *world) copyTree(t *testing.T) {
	t.Helper()
	for _, part := range []string{"deploy", "ops", "testdata", "docs", "README.md", "Makefile"} {
		from := filepath.Join(repository, part)
		if out, err := exec.Command("cp", "-R", from, w.tree).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v: %s", from, err, out)
		}
	}
	var code strings.Builder
	for _, part := range []string{"internal", "cmd", "kernel"} {
		err := filepath.WalkDir(filepath.Join(repository, part), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.code = code.String()
}

// program writes a script under the name of a program.
func (w *world) program(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.programs, name), []byte("#!/bin/bash\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// units are those that a document may name.
const units = `quantum-harvest-proposal|quantum-harvest-metrics-exporter|quantum-harvest-monitor|redis-server|prometheus|prometheus-alertmanager|grafana-server`

// writePrograms puts programs before those of the host. harvest and redis-cli are the real ones, given the ports of this
// world where a command leaves them out. Those of systemd are stand-ins, because a test has none: they know the names of
// units and what may be asked of them, and the journal is the log of the desk.
func (w *world) writePrograms(t *testing.T) {
	t.Helper()
	harvest, err := exec.LookPath("harvest") // put there by TestMain
	if err != nil {
		t.Fatal(err)
	}
	w.program(t, "harvest", fmt.Sprintf(`
export METRICS_PORT=${METRICS_PORT:-0} PUBLISHER_PORT=${PUBLISHER_PORT:-0} MONITOR_PORT=${MONITOR_PORT:-0} ALERTMANAGER_PORT=${ALERTMANAGER_PORT:-0}
export EMBEDDED_REDIS_PORT=${EMBEDDED_REDIS_PORT:-0}
case "$1" in
up|bench) ;;
*) case " $*" in *" --redis"*|*" --env-file"*) ;; *) [ -n "$REDIS_HOST$REDIS_SENTINELS$REDIS_CLUSTER" ] || export REDIS_URL=${REDIS_URL:-redis://127.0.0.1:%[2]d/0} ;; esac ;;
esac
case "$1" in
proof|doctor|deploy)
	export PROMETHEUS_URL=${PROMETHEUS_URL:-http://127.0.0.1:%[5]d} ALERTMANAGER_URL=${ALERTMANAGER_URL:-http://127.0.0.1:%[6]d}
	export MONITOR_EXPORTER_TARGETS=${MONITOR_EXPORTER_TARGETS:-127.0.0.1:%[3]d} MONITOR_PUBLISHER_TARGETS=${MONITOR_PUBLISHER_TARGETS:-127.0.0.1:%[4]d}
	export MONITOR_TOKEN_FILE=${MONITOR_TOKEN_FILE:-%[7]s} MONITOR_SCRAPE_INTERVAL_SEC=${MONITOR_SCRAPE_INTERVAL_SEC:-2} ;;
esac
exec %[1]s "$@"
`, harvest, w.ports["6379"], w.ports["8042"], w.ports["8041"], w.ports["9091"], w.ports["9093"], filepath.Join(w.data, "monitor", "token")))
	w.program(t, "redis-cli", fmt.Sprintf(`
case " $*" in *" -p "*|*" -h "*|*" -u "*|*" -s "*|*" --cluster "*) exec %[1]s "$@" ;; esac
exec %[1]s -p %[2]d "$@"
`, realserver.Tool(t, "redis-cli"), w.ports["6379"]))
	w.program(t, "systemctl", fmt.Sprintf(`
verb=
for word; do
	case "$word" in
	-*) ;;
	start|stop|restart|reload|status|kill|enable|disable|is-active|show|cat) verb=$word ;;
	daemon-reload) exit 0 ;;
	*) echo "${word%%.service}" | grep -qxE '(%s)(@.*)?|KILL|HUP|USR1|USR2' || { echo "there is no unit $word" >&2; exit 5; } ;;
	esac
done
[ -n "$verb" ] || { echo "systemctl does not know: $*" >&2; exit 1; }
echo active
`, units))
	w.program(t, "journalctl", fmt.Sprintf(`
while [ $# -gt 0 ]; do
	case "$1" in
	-u|--unit) echo "${2%%.service}" | grep -qxE '%s' || { echo "there is no unit $2" >&2; exit 1; }; shift ;;
	--since|--until|-n|--lines|-o|-p|--priority) shift ;;
	-f|-e|-r|--no-pager) ;;
	*) echo "journalctl does not know $1" >&2; exit 1 ;;
	esac
	shift
done
cat %s
`, units, w.logFile()))
	w.program(t, "timedatectl", "echo 'System clock synchronized: yes'\n")
	w.program(t, "sudo", "exec \"$@\"\n")
	w.program(t, "notify-send", "exit 0\n")
}

func (w *world) logFile() string { return filepath.Join(w.programs, "journal.log") }

var (
	usualPort = regexp.MustCompile(`\b(6379|8041|8042|9091|9093|6060)\b`)
	several   = regexp.MustCompile(`\b10\.0\.0\.(\d):(?:26379|6379)\b`)
	folder    = regexp.MustCompile(`(^|[\s='":@<>(,\[])(/(?:etc|var|opt|srv)/)`)
)

// rewrite is what a command of a document is in this world, with the files of a document below root.
func (w *world) rewrite(root string, addresses []string) func(string) string {
	return func(command string) string {
		command = several.ReplaceAllStringFunc(command, func(at string) string {
			n, _ := strconv.Atoi(several.FindStringSubmatch(at)[1])
			if n < 1 || n > len(addresses) {
				return at
			}
			return addresses[n-1]
		})
		command = strings.ReplaceAll(command, "-p 26379", "-p "+portOf(addresses))
		command = folder.ReplaceAllString(command, "${1}"+root+"${2}")
		command = strings.ReplaceAll(command, "http://127.0.0.1:5001", w.receiver)
		return usualPort.ReplaceAllStringFunc(command, func(p string) string { return strconv.Itoa(w.ports[p]) })
	}
}

func portOf(addresses []string) string {
	if len(addresses) == 0 {
		return "26379"
	}
	_, port, _ := net.SplitHostPort(addresses[0])
	return port
}

// known tells whether the code says what a grep looks for.
func (w *world) known(pattern string) bool {
	pattern = strings.NewReplacer("quantum_harvest_feed_", "", "quantum_harvest_", "").Replace(strings.TrimRight(pattern, "{"))
	return pattern == "" || strings.Contains(strings.ToLower(w.code), strings.ToLower(pattern))
}

// files are those that documents speak of, below the folder in which the commands of a document run and below root.
func (w *world) files(t *testing.T, dir, root string) {
	t.Helper()
	if out, err := exec.Command("cp", "-R", w.tree+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	readme, err := os.ReadFile(filepath.Join(w.tree, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	configure, err := os.ReadFile(filepath.Join(w.tree, "docs", "CONFIGURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	inside := func(language, has string) string {
		for _, block := range strings.Split(string(readme)+string(configure), "```"+language+"\n")[1:] {
			if text, _, _ := strings.Cut(block, "```"); strings.Contains(text, has) {
				return text
			}
		}
		return ""
	}
	var candles strings.Builder
	candles.WriteString("time,open,high,low,close,volume\n")
	for i := range 900 {
		price := 95000 + float64(i%97)*10 + float64(i)/3
		fmt.Fprintf(&candles, "%d,%.1f,%.1f,%.1f,%.1f,%d\n", 1746390000000+int64(i)*60000, price, price+30, price-30, price+10, 5+i%7)
	}
	token, err := os.ReadFile(filepath.Join(w.data, "monitor", "token"))
	if err != nil {
		t.Fatal(err)
	}
	amtool, err := os.ReadFile(filepath.Join(w.data, "monitor", "amtool.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(filepath.Join(w.tree, "deploy", "alerts", "quantum_harvest.yml"))
	if err != nil {
		t.Fatal(err)
	}
	environment := fmt.Sprintf("REDIS_URL=redis://127.0.0.1:%d/0\nSYMBOLS=BTCUSDT,ETHUSDT,SOLUSDT\n", w.ports["6379"])
	for path, text := range map[string]string{
		filepath.Join(dir, "BTCUSDT.csv"):                                 candles.String(),
		filepath.Join(dir, "ETHUSDT.csv"):                                 candles.String(),
		filepath.Join(dir, "positions.json"):                              inside("json", "entry_price"),
		filepath.Join(root, "etc/prometheus/prometheus.yml"):              w.rewrite(root, nil)(inside("yaml", "scrape_configs")),
		filepath.Join(root, "etc/prometheus/alertmanager.yml"):            "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
		filepath.Join(root, "etc/prometheus/rules/quantum_harvest.yml"):   string(rules),
		filepath.Join(root, "etc/harvest/slack-url"):                      "https://127.0.0.1:1/services/none\n",
		filepath.Join(root, "etc/harvest/redis-password"):                 "unused\n",
		filepath.Join(root, "etc/quantum/harvest-proposal.env"):           environment,
		filepath.Join(root, "etc/quantum/harvest-metrics-exporter.env"):   environment,
		filepath.Join(root, "etc/quantum/harvest-monitor.env"):            "",
		filepath.Join(root, "var/lib/grafana/dashboards/.keep"):           "",
		filepath.Join(root, "var/lib/harvest/monitor/token"):              string(token),
		filepath.Join(root, "var/lib/harvest/monitor/amtool.yml"):         string(amtool),
		filepath.Join(root, "var/lib/quantum-harvest/monitor/token"):      string(token),
		filepath.Join(root, "var/lib/quantum-harvest/monitor/amtool.yml"): string(amtool),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(w.logFile(), []byte(w.log.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
