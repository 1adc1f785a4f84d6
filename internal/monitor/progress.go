package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Progress tells whether the monitor works: its ports answer, targets are scraped and rules evaluated. If not it says what
// hangs.
func (m *Monitor) Progress(ctx context.Context) error {
	if !m.running.Load() {
		return errors.New("monitor: it is starting or stopping")
	}
	for _, srv := range m.ports() {
		if err := srv.Alive(ctx); err != nil {
			return err
		}
	}
	if m.prometheus == nil {
		return nil
	}
	return m.prometheus.Progress()
}

// Status is one line about the monitor, for people who look at the service manager.
func (m *Monitor) Status() string {
	if m.prometheus == nil {
		return "notifies at " + m.AlertmanagerURL()
	}
	firing := 0
	for _, a := range m.prometheus.Alerts() {
		if a.Firing && !slices.Contains(m.opts.Steady, a.Name) {
			firing++
		}
	}
	up, targets := 0, m.prometheus.Targets()
	for _, t := range targets {
		if t.Up {
			up++
		}
	}
	return fmt.Sprintf("%d of %d targets up, %d alerts firing", up, len(targets), firing)
}
