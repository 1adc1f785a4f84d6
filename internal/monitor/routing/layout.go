package routing

import "text/template"

// Texts of the messages, for Alertmanager's own templates.
const (
	title = `[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .CommonLabels.alertname }}{{ if .CommonLabels.symbol }} {{ .CommonLabels.symbol }}{{ end }}`
	body  = `{{ range .Alerts }}{{ .Status }}: {{ if .Annotations.summary }}{{ .Annotations.summary }}{{ else }}{{ .Labels.alertname }}{{ if .Labels.symbol }} {{ .Labels.symbol }}{{ end }}{{ end }}{{ if .Annotations.description }}
{{ .Annotations.description }}{{ end }}{{ if .Annotations.runbook_url }}
Runbook: {{ .Annotations.runbook_url }}{{ else if .Annotations.runbook }}
Runbook: {{ .Annotations.runbook }}{{ end }}
{{ end }}`
	pagerSeverity = `{{ if eq .CommonLabels.severity "critical" }}critical{{ else }}warning{{ end }}`
)

// layout is the configuration. Regular expressions in it are anchored by Alertmanager.
var layout = template.Must(template.New("alertmanager.yml").Funcs(template.FuncMap{
	"quoted": quoted,
	"every":  func(string) string { return "" }, // replaced by Render
	"title":  func() string { return title },
	"body":   func() string { return body },
	"pager":  func() string { return pagerSeverity },
}).Parse(`{{ if .Portable -}}
# Alertmanager configuration of Quantum Harvest, for Alertmanager 0.25 and newer. Secrets are read from their files.

{{ end -}}
route:
  receiver: {{ .Notice }}
  group_by: [alertname]
  group_wait: {{ every "30s" }}
  group_interval: {{ every "1m" }}
  repeat_interval: {{ every "4h" }}
  routes:
    # Told at a steady pace: whoever listens misses it when any link of the chain breaks.
    - matchers: ['alertname="{{ .Steady }}"']
      receiver: {{ .Watchdog }}
      group_wait: 0s
      group_interval: {{ every "10s" }}
      repeat_interval: {{ every "15s" }}
    # Keeps others quiet and says nothing itself.
    - matchers: ['alertname="{{ .Blind }}"']
      receiver: nobody
    # Somebody is waiting to see whether it arrives.
    - matchers: ['alertname="{{ .Proof }}"']
      receiver: {{ .Notice }}
      group_wait: 0s
      group_interval: {{ every "10s" }}
    - matchers: ['severity="critical"']
      receiver: {{ .Page }}
      group_wait: {{ every "5s" }}
      group_interval: {{ every "30s" }}
      repeat_interval: {{ every "1h" }}
      routes:
        - matchers: ['alertname=~"{{ .PerSymbol }}"']
          group_by: [alertname, symbol]
    - matchers: ['severity="warning"']
      receiver: {{ .Notice }}
      routes:
        - matchers: ['alertname=~"{{ .PerSymbol }}"']
          group_by: [alertname, symbol]
    - matchers: ['severity="info"']
      receiver: {{ .Notice }}
      group_wait: {{ every "1m" }}
      group_interval: {{ every "5m" }}
      repeat_interval: {{ every "24h" }}

inhibit_rules:
{{- range .Inhibitions }}
  # {{ .Reason }}
  - source_matchers: ['{{ .SourceMatch }}']
    target_matchers: ['{{ .TargetMatch }}']
{{- if .Equal }}
    equal: [{{ range $i, $l := .Equal }}{{ if $i }}, {{ end }}{{ $l }}{{ end }}]
{{- end }}
{{- end }}

receivers:
{{- $portable := .Portable }}
{{- range .Receivers }}
  - name: {{ .Name }}
{{- if .Slack.URLFile }}
    slack_configs:
      - send_resolved: true
        api_url_file: {{ quoted .Slack.URLFile }}
{{- if .Slack.Channel }}
        channel: {{ quoted .Slack.Channel }}
{{- end }}
        title: {{ quoted title }}
        text: {{ quoted body }}
        fallback: {{ quoted title }}
{{- end }}
{{- if .PagerDuty.KeyFile }}
    pagerduty_configs:
      - send_resolved: true
        routing_key_file: {{ quoted .PagerDuty.KeyFile }}
{{- if .PagerDuty.URL }}
        url: {{ quoted .PagerDuty.URL }}
{{- end }}
        description: {{ quoted title }}
        severity: {{ quoted pager }}
{{- end }}
{{- if .Telegram.TokenFile }}
    telegram_configs:
      - send_resolved: true
{{- if $portable }}
        # From 0.26 on, in place of the next line:  bot_token_file: {{ quoted .Telegram.TokenFile }}
        bot_token: {{ quoted (printf "the content of %s" .Telegram.TokenFile) }}
{{- else }}
        bot_token_file: {{ quoted .Telegram.TokenFile }}
{{- end }}
        chat_id: {{ .Telegram.ChatID }}
{{- if .Telegram.URL }}
        api_url: {{ quoted .Telegram.URL }}
{{- end }}
        parse_mode: ""
        message: {{ quoted (printf "%s\n%s" title body) }}
{{- end }}
{{- if .Email.To }}
    email_configs:
      - send_resolved: true
        to: {{ quoted .Email.To }}
        from: {{ quoted .Email.From }}
        smarthost: {{ quoted .Email.Smarthost }}
{{- if .Email.User }}
        auth_username: {{ quoted .Email.User }}
        auth_password_file: {{ quoted .Email.PasswordFile }}
{{- end }}
        require_tls: {{ not .Email.NoTLS }}
        headers:
          Subject: {{ quoted title }}
        text: {{ quoted body }}
{{- end }}
{{- if .Webhook.On }}
    webhook_configs:
      - send_resolved: {{ not .Steady }}
{{- if not .Webhook.URLFile }}
        url: {{ quoted .Webhook.URL }}
{{- else if $portable }}
        # From 0.26 on, in place of the next line:  url_file: {{ quoted .Webhook.URLFile }}
        url: {{ quoted "http://put.the.content.of.the.file.here.invalid/" }}
{{- else }}
        url_file: {{ quoted .Webhook.URLFile }}
{{- end }}
{{- end }}
{{- end }}
`))
