package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newTopCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Top, &cobra.Command{
		Use:   "top",
		Short: "Show every proposal in a Redis as a live table",
		Long: "top attaches to any running system through its Redis and shows every proposal with its ages, reasons and writer.\n" +
			"On a terminal it is live (? lists the keys); elsewhere it prints the table once.",
		Example: "  harvest top --redis redis://127.0.0.1:6379/0\n  harvest top --json | jq -r 'select(.status != \"fresh\") | .symbol'",
	}, app.Top)
}
