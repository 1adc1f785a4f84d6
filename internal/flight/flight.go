// Package flight keeps what the process did in the last seconds, and saves it when something happened that must not: an
// execution trace that go tool trace reads. It is bounded in memory, in how often it saves and in what it leaves on the disk.
package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/trace"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What is kept. A record is a few MB: at most the memory of the window, and what was written while it was saved.
const (
	KeptRecords = 8
	KeptBytes   = 64 << 20
	window      = 10 * time.Second
	windowBytes = 8 << 20
	// Pause is the shortest time between two records: what goes on for an hour is not twelve hundred records of the same.
	Pause = 5 * time.Minute
	// warmUp is the time after the start in which nothing is saved: everything is late then, once.
	warmUp = 15 * time.Second
)

const (
	prefix, suffix, partial = "flight-", ".trace", ".partial"
	// stampLayout sorts as text in the order of time.
	stampLayout = "20060102T150405.000Z"
)

// What becomes of a wish for a record.
const (
	saved   = "saved"
	failed  = "failed"
	limited = "limited" // too soon after the one before
)

// Options say where records go.
type Options struct {
	Dir string // made where it is missing
	// Bytes replaces KeptBytes, Records KeptRecords, Pause the pause, WarmUp the time after the start, where they are above zero.
	Bytes         int64
	Records       int
	Pause, WarmUp time.Duration
	Now           func() time.Time // nil: time.Now
	Log           *slog.Logger
	Metrics       prometheus.Registerer // nil: nothing is counted
}

// Recorder records from Open to the end of Run, or to Close.
type Recorder struct {
	opts    Options
	rec     *trace.FlightRecorder
	wishes  chan wish
	counter *prometheus.CounterVec
	begun   time.Time
	write   func(io.Writer) (int64, error)

	mu   sync.Mutex
	last time.Time // of the last record that was tried
}

// wish is a record that somebody asked for.
type wish struct {
	at           time.Time
	what, detail string
}

// Counter is the metric of a recorder.
func Counter() *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quantum_harvest_flight_records_total",
		Help: "Wishes to save what the process did before a heartbeat was missed, by result: saved, failed, limited (too soon after the one before).",
	}, []string{"result"})
	for _, result := range []string{saved, failed, limited} {
		c.WithLabelValues(result)
	}
	return c
}

// Open makes the folder, removes what killed processes left half written, and begins to record. Only one Recorder of a
// process records at a time.
func Open(o Options) (*Recorder, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Bytes <= 0 {
		o.Bytes = KeptBytes
	}
	if o.Records <= 0 {
		o.Records = KeptRecords
	}
	if o.Pause <= 0 {
		o.Pause = Pause
	}
	if o.WarmUp <= 0 {
		o.WarmUp = warmUp
	}
	r := &Recorder{
		opts: o, begun: o.Now(), wishes: make(chan wish, 1),
		rec:     trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: window, MaxBytes: windowBytes}),
		counter: Counter(),
	}
	r.write = r.rec.WriteTo
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("flight records: make the folder (DEBUG_DIR): %w", err)
	}
	if err := r.sweep(); err != nil {
		return nil, fmt.Errorf("flight records: %w", err)
	}
	probe := filepath.Join(o.Dir, prefix+"probe"+partial)
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return nil, fmt.Errorf("flight records: the folder cannot be written (DEBUG_DIR): %w", err)
	}
	if err := os.Remove(probe); err != nil {
		return nil, fmt.Errorf("flight records: %w", err)
	}
	if err := r.rec.Start(); err != nil {
		return nil, fmt.Errorf("flight records: begin to record: %w", err)
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(r.counter)
	}
	return r, nil
}

// Save asks for a record of what led to this moment. It never waits. what becomes part of the file name: a few words in lower
// case; detail is for the log.
func (r *Recorder) Save(what, detail string) {
	now := r.opts.Now()
	if now.Sub(r.begun) < r.opts.WarmUp {
		return
	}
	r.mu.Lock()
	soon := !r.last.IsZero() && now.Sub(r.last) < r.opts.Pause
	if !soon {
		r.last = now
	}
	r.mu.Unlock()
	if soon {
		r.counter.WithLabelValues(limited).Inc()
		return
	}
	select {
	case r.wishes <- wish{now, what, detail}:
	default: // one is being written
		r.counter.WithLabelValues(limited).Inc()
	}
}

// Run writes records that are asked for until ctx ends, and stops recording then.
func (r *Recorder) Run(ctx context.Context) {
	defer r.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-r.wishes:
			path, err := r.record(w)
			if err != nil {
				r.counter.WithLabelValues(failed).Inc()
				r.opts.Log.Warn("what led to this cannot be saved", "what", w.what, "detail", w.detail, "err", err)
				continue
			}
			r.counter.WithLabelValues(saved).Inc()
			r.opts.Log.Warn("what the process did in the seconds before was saved", "what", w.what, "detail", w.detail, "file", path, "read_with", "go tool trace "+path)
		}
	}
}

// Close stops recording. It may be called more than once.
func (r *Recorder) Close() { r.rec.Stop() }

// WriteTo writes the window as it is.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) { return r.write(w) }

// record writes one file and removes what is beyond the bounds.
func (r *Recorder) record(w wish) (string, error) {
	var content bytes.Buffer
	if _, err := r.write(&content); err != nil {
		return "", fmt.Errorf("read the window: %w", err)
	}
	if int64(content.Len()) > r.opts.Bytes {
		return "", fmt.Errorf("a record of %d bytes is larger than all records together may be (%d)", content.Len(), r.opts.Bytes)
	}
	if err := r.trim(1, int64(content.Len())); err != nil { // first: the disk may be nearly full
		return "", err
	}
	path := filepath.Join(r.opts.Dir, prefix+w.at.UTC().Format(stampLayout)+"-"+strings.ReplaceAll(w.what, " ", "-")+suffix)
	file, err := os.OpenFile(path+partial, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	_, err = content.WriteTo(file)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(path+partial, path)
	}
	if err != nil {
		_ = os.Remove(path + partial)
		return "", err
	}
	return path, nil
}

// entries are our files of one kind, oldest first, with their sizes.
func (r *Recorder) entries(ending string) (names []string, sizes []int64, err error) {
	list, err := os.ReadDir(r.opts.Dir) // sorted by name, and so by time
	if err != nil {
		return nil, nil, fmt.Errorf("list the records: %w", err)
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), prefix) || !strings.HasSuffix(e.Name(), ending) || !e.Type().IsRegular() {
			continue // somebody else's
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("list the records: %w", err)
		}
		names, sizes = append(names, e.Name()), append(sizes, info.Size())
	}
	return names, sizes, nil
}

// trim removes the oldest records until so many more, of that size together, fit.
func (r *Recorder) trim(more int, room int64) error {
	names, sizes, err := r.entries(suffix)
	if err != nil {
		return err
	}
	total := room
	for _, n := range sizes {
		total += n
	}
	for len(names) > 0 && (len(names)+more > r.opts.Records || total > r.opts.Bytes) {
		if err := os.Remove(filepath.Join(r.opts.Dir, names[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old record: %w", err)
		}
		total -= sizes[0]
		names, sizes = names[1:], sizes[1:]
	}
	return nil
}

// sweep removes records that a killed process left half written, and what is beyond the bounds.
func (r *Recorder) sweep() error {
	names, _, err := r.entries(partial)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(r.opts.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what was left half written: %w", err)
		}
	}
	return r.trim(0, 0)
}
