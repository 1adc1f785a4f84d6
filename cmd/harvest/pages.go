//go:build pages

package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"quantumharvest/internal/buildinfo"
)

// The manual is written by a build of its own (-tags pages), from the very commands that it is about: what writes it
// has no place in the program that is shipped.
func init() { commands = append(commands, newPagesCmd) }

func newPagesCmd(process) *cobra.Command {
	return &cobra.Command{
		Use:    "pages DIR",
		Short:  "Write the manual pages into a folder",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			date := time.Unix(0, 0).UTC()
			if at, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				date = time.Unix(at, 0).UTC()
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{
				Title: "HARVEST", Section: "1", Date: &date, Source: "harvest " + buildinfo.Read().Version, Manual: "Quantum Harvest",
			}, args[0])
		},
	}
}
