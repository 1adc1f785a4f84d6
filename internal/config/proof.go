package config

import (
	"net/url"
	"path/filepath"
	"time"
)

// ProofSettings say how long a proof looks, and what it is held against.
type ProofSettings struct {
	Window  time.Duration
	Samples int    // of the age of the heartbeat
	Before  string // file of an earlier pack; blank: none
	Watch   bool   // again and again
}

func proofSettings() []Setting {
	rows := []Setting{
		// A proof asks what is there already, and makes nothing: these have another meaning for the roles that run a monitor.
		{
			Env: "PROMETHEUS_URL", Flag: "prometheus-url", Arg: "URL", Secret: true, Roles: []Role{Proof},
			DefaultText: "http://127.0.0.1:9091",
			Usage:       "the Prometheus that is asked",
			set:         serverURL(func(d *draft) **url.URL { return &d.Monitor.PrometheusURL }),
		},
		{
			Env: "ALERTMANAGER_URL", Flag: "alertmanager-url", Arg: "URL", Secret: true, Roles: []Role{Proof},
			DefaultText: "http://127.0.0.1:9093",
			Usage:       "the Alertmanager that is asked and takes the test alert",
			set:         serverURL(func(d *draft) **url.URL { return &d.Monitor.AlertmanagerURL }),
		},
		{
			Env: "MONITOR_TOKEN_FILE", Flag: "monitor-token-file", Arg: "FILE", Roles: []Role{Proof},
			DefaultText: "none is sent",
			Usage:       "file with the token that an embedded Alertmanager wants for the test alert: monitor/token in its data folder; up prints where it is",
			set:         func(d *draft, text string) (err error) { d.Monitor.TokenFile, err = filepath.Abs(text); return err },
		},
		{
			Flag: "window-sec", Arg: "SECONDS", Default: "45", Roles: []Role{Proof},
			Usage: "for how long is looked; longer than the scrape interval, by several times",
			set:   seconds(func(d *draft) *time.Duration { return &d.Proof.Window }, 2, 86400),
		},
		{
			Flag: "samples", Arg: "N", Default: "40", Roles: []Role{Proof},
			Usage: "how often the age of the heartbeat is asked for, at random moments",
			set:   integer(func(d *draft) *int { return &d.Proof.Samples }, 30, 100_000),
		},
		{
			Flag: "before", Arg: "FILE", Roles: []Role{Proof},
			Usage: "proof.json of an earlier pack, for a table of what was and what is",
			set:   file(func(d *draft) *string { return &d.Proof.Before }),
		},
		{
			Flag: "watch", Default: "false", Roles: []Role{Proof},
			Usage: "prove again and again until stopped, a line each time",
			set:   boolean(func(d *draft) *bool { return &d.Proof.Watch }),
		},
	}
	return inGroup(GroupProof, rows)
}
