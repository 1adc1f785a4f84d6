package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newExportCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Export, &cobra.Command{
		Use:   "export",
		Short: "Export the proposals in a Redis as Prometheus metrics",
		Long: "export reads every proposal from Redis at each scrape of port 8042. It may be started before Redis, and works\n" +
			"beside an earlier publisher when SYMBOLS names the symbols.",
		Example: "  harvest export --redis redis://127.0.0.1:6379/0",
	}, app.Export)
}
