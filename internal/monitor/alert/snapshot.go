package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	alertlib "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/common/model"

	"quantumharvest/internal/monitor/folder"
	"quantumharvest/internal/statefile"
)

// The names of the parts in the data folder.
const (
	notifiedName = "nflog"
	silencesName = "silences"
	alertsName   = "alerts.json"
)

const (
	// revivalGrace is how long an alert that fired when the process ended fires on without being heard of: long enough
	// for rules to be evaluated again with their `for` clauses restored. After that its end is notified.
	revivalGrace = 2 * time.Minute
	// resolvedKept is how long an alert that is over is still saved, so that a restart does not swallow the notice.
	resolvedKept = 15 * time.Minute
)

// snapshot keeps the alerts across restarts. Alertmanager does not: it relies on being sent them again, and where the
// sender restarts with it, an alert that ended meanwhile would never be notified as resolved.
type snapshot struct {
	path   string // blank: nowhere
	steady []string
	folder *folder.Folder
	log    *slog.Logger

	mu   sync.Mutex
	last []byte
	err  error // of the last save
}

func newSnapshot(f *folder.Folder, steady []string, log *slog.Logger) *snapshot {
	s := &snapshot{folder: f, steady: steady, log: log}
	if !f.Temporary() {
		s.path = f.Path(alertsName)
	}
	return s
}

// saved is one alert in the file.
type saved struct {
	Labels       model.LabelSet `json:"labels"`
	Annotations  model.LabelSet `json:"annotations,omitempty"`
	StartsAt     time.Time      `json:"startsAt"`
	EndsAt       time.Time      `json:"endsAt"`
	GeneratorURL string         `json:"generatorURL,omitempty"`
	UpdatedAt    time.Time      `json:"updatedAt"`
	Timeout      bool           `json:"timeout,omitempty"`
	Firing       bool           `json:"firing"` // when it was saved
}

// restore puts the saved alerts back. Those that fired are given time to be heard of again.
func (s *snapshot) restore(alerts *mem.Alerts, now time.Time, grace time.Duration) error {
	if s.path == "" {
		return nil
	}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []saved
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	var put []*alertlib.Alert
	for _, a := range list {
		switch revived := now.Add(grace); {
		case a.Firing && a.EndsAt.Before(revived):
			a.EndsAt = revived
		case !a.Firing && now.Sub(a.EndsAt) > resolvedKept:
			continue
		}
		alert := &alertlib.Alert{
			Alert: model.Alert{
				Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.StartsAt, EndsAt: a.EndsAt, GeneratorURL: a.GeneratorURL,
			},
			UpdatedAt: a.UpdatedAt, Timeout: a.Timeout,
		}
		if bad := alert.Validate(); bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		put = append(put, alert)
	}
	if err != nil {
		// Half of the alerts are better than none: those that can be read are taken up all the same.
		if aside := s.folder.SetAside(alertsName, err); aside != nil {
			return aside
		}
	}
	if err := alerts.Put(context.Background(), put...); err != nil {
		return fmt.Errorf("monitor: take up the alerts of the run before: %w", err)
	}
	return nil
}

// save writes the alerts where they changed. That it failed is said once, and once more when it works again.
func (s *snapshot) save(alerts *mem.Alerts, now time.Time) {
	if s.path == "" {
		return
	}
	list := []saved{}
	pending := alerts.GetPending()
	for a := range pending.Next() {
		alert := a.Data
		if slices.Contains(s.steady, alert.Name()) {
			continue
		}
		if !alert.ResolvedAt(now) || now.Sub(alert.EndsAt) <= resolvedKept {
			list = append(list, saved{
				Labels: alert.Labels, Annotations: alert.Annotations, StartsAt: alert.StartsAt, EndsAt: alert.EndsAt,
				GeneratorURL: alert.GeneratorURL, UpdatedAt: alert.UpdatedAt, Timeout: alert.Timeout, Firing: !alert.ResolvedAt(now),
			})
		}
	}
	pending.Close()
	slices.SortFunc(list, func(a, b saved) int {
		return bytes.Compare([]byte(a.Labels.Fingerprint().String()), []byte(b.Labels.Fingerprint().String()))
	})
	text, err := json.Marshal(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && bytes.Equal(text, s.last) {
		return
	}
	if err == nil {
		err = statefile.Write(s.path, text)
	}
	if err == nil {
		s.last = text
	}
	switch {
	case err != nil && s.err == nil:
		s.log.Error("alerts cannot be saved: a restart will forget them", "path", s.path, "err", err)
	case err == nil && s.err != nil:
		s.log.Info("alerts are saved again", "path", s.path)
	}
	s.err = err
}

// failure is the error of the last save.
func (s *snapshot) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return fmt.Errorf("monitor: save the alerts: %w", s.err)
	}
	return nil
}
