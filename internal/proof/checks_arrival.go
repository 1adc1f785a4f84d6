package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v2"

	"quantumharvest/internal/rules"
)

const (
	arrivalPoll = 250 * time.Millisecond
	// steadyWithin is how long a dead man's switch may leave between two messages to be known as steady.
	steadyWithin = 45 * time.Second
)

// alertArrives sends a test alert the way that every alert goes, and waits until each of its receivers has taken it.
func alertArrives(ctx context.Context, o Options, _ *sights) Check {
	c := Check{
		Name: "test alert", Claim: "an alert that is given to Alertmanager reaches the receivers",
		ByHand: []string{
			o.Amtool + " --alertmanager.url=" + o.Alertmanager + " alert add " + rules.ProofTest + " severity=info",
			"curl -s " + o.Alertmanager + "/metrics | grep alertmanager_notification",
		},
	}
	configured, err := configuredReceivers(ctx, o)
	if err != nil {
		c.fail("Alertmanager cannot be read: %v", err)
		return c
	}
	shared, err := steadyBeside(ctx, o, configured)
	if err != nil {
		c.fail("Alertmanager cannot be read: %v", err)
		return c
	}
	before, err := readPage(ctx, o, o.Alertmanager+"/metrics")
	if err != nil {
		c.fail("Alertmanager cannot be read: %v", err)
		return c
	}
	begin := time.Now()
	id := fmt.Sprintf("%d", begin.UnixMilli())
	if err := post(ctx, o, id, begin.Add(o.AlertWithin+time.Minute)); err != nil {
		c.fail("the test alert was not taken: %v", err)
		return c
	}
	defer func() { _ = post(context.WithoutCancel(ctx), o, id, time.Now()) }()
	for settled := false; ; {
		alert, known, err := testAlert(ctx, o, id)
		if err != nil {
			c.fail("%v", err)
			return c
		}
		took := time.Since(begin)
		after, err := readPage(ctx, o, o.Alertmanager+"/metrics")
		if err != nil {
			c.fail("%v", err)
			return c
		}
		waits := []string{"Alertmanager does not work on it"}
		if known && alert.Status.State != "unprocessed" {
			if c.muted(alert); len(c.Failures) > 0 {
				return c
			}
			wanted := alert.routes(configured)
			if len(wanted) == 0 {
				c.fail("it goes to %s, which tells nobody: name somebody with NOTIFY_SLACK_URL_FILE, NOTIFY_WEBHOOK_URL or another NOTIFY_ setting of the monitor, or a receiver in the configuration of that Alertmanager",
					strings.Join(alert.names(), ", "))
				return c
			}
			waits = nil
			for _, r := range wanted {
				d := deliveries(before, after, r)
				if d.failed > 0 {
					c.fail("%s was not told by %s: %.0f attempts failed; the log of Alertmanager says why", r.name, r.kind, d.failed)
				}
				if d.sent < float64(r.count)+shared.due(r.kind, before.at, after.at) {
					waits = append(waits, r.name+" by "+r.kind)
				}
			}
		}
		switch {
		case len(c.Failures) > 0:
			return c
		case len(waits) == 0 && !settled:
			settled = true // an attempt is counted just before its failure: one more look
		case len(waits) == 0:
			c.saw("handed to %s after %.1f s", strings.Join(alert.names(), ", "), took.Seconds())
			c.figure("seconds", took.Seconds())
			return c
		case took > o.AlertWithin:
			c.fail("nothing was sent within %s: %s", o.AlertWithin, strings.Join(waits, ", "))
			return c
		}
		select {
		case <-ctx.Done():
			return c
		case <-time.After(arrivalPoll):
		}
	}
}

// route is one kind of message of one receiver.
type route struct {
	name, kind string
	count      int // of the integrations of that kind
}

// receivers are, by name, how many integrations of each kind there are.
type receivers map[string]map[string]int

