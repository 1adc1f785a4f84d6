package alert

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	alertlib "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
)

// always also sends what is resolved.
type always struct{}

// SendResolved is true.
func (always) SendResolved() bool { return true }

// logNotifier says in the log what would have been sent. It says each change of a group once: a reminder is made for
// people who are called, and nobody is called by a log.
type logNotifier struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]string // what was said last of a group that still fires
}

func newLogNotifier(log *slog.Logger) *logNotifier {
	return &logNotifier{log: log, said: map[string]string{}}
}

// Notify has nothing that could fail.
func (n *logNotifier) Notify(ctx context.Context, alerts ...*alertlib.Alert) (bool, error) {
	key, err := notify.ExtractGroupKey(ctx)
	if err != nil {
		return false, err
	}
	var firing, resolved []string
	severity, summary := "", ""
	for _, a := range alerts {
		name := a.Name()
		if sym := string(a.Labels["symbol"]); sym != "" {
			name += " " + sym
		}
		if a.Resolved() {
			resolved = append(resolved, name)
			continue
		}
		firing = append(firing, name)
		severity = string(a.Labels["severity"])
		if summary == "" {
			summary = string(a.Annotations[model.LabelName("summary")])
		}
	}
	slices.Sort(firing)
	slices.Sort(resolved)
	state := strings.Join(firing, ",")
	n.mu.Lock()
	last, fired := n.said[key.String()]
	if n.said[key.String()] = state; state == "" {
		delete(n.said, key.String())
	}
	n.mu.Unlock()
	const hint = "no receiver is configured for it: NOTIFY_ settings name one"
	switch {
	case state == "":
		n.log.Info("alert resolved, nobody is told", "alerts", strings.Join(resolved, ", "), "hint", hint)
	case !fired || state != last:
		n.log.Warn("alert firing, nobody is told", "alerts", strings.Join(firing, ", "), "severity", severity, "summary", summary, "hint", hint)
	}
	return false, nil
}
