package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newUpCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Up, &cobra.Command{
		Use:   "up",
		Short: "Run everything in one process, with an embedded Redis unless one is named",
		Long: "up evaluates open positions, publishes exit proposals and exports metrics, all in one process.\n\n" +
			"Without settings it watches a generated market with demonstration positions on an embedded Redis at\n" +
			"127.0.0.1:6379; a port that is taken is replaced by the next free one. On a terminal it shows a live table\n" +
			"(? lists the keys); --plain shows log lines there, too. It ends with a summary, and with an error where an\n" +
			"open position never got a proposal.",
		Example: "  harvest up\n" +
			"  harvest up --feed file:BTCUSDT.csv,ETHUSDT.csv --speed 600 --for 20s\n" +
			"  harvest up --redis redis://127.0.0.1:6379/0",
	}, app.Up)
}
