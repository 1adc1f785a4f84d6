package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newDeployCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Deploy, &cobra.Command{
		Use:   "deploy",
		Short: "Take over a server of the earlier services, in seven verified steps",
		Long: "deploy takes a server that runs the earlier services to ours: preflight, install, configuration, monitoring, a shadow run\n" +
			"that is compared with the earlier publisher field by field, the switch-over, and a proof. Each step is verified before\n" +
			"the next. A step that fails, or an interrupt, takes everything back; a run that was broken off goes on where it ended.\n" +
			"docs/MIGRATE.md goes through it.",
		Example: "  harvest deploy --dry-run\n" +
			"  harvest deploy\n" +
			"  harvest deploy --status\n" +
			"  harvest deploy --rollback",
	}, func(ctx context.Context, env app.Env) error {
		ctx, over := steadfast(ctx, env.Err)
		defer over()
		return app.Deploy(ctx, env)
	})
}

// steadfast ends the context at the first interrupt, or where the terminal goes away, and lets nothing that is sent after that
// end the process: by then it takes back what it did, and half of that is worse than all or nothing. The same holds for a
// reader of what it prints that is gone.
func steadfast(ctx context.Context, say io.Writer) (_ context.Context, over func()) {
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan os.Signal, 4)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		for n := 0; ; n++ {
			if _, ok := <-told; !ok {
				return
			}
			cancel()
			if n > 0 {
				fmt.Fprintln(say, "harvest: what was done is being taken back; where that is killed, harvest deploy --rollback goes on with it")
			}
		}
	}()
	return ctx, func() {
		signal.Stop(told)
		close(told)
		signal.Reset(syscall.SIGPIPE)
		cancel()
	}
}

func newSuperviseCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Supervise, &cobra.Command{
		Use:   "supervise",
		Short: "Run what units say, on a host without systemd",
		Long: "supervise runs the service of a unit, or of every unit that is enabled, as the unit says: its command, environment and\n" +
			"restarts. The process id is kept below /run/quantum-harvest, the log below /var/log/quantum-harvest. In a container it\n" +
			"is what is started; harvest deploy --service-manager exec starts one for each service.",
		Example: "  harvest supervise\n" +
			"  harvest supervise --unit quantum-harvest-proposal.service",
	}, app.Supervise)
}
