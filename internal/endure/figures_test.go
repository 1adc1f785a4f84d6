//go:build linux

package endure

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what was read of the whole system at one moment.
type figures struct {
	At      time.Time             `json:"at"`
	Minute  float64               `json:"minute"` // since the beginning
	Process map[string]processNow `json:"process"`
	DataMB  float64               `json:"data_mb"` // the monitor's folder
	LogKB   float64               `json:"log_kb"`  // of all processes
	RedisMB float64               `json:"redis_mb"`
	Keys    float64               `json:"redis_keys"`
}

// processNow is what one process has.
type processNow struct {
	RSS        float64 `json:"rss_mb"`
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"files"` // open descriptors
	CPU        float64 `json:"cpu_sec"`
	Starts     int     `json:"starts"`
}

// ticksPerSecond is what /proc counts processor time in; Linux shows 100 on every platform that Go knows.
const ticksPerSecond = 100

// look reads what there is of one process. A figure that cannot be read at this moment is not a number, and is left out.
func look(ctx context.Context, p *process) (n processNow, ok bool) {
	dir := "/proc/" + strconv.Itoa(p.pid())
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return n, false
	}
	for line := range strings.Lines(string(status)) {
		if value, is := strings.CutPrefix(line, "VmRSS:"); is {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			if err != nil {
				return n, false
			}
			n.RSS = kb * 1024 / 1e6
		}
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return n, false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime, stime
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return n, false
		}
		n.CPU += v / ticksPerSecond
	}
	open, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return n, false
	}
	n.Files = float64(len(open))
	page, err := get(ctx, p.page)
	if err != nil {
		return n, false
	}
	n.Goroutines, ok = sample(page, "go_goroutines")
	p.mu.Lock()
	n.Starts = p.starts
	p.mu.Unlock()
	return n, ok
}

// size is what a folder takes, in bytes; what vanishes meanwhile takes nothing.
func size(dir string) (bytes float64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // it is gone
		}
		if info, err := e.Info(); err == nil {
			bytes += float64(info.Size())
		}
		return nil
	})
	return bytes
}

func (d *desk) figures(ctx context.Context, m *market, begin time.Time) figures {
	f := figures{At: time.Now(), Minute: time.Since(begin).Minutes(), Process: map[string]processNow{}}
	for _, p := range d.all() {
		if n, ok := look(ctx, p); ok {
			f.Process[p.name] = n
		}
	}
	f.DataMB = size(filepath.Join(d.dir, "data")) / 1e6
	for _, p := range d.all() {
		if info, err := os.Stat(p.log); err == nil {
			f.LogKB += float64(info.Size()) / 1e3
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	f.Keys = float64(m.rdb.DBSize(ctx).Val())
	for line := range strings.Lines(m.rdb.Info(ctx, "memory").Val()) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			v, _ := strconv.ParseFloat(value, 64)
			f.RedisMB = v / 1e6
		}
	}
	return f
}

// keep appends the figures to a file that can be read while the soak runs.
func keep(path string, f figures) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(append(line, '\n'))
	return err
}

// series is one figure over time: after the warm-up, without the moments at which it could not be read.
func series(all []figures, warm time.Duration, of func(figures) (float64, bool)) []float64 {
	var list []float64
	for _, f := range all {
		if f.Minute < warm.Minutes() {
			continue
		}
		if v, ok := of(f); ok && !math.IsNaN(v) {
			list = append(list, v)
		}
	}
	return list
}

// ends are the medians of the first and the last third: what a figure was and what it has become, whatever it does from one
// moment to the next.
func ends(list []float64) (first, last, most float64) {
	third := max(1, len(list)/3)
	if len(list) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	median := func(part []float64) float64 {
		part = slices.Clone(part)
		slices.Sort(part)
		return part[len(part)/2]
	}
	return median(list[:third]), median(list[len(list)-third:]), slices.Max(list)
}

// row is one line of the table, and what is allowed.
type row struct {
	what        string
	unit        string
	first, last float64
	most        float64
	growth      float64 // allowed from first to last
}

func (r row) flat() bool { return r.last-r.first <= r.growth }

// rows are what must not grow. What is allowed leaves room for the garbage collector's rhythm, and for what a Prometheus
// keeps in memory until its first block is cut, after two to three hours.
func rows(all []figures, symbols int, warm, length time.Duration) []row {
	var list []row
	add := func(what, unit string, growth func(first float64) float64, of func(figures) (float64, bool)) {
		r := row{what: what, unit: unit}
		r.first, r.last, r.most = ends(series(all, warm, of))
		r.growth = growth(r.first)
		list = append(list, r)
	}
	fixed := func(v float64) func(float64) float64 { return func(float64) float64 { return v } }
	hours := length.Hours()
	for _, name := range []string{"publisher-1", "exporter", "monitor"} {
		of := func(pick func(processNow) float64) func(figures) (float64, bool) {
			return func(f figures) (float64, bool) {
				n, ok := f.Process[name]
				return pick(n), ok
			}
		}
		room := func(first float64) float64 { return max(6, 0.2*first) }
		if name == "monitor" {
			room = func(float64) float64 { return 15 + 25*hours }
		}
		add(name+", resident", "MB", room, of(func(n processNow) float64 { return n.RSS }))
		add(name+", goroutines", "", fixed(8), of(func(n processNow) float64 { return n.Goroutines }))
		add(name+", open files", "", fixed(8), of(func(n processNow) float64 { return n.Files }))
	}
	add("monitor, data on disk", "MB", fixed(5+40*hours), func(f figures) (float64, bool) { return f.DataMB, true })
	add("logs of all four processes", "kB", fixed(300+6000*hours), func(f figures) (float64, bool) { return f.LogKB, true })
	add("Redis, used memory", "MB", fixed(5), func(f figures) (float64, bool) { return f.RedisMB, f.RedisMB > 0 })
	// Candles, position, proposal, market state and stops of a symbol, and a few of the desk: less right after a restart.
	add("Redis, keys", "", func(first float64) float64 { return max(30, float64(6*symbols+30)-first) }, func(f figures) (float64, bool) { return f.Keys, f.Keys > 0 })
	return list
}

func round(v float64) string {
	if math.Abs(v) < 100 && v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// table is the result as a document shows it.
func (s *soak) table() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	length := time.Since(s.begin)
	line("%d symbols, %.0f minutes, %d reloads, %d faults (%s); begun %s; %s.", len(s.market.symbols), length.Minutes(), s.reloads, len(s.faults),
		s.faultCounts(), s.begin.UTC().Format("2006-01-02 15:04 UTC"), s.version)
	line("")
	line("| what | first third, median | last third, median | most | allowed growth | |")
	line("|---|---|---|---|---|---|")
	for _, r := range rows(s.all, len(s.market.symbols), s.warm, length) {
		verdict := "flat"
		if !r.flat() {
			verdict = "**grows**"
		}
		unit := r.unit
		if unit != "" {
			unit = " " + unit
		}
		line("| %s | %s%s | %s%s | %s%s | %s%s | %s |", r.what, round(r.first), unit, round(r.last), unit, round(r.most), unit, round(r.growth), unit, verdict)
	}
	line("")
	quiet, within := s.ages()
	line("| age of the oldest heartbeat of all open positions, seconds | looks | median | 99th percentile | most | allowed |")
	line("|---|---|---|---|---|---|")
	line("| outside of faults | %d | %s | %s | %s | %.0f |", len(quiet), round(quantile(quiet, 0.5)), round(quantile(quiet, 0.99)), round(quantile(quiet, 1)), mostQuiet)
	line("| within %s of a fault | %d | %s | %s | %s | %.0f |", faultLasts, len(within), round(quantile(within, 0.5)), round(quantile(within, 0.99)), round(quantile(within, 1)), mostWithin)
	line("")
	line("| processor time | seconds an hour | for each symbol |")
	line("|---|---|---|")
	for _, name := range []string{"publisher-1", "exporter", "monitor"} {
		perHour := s.processor(name)
		line("| %s | %s | %s s |", name, round(perHour), strconv.FormatFloat(perHour/float64(len(s.market.symbols)), 'f', 2, 64))
	}
	line("")
	told, silence := s.desk.told.list()
	expected, about := 0, map[string]int{}
	for _, a := range told {
		if s.within(a.at, alertLasts) {
			expected++
		}
		about[a.name]++
	}
	var by []string
	for name, n := range about {
		by = append(by, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(by)
	line("Alerts told: %d (%s), %d of them soon after a fault. Silence of the watchdog at the end: %.0f s.", len(told), or(strings.Join(by, ", "), "none"), expected, silence.Seconds())
	line("")
	if bad := s.judge(); len(bad) > 0 {
		line("Not as it should be so far:")
		line("")
		for _, text := range bad {
			line("- %s", text)
		}
	} else {
		line("Everything as it should be so far.")
	}
	return b.String()
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// processor is the processor time of a process in an hour, in seconds, while it was the same process.
func (s *soak) processor(name string) float64 {
	var first, last *figures
	for i := range s.all {
		f := &s.all[i]
		n, ok := f.Process[name]
		if !ok || f.Minute < s.warm.Minutes() {
			continue
		}
		if first == nil || first.Process[name].Starts != n.Starts {
			first = f
		}
		last = f
	}
	if first == nil || last == first {
		return math.NaN()
	}
	return (last.Process[name].CPU - first.Process[name].CPU) / last.At.Sub(first.At).Hours()
}

func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[int(q*float64(len(list)-1))]
}
