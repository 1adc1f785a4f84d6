package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newPublishCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Publish, &cobra.Command{
		Use:   "publish",
		Short: "Evaluate open positions and publish exit proposals to a Redis",
		Long: "publish reads candles and positions from Redis, evaluates every open position and publishes proposals and\n" +
			"heartbeats. It may be started before Redis. Its own metrics are on port 8041.\n\n" +
			"With --once it publishes every open position once and stops; the exit code is 1 where one got no proposal.",
		Example: "  harvest publish --redis redis://127.0.0.1:6379/0\n  harvest publish --once",
	}, app.Publish)
}
