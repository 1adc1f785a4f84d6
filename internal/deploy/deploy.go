// Package deploy takes a server that runs the earlier services to ours, in seven steps. Each is verified before the next
// begins. Every change is written down before it is made, with what takes it back: a run that was broken off is gone on with,
// and one that fails or is interrupted leaves the server as it was.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/service"
	"quantumharvest/internal/store"
)

// The units, which have the names of the earlier services, and the one that is new.
const (
	UnitProposal = "quantum-harvest-proposal.service"
	UnitExporter = "quantum-harvest-metrics-exporter.service"
	UnitMonitor  = "quantum-harvest-monitor.service"
)

// Desk is what deploy needs of the parts of a desk.
type Desk struct {
	Connect func(config.Redis) redis.UniversalClient
	Keys    func(config.Config) store.Keys
	// Rules makes the rule file for settings of the monitor. The early one holds beside an earlier publisher, too.
	Rules func(c config.Config, early bool) ([]byte, error)
	// Inhibitions are the inhibit_rules of an Alertmanager.
	Inhibitions func() []byte
	Dashboards  func() (map[string][]byte, error)
	// Prove writes a proof pack into a folder and says what does not hold.
	Prove func(ctx context.Context, c config.Config, dir, before string) (failures []string, err error)
	// Unit gives our unit of that name.
	Unit func(name string) ([]byte, error)
}

// Options say what is taken over, and how.
type Options struct {
	Config  config.Config
	Version string
	Self    string // this program
	Manager service.Manager
	Desk    Desk
	Out     io.Writer
}

// errRolledBack is the end of a deployment that was taken back.
var errRolledBack = errors.New("everything was taken back: the earlier services run as before")

// rollbackWithin bounds a rollback: services that take their time to stop, and servers that are asked.
const rollbackWithin = 5 * time.Minute

type run struct {
	o      Options
	d      config.DeploySettings
	dir    string
	stages []stage
	state  *State
	step   int
	client *http.Client
}

type stage struct {
	name string
	plan func(*run, context.Context) ([]string, error)
	do   func(*run, context.Context) ([]string, error)
}

// stages are the seven steps.
var stages = []stage{
	{"preflight", (*run).planPreflight, (*run).preflight},
	{"install", (*run).planInstall, (*run).install},
	{"configuration", (*run).planCarry, (*run).carry},
	{"monitoring", (*run).planMonitoring, (*run).monitoring},
	{"shadow run", (*run).planShadow, (*run).shadow},
	{"switch-over", (*run).planSwitch, (*run).switchOver},
	{"proof", (*run).planProof, (*run).proof},
}

// Run does what the settings ask for.
func Run(ctx context.Context, o Options) error {
	r := &run{o: o, d: o.Config.Deploy, dir: o.Config.Deploy.StateDir, stages: stages, client: &http.Client{Timeout: 10 * time.Second}}
	state, err := loadState(r.dir)
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	r.state = state
	switch {
	case r.d.Status:
		r.sayStatus()
		return nil
	case r.d.DryRun:
		return r.dryRun(ctx)
	}
	if r.d.Rollback && state == nil {
		return fmt.Errorf("deploy: there is nothing to take back: %s is not there", stateFile(r.dir))
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "backups"), 0o700); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	release, ok, err := lock(filepath.Join(r.dir, "lock"))
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	if !ok {
		return errors.New("deploy: another deployment is under way; wait for it, or look with harvest deploy --status")
	}
	defer release()
	// Another one may have ended between the first look and the lock.
	if r.state, err = loadState(r.dir); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	r.sweep()
	if r.d.Rollback {
		if r.state.Status == RolledBack {
			r.say("it was taken back already, because %s", r.state.Reason)
			return nil
		}
		return r.rollback(ctx, "the operator asked for it")
	}
	return r.forward(ctx)
}

