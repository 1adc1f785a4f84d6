package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"quantumharvest/internal/config"
)

// commands makes the subcommands, in the order of the help text.
var commands = []func(process) *cobra.Command{
	newUpCmd,
	newPublishCmd,
	newExportCmd,
	newMonitorCmd,
	newTopCmd,
	newWatchCmd,
	newRulesCmd,
	newDashboardsCmd,
	newProofCmd,
	newDeployCmd,
	newDoctorCmd,
	newSuperviseCmd,
	newDrillCmd,
	newBenchCmd,
	newHealthcheckCmd,
	newEvalCmd,
	newVersionCmd,
}

// usageError is a command line that cannot be carried out; its text ends with where to read on.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...) + "\nRun '" + cmd.CommandPath() + " --help' for how to use it."}
}

func newRoot(p process) *cobra.Command {
	root := &cobra.Command{
		Use:   "harvest",
		Short: "The exit desk for automated trading",
		Long: "harvest watches positions and market, publishes exit proposals to Redis and exports them as\n" +
			"Prometheus metrics.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%v", err) })
	for _, newCmd := range commands {
		root.AddCommand(newCmd(p))
	}
	return root
}

// knownCommand refuses what is not a subcommand; it only sees arguments that cobra could not assign to one.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef(cmd, "%s", text)
}

// noArgs refuses arguments that are not flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "unexpected argument %q: settings are given as flags", args[0])
	}
	return nil
}

// withSettings gives cmd the flags of a role and a help text made from the table of settings.
func withSettings(cmd *cobra.Command, role config.Role) {
	config.Register(cmd.Flags(), role)
	cmd.Args = noArgs
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		text := "Usage:\n  " + cmd.UseLine() + "\n\n"
		if cmd.HasExample() {
			text += "Examples:\n" + cmd.Example + "\n\n"
		}
		_, err := fmt.Fprint(cmd.OutOrStderr(), text+config.Help(role))
		return err
	})
}
