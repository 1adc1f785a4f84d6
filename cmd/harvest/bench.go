package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newBenchCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Bench, &cobra.Command{
		Use:   "bench",
		Short: "Measure what the desk costs on this machine and Redis",
		Long: "bench measures the kernel, cycles, the way of a price tick to Redis, scrapes and memory, each against a rival in the\n" +
			"same run where there is one, and says which targets are met. It takes about three minutes, uses keys of its own below one\n" +
			"prefix and removes them. Without Redis settings it starts a redis-server for the while, or uses the embedded one.",
		Example: "  harvest bench\n" +
			"  harvest bench --json --redis redis://127.0.0.1:6379/0",
	}, func(ctx context.Context, env app.Env) error {
		// A reader that is gone must not kill what has a server to stop and keys to remove: writing to it fails instead.
		signal.Ignore(syscall.SIGPIPE)
		defer signal.Reset(syscall.SIGPIPE)
		return app.Bench(ctx, env)
	})
}