// forward goes on where the last run ended.
func (r *run) forward(ctx context.Context) error {
	if s := r.state; s != nil {
		switch s.Status {
		case RollingBack:
			r.say("a rollback was broken off; it goes on")
			return errors.Join(r.rollback(ctx, s.Reason), errRolledBack)
		case Done:
			r.say("this server was taken over already; harvest doctor says how it is, harvest deploy --rollback takes it back")
			return nil
		case RolledBack:
			old := filepath.Join(r.dir, "state-"+s.Begun.UTC().Format("20060102T150405Z")+".json")
			if err := os.Rename(stateFile(r.dir), old); err != nil {
				return fmt.Errorf("deploy: %w", err)
			}
			r.state = nil
		}
	}
	if r.state == nil {
		r.state = &State{
			Begun: time.Now().UTC(), By: r.o.Version, Root: r.d.Root, Manager: r.o.Manager.Name(), Status: Running,
		}
		for i, s := range r.stages {
			r.state.Steps = append(r.state.Steps, Step{Number: i + 1, Name: s.name, Status: Pending})
		}
	}
	if r.state.Root != r.d.Root || r.state.Manager != r.o.Manager.Name() {
		return fmt.Errorf("deploy: %s was begun with --root %s and --service-manager %s: go on with the same", stateFile(r.dir), r.state.Root, r.state.Manager)
	}
	for i, s := range r.stages {
		r.step = i + 1
		st := &r.state.Steps[i]
		if st.Status == Done {
			r.say("step %d of %d, %s: done before", r.step, len(r.stages), s.name)
			continue
		}
		r.say("step %d of %d, %s", r.step, len(r.stages), s.name)
		if err := r.take(ctx, s, st); err != nil {
			reason := fmt.Sprintf("step %d, %s, failed: %v", r.step, s.name, err)
			if ctx.Err() != nil {
				reason = fmt.Sprintf("it was interrupted in step %d, %s", r.step, s.name)
			}
			if back := r.rollback(ctx, reason); back != nil {
				return fmt.Errorf("deploy: %s\n%w", reason, back)
			}
			return fmt.Errorf("deploy: %s\n%w", reason, errRolledBack)
		}
		r.say("step %d of %d, %s: verified", r.step, len(r.stages), s.name)
	}
	r.say("done: this server runs Quantum Harvest. The proof is in %s; harvest deploy --rollback takes everything back.", filepath.Join(r.dir, "after"))
	return nil
}

// take takes one step. It counts as done where that is written down: a step that another run would not know of is taken back
// like one that failed.
func (r *run) take(ctx context.Context, s stage, st *Step) error {
	st.Status = Running
	if err := r.save(); err != nil {
		return err
	}
	facts, err := s.do(r, ctx)
	r.sayFacts(facts)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	st.Status, st.Ended, st.Facts = Done, time.Now().UTC(), facts
	if r.step == len(r.stages) {
		r.state.Status = Done
	}
	return r.save()
}

// errNothing is that there is no earlier publisher.
var errNothing = errors.New("nothing is to be taken over")

// dryRun says what would be done.
func (r *run) dryRun(ctx context.Context) error {
	r.say("dry run: nothing is changed")
	if r.state != nil {
		r.sayStatus()
	}
	var failed error
	for i, s := range r.stages {
		r.step = i + 1
		r.say("step %d of %d, %s", r.step, len(r.stages), s.name)
		lines, err := s.plan(r, ctx)
		r.sayFacts(lines)
		if err != nil {
			r.say("  this step would fail: %v", err)
			failed = errors.Join(failed, fmt.Errorf("step %d, %s: %w", r.step, s.name, err))
		}
		if errors.Is(err, errNothing) {
			break // the other steps rest on it
		}
	}
	if failed != nil {
		return fmt.Errorf("deploy: it would fail, and be taken back\n%w", failed)
	}
	return nil
}

