package config

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"
)

// Monitoring is what the settings say of the monitor.
type Monitoring struct {
	On bool // up: run it

	ListenHost       string
	Port             int // of Prometheus; 0: any free one
	AlertmanagerPort int // 0: any free one
	AllowedHosts     []string
	TokenFile        string // blank: in the data folder

	PrometheusURL        *url.URL // a Prometheus elsewhere; nil: embedded
	AlertmanagerURL      *url.URL // an Alertmanager elsewhere; nil: embedded
	AlertmanagerHTTPFile string

	ExternalURL             *url.URL // how people reach the port of Prometheus; nil: as it listens
	AlertmanagerExternalURL *url.URL

	ExporterTargets  []string // host:port or URL
	PublisherTargets []string
	ScrapeInterval   time.Duration
	ScrapeHTTPFile   string
	RuleFiles        []string
	Retention        time.Duration
	RetentionMB      int

	AlertmanagerConfig string // a configuration of the operator's own; blank: ours
	PrintConfig        bool   // print the configuration and stop
}

// Notifications are the receivers of our own Alertmanager configuration. Files are named by absolute paths.
type Notifications struct {
	SlackURLFile, SlackChannel           string
	PagerDutyKeyFile, PagerDutyURL       string
	TelegramTokenFile, TelegramURL       string
	TelegramChatID                       int64
	EmailTo, EmailFrom                   string
	SMTPHost, SMTPUser, SMTPPasswordFile string
	SMTPNoTLS                            bool
	WebhookURL, WatchdogURL              Secret
	WebhookURLFile, WatchdogURLFile      string
}

// Any tells whether anybody is told.
func (n Notifications) Any() bool {
	return n.SlackURLFile != "" || n.PagerDutyKeyFile != "" || n.TelegramTokenFile != "" || n.EmailTo != "" ||
		n.WebhookURL.Reveal() != "" || n.WebhookURLFile != "" || n.WatchdogURL.Reveal() != "" || n.WatchdogURLFile != ""
}

var monitoring = []Role{Up, Monitor}

