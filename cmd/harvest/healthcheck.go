package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
)

func newHealthcheckCmd(process) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck URL",
		Short: "Ask a health page, for containers that have no other program",
		Long: "healthcheck asks one page, for at most three seconds, prints what it answers and exits with 0 only where the answer\n" +
			"is 200. /-/healthy answers while the process does, /-/ready while it does its work.",
		Example: "  harvest healthcheck http://127.0.0.1:8041/-/ready",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "healthcheck takes one URL, for example http://127.0.0.1:8041/-/ready")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.CheckHealthURL(args[0]); err != nil {
				return usagef(cmd, "%v", err)
			}
			return app.Healthcheck(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
}
