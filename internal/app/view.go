package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"quantumharvest/internal/monitor"
	"quantumharvest/internal/top"
)

// view is the live table that up shows on a terminal. While it is shown the log goes into it, line by line; before and
// after, and where its lines are not read fast enough to matter, to where the log belongs.
type view struct {
	notices chan string
	log     io.Writer
	shown   atomic.Bool
	monitor *monitor.Monitor // nil: none in this process
}

// newView returns nil where there is no terminal to show a table on, or plain lines are wanted.
func newView(env Env) *view {
	if env.Config.Plain || !top.Interactive(env.Out, env.Environ) {
		return nil
	}
	return &view{notices: make(chan string, 256), log: env.Err}
}

// logger writes into the view.
func (v *view) logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(v, &slog.HandlerOptions{Level: level}))
}

// Write takes one log record. It never waits: a line too many for the view is dropped, like one that scrolled away.
func (v *view) Write(record []byte) (int, error) {
	if !v.shown.Load() {
		return v.log.Write(record)
	}
	select {
	case v.notices <- string(bytes.TrimRight(record, "\n")):
	default:
	}
	return len(record), nil
}

// take lets the log go into the table from now on. It comes before anything that logs is started, so that no line is
// written across the screen.
func (v *view) take() { v.shown.Store(true) }

// run shows the table until ctx ends or the user quits.
func (v *view) run(ctx context.Context, env Env, r *publisherRole, metrics string) error {
	defer v.shown.Store(false)
	return top.Run(ctx, top.Options{
		Reader: r.store, Symbols: env.Config.Symbols, Notices: v.notices, In: env.In, Out: env.Out, Environ: env.Environ,
		Header: v.header(env, metrics),
	})
}

// header says where everything is.
func (v *view) header(env Env, metrics string) string {
	h := fmt.Sprintf("Quantum Harvest %s  %s  %s/metrics", env.Build.Version, env.Config.Redis, metrics)
	if v.monitor == nil {
		return h
	}
	for _, at := range []string{v.monitor.URL(), v.monitor.AlertmanagerURL()} {
		if at != "" {
			h += "  " + at
		}
	}
	return h
}
