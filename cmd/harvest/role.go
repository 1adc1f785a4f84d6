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
		c, notes, err := loadSettings(cmd, role, p)
		if err != nil {
			return err
		}
		log := newLogger(p, c)
		for _, n := range notes {
			log.Warn(n.Text, "setting", n.Setting)
		}
		return run(cmd.Context(), app.Env{
			Config: c, Build: buildinfo.Read(), Out: p.stdout, Log: log, In: p.stdin, Err: p.stderr, Environ: p.environ,
		})
	}
	return cmd
}

// newLogger logs to stderr: what people read of a run goes to stdout.
func newLogger(p process, c config.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == config.LogJSON {
		return slog.New(slog.NewJSONHandler(p.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(p.stderr, opts))
}
