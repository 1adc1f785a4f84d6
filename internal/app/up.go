package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
	"quantumharvest/internal/embedded"
)

// Env is what a command gives to the roles it runs.
type Env struct {
	Config config.Config
	Build  buildinfo.Info
	Out    io.Writer // what people read: the banner, the summary, tables
	Log    *slog.Logger

	// Settings reads the settings again, and Level is that of Log; nil: they stay as they are.
	Settings *config.Reloader
	Level    *slog.LevelVar

	In      io.Reader // keys, where Out is a terminal
	Err     io.Writer // where commands that are run write their errors, and the log behind a live table
	Environ []string  // NAME=value lines: what the terminal can do, and what commands get
}

// level is that of the log: one that may change, where it may.
func (env Env) level() slog.Leveler {
	if env.Level != nil {
		return env.Level
	}
	return env.Config.LogLevel
}

// Up runs every role in one process until ctx ends, the configured time is over or a recording has ended, and prints
// a summary. It returns an error where an open position never got a proposal.
func Up(ctx context.Context, env Env) error {
	c := env.Config
	live := newView(env)
	if live != nil {
		env.Log = live.logger(env.level())
	}
	var emb *embedded.Server
	if c.Embedded {
		srv, err := embedded.Start(embedded.Options{Addr: hostPort("127.0.0.1", c.EmbeddedPort), Dir: c.DataDir, Log: env.Log})
		if err != nil {
			return fmt.Errorf("embedded redis: %w", err)
		}
		defer func() {
			if err := srv.Close(); err != nil {
				env.Log.Error("embedded redis did not close cleanly", "err", err)
			}
		}()
		emb = srv
		env.Config.Redis = config.Redis{Network: "tcp", Addr: srv.Addr()}
	}
	role, err := newPublisherRole(ctx, env, true)
	if err != nil {
		return err
	}
	defer role.close()
	exp, err := openExporterPort(env.Config, env.Build, role.store, role.count, role.in.notice(), true, env.Log)
	if err != nil {
		return err
	}
	mon, err := upMonitor(env, role, exp)
	if err != nil {
		return errors.Join(err, exp.Close())
	}
	role.mon = mon
	banner(env, emb, role, exp, mon)
	if live != nil {
		live.monitor = mon
		live.take()
	}
	return monitored(ctx, env, mon, func(ctx context.Context) error { return role.run(ctx, env, exp, live) })
}
