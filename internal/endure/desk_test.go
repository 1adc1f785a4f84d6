//go:build linux

package endure

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/realserver"
)

// program is the binary that is looked at: the one that the environment names, else it is built.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("HARVEST_ENDURE_PROGRAM"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "harvest")
	cmd := exec.Command("go", "build", "-o", path, "quantumharvest/cmd/harvest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build harvest: %v\n%s", err, out)
	}
	return path
}

// process is one role of the desk, as a unit file would start it.
type process struct {
	name, path string
	args       []string
	log        string
	page       string // its metrics

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	wanted bool
	deaths []string // endings nobody asked for
	starts int
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.path)
	cmd.Args = append([]string{"harvest"}, p.args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(p.log), "TMPDIR=" + filepath.Dir(p.log), "LOG_FORMAT=json"}
	cmd.Stderr = out // what people read at the end goes to standard output, and nowhere here
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.wanted = cmd, exited, false
	p.starts++
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		if !p.wanted {
			p.deaths = append(p.deaths, fmt.Sprintf("%s ended by itself: %v", p.name, err))
		}
		p.mu.Unlock()
		close(exited)
	}()
	return nil
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// end sends a signal that ends the process and waits until it is gone.
func (p *process) end(sig syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.wanted = true
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(sig)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-exited
	}
}

func (p *process) signal(sig syscall.Signal) error { return syscall.Kill(p.pid(), sig) }

// desk is the whole system: two publishers of which one writes, an exporter, a monitor, a redis-server.
type desk struct {
	dir               string
	redis             *realserver.RedisServer
	first, second     *process // publishers; the first lives from begin to end
	exporter, monitor *process
	prometheus        string
	told              *receiver
	settings          string // env file of publishers and exporter
	list              string // SYMBOLS
}

// configure writes the env file anew, as an editor does.
func (d *desk) configure(maxPublishAge int) error {
	text := fmt.Sprintf("SYMBOLS=%s\nMAX_PUBLISH_AGE_SEC=%d\n", d.list, maxPublishAge)
	if err := os.WriteFile(d.settings+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(d.settings+".new", d.settings)
}

func (d *desk) all() []*process { return []*process{d.first, d.second, d.exporter, d.monitor} }

func openDesk(t *testing.T, dir, path string, symbols []string) *desk {
	t.Helper()
	d := &desk{
		dir: dir, redis: realserver.Redis(t), told: newReceiver(t),
		settings: filepath.Join(dir, "desk.env"), list: strings.Join(symbols, ","),
	}
	if err := d.configure(usualPublishAge); err != nil {
		t.Fatal(err)
	}
	port := func() string { return strconv.Itoa(realserver.FreePort(t)) }
	make1 := func(name, port string, args ...string) *process {
		p := &process{name: name, path: path, args: args, log: filepath.Join(dir, name+".log"), page: "http://127.0.0.1:" + port + "/metrics"}
		t.Cleanup(func() { p.end(syscall.SIGKILL) })
		return p
	}
	publisher := func(name string) *process {
		at := port()
		return make1(name, at, "publish", "--redis", d.redis.URL(), "--feed", "redis", "--env-file", d.settings, "--publisher-id", name, "--publisher-port", at)
	}
	d.first, d.second = publisher("publisher-1"), publisher("publisher-2")
	at := port()
	d.exporter = make1("exporter", at, "export", "--redis", d.redis.URL(), "--env-file", d.settings, "--metrics-port", at)
	at, alertmanager := port(), port()
	host := func(p *process) string { return strings.TrimSuffix(strings.TrimPrefix(p.page, "http://"), "/metrics") }
	d.prometheus = "http://127.0.0.1:" + at
	d.monitor = make1("monitor", at, "monitor", "--data", filepath.Join(dir, "data"), "--monitor-port", at, "--alertmanager-port", alertmanager,
		"--exporter-targets", host(d.exporter), "--publisher-targets", host(d.first)+","+host(d.second),
		"--notify-webhook-url", d.told.url+"/alerts", "--notify-watchdog-url", d.told.url+"/watchdog")
	return d
}

// get reads a page.
func get(ctx context.Context, page string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", page, resp.Status)
	}
	return body, err
}

// sample reads one series without labels from a page.
func sample(page []byte, name string) (float64, bool) {
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return v, err == nil
		}
	}
	return 0, false
}

// writer is the publisher that holds the lease; nil where neither says so.
func (d *desk) writer(ctx context.Context) *process {
	for _, p := range []*process{d.first, d.second} {
		page, err := get(ctx, p.page)
		if err != nil {
			continue
		}
		if held, ok := sample(page, "quantum_harvest_leases_held"); ok && held > 0 {
			return p
		}
	}
	return nil
}

// said is one line of a log.
type said struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"`
	Msg   string    `json:"msg"`
	Err   string    `json:"err"`
	by    string
}

// complaints are the lines of all logs at ERROR, and panics.
func (d *desk) complaints() (list []said, err error) {
	for _, p := range d.all() {
		f, err := os.Open(p.log)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			var s said
			if json.Unmarshal(lines.Bytes(), &s) != nil {
				s = said{Level: "ERROR", Msg: "not a log line: " + lines.Text(), Time: time.Now()}
			}
			if s.by = p.name; s.Level == "ERROR" {
				list = append(list, s)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
