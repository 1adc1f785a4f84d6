package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newDrillCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Drill, &cobra.Command{
		Use:   "drill",
		Short: "Pull every plug of the fault table on a private copy",
		Long: "drill starts copies of the system of its own (redis-server, publishers, exporter, Prometheus and Alertmanager, which\n" +
			"must be on PATH), makes one fault on each, and proves which alert sees it, how soon, what stays true meanwhile, and that\n" +
			"everything clears after the repair. Nothing of yours is touched. It fails where a fault was not handled.",
		Example: "  harvest drill --time-scale 5\n" +
			"  harvest drill --only 3,17 --report drill.md",
	}, app.Drill)
}
