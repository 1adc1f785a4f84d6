package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
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
	// retryMost is the longest pause before a reload that failed for a passing reason is tried again; the first is lookAtFile.
	retryMost = 30 * time.Second
	// byItself is why a reload that failed is tried again, in the log.
	byItself = "another try"
)

// reloading takes new settings into a running process: when it is told to by a signal, and when the env file has changed.
type reloading struct {
	env    Env
	again  chan os.Signal // reload
	louder chan os.Signal // debug log on and off
	apply  func(context.Context, config.Config) error

	good   prometheus.Gauge
	goodAt prometheus.Gauge

	failed string        // what the last reload failed of; blank: it did not
	pause  time.Duration // before it is tried again; 0: that would bring nothing
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
	loaded := r.env.Settings.Seen() // what the start, or the last reload, rests on
	var before [sha256.Size]byte
	var again time.Time // when what failed is tried again; zero: with the next change or signal
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
			why = "signal"
			loaded, _ = r.env.Settings.Fingerprint()
		case <-look.C:
			is, there := r.env.Settings.Fingerprint()
			rests := is == before
			before = is
			switch {
			case !rests: // what is being written right now is left alone
				continue
			case is != loaded:
				why, loaded = "file", is
			case there && !again.IsZero() && !time.Now().Before(again): // without the file there is nothing to try
				why = byItself
			default:
				continue
			}
		}
		manager.Reload(func() { r.reload(ctx, why) })
		again = time.Time{}
		if r.pause > 0 {
			again = time.Now().Add(r.pause)
		}
	}
}

// reload reads the settings again and puts in force what may change.
func (r *reloading) reload(ctx context.Context, why string) {
	log := r.env.Log
	got, err := r.env.Settings.Read(func(c config.Config) error { return r.apply(ctx, c) })
	if err != nil {
		r.refused(ctx, why, err)
		return
	}
	r.failed, r.pause = "", 0
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

// refused says why new settings are not in force. What failed for a reason that may pass is tried again; tries that nobody asked
// for say nothing new.
func (r *reloading) refused(ctx context.Context, why string, err error) {
	log := r.env.Log
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		log.Info("the process stops before the new settings are in force")
		return
	}
	r.good.Set(0)
	known := why == byItself && r.failed == err.Error()
	r.failed = err.Error()
	if !passing(err) {
		r.pause = 0
	} else {
		r.pause = min(max(2*r.pause, lookAtFile), retryMost)
		if known {
			log.Debug("the new settings still cannot be put in force", "err", err, "next_try_in", r.pause)
			return
		}
	}
	var bad *config.Error
	if !errors.As(err, &bad) {
		log.Error("the new settings could not be put in force: the old ones stay", "err", err, "tried_again", r.pause > 0)
		return
	}
	for _, p := range bad.Problems {
		log.Error("the new settings are refused", "problem", p.String())
	}
	log.Error("the old settings stay in force", "problems", len(bad.Problems), "file", r.env.Settings.File(), "tried_again", r.pause > 0)
}

// passing tells whether another try with the same settings may go better: a file that an editor or a mount takes away for a
// moment, an engine that was busy. What is written wrong stays wrong until somebody writes something else.
func passing(err error) bool {
	var bad *config.Error
	var file *fs.PathError
	return errors.As(err, &bad) && bad.Passing() || errors.As(err, &file) || errors.Is(err, errBusy)
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

// errBusy is that the loop of a publisher did not come to it.
var errBusy = errors.New("the engine does not take them")

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
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
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
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
}