func monitorSettings() []Setting {
	m := func(d *draft) *Monitoring { return &d.Monitor }
	rows := []Setting{
		{
			Env: "HARVEST_MONITOR", Flag: "monitor", Default: "true", Roles: []Role{Up},
			Usage: "run Prometheus and Alertmanager in the process; --monitor=false leaves them out",
			set:   boolean(func(d *draft) *bool { return &m(d).On }),
		},
		{
			Env: "MONITOR_PORT", Flag: "monitor-port", Arg: "PORT", Default: "9091", Roles: monitoring,
			Usage: "port of Prometheus; 0: any (9091 is also the usual port of a Pushgateway)",
			set:   integer(func(d *draft) *int { return &m(d).Port }, 0, 65535),
		},
		{
			Env: "ALERTMANAGER_PORT", Flag: "alertmanager-port", Arg: "PORT", Default: "9093", Roles: monitoring,
			Usage: "port of Alertmanager; 0: any",
			set:   integer(func(d *draft) *int { return &m(d).AlertmanagerPort }, 0, 65535),
		},
		{
			Env: "MONITOR_LISTEN_HOST", Flag: "monitor-listen-host", Arg: "HOST", Default: "127.0.0.1", Roles: monitoring,
			Usage: "address that both listen on",
			set: func(d *draft, text string) (err error) {
				m(d).ListenHost, err = checkHost(text)
				return err
			},
		},
		{
			Env: "MONITOR_ALLOWED_HOSTS", Flag: "monitor-allowed-hosts", Arg: "LIST", Roles: monitoring,
			DefaultText: "localhost and the addresses of this host",
			Usage:       "further names, separated by commas, that clients may call both ports by",
			set:         hostNames(func(d *draft) *[]string { return &m(d).AllowedHosts }),
		},
		{
			Env: "MONITOR_TOKEN_FILE", Flag: "monitor-token-file", Arg: "FILE", Roles: monitoring,
			DefaultText: "monitor/token in the data folder",
			Usage:       "file with the token that silencing and every other change needs; made where it is missing",
			set:         func(d *draft, text string) (err error) { m(d).TokenFile, err = filepath.Abs(text); return err },
		},
		{
			Env: "PROMETHEUS_URL", Flag: "prometheus-url", Arg: "URL", Secret: true, Roles: monitoring,
			DefaultText: "embedded",
			Usage:       "a Prometheus elsewhere that scrapes and evaluates: none is embedded",
			set:         serverURL(func(d *draft) **url.URL { return &m(d).PrometheusURL }),
		},
		{
			Env: "ALERTMANAGER_URL", Flag: "alertmanager-url", Arg: "URL", Secret: true, Roles: monitoring,
			DefaultText: "embedded",
			Usage:       "an Alertmanager elsewhere that is told of alerts: none is embedded",
			set:         serverURL(func(d *draft) **url.URL { return &m(d).AlertmanagerURL }),
		},
		{
			Env: "ALERTMANAGER_HTTP_CONFIG_FILE", Flag: "alertmanager-http-config", Arg: "FILE", Roles: monitoring,
			Usage: "TLS and credentials for that Alertmanager, as in amtool's --http.config.file",
			set:   file(func(d *draft) *string { return &m(d).AlertmanagerHTTPFile }),
		},
		{
			Env: "MONITOR_EXTERNAL_URL", Flag: "monitor-external-url", Arg: "URL", Secret: true, Roles: monitoring,
			DefaultText: "as it listens",
			Usage:       "how people reach the port of Prometheus, for links",
			set:         serverURL(func(d *draft) **url.URL { return &m(d).ExternalURL }),
		},
		{
			Env: "ALERTMANAGER_EXTERNAL_URL", Flag: "alertmanager-external-url", Arg: "URL", Secret: true, Roles: monitoring,
			DefaultText: "as it listens",
			Usage:       "how people reach the port of Alertmanager, for links in notifications",
			set:         serverURL(func(d *draft) **url.URL { return &m(d).AlertmanagerExternalURL }),
		},
		{
			Env: "MONITOR_EXPORTER_TARGETS", Flag: "exporter-targets", Arg: "LIST", Default: "127.0.0.1:8042", Roles: []Role{Monitor, Proof},
			Usage: "exporters to scrape, as HOST:PORT or https://HOST:PORT, separated by commas",
			set:   targets(func(d *draft) *[]string { return &m(d).ExporterTargets }),
		},
		{
			Env: "MONITOR_PUBLISHER_TARGETS", Flag: "publisher-targets", Arg: "LIST", Default: "127.0.0.1:8041", Roles: []Role{Monitor, Proof},
			Usage: "publishers to scrape, in the same form",
			set:   targets(func(d *draft) *[]string { return &m(d).PublisherTargets }),
		},
		{
			Env: "MONITOR_SCRAPE_INTERVAL_SEC", Flag: "scrape-interval-sec", Arg: "SECONDS", Default: "10", Roles: alerting,
			Usage: "time between two scrapes, and between two evaluations of the alert rules, 1 to 15",
			set:   seconds(func(d *draft) *time.Duration { return &m(d).ScrapeInterval }, 1, 15),
		},
		{
			Env: "MONITOR_SCRAPE_HTTP_CONFIG_FILE", Flag: "scrape-http-config", Arg: "FILE", Roles: monitoring,
			Usage: "TLS and credentials for the targets, as in amtool's --http.config.file",
			set:   file(func(d *draft) *string { return &m(d).ScrapeHTTPFile }),
		},
		{
			Env: "MONITOR_RULE_FILES", Flag: "rule-files", Arg: "LIST", Roles: monitoring,
			Usage: "further files of Prometheus rules, separated by commas",
			set:   fileList(func(d *draft) *[]string { return &m(d).RuleFiles }),
		},
		{
			Env: "MONITOR_RETENTION", Flag: "retention", Arg: "DURATION", Default: "15d", Roles: monitoring,
			Usage: "how long series are kept, for example 15d or 36h",
			set:   setRetention,
		},
		{
			Env: "MONITOR_RETENTION_MB", Flag: "retention-mb", Arg: "N", Default: "512", Roles: monitoring,
			Usage: "how much of the disk the series may take, in MB",
			set:   integer(func(d *draft) *int { return &m(d).RetentionMB }, 32, 1_000_000),
		},
		{
			Env: "ALERTMANAGER_CONFIG_FILE", Flag: "alertmanager-config", Arg: "FILE", Roles: monitoring,
			DefaultText: "made from the settings below",
			Usage:       "configuration of the embedded Alertmanager, in place of ours",
			set:         file(func(d *draft) *string { return &m(d).AlertmanagerConfig }),
		},
		{
			Flag: "print-alertmanager-config", Default: "false", Roles: []Role{Monitor},
			Usage: "print our configuration for an Alertmanager elsewhere (0.25 or newer), and stop",
			set:   boolean(func(d *draft) *bool { return &m(d).PrintConfig }),
		},
	}
	return inGroup(GroupMonitor, rows)
}

