package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
)

// newRoleCmd makes the command of one role: its settings become flags, and run gets them checked.
func newRoleCmd(p process, role config.Role, cmd *cobra.Command, run func(context.Context, app.Env) error) *cobra.Command {
	withSettings(cmd, role)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, notes, again, err := config.LoadAgain(cmd.Flags(), role, p.environ)
		if err != nil {
			return err
		}
		level := &slog.LevelVar{}
		level.Set(c.LogLevel)
		log := newLogger(p, c, level)
		for _, n := range notes {
			log.Warn(n.Text, "setting", n.Setting)
		}
		return run(cmd.Context(), app.Env{
			Config: c, Build: buildinfo.Read(), Out: p.stdout, Log: log, Settings: again, Level: level, In: p.stdin, Err: p.stderr, Environ: p.environ,
		})
	}
	return cmd
}

// newLogger logs to stderr: what people read of a run goes to stdout.
func newLogger(p process, c config.Config, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == config.LogJSON {
		return slog.New(slog.NewJSONHandler(p.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(p.stderr, opts))
}
