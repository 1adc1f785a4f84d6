package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"quantumharvest/internal/drill"
	"quantumharvest/internal/monitor/routing"
	"quantumharvest/internal/rules"
)

// errDrill ends a drill in which a fault was not handled as it should be.
var errDrill = errors.New("faults were not handled as the table says")

// Drill pulls the plugs of the fault table on private copies of the system, and prints what came of it.
func Drill(ctx context.Context, env Env) error {
	c := env.Config
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("drill: find this program: %w", err)
	}
	if !c.JSON {
		fmt.Fprintf(env.Out, "Private copies of the system, time scale %d, %d at a time; nothing of yours is touched.\n\n", c.TimeScale, c.Drill.Parallel)
	}
	report, err := drill.Run(ctx, drill.Options{
		Parts: drill.Parts{
			Harvest: self, HarvestName: "harvest", Environ: withoutSettings(env.Environ), Rules: rules.Render, Alertmanager: drillRouting,
		},
		TimeScale: c.TimeScale, Only: c.Drill.Only, Parallel: c.Drill.Parallel,
		Done: func(r drill.Result) { sayResult(env, r) },
	})
	if err != nil {
		return err
	}
	if c.Drill.Report != "" {
		if err := os.WriteFile(c.Drill.Report, []byte(report.Table()), 0o644); err != nil {
			return fmt.Errorf("drill: write the report: %w", err)
		}
	}
	if !c.JSON {
		fmt.Fprintf(env.Out, "\n%s\n", report.Table())
	}
	if passed, tried := report.Rows(); passed < tried {
		return fmt.Errorf("drill: %w: %d of %d rows passed", errDrill, passed, tried)
	}
	return nil
}

// drillRouting is the configuration that we ship, with one receiver and a dead man's switch.
func drillRouting(alerts, watchdog string, scale int) []byte {
	return routing.Render(routing.Options{
		Webhook: routing.Webhook{URL: alerts}, Watchdog: routing.Webhook{URL: watchdog}, TimeScale: scale,
	}, routing.Portable)
}

func sayResult(env Env, r drill.Result) {
	if env.Config.JSON {
		_ = json.NewEncoder(env.Out).Encode(r)
		return
	}
	verdict := "ok"
	if !r.Passed() {
		verdict = "FAILED: " + strings.Join(r.Failures, "; ")
	}
	var seen []string
	for _, s := range r.Sights {
		seen = append(seen, fmt.Sprintf("%s after %.1f s", s.By, s.FiringSec))
	}
	if len(seen) == 0 {
		seen = []string{"no alert, as it should be"}
	}
	fmt.Fprintf(env.Out, "%2d %-46s %s; %s\n", r.Number, r.Fault, strings.Join(seen, ", "), verdict)
}
