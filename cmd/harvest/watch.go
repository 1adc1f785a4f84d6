package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newWatchCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Watch, &cobra.Command{
		Use:   "watch",
		Short: "Run a command when the advice for a symbol or its state changes",
		Long: "watch reads a Redis once a second and runs a command on every change of action or state, on a proposal that\n" +
			"appears, closes or goes stale, and when Redis itself goes away or comes back. The command is told by variables\n" +
			"(HARVEST_EVENT, HARVEST_SYMBOL, HARVEST_ACTION, HARVEST_PREVIOUS_ACTION, HARVEST_STATE, HARVEST_R,\n" +
			"HARVEST_KILL_SCORE, HARVEST_REASONS, HARVEST_NOT_REAL, ...) and by JSON on its standard input.\n" +
			"Without a command every event is printed.",
		Example: "  harvest watch --exec 'notify-send \"$HARVEST_SYMBOL\" \"$HARVEST_EVENT: $HARVEST_ACTION\"'\n" +
			"  harvest watch --on action,stale,store_lost --exec 'curl -s --data-binary @- https://example.org/hook'",
	}, app.Watch)
}