// configuredReceivers reads them from the configuration that Alertmanager shows, with its secrets left out.
func configuredReceivers(ctx context.Context, o Options) (receivers, error) {
	text, err := get(ctx, o, o.Alertmanager+"/api/v2/status")
	if err != nil {
		return nil, err
	}
	var status struct {
		Config struct {
			Original string `json:"original"`
		} `json:"config"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return nil, err
	}
	var config struct {
		Receivers []map[string]any `yaml:"receivers"`
	}
	if err := yaml.Unmarshal([]byte(status.Config.Original), &config); err != nil {
		return nil, err
	}
	all := receivers{}
	for _, r := range config.Receivers {
		name, _ := r["name"].(string)
		all[name] = map[string]int{}
		for key, value := range r {
			kind, ok := strings.CutSuffix(key, "_configs")
			if list, isList := value.([]any); ok && isList && len(list) > 0 {
				all[name][kind] = len(list)
			}
		}
	}
	return all, nil
}

// steady is when each kind of message is sent anyway, where those of several receivers are counted as one.
type steady map[string]*rhythm

type rhythm struct {
	last  time.Time
	every time.Duration // zero: no two of them were seen
}

// due is how many messages of the kind there would be without the test alert. Clocks of groups drift a little: what is nearly
// due counts.
func (s steady) due(kind string, from, to time.Time) float64 {
	r := s[kind]
	if r == nil || r.every == 0 {
		return 0
	}
	return float64((to.Sub(r.last)+r.every/4)/r.every - from.Sub(r.last)/r.every)
}

// steadyBeside measures it. There is nothing to measure where the counters name receivers, or
// every kind belongs to one receiver.
func steadyBeside(ctx context.Context, o Options, configured receivers) (steady, error) {
	users := map[string]int{}
	for _, kinds := range configured {
		for kind := range kinds {
			users[kind]++
		}
	}
	maps.DeleteFunc(users, func(_ string, n int) bool { return n < 2 })
	last, err := readPage(ctx, o, o.Alertmanager+"/metrics")
	if err != nil || len(users) == 0 || last.namesReceivers() {
		return nil, err
	}
	found, known := steady{}, 0
	for begin := time.Now(); known < len(users) && time.Since(begin) < min(steadyWithin, o.AlertWithin); {
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-time.After(arrivalPoll / 2):
		}
		now, err := readPage(ctx, o, o.Alertmanager+"/metrics")
		if err != nil {
			return nil, err
		}
		for kind := range users {
			if deliveries(last, now, route{kind: kind}).tried == 0 {
				continue
			}
			before := found[kind]
			found[kind] = &rhythm{last: now.at}
			if before != nil {
				found[kind].every = now.at.Sub(before.last)
			}
			if before != nil && before.every == 0 {
				known++
			}
		}
		last = now
	}
	return found, nil
}

// namesReceivers tells whether notifications are counted by receiver: that is an option of Alertmanager.
func (p page) namesReceivers() bool {
	for _, m := range p.families["alertmanager_notification_requests_total"].GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == "receiver_name" {
				return true
			}
		}
	}
	return false
}

// delivery is what became of messages between two looks.
type delivery struct{ tried, sent, failed float64 }

// deliveries counts those of a route. A request is counted once it was answered or given up, unlike a notification, which is
// counted when it begins.
func deliveries(before, after page, r route) delivery {
	labels := []string{"integration", r.kind}
	if after.namesReceivers() {
		labels = append(labels, "receiver_name", r.name)
	}
	grown := func(name string) float64 { return after.total(name, labels...) - before.total(name, labels...) }
	d := delivery{tried: grown("alertmanager_notification_requests_total"), failed: grown("alertmanager_notification_requests_failed_total")}
	d.sent = d.tried - d.failed
	d.failed = max(d.failed, grown("alertmanager_notifications_failed_total"))
	return d
}

// sentAlert is what Alertmanager says of the test alert.
type sentAlert struct {
	Receivers []struct {
		Name string `json:"name"`
	} `json:"receivers"`
	Status struct {
		State       string   `json:"state"` // unprocessed, active or suppressed
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
		MutedBy     []string `json:"mutedBy"`
	} `json:"status"`
}

func (a sentAlert) names() []string {
	names := make([]string, len(a.Receivers))
	for i, r := range a.Receivers {
		names[i] = r.Name
	}
	return names
}

// routes are the ways on which it must arrive.
func (a sentAlert) routes(configured receivers) []route {
	var all []route
	for _, name := range a.names() {
		for _, kind := range slices.Sorted(maps.Keys(configured[name])) {
			all = append(all, route{name, kind, configured[name][kind]})
		}
	}
	return all
}

// muted fails where nobody is told of it on purpose: then other alerts may be kept from people, too.
func (c *Check) muted(a sentAlert) {
	if a.Status.State == "active" {
		return
	}
	why := "its state is " + a.Status.State
	switch s := a.Status; {
	case len(s.SilencedBy) > 0:
		why = "it is silenced by " + strings.Join(s.SilencedBy, ", ") + ": end that silence, or let it match fewer alerts"
	case len(s.InhibitedBy) > 0:
		why = "it is inhibited by " + strings.Join(s.InhibitedBy, ", ")
	case len(s.MutedBy) > 0:
		why = "it is muted by " + strings.Join(s.MutedBy, ", ")
	}
	c.fail("nobody is told of the test alert: %s", why)
}

// post sends the test alert, or ends it. It says itself that nothing is wrong, and pages nobody: its severity is info.
func post(ctx context.Context, o Options, id string, until time.Time) error {
	body, err := json.Marshal([]map[string]any{{
		"labels":      map[string]string{"alertname": rules.ProofTest, "severity": "info", "subsystem": "harvest", "proof": id},
		"annotations": map[string]string{"summary": "A proof pack tries whether alerts arrive", "description": "Nothing is wrong. harvest proof sent this."},
		"endsAt":      until.UTC().Format(time.RFC3339Nano),
	}})
	if err != nil {
		return err
	}
	text, status, err := fetch(ctx, o, http.MethodPost, o.Alertmanager+"/api/v2/alerts", strings.NewReader(string(body)))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answer %d of Alertmanager: %s", status, strings.TrimSpace(string(text)))
	}
	return err
}

// testAlert asks what Alertmanager makes of the alert; known is false while it does not show it.
func testAlert(ctx context.Context, o Options, id string) (alert sentAlert, known bool, err error) {
	text, err := get(ctx, o, o.Alertmanager+"/api/v2/alerts?filter=proof%3D%22"+id+"%22")
	if err != nil {
		return alert, false, err
	}
	var alerts []sentAlert
	if err := json.Unmarshal(text, &alerts); err != nil || len(alerts) == 0 {
		return alert, false, err
	}
	return alerts[0], true, nil
}