func (r *run) sayStatus() {
	if r.state == nil {
		r.say("nothing was begun: %s is not there", stateFile(r.dir))
		return
	}
	r.say("begun %s by %s, %s", r.state.Begun.Format(time.RFC3339), r.state.By, r.state.Status)
	if r.state.Reason != "" {
		r.say("because %s", r.state.Reason)
	}
	for _, s := range r.state.Steps {
		r.say("%d %-14s %s", s.Number, s.Name, s.Status)
	}
	for _, c := range r.state.Changes {
		undone := ""
		if c.Undone {
			undone = " (taken back)"
		}
		r.say("  step %d changed the %s %s%s", c.Step, c.Kind, c.What, undone)
	}
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.o.Out, format+"\n", args...) }

func (r *run) sayFacts(lines []string) {
	for _, l := range lines {
		r.say("  %s", strings.ReplaceAll(strings.TrimRight(l, "\n"), "\n", "\n  "))
	}
}

func (r *run) at(path string) string { return filepath.Join(r.d.Root, path) }

// rollback takes every change back, the last one first. What was taken back is not tried again where it goes on later.
func (r *run) rollback(ctx context.Context, reason string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackWithin)
	defer cancel()
	r.say("taking everything back: %s", reason)
	r.state.Status, r.state.Reason = RollingBack, reason
	// A full disk is no reason to leave the earlier services stopped.
	failed := r.save()
	if failed != nil {
		failed = errors.Join(failed, r.markRollback())
	}
	failed = errors.Join(failed, r.undo(ctx))
	if failed != nil {
		return fmt.Errorf("rollback: not everything could be taken back; put it right and run harvest deploy --rollback again\n%w", failed)
	}
	r.state.Status = RolledBack
	for i := range r.state.Steps {
		if r.state.Steps[i].Status != Pending {
			r.state.Steps[i].Status = RolledBack
		}
	}
	if err := r.save(); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	r.say("everything was taken back; backups stay in %s", filepath.Join(r.dir, "backups"))
	return nil
}

// undo goes by what must come before what: nothing of ours writes any more, then the files, then what is in Redis, and only
// then do the earlier services start, which find everything as they left it.
func (r *run) undo(ctx context.Context) error {
	var failed error
	each := func(kinds []Kind, do func(c Change) error) {
		for i := len(r.state.Changes) - 1; i >= 0; i-- {
			c := &r.state.Changes[i]
			if c.Undone || !slices.Contains(kinds, c.Kind) {
				continue
			}
			if err := do(*c); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s %s: %w", c.Kind, c.What, err))
			} else {
				c.Undone = true
			}
		}
		failed = errors.Join(failed, r.save())
	}
	each([]Kind{KindShadow}, func(c Change) error { return r.endShadow(ctx, c) })
	stopped := true
	// Of a service that was changed: its name is that of the earlier one, so it is stopped before its files change.
	for i := len(r.state.Changes) - 1; i >= 0; i-- {
		c := r.state.Changes[i]
		if _, err := service.Find(r.d.Root, c.What); c.Kind == KindService && !c.Undone && err == nil {
			if err := errors.Join(r.o.Manager.Stop(ctx, c.What), r.o.Manager.Disable(ctx, c.What)); err != nil {
				failed, stopped = errors.Join(failed, fmt.Errorf("stop %s: %w", c.What, err)), false
			}
		}
	}
	if !stopped {
		return failed // it goes on writing: started beside it, the earlier one would be a second writer
	}
	each([]Kind{KindRedis}, func(c Change) error { return r.cleanRedis(ctx, c) })
	each([]Kind{KindFile}, r.restore)
	failed = errors.Join(failed, r.o.Manager.Reread(ctx))
	each([]Kind{KindService}, func(c Change) error {
		var err error
		if c.Enabled {
			err = r.o.Manager.Enable(ctx, c.What)
		}
		if c.Active {
			err = errors.Join(err, r.o.Manager.Start(ctx, c.What))
		}
		return err
	})
	each([]Kind{KindServer}, func(c Change) error { return r.reload(ctx, c.What) })
	each([]Kind{KindDir}, func(c Change) error {
		_ = os.Remove(c.What) // somebody else may have put something there
		return nil
	})
	each([]Kind{KindUser}, func(c Change) error { return removeUser(ctx, c.What) })
	return failed
}
