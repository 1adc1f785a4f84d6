package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// recorder records into a folder of the test, on a clock that the test moves.
func recorder(t *testing.T, o Options) (*Recorder, *time.Time) {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o.Now = func() time.Time { return now }
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, &now
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// A record is a trace that go tool trace takes, readable by this user alone, under a name that sorts by time; a log line says
// where it is and how to read it.
func TestRecord(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	r, now := recorder(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: reg})
	*now = now.Add(time.Minute)
	r.Save("late beat", "a heartbeat came 3s after it was due")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	want := "flight-20260102T030505.000Z-late-beat.trace"
	path := filepath.Join(r.opts.Dir, want)
	for end := time.Now().Add(30 * time.Second); testutil.ToFloat64(r.counter.WithLabelValues(saved)) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nothing was saved: %v", listing(t, r.opts.Dir))
		}
	}
	cancel()
	<-done
	if got := listing(t, r.opts.Dir); !slices.Equal(got, []string{want}) {
		t.Fatalf("the folder has %v", got)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(content, []byte("go 1.")) || !bytes.Contains(content[:16], []byte("trace")) {
		t.Errorf("not an execution trace: %q", content[:min(16, len(content))])
	}
	if !strings.Contains(log.String(), "go tool trace "+path) || !strings.Contains(log.String(), "3s after it was due") {
		t.Errorf("the log does not say how to read it: %s", log.String())
	}
	if r.rec.Enabled() {
		t.Error("it records on after the end of the run")
	}
}

// The newest records stay, within the number and the size that are allowed; what is not ours stays untouched.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(foreign, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		records, size, want int
		bytes               int64
	}{{3, 10, 3, 1000}, {8, 100, 4, 450}, {8, 450, 1, 450}} {
		r, now := recorder(t, Options{Dir: dir, Records: c.records, Bytes: c.bytes})
		r.write = func(w io.Writer) (int64, error) {
			n, err := w.Write(make([]byte, c.size))
			return int64(n), err
		}
		var last string
		for range 12 {
			*now = now.Add(time.Second)
			path, err := r.record(wish{at: *now, what: "x"})
			if err != nil {
				t.Fatal(err)
			}
			last = filepath.Base(path)
		}
		names, sizes, err := r.entries(suffix)
		if err != nil || len(names) != c.want || names[len(names)-1] != last {
			t.Errorf("%+v: %v %v %v, the last was %s", c, names, sizes, err, last)
		}
		r.Close()
	}
	// Tighter bounds count at the next start already.
	r, _ := recorder(t, Options{Dir: dir, Records: 1, Bytes: 1})
	if names, _, err := r.entries(suffix); err != nil || len(names) != 0 {
		t.Errorf("after a start with tighter bounds: %v %v", names, err)
	}
	if text, err := os.ReadFile(foreign); err != nil || string(text) != "mine" {
		t.Errorf("a file of somebody else: %q %v", text, err)
	}
}

func TestPause(t *testing.T) {
	r, now := recorder(t, Options{})
	want := func(tries, limits float64) {
		t.Helper()
		if got := testutil.ToFloat64(r.counter.WithLabelValues(limited)); float64(len(r.wishes)) != tries || got != limits {
			t.Errorf("%d wishes, %v limited; want %v and %v", len(r.wishes), got, tries, limits)
		}
	}
	r.Save("late beat", "at the start everything is late")
	want(0, 0)
	*now = now.Add(time.Minute)
	r.Save("late beat", "")
	want(1, 0)
	for range 100 {
		r.Save("late beat", "")
	}
	want(1, 100)
	<-r.wishes
	*now = now.Add(Pause)
	r.Save("late beat", "")
	want(1, 100)
}

// What a killed process left half written is removed at the next start.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"flight-20260101T000000.000Z-late-beat.trace.partial", "flight-20260101T000000.000Z-late-beat.trace"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recorder(t, Options{Dir: dir})
	if got := listing(t, dir); !slices.Equal(got, []string{"flight-20260101T000000.000Z-late-beat.trace"}) {
		t.Errorf("left: %v", got)
	}
}

// A record that cannot be written is counted and said, and leaves nothing behind.
func TestFailure(t *testing.T) {
	r, now := recorder(t, Options{Bytes: 100})
	for name, write := range map[string]func(io.Writer) (int64, error){
		"unreadable": func(io.Writer) (int64, error) { return 0, errors.New("no window") },
		"too large": func(w io.Writer) (int64, error) {
			n, err := fmt.Fprint(w, strings.Repeat("x", 101))
			return int64(n), err
		},
	} {
		r.write = write
		if path, err := r.record(wish{at: *now, what: "x"}); err == nil {
			t.Errorf("%s: saved as %s", name, path)
		}
	}
	if got := listing(t, r.opts.Dir); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: filepath.Join(file, "below"), Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "DEBUG_DIR") {
		t.Errorf("a folder that cannot be: %v", err)
	}
}
