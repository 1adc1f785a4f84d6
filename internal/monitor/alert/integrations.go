package alert

import (
	"errors"
	"log/slog"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/discord"
	"github.com/prometheus/alertmanager/notify/email"
	"github.com/prometheus/alertmanager/notify/incidentio"
	"github.com/prometheus/alertmanager/notify/jira"
	"github.com/prometheus/alertmanager/notify/mattermost"
	"github.com/prometheus/alertmanager/notify/msteams"
	"github.com/prometheus/alertmanager/notify/msteamsv2"
	"github.com/prometheus/alertmanager/notify/opsgenie"
	"github.com/prometheus/alertmanager/notify/pagerduty"
	"github.com/prometheus/alertmanager/notify/pushover"
	"github.com/prometheus/alertmanager/notify/rocketchat"
	"github.com/prometheus/alertmanager/notify/slack"
	"github.com/prometheus/alertmanager/notify/telegram"
	"github.com/prometheus/alertmanager/notify/victorops"
	"github.com/prometheus/alertmanager/notify/webex"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/notify/wechat"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
)

// errNoSNS says what is left out: its client is as large as all other integrations together.
var errNoSNS = errors.New("sns_configs: Amazon SNS is not part of the embedded Alertmanager; use one of your own (ALERTMANAGER_URL) for it")

// builder collects the integrations of one receiver.
type builder struct {
	receiver string
	tmpl     *template.Template
	log      *slog.Logger
	list     []notify.Integration
	errs     []error
}

// each adds an integration for every entry of one kind.
func each[C notify.ResolvedSender, N notify.Notifier](b *builder, kind string, entries []C, make func(C, *template.Template, *slog.Logger, ...commoncfg.HTTPClientOption) (N, error)) {
	for i, c := range entries {
		// Connections are not kept: notifications are rare, and a kept one would outlive the run.
		n, err := make(c, b.tmpl, b.log.With("integration", kind), commoncfg.WithKeepAlivesDisabled())
		if err != nil {
			b.errs = append(b.errs, err)
			continue
		}
		b.list = append(b.list, notify.NewIntegration(n, c, kind, i, b.receiver))
	}
}

func newEmail(c *config.EmailConfig, tmpl *template.Template, log *slog.Logger, _ ...commoncfg.HTTPClientOption) (*email.Email, error) {
	return email.New(c, tmpl, log), nil
}

// integrations makes what a receiver consists of.
func integrations(r config.Receiver, tmpl *template.Template, log *slog.Logger) ([]notify.Integration, error) {
	b := &builder{receiver: r.Name, tmpl: tmpl, log: log}
	each(b, "webhook", r.WebhookConfigs, webhook.New)
	each(b, "email", r.EmailConfigs, newEmail)
	each(b, "pagerduty", r.PagerdutyConfigs, pagerduty.New)
	each(b, "opsgenie", r.OpsGenieConfigs, opsgenie.New)
	each(b, "wechat", r.WechatConfigs, wechat.New)
	each(b, "slack", r.SlackConfigs, slack.New)
	each(b, "victorops", r.VictorOpsConfigs, victorops.New)
	each(b, "pushover", r.PushoverConfigs, pushover.New)
	each(b, "telegram", r.TelegramConfigs, telegram.New)
	each(b, "discord", r.DiscordConfigs, discord.New)
	each(b, "webex", r.WebexConfigs, webex.New)
	each(b, "msteams", r.MSTeamsConfigs, msteams.New)
	each(b, "msteamsv2", r.MSTeamsV2Configs, msteamsv2.New)
	each(b, "jira", r.JiraConfigs, jira.New)
	each(b, "incidentio", r.IncidentioConfigs, incidentio.New)
	each(b, "rocketchat", r.RocketchatConfigs, rocketchat.New)
	each(b, "mattermost", r.MattermostConfigs, mattermost.New)
	if len(r.SNSConfigs) > 0 {
		b.errs = append(b.errs, errNoSNS)
	}
	return b.list, errors.Join(b.errs...)
}
