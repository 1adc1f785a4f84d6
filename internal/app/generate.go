package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"quantumharvest/internal/config"
	"quantumharvest/internal/dashboards"
	"quantumharvest/internal/rules"
)

// Rules prints the alert and recording rules that the settings make, or which alert silences which, or writes them into
// a folder.
func Rules(_ context.Context, env Env) error {
	if env.Config.Inhibitions {
		return generate(env, map[string][]byte{rules.InhibitFileName: rules.RenderInhibitions()})
	}
	text, err := rules.Render(thresholds(env.Config).Scale(env.Config.TimeScale))
	if err != nil {
		return err
	}
	return generate(env, map[string][]byte{rules.FileName: text})
}

// Dashboards prints the dashboards, or writes them into a folder.
func Dashboards(_ context.Context, env Env) error {
	files, err := dashboards.Files(env.Config.RunbookURL)
	if err != nil {
		return err
	}
	return generate(env, files)
}

// thresholds are those of the alerts, from the same settings that the publisher runs on.
func thresholds(c config.Config) rules.Thresholds {
	t := rules.Defaults()
	t.Interval = c.Monitor.ScrapeInterval
	t.Heartbeat, t.Cycle, t.Lost, t.StaleFor = c.Heartbeat, c.PublishInterval, c.HeartbeatLost, c.StaleFor
	t.MarketStale, t.PositionAge, t.PublishAge = c.MarketStale, c.PositionStale, c.MaxPublishAge
	t.Skew, t.RoundTrip, t.ExitUnacted, t.FreshnessSLO = c.ClockSkew, c.StoreSlow, c.ExitUnacted, c.FreshnessSLO/100
	t.ResendDelay = c.ResendDelay
	t.RunbookURL, t.DashboardURL = c.RunbookURL, c.GrafanaURL
	return t
}

// generate prints files, writes them into the folder of the settings, or compares them with what is there.
func generate(env Env, files map[string][]byte) error {
	dir := env.Config.OutDir
	var different error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		switch {
		case dir == "":
			if _, err := env.Out.Write(files[name]); err != nil {
				return fmt.Errorf("print %s: %w", name, err)
			}
		case env.Config.Check:
			is, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(is, files[name]) {
				err = fmt.Errorf("%s is not what these settings make: write it anew without --check", path)
			}
			different = errors.Join(different, err)
		default:
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			if err := os.WriteFile(path, files[name], 0o644); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			fmt.Fprintln(env.Out, path)
		}
	}
	return different
}
