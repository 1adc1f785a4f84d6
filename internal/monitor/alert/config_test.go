package alert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/monitor/routing"
)

func TestOurOwnConfigurationLoads(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("http://x.example.com/"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := routing.Options{
		Slack: routing.Slack{URLFile: secret}, PagerDuty: routing.PagerDuty{KeyFile: secret},
		Telegram: routing.Telegram{TokenFile: secret, ChatID: -1},
		Email:    routing.Email{To: "a@example.com", From: "b@example.com", Smarthost: "h:25", User: "u", PasswordFile: secret},
		Webhook:  routing.Webhook{URLFile: secret}, Watchdog: routing.Webhook{URL: "http://y.example.com"},
	}
	for _, o := range []routing.Options{{}, all, {PagerDuty: all.PagerDuty}} {
		if _, err := Parse(routing.Render(o, routing.Current)); err != nil {
			t.Error(err)
		}
	}
}

func TestAllProblemsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"not YAML", "route: [", []string{"yaml"}},
		{"empty", "", []string{"no route provided"}},
		{"unknown fields", "route: {receiver: a, group_wat: 5s}\nreceivers: [{name: a, webhok_configs: []}]\n", []string{"group_wat", "webhok_configs"}},
		{
			"receivers and files that are not there",
			"route: {receiver: a, routes: [{receiver: b}, {receiver: c}]}\nreceivers: [{name: a, slack_configs: [{api_url_file: /does/not/exist}]," +
				" pagerduty_configs: [{routing_key_file: /neither/does/this}]}]\n",
			[]string{`receiver "b"`, `receiver "c"`, "/does/not/exist", "/neither/does/this"},
		},
		{"Amazon SNS", "route: {receiver: a}\nreceivers: [{name: a, sns_configs: [{topic_arn: 'arn:aws:sns:us-east-2:123456789012:x', sigv4: {region: us-east-2}}]}]\n", []string{"SNS is not part"}},
		{"a template", "route: {receiver: a}\nreceivers: [{name: a}]\ntemplates: [TEMPLATE]\n", []string{"templates"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "x.tmpl"), []byte("{{ nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "alertmanager.yml")
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(c.text, "TEMPLATE", "x.tmpl")), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ParseFile(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(c.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
	if _, err := ParseFile("/does/not/exist"); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestRelativeFilesAreThoseOfTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"password":         "x",
		"alertmanager.yml": "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'http://x', http_config: {basic_auth: {username: u, password_file: password}}}]}]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ParseFile(filepath.Join(dir, "alertmanager.yml")); err != nil {
		t.Error(err)
	}
}