func notifySettings() []Setting {
	n := func(d *draft) *Notifications { return &d.Notify }
	rows := []Setting{
		{
			Env: "NOTIFY_SLACK_URL_FILE", Flag: "notify-slack-url-file", Arg: "FILE",
			Usage: "file with the URL of a Slack incoming webhook",
			set:   secretURLFile(func(d *draft) *string { return &n(d).SlackURLFile }),
		},
		{
			Env: "NOTIFY_SLACK_CHANNEL", Flag: "notify-slack-channel", Arg: "CHANNEL", DefaultText: "the one of the webhook",
			Usage: "channel to write to",
			set:   token(func(d *draft) *string { return &n(d).SlackChannel }),
		},
		{
			Env: "NOTIFY_PAGERDUTY_KEY_FILE", Flag: "notify-pagerduty-key-file", Arg: "FILE",
			Usage: "file with the routing key of a PagerDuty Events API v2 integration; told of critical alerts only",
			set:   secretFile(func(d *draft) *string { return &n(d).PagerDutyKeyFile }),
		},
		{
			Env: "NOTIFY_PAGERDUTY_URL", Flag: "notify-pagerduty-url", Arg: "URL", Secret: true, DefaultText: "PagerDuty's own",
			Usage: "where its events go, for another region",
			set:   plainURL(func(d *draft) *string { return &n(d).PagerDutyURL }),
		},
		{
			Env: "NOTIFY_TELEGRAM_TOKEN_FILE", Flag: "notify-telegram-token-file", Arg: "FILE",
			Usage: "file with the token of a Telegram bot",
			set:   secretFile(func(d *draft) *string { return &n(d).TelegramTokenFile }),
		},
		{
			Env: "NOTIFY_TELEGRAM_CHAT_ID", Flag: "notify-telegram-chat-id", Arg: "ID",
			Usage: "number of the chat that the bot writes to",
			set: func(d *draft, text string) (err error) {
				n(d).TelegramChatID, err = strconv.ParseInt(text, 10, 64)
				if err != nil || n(d).TelegramChatID == 0 {
					return errors.New("not the number of a chat; groups have negative ones, for example -1001234567890")
				}
				return nil
			},
		},
		{
			Env: "NOTIFY_TELEGRAM_URL", Flag: "notify-telegram-url", Arg: "URL", Secret: true, DefaultText: "Telegram's own",
			Usage: "interface of a bot server of your own",
			set:   plainURL(func(d *draft) *string { return &n(d).TelegramURL }),
		},
		{
			Env: "NOTIFY_EMAIL_TO", Flag: "notify-email-to", Arg: "LIST",
			Usage: "mail addresses to write to, separated by commas",
			set:   addresses(func(d *draft) *string { return &n(d).EmailTo }),
		},
		{
			Env: "NOTIFY_EMAIL_FROM", Flag: "notify-email-from", Arg: "ADDRESS",
			Usage: "mail address of the sender",
			set:   addresses(func(d *draft) *string { return &n(d).EmailFrom }),
		},
		{
			Env: "NOTIFY_SMTP_HOST", Flag: "notify-smtp-host", Arg: "HOST:PORT",
			Usage: "mail server",
			set: func(d *draft, text string) error {
				n(d).SMTPHost = text
				return checkHostPort(text)
			},
		},
		{
			Env: "NOTIFY_SMTP_USER", Flag: "notify-smtp-user", Arg: "NAME",
			Usage: "user of the mail server",
			set:   token(func(d *draft) *string { return &n(d).SMTPUser }),
		},
		{
			Env: "NOTIFY_SMTP_PASSWORD_FILE", Flag: "notify-smtp-password-file", Arg: "FILE",
			Usage: "file with the password of that user",
			set:   secretFile(func(d *draft) *string { return &n(d).SMTPPasswordFile }),
		},
		{
			Env: "NOTIFY_SMTP_TLS", Flag: "notify-smtp-tls", Default: "true",
			Usage: "insist on an encrypted connection to the mail server",
			set: func(d *draft, text string) error {
				var on bool
				err := boolean(func(*draft) *bool { return &on })(d, text)
				n(d).SMTPNoTLS = !on
				return err
			},
		},
		{
			Env: "NOTIFY_WEBHOOK_URL", Flag: "notify-webhook-url", Arg: "URL", Secret: true,
			Usage: "URL that notifications are posted to as JSON; one that holds a secret belongs into a file",
			set:   secretURL(func(d *draft) *Secret { return &n(d).WebhookURL }),
		},
		{
			Env: "NOTIFY_WEBHOOK_URL_FILE", Flag: "notify-webhook-url-file", Arg: "FILE",
			Usage: "file with that URL",
			set:   secretURLFile(func(d *draft) *string { return &n(d).WebhookURLFile }),
		},
		{
			Env: "NOTIFY_WATCHDOG_URL", Flag: "notify-watchdog-url", Arg: "URL", Secret: true,
			Usage: "dead-man switch outside of this machine: posted to at a steady pace while everything works",
			set:   secretURL(func(d *draft) *Secret { return &n(d).WatchdogURL }),
		},
		{
			Env: "NOTIFY_WATCHDOG_URL_FILE", Flag: "notify-watchdog-url-file", Arg: "FILE",
			Usage: "file with that URL",
			set:   secretURLFile(func(d *draft) *string { return &n(d).WatchdogURLFile }),
		},
	}
	for i := range rows {
		rows[i].Roles = monitoring
	}
	return inGroup(GroupNotify, rows)
}

