// Package routing writes the Alertmanager configuration that comes with the desk: who is told what, how soon, how often,
// and which alert keeps quiet because of which other. It is made for the alerts of internal/rules; any Alertmanager from
// 0.25 on takes it.
package routing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/prometheus/common/model"

	"quantumharvest/internal/rules"
)

// perSymbol are the alerts that are a decision about one position each: they are told symbol by symbol, while an outage
// that touches many symbols is told once.
var perSymbol = []string{"QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical", "QuantumExitNotActedOn"}

// The names of the receivers.
const (
	Page    = "page"     // everything that is configured
	Notice  = "notice"   // everything but the pager
	DeadMan = "dead-man" // told at a steady pace that all of the chain works
	Log     = "log"      // where nothing is configured: a receiver without integrations
	Nobody  = "nobody"   // the same, for what nobody wants to know
)

// Options say who is told. A receiver whose fields are blank is off. Secrets are named by the file that holds them and
// never read here.
type Options struct {
	Slack     Slack
	PagerDuty PagerDuty
	Telegram  Telegram
	Email     Email
	Webhook   Webhook
	Watchdog  Webhook // a dead-man switch outside of this machine
	// TimeScale divides every interval, for drills; 1 is real time.
	TimeScale int
}

// Slack is an incoming webhook of Slack, or of anything that takes its messages.
type Slack struct {
	URLFile string
	Channel string // blank: the one that the webhook belongs to
}

// PagerDuty is an integration of the Events API v2.
type PagerDuty struct {
	KeyFile string
	URL     string // blank: PagerDuty's own
}

// Telegram is a bot that writes into a chat.
type Telegram struct {
	TokenFile string
	ChatID    int64
	URL       string // blank: Telegram's own
}

// Email is a mail server and who gets mail.
type Email struct {
	To, From     string // To may be several, separated by commas
	Smarthost    string // host:port
	User         string
	PasswordFile string
	NoTLS        bool // do not insist on an encrypted connection
}

// Webhook is a URL that is posted to.
type Webhook struct {
	URL     string
	URLFile string // in place of URL
}

// On tells whether there is anyone to post to.
func (w Webhook) On() bool { return w.URL != "" || w.URLFile != "" }

// Form is which Alertmanager a configuration is for.
type Form string

// The forms.
const (
	Current  Form = "current"  // the one that is built in
	Portable Form = "portable" // 0.25 and newer: two secrets that 0.25 does not read from files are left to be filled in
)

// receiver is one entry under receivers.
type receiver struct {
	Name string
	Options
}

// Render writes the configuration.
func Render(o Options, form Form) []byte {
	o.TimeScale = max(o.TimeScale, 1)
	page := receiver{Page, o}
	page.Watchdog = Webhook{}
	notice := page
	notice.Name, notice.PagerDuty = Notice, PagerDuty{}
	d := data{
		Portable: form == Portable, Steady: rules.Watchdog, Proof: rules.ProofTest, Blind: rules.Blind, Watchdog: Nobody, Page: Log, Notice: Log,
		Inhibitions: rules.Inhibitions(), PerSymbol: strings.Join(perSymbol, "|"),
	}
	if page.anyone() {
		d.Page = Page
		d.Receivers = append(d.Receivers, page)
	}
	if notice.anyone() {
		d.Notice = Notice
		d.Receivers = append(d.Receivers, notice)
	}
	if d.Page == Log || d.Notice == Log {
		d.Receivers = append(d.Receivers, receiver{Name: Log})
	}
	if o.Watchdog.On() {
		d.Watchdog = DeadMan
		d.Receivers = append(d.Receivers, receiver{DeadMan, Options{Webhook: o.Watchdog}})
	}
	d.Receivers = append(d.Receivers, receiver{Name: Nobody})
	every := func(text string) (string, error) {
		whole, err := time.ParseDuration(text)
		return model.Duration(whole / time.Duration(o.TimeScale)).String(), err
	}
	var b bytes.Buffer
	if err := template.Must(layout.Clone()).Funcs(template.FuncMap{"every": every}).Execute(&b, d); err != nil {
		panic(fmt.Sprintf("the layout of the Alertmanager configuration does not fit its data: %v", err))
	}
	return b.Bytes()
}

// anyone tells whether the receiver has an integration.
func (r receiver) anyone() bool {
	return r.Slack.URLFile != "" || r.PagerDuty.KeyFile != "" || r.Telegram.TokenFile != "" || r.Email.To != "" || r.Webhook.On()
}

// Steady tells that the receiver is told of what lasts, not of what is over.
func (r receiver) Steady() bool { return r.Name == DeadMan }

type data struct {
	Portable               bool
	Steady                 string // name of the alert that the dead-man switch waits for
	Proof                  string // the alert of a proof
	Blind                  string // the alert that is only there to keep others quiet
	Page, Notice, Watchdog string // names of receivers
	PerSymbol              string // regular expression
	Receivers              []receiver
	Inhibitions            []rules.Inhibition
}

// quoted writes any text as a YAML scalar: JSON strings are.
func quoted(text string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(text)
	return strings.TrimSuffix(b.String(), "\n"), err
}
