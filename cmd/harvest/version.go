package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"quantumharvest/internal/buildinfo"
)

func newVersionCmd(process) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go version and platform",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := buildinfo.Read()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "harvest %s (commit %s, %s, %s/%s)\n", v.Version, v.Commit, v.GoVersion, v.OS, v.Arch)
			return err
		},
	}
}
