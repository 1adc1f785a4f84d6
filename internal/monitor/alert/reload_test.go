package alert

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
)

func (r *running) reload(text string) error {
	next, err := r.server.Prepare(func() (*Config, error) { return Parse([]byte(text)) })
	if err != nil {
		return err
	}
	next.Apply()
	return nil
}

// good tells what the metrics say of the configuration.
func (r *running) good() float64 {
	r.t.Helper()
	all, err := r.server.Gatherers().Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "alertmanager_config_last_reload_successful" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.t.Fatal("no metric says whether the configuration is good")
	return 0
}

func TestReloadedReceivers(t *testing.T) {
	t.Parallel()
	one, two := monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	both := func(second string) string {
		return fmt.Sprintf(`route: {receiver: hook, group_by: [alertname], group_wait: 50ms, group_interval: 200ms, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: %q, send_resolved: true}%s]}]
`, one.URL(), second)
	}
	r := start(t, "", both(""))
	lost := firing("Lost", "symbol", "A")
	id := r.silence("Quiet")
	r.send(lost, firing("Quiet"))
	one.Told(soon, "the alert", names("Lost A"))

	t.Log("a receiver that is added is told, the other is not told again")
	if err := r.reload(both(fmt.Sprintf(", {url: %q, send_resolved: true}", two.URL()))); err != nil {
		t.Fatal(err)
	}
	two.Told(soon, "the alert", names("Lost A"))
	r.send(firing("Later"))
	for _, hook := range []*monitortest.Receiver{one, two} {
		hook.Told(soon, "a later alert", names("Later"))
	}
	if _, body := r.ask("GET", "/api/v2/silence/"+id, nil); !strings.Contains(body, `"active"`) {
		t.Errorf("the silence: %s", body)
	}

	t.Log("a bad one changes nothing")
	bad := strings.Replace(both(""), "route: {receiver: hook", "route: {receiver: nowhere", 1)
	if err := r.reload(bad); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a route to nowhere: %v", err)
	}
	missing := both(", {url_file: /nonexistent/url}")
	if err := r.reload(missing); err == nil || !strings.Contains(err.Error(), "/nonexistent/url") {
		t.Errorf("a secret that is not there: %v", err)
	}
	if good := r.good(); good != 0 {
		t.Errorf("the metric says %v", good)
	}
	r.send(firing("Still"))
	two.Told(soon, "an alert after the bad configuration", names("Still"))

	t.Log("one that is taken out is told nothing more, and the end of an alert arrives")
	if err := r.reload(both("")); err != nil {
		t.Fatal(err)
	}
	if good := r.good(); good != 1 {
		t.Errorf("the metric says %v", good)
	}
	before := len(two.Kept())
	r.send(over(lost))
	one.Told(soon, "the end", resolved("Lost A"))
	time.Sleep(time.Second)
	if n := len(two.Kept()); n != before {
		t.Errorf("who was taken out was told %d times", n-before)
	}
	told := 0
	for _, m := range one.Messages() {
		if names("Lost A")(m) {
			told++
		}
		for _, name := range append(m.Names("firing"), m.Names("resolved")...) {
			if name == "Quiet" {
				t.Error("what is silenced was told")
			}
		}
	}
	if told != 1 {
		t.Errorf("the alert was told %d times", told)
	}
}

func TestManyReloads(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	r := start(t, "", toWebhook(hook.URL(), "1h", ""))
	for i := range 20 {
		r.send(firing(fmt.Sprintf("Lost%02d", i)))
		if err := r.reload(toWebhook(hook.URL(), "1h", "")); err != nil {
			t.Fatal(err)
		}
	}
	told := map[string]int{}
	livetest.Eventually(t, soon, func() error {
		clear(told)
		for _, m := range hook.Messages() {
			told[strings.Join(m.Names("firing"), ",")]++
		}
		if len(told) < 20 {
			return fmt.Errorf("told of %d", len(told))
		}
		return nil
	})
	for name, n := range told {
		if n != 1 {
			t.Errorf("%s was told %d times", name, n)
		}
	}
}
