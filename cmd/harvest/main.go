// Command harvest is the exit desk for automated trading: it watches positions and market, publishes exit proposals to
// Redis and exports them as Prometheus metrics. One file per subcommand; testdata/script shows how each behaves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // unusable arguments or settings: nothing was started
)

// process is what the outside gives to a command, so that tests can give it too.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string // NAME=value lines
}

func main() {
	app.QuietLibraries()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends a stop that takes too long.
	context.AfterFunc(ctx, stop)
	p := process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	code := run(ctx, os.Args[1:], p)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code. An error is printed once, to stderr.
func run(ctx context.Context, args []string, p process) int {
	return execute(ctx, newRoot(p), args, p)
}

func execute(ctx context.Context, root *cobra.Command, args []string, p process) int {
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(p.stderr, "harvest: %v\n", err)
	var usage *usageError
	var settings *config.Error
	if errors.As(err, &usage) || errors.As(err, &settings) {
		return exitUsage
	}
	return exitFailed
}
