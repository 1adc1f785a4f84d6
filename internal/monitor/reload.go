package monitor

import (
	"context"

	"quantumharvest/internal/monitor/alert"
	"quantumharvest/internal/monitor/prom"
)

// Settings are what may change while a monitor runs.
type Settings struct {
	Jobs  []prom.Job // the monitor itself is added
	Rules []prom.RuleFile
	// Notifications reads and checks the configuration of the embedded Alertmanager.
	Notifications func() (*alert.Config, error)
}

func (m *Monitor) jobs(others []prom.Job) []prom.Job {
	return append(others[:len(others):len(others)], prom.Job{Name: SelfJob, Targets: []string{m.promPort.URL()}})
}

// Prepare checks other settings as a whole, and gives what puts them in force. With an error nothing has changed. Alerts,
// silences, series and what was notified stay. A monitor that has ended takes anything: nothing comes of it.
func (m *Monitor) Prepare(ctx context.Context, s Settings) (apply func() error, err error) {
	nothing := func() error { return nil }
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ended, cancel)()
	var told *alert.Reload
	if m.alertmanager != nil {
		if told, err = m.alertmanager.Prepare(s.Notifications); err != nil {
			return nil, err
		}
	}
	var watched *prom.Reload
	if m.prometheus != nil {
		watched, err = m.prometheus.Prepare(waiting, m.jobs(s.Jobs), s.Rules)
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err() // the whole process stops, the monitor with it
		}
		if m.ended.Err() != nil {
			return nothing, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return func() error {
		// What can fail comes first.
		if watched != nil {
			if err := watched.Apply(); err != nil {
				return err
			}
		}
		if told != nil {
			told.Apply()
		}
		return nil
	}, nil
}
