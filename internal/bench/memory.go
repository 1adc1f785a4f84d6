package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/freeport"
	"quantumharvest/internal/scratch"
)

// fewSymbols is what most desks hold.
const fewSymbols = 3

func measureMemory(ctx context.Context, r *run) error {
	if _, err := memoryNow(os.Getpid()); err != nil {
		for name, target := range map[string]float64{"rss_publisher_mb": 25, "rss_exporter_mb": 25} {
			r.add(Figure{Name: name, Unit: "MB", Target: &target, Note: err.Error()})
		}
		r.add(Figure{Name: "kb_per_symbol", Unit: "kB", Target: ptr(20), Note: err.Error()})
		return nil
	}
	few, exporter, err := r.memoryOf(ctx, fewSymbols, true)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		used memory
	}{{"rss_publisher_mb", few}, {"rss_exporter_mb", exporter}} {
		r.add(Figure{
			Name: f.name, Value: ptr(float64(f.used.resident) / 1e6), Unit: "MB", Target: ptr(25),
			Note: fmt.Sprintf("%.1f MB are its own, the rest are pages of the program's file, which all roles share", float64(f.used.own)/1e6),
		})
	}
	with := r.Effort.MemoryWith
	small, _, err := r.memoryOf(ctx, with[0], false)
	if err != nil {
		return err
	}
	large, _, err := r.memoryOf(ctx, with[1], false)
	if err != nil {
		return err
	}
	r.add(Figure{
		Name: "kb_per_symbol", Value: ptr(float64(large.resident-small.resident) / 1e3 / float64(with[1]-with[0])), Unit: "kB", Target: ptr(20),
		Note: fmt.Sprintf("publisher with %d symbols: %.0f MB, with %d: %.0f MB; a generated market", with[0], float64(small.resident)/1e6, with[1], float64(large.resident)/1e6),
	})
	return nil
}

// memoryOf runs a publisher with a generated market, and an exporter beside it, as processes of their own, and reads what
// they have resident after a while.
func (r *run) memoryOf(ctx context.Context, symbols int, withExporter bool) (publisher, exporter memory, err error) {
	err = r.within(ctx, fmt.Sprintf("memory_%d", symbols), func(client redis.UniversalClient, prefix string) error {
		folder, err := scratch.New("bench")
		if err != nil {
			return err
		}
		defer func() { _ = folder.Remove() }()
		dir := folder.Path
		names, positions := generated(symbols)
		file := filepath.Join(dir, "positions.json")
		if err := os.WriteFile(file, positions, 0o600); err != nil {
			return err
		}
		pub, err := r.start(dir, "publish", "--key-prefix", prefix, "--feed", "synthetic", "--positions", "file:"+file, "--publisher-port", "0",
			"--symbols", names)
		if err != nil {
			return err
		}
		defer pub.stop()
		if err := r.published(ctx, client, prefix, symbols, 2*time.Minute); err != nil {
			return errors.Join(err, pub.failure())
		}
		var exp *child
		page := ""
		if withExporter {
			port, err := freeport.Find()
			if err != nil {
				return err
			}
			page = "http://127.0.0.1:" + strconv.Itoa(port) + "/metrics"
			if exp, err = r.start(dir, "export", "--key-prefix", prefix, "--metrics-port", strconv.Itoa(port)); err != nil {
				return err
			}
			defer exp.stop()
		}
		// The exporter is scraped every second: ten times as often as usual.
		for end := time.Now().Add(r.Effort.Settle); time.Now().Before(end); {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			if page != "" {
				visit(ctx, page)
			}
		}
		if publisher, err = pub.memory(); err != nil {
			return err
		}
		if exp != nil {
			exporter, err = exp.memory()
		}
		return err
	})
	return publisher, exporter, err
}

// generated is a list of symbols, and a file with a position in each.
func generated(n int) (names string, positions []byte) {
	type record struct {
		Symbol string  `json:"symbol"`
		Side   string  `json:"side"`
		Entry  float64 `json:"entry_price"`
		Amount float64 `json:"quantity"`
		Opened int64   `json:"opened_at_epoch"`
	}
	var records []record
	for i := range n {
		records = append(records, record{fmt.Sprintf("S%05dUSDT", i), "LONG", 100, 1, time.Now().Add(-time.Hour).Unix()})
		names += "," + records[i].Symbol
	}
	positions, _ = json.Marshal(records)
	return names[1:], positions
}

func visit(ctx context.Context, page string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // it has not come up yet; that it never does shows in its memory
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
}

// child is this program in another role.
type child struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	err    error
}

func (r *run) start(dir, role string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(r.Program), log: filepath.Join(dir, role+".log"), exited: make(chan struct{})}
	c.cmd.Args = append([]string{"harvest", role}, args...)
	out, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = r.Env, out, out
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// failure is what a child that has ended said last.
func (c *child) failure() error {
	select {
	case <-c.exited:
	default:
		return nil
	}
	text, _ := os.ReadFile(c.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("harvest %s ended: %w: %s", c.cmd.Args[1], c.err, lines[len(lines)-1])
}

func (c *child) stop() {
	if c.cmd.Process.Signal(os.Interrupt) != nil {
		_ = c.cmd.Process.Kill()
	}
	select {
	case <-c.exited:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

func (c *child) memory() (memory, error) {
	if err := c.failure(); err != nil {
		return memory{}, err
	}
	return memoryNow(c.cmd.Process.Pid)
}

// memory is what a process has in RAM, in bytes.
type memory struct {
	resident int64
	own      int64 // of it, that nothing else can use
}

func memoryNow(pid int) (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, errors.New("the memory of a process is read from /proc, which is not here")
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		to := map[string]*int64{"VmRSS": &m.resident, "RssAnon": &m.own}[name]
		if to == nil {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("%s of process %d: %w", name, pid, err)
		}
		*to = kb * 1024
	}
	if m.resident == 0 || m.own == 0 {
		return memory{}, fmt.Errorf("process %d: its status does not tell VmRSS and RssAnon: it is gone, or the system too old", pid)
	}
	return m, nil
}
