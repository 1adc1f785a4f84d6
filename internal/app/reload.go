package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/config"
	"quantumharvest/internal/engine"
	"quantumharvest/internal/supervise"
	"quantumharvest/kernel"
)

const (
	// lookAtFile is how often the env file is looked at. It is read and not watched: that sees a file that was replaced, a link
	// that leads elsewhere and a folder that was swapped, on every file system.
	lookAtFile = time.Second
	// retuneLimit is for how long a reload waits for the engine to finish its step.
	retuneLimit = 10 * time.Second
	maxEnvFile  = 2 << 20
)

// reloading takes new settings into a running process: when it is told to by a signal, and when the env file has changed.
type reloading struct {
	env    Env
	again  chan os.Signal // reload
	louder chan os.Signal // debug log on and off
	apply  func(context.Context, config.Config) error

	good   prometheus.Gauge
	goodAt prometheus.Gauge
}

// newReloading makes ready for reloads; from here on the signals are taken. A process without an env file has nothing that
// could change, and a hang-up ends it as ever.
func newReloading(env Env, reg prometheus.Registerer, apply func(context.Context, config.Config) error) *reloading {
	r := &reloading{env: env, apply: apply, again: make(chan os.Signal, 1), louder: make(chan os.Signal, 1)}
	r.good, r.goodAt = newReloadGauges(reg)
	r.good.Set(1)
	r.goodAt.SetToCurrentTime()
	if env.Settings != nil && env.Settings.File() != "" {
		listenForReload(r.again, r.louder)
	}
	return r
}

func newReloadGauges(reg prometheus.Registerer) (good, goodAt prometheus.Gauge) {
	good = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quantum_harvest_config_last_reload_successful", Help: "1 where the settings that were read last are in force; 0: they were refused, and the old ones stay.",
	})
	goodAt = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quantum_harvest_config_last_reload_success_timestamp_seconds", Help: "When settings were last put in force.",
	})
	reg.MustRegister(good, goodAt)
	return good, goodAt
}

// run reloads until ctx ends. One reload follows the other: what comes in between is taken by the next.
func (r *reloading) run(ctx context.Context, manager *supervise.Notifier) {
	if r.env.Settings == nil || r.env.Settings.File() == "" {
		<-ctx.Done()
		return
	}
	file := r.env.Settings.File()
	loaded := r.env.Settings.Seen() // what the start, or the last reload, rests on
	var before [sha256.Size]byte
	look := time.NewTicker(lookAtFile)
	defer look.Stop()
	for {
		why := ""
		select {
		case <-ctx.Done():
			return
		case <-r.louder:
			r.toggleDebug()
			continue
		case <-r.again:
			why, loaded = "signal", fingerprint(file)
		case <-look.C:
			is := fingerprint(file)
			// What is being written right now is left alone until it rests.
			if is == loaded || is != before {
				before = is
				continue
			}
			why, loaded = "file", is
		}
		manager.Reload(func() { r.reload(ctx, why) })
	}
}

// reload reads the settings again and puts in force what may change.
func (r *reloading) reload(ctx context.Context, why string) {
	log := r.env.Log
	got, err := r.env.Settings.Read(func(c config.Config) error { return r.apply(ctx, c) })
	var bad *config.Error
	switch {
	case errors.As(err, &bad):
		for _, p := range bad.Problems {
			log.Error("the new settings are refused", "problem", p.String())
		}
		log.Error("the old settings stay in force", "problems", len(bad.Problems), "file", r.env.Settings.File())
	case err != nil:
		log.Error("the new settings could not be put in force: the old ones stay", "err", err)
	}
	if err != nil {
		r.good.Set(0)
		return
	}
	r.good.Set(1)
	r.goodAt.SetToCurrentTime()
	if r.env.Level != nil {
		r.env.Level.Set(got.Config.LogLevel)
	}
	for _, n := range got.Notes {
		log.Warn(n.Text, "setting", n.Setting)
	}
	for _, c := range got.Changed {
		log.Info("setting changed", "setting", c.Setting, "from", c.Old, "to", c.New)
	}
	for _, c := range got.Restart {
		log.Warn("setting keeps its old value until a restart", "setting", c.Setting, "from", c.Old, "to", c.New)
	}
	log.Info("settings reloaded", "by", why, "changed", len(got.Changed), "wait_for_restart", len(got.Restart))
}

// toggleDebug turns the debug log on, and off again to what the settings say.
func (r *reloading) toggleDebug() {
	level := r.env.Level
	if level == nil {
		return
	}
	to := slog.LevelDebug
	if level.Level() == to {
		to = max(r.env.Settings.Level(), slog.LevelInfo)
	}
	level.Set(slog.LevelDebug) // whatever it is to be, this line is wanted
	r.env.Log.Info("log level changed by signal", "to", to)
	level.Set(to)
}

// fingerprint tells one content of the file from another; one that cannot be read has that of its error.
func fingerprint(path string) [sha256.Size]byte {
	f, err := os.Open(path)
	if err != nil {
		return [sha256.Size]byte{1}
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxEnvFile))
	if err != nil {
		return [sha256.Size]byte{2}
	}
	return sha256.Sum256(content)
}

// harvestParams are those of the kernel, with what the settings say.
func harvestParams(c config.Config) kernel.HarvestParams {
	p := kernel.DefaultHarvestParams()
	p.FallbackStopPct = c.FallbackStopPct
	return p
}

func gateParams(c config.Config) kernel.GateParams {
	return kernel.GateParams{ChangeEpsPct: c.ChangeEps, MaxPublishAgeSec: c.MaxPublishAge.Seconds()}
}

// tuning is what of the settings may change while an engine runs.
func tuning(c config.Config) engine.Tuning {
	return engine.Tuning{
		Cycle: c.PublishInterval, MarketStale: c.MarketStale, PositionStale: c.PositionStale, ProduceEvery: c.StateInterval,
		Harvest: harvestParams(c), Gate: gateParams(c), Symbols: c.Symbols, StateSymbols: c.StateSymbols,
	}
}

// retune has the loop put another tuning in force between two steps, and waits for that.
func (p *publisher) retune(ctx context.Context, t engine.Tuning) error {
	ctx, cancel := context.WithTimeout(ctx, retuneLimit)
	defer cancel()
	var once sync.Mutex // held by whoever decides whether it takes place: the loop, or who gave up waiting
	gone := false
	answer := make(chan error, 1)
	request := func() {
		once.Lock()
		defer once.Unlock()
		if !gone {
			answer <- p.engine.Reconfigure(t, p.now())
		}
	}
	select {
	case p.requests <- request:
	case <-ctx.Done():
		return fmt.Errorf("the engine does not take them: %w", ctx.Err())
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	once.Lock()
	defer once.Unlock()
	gone = true
	select {
	case err := <-answer:
		return err
	default:
		return fmt.Errorf("the engine does not take them: %w", ctx.Err())
	}
}