// combineMonitor settles what needs more than one setting of the monitor.
func (l *loader) combineMonitor() {
	m, n := &l.draft.Monitor, &l.draft.Notify
	if l.role == Monitor {
		m.On = true
	}
	if l.role == Up && !m.On {
		return
	}
	if l.role == Monitor && m.PrometheusURL != nil && m.AlertmanagerURL != nil {
		l.contradict("both are elsewhere, so nothing is left to run; leave one of them out", "PROMETHEUS_URL", "ALERTMANAGER_URL")
	}
	if m.AlertmanagerURL != nil && l.isSet("ALERTMANAGER_CONFIG_FILE") {
		l.contradict("the file is for the embedded Alertmanager, and none is embedded; give it to the one elsewhere", "ALERTMANAGER_URL", "ALERTMANAGER_CONFIG_FILE")
	}
	for _, pair := range [][2]string{
		{"NOTIFY_WEBHOOK_URL", "NOTIFY_WEBHOOK_URL_FILE"}, {"NOTIFY_WATCHDOG_URL", "NOTIFY_WATCHDOG_URL_FILE"},
	} {
		if l.isSet(pair[0]) && l.isSet(pair[1]) {
			l.contradict("the URL is given twice; keep one of the two", pair[0], pair[1])
		}
	}
	l.needs("NOTIFY_SLACK_CHANNEL", "NOTIFY_SLACK_URL_FILE")
	l.needs("NOTIFY_PAGERDUTY_URL", "NOTIFY_PAGERDUTY_KEY_FILE")
	l.needs("NOTIFY_TELEGRAM_URL", "NOTIFY_TELEGRAM_TOKEN_FILE")
	l.together("NOTIFY_TELEGRAM_TOKEN_FILE", "NOTIFY_TELEGRAM_CHAT_ID")
	l.together("NOTIFY_EMAIL_TO", "NOTIFY_EMAIL_FROM")
	l.together("NOTIFY_EMAIL_TO", "NOTIFY_SMTP_HOST")
	l.together("NOTIFY_SMTP_USER", "NOTIFY_SMTP_PASSWORD_FILE")
	if m.PrometheusURL == nil {
		l.checkAlerts()
	}
	if len(l.problems) > 0 {
		return
	}
	if m.AlertmanagerConfig != "" && n.Any() {
		l.note("ALERTMANAGER_CONFIG_FILE", "the NOTIFY_ settings are not used: the configuration says who is told")
	}
	if m.AlertmanagerURL != nil && !m.PrintConfig && n.Any() {
		l.note("ALERTMANAGER_URL", "the NOTIFY_ settings are not used: the Alertmanager elsewhere says who is told")
	}
	if l.draft.TimeScale != 1 {
		l.note("MONITOR_TIME_SCALE", "every interval and threshold of monitoring is divided: for drills, not for operation")
	}
	if ip := net.ParseIP(m.ListenHost); m.ListenHost != "localhost" && (ip == nil || !ip.IsLoopback()) {
		l.note("MONITOR_LISTEN_HOST", "series and alerts are open to everyone who reaches "+m.ListenHost+"; only changes need the token")
	}
}

// together reports that one of two settings is of no use without the other.
func (l *loader) together(a, b string) {
	if l.isSet(a) == l.isSet(b) || l.failed[a] || l.failed[b] {
		return
	}
	if l.isSet(b) {
		a, b = b, a
	}
	l.problems = append(l.problems, Problem{Setting: a, Origin: l.values[a].origin, Text: "is of no use without " + b + "; set both or neither"})
}

// needs reports that a setting is of no use without another one.
func (l *loader) needs(a, b string) {
	if !l.isSet(a) || l.isSet(b) || l.failed[a] || l.failed[b] {
		return
	}
	l.problems = append(l.problems, Problem{Setting: a, Origin: l.values[a].origin, Text: "is of no use without " + b + "; set that one, too, or leave this one out"})
}
