package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"quantumharvest/internal/golden"
)

func newEvalCmd(process) *cobra.Command {
	kinds := make([]string, len(golden.Kinds))
	for i, k := range golden.Kinds {
		kinds[i] = string(k)
	}
	choices := strings.Join(kinds, "|")
	return &cobra.Command{
		Use:   "eval " + choices,
		Short: "Evaluate cases from standard input with the kernel",
		Long: `eval reads cases as JSON lines from standard input, one case object a line in the schema of
testdata/vectors, and writes one line for each:

  {"id":...,"output":{...}}                         shaped like the case's "expected";
                                                    null where there are too few prices
  {"id":...,"error":{"field":...,"reason":...}}     where the input is refused

A refused case is an answer: the exit code is 0 unless reading or writing fails.`,
		Example: `  grep -o '{"id".*}' testdata/vectors/chain.json | harvest eval chain`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "eval takes one kind of case: %s", choices)
			}
			if _, err := golden.ParseKind(args[0]); err != nil {
				return usagef(cmd, "%v", err)
			}
			return nil
		},
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			return untilDone(cmd.Context(), func() error {
				if _, err := golden.Run(golden.Kind(args[0]), cmd.InOrStdin(), cmd.OutOrStdout()); err != nil {
					return fmt.Errorf("eval %s: %w", args[0], err)
				}
				return nil
			})
		},
	}
}

// untilDone runs work that blocks on standard input, which nothing can interrupt, and leaves it behind when ctx ends:
// the process is about to exit.
func untilDone(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
}
