package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"quantumharvest/internal/config"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/monitor"
	"quantumharvest/internal/monitor/alert"
	"quantumharvest/internal/monitor/prom"
	"quantumharvest/internal/monitor/routing"
	"quantumharvest/internal/rules"
	"quantumharvest/internal/supervise"
)

// monitorDir is the monitor's part of the data folder.
const monitorDir = "monitor"

// Monitor runs Prometheus and Alertmanager beside services that run elsewhere.
func Monitor(ctx context.Context, env Env) error {
	c := env.Config
	if c.Monitor.PrintConfig {
		_, err := env.Out.Write(routing.Render(receivers(c), routing.Portable))
		return err
	}
	mon, err := openMonitor(env, c.Monitor.ExporterTargets, c.Monitor.PublisherTargets, false)
	if err != nil {
		return err
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	keptIn := c.DataDir
	if keptIn == "" {
		keptIn = "nowhere: --data DIR keeps series, silences and alerts"
	}
	env.Log.Info("monitor started", "prometheus", or(mon.URL(), "elsewhere"), "alertmanager", or(mon.AlertmanagerURL(), "elsewhere"),
		"exporters", c.Monitor.ExporterTargets, "publishers", c.Monitor.PublisherTargets, "kept_in", keptIn, "token_file", mon.TokenFile())
	told, err := supervise.New(env.Log)
	if err != nil {
		return errors.Join(err, mon.Close())
	}
	debug, err := openDebug(env, "Quantum Harvest monitor", nil, nil, false)
	if err != nil {
		return errors.Join(err, mon.Close())
	}
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer group.Wait()
	defer stop()
	group.Go(func() { serveDebug(ctx, debug, env.Log) })
	reload := newReloading(env, mon.Registry(), func(ctx context.Context, c config.Config) error {
		apply, err := prepareMonitor(ctx, mon, c, c.Monitor.ExporterTargets, c.Monitor.PublisherTargets)
		if err != nil {
			return err
		}
		return apply()
	})
	group.Go(func() { reload.run(ctx, told) })
	group.Go(func() { told.Run(ctx, supervise.Part{Progress: mon.Progress, Status: mon.Status}) })
	return mon.Run(ctx)
}

// openMonitor makes what the settings say of the monitor, bound and not yet running.
func openMonitor(env Env, exporters, publishers []string, nextFree bool) (*monitor.Monitor, error) {
	c := env.Config
	m := c.Monitor
	if err := checkScraping(c); err != nil {
		return nil, err
	}
	s, err := monitorSettings(c, exporters, publishers)
	if err != nil {
		return nil, err
	}
	var notifications *alert.Config
	if m.AlertmanagerURL == nil {
		if notifications, err = s.Notifications(); err != nil {
			return nil, err
		}
	}
	dir := ""
	if c.DataDir != "" {
		dir = filepath.Join(c.DataDir, monitorDir)
	}
	return monitor.New(monitor.Options{
		Dir: dir, ListenHost: m.ListenHost, Port: m.Port, AlertmanagerPort: m.AlertmanagerPort, NextFree: nextFree,
		WebConfigFile: c.WebConfigFile, AllowedHosts: m.AllowedHosts, TokenFile: m.TokenFile,
		Prometheus: m.PrometheusURL == nil, AlertmanagerURL: m.AlertmanagerURL, AlertmanagerHTTPFile: m.AlertmanagerHTTPFile,
		ExternalURL: m.ExternalURL, AlertmanagerExternalURL: m.AlertmanagerExternalURL,
		Jobs:           s.Jobs,
		ScrapeHTTPFile: m.ScrapeHTTPFile, ScrapeInterval: m.ScrapeInterval, TimeScale: c.TimeScale, ResendDelay: c.ResendDelay,
		Rules: s.Rules, Steady: []string{rules.Watchdog},
		RetentionTime: m.Retention, RetentionBytes: int64(m.RetentionMB) << 20, Notifications: notifications,
		Version: env.Build.Version, Revision: env.Build.Commit, GoVersion: env.Build.GoVersion, Log: env.Log,
	})
}

// monitorSettings are what of the settings may change while a monitor runs.
func monitorSettings(c config.Config, exporters, publishers []string) (monitor.Settings, error) {
	s := monitor.Settings{
		Jobs: []prom.Job{{Name: rules.JobExporter, Targets: exporters}, {Name: rules.JobPublisher, Targets: publishers}},
		Notifications: func() (*alert.Config, error) {
			if c.Monitor.AlertmanagerConfig != "" {
				return alert.ParseFile(c.Monitor.AlertmanagerConfig)
			}
			return alert.Parse(routing.Render(receivers(c), routing.Current))
		},
	}
	if c.Monitor.PrometheusURL != nil {
		return s, nil // it has rules of its own
	}
	var err error
	s.Rules, err = ruleFiles(c)
	return s, err
}

// prepareMonitor checks what the settings say for a monitor that runs, and gives what puts it in force.
func prepareMonitor(ctx context.Context, mon *monitor.Monitor, c config.Config, exporters, publishers []string) (apply func() error, err error) {
	s, err := monitorSettings(c, exporters, publishers)
	if err != nil {
		return nil, err
	}
	return mon.Prepare(ctx, s)
}

// ruleFiles are the rules of the desk, with the thresholds of the settings, and those that the settings name.
func ruleFiles(c config.Config) ([]prom.RuleFile, error) {
	t := thresholds(c)
	// A time scale is that of the monitor. What the settings say of the publisher holds as it is.
	for _, d := range []*time.Duration{&t.Cycle, &t.MarketStale, &t.PositionAge, &t.PublishAge} {
		*d *= time.Duration(c.TimeScale)
	}
	ours, err := rules.Render(t.Scale(c.TimeScale))
	if err != nil {
		return nil, err
	}
	files := []prom.RuleFile{{Name: rules.FileName, Content: ours}}
	for _, path := range c.Monitor.RuleFiles {
		files = append(files, prom.RuleFile{Name: path})
	}
	return files, nil
}

// upMonitor is the monitor of up, on the ports that the desk has bound; nil where it is left out or elsewhere entirely.
func upMonitor(env Env, r *publisherRole, exp *exporterPort) (*monitor.Monitor, error) {
	m := env.Config.Monitor
	if !m.On || (m.PrometheusURL != nil && m.AlertmanagerURL != nil) {
		return nil, nil
	}
	return openMonitor(env, []string{exp.URL()}, []string{r.port.URL()}, true)
}

// checkScraping refuses ports of ours that the monitor could not scrape: it would report them down for ever.
func checkScraping(c config.Config) error {
	if c.Monitor.PrometheusURL != nil || c.Monitor.ScrapeHTTPFile != "" {
		return nil
	}
	demanded, err := listen.Demands(c.WebConfigFile)
	if err == nil && demanded != "" {
		err = fmt.Errorf("the ports ask for %s (WEB_CONFIG_FILE %s) and the monitor has none to scrape them with: "+
			"name it in a file and the file in MONITOR_SCRAPE_HTTP_CONFIG_FILE, or leave the monitor out (HARVEST_MONITOR=false)",
			demanded, c.WebConfigFile)
	}
	return err
}

// receivers are who the settings say is told.
func receivers(c config.Config) routing.Options {
	n := c.Notify
	return routing.Options{
		Slack:     routing.Slack{URLFile: n.SlackURLFile, Channel: n.SlackChannel},
		PagerDuty: routing.PagerDuty{KeyFile: n.PagerDutyKeyFile, URL: n.PagerDutyURL},
		Telegram:  routing.Telegram{TokenFile: n.TelegramTokenFile, ChatID: n.TelegramChatID, URL: n.TelegramURL},
		Email: routing.Email{
			To: n.EmailTo, From: n.EmailFrom, Smarthost: n.SMTPHost, User: n.SMTPUser, PasswordFile: n.SMTPPasswordFile, NoTLS: n.SMTPNoTLS,
		},
		Webhook:   routing.Webhook{URL: n.WebhookURL.Reveal(), URLFile: n.WebhookURLFile},
		Watchdog:  routing.Webhook{URL: n.WatchdogURL.Reveal(), URLFile: n.WatchdogURLFile},
		TimeScale: c.TimeScale,
	}
}

// monitored runs the desk with the monitor beside it. The desk goes on where the monitor fails: advice comes before its
// supervision. That it failed is said at once, and is the error of the run.
func monitored(ctx context.Context, env Env, mon *monitor.Monitor, desk func(context.Context) error) error {
	if mon == nil {
		return desk(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		begin := time.Now()
		err := mon.Run(ctx)
		if err != nil {
			err = fmt.Errorf("the monitor failed after %s: %w", time.Since(begin).Round(time.Second), err)
			env.Log.Error("the monitor failed: the desk goes on without it, nobody is told of alerts", "err", err)
		}
		failed <- err
	}()
	err := desk(ctx)
	stop()
	return errors.Join(err, <-failed)
}
