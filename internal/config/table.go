package config

import (
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/position"
)

// Group is a heading under which settings are listed in the help text and the docs.
type Group string

// The groups, in the order they are listed.
const (
	GroupInput   Group = "What is watched"
	GroupRedis   Group = "Redis"
	GroupKeys    Group = "Keys"
	GroupLease   Group = "Several publishers"
	GroupCadence Group = "Cadence"
	GroupServe   Group = "Serving metrics"
	GroupMonitor Group = "Monitoring"
	GroupNotify  Group = "Notifications"
	GroupRun     Group = "Running"
	GroupDebug   Group = "Looking inside"
	GroupWatch   Group = "Watching"
	GroupAlerts  Group = "Alerts and dashboards"
	GroupProof   Group = "Proving"
	GroupDrill   Group = "Drills"
	GroupDeploy  Group = "Taking over a server"
	GroupApply   Group = "Apply"
)

// Setting is one row of the table.
type Setting struct {
	Env     string // environment name; blank: flag only
	Flag    string // without the dashes; blank: no flag
	Arg     string // placeholder of the value in the help text; blank: a switch
	Default string // as one would write it
	// DefaultText replaces Default in help and docs where the default depends on the situation.
	DefaultText string
	Usage       string // one sentence, without a full stop
	Group       Group
	Roles       []Role
	Legacy      bool // the name is part of the wire contract
	Secret      bool // the value is never shown

	// set reads a value that is not blank into the draft. Its error says what is wrong and what to write instead, and
	// does not repeat the value.
	set func(*draft, string) error
}

// draft is a Config under construction, with the parts that only make sense together.
type draft struct {
	Config

	url          redisURL
	host         string
	port         int
	db           int
	username     string
	password     Secret
	passwordFile string
	caFile       string
	certFile     string
	keyFile      string

	sentinels            []string
	master               string
	sentinelUsername     string
	sentinelPassword     Secret
	sentinelPasswordFile string
	cluster              []string

	feed           Feed
	stateSource    string
	positions      Positions
	positionSource string

	notes []Note
}

var (
	logging    = []Role{Up, Publish, Export, Top, Watch, Monitor, Deploy, Doctor, Supervise}
	everyone   = []Role{Up, Publish, Export, Top, Watch, Proof} // who looks at a desk
	redisUsers = append(slices.Clip(everyone), Bench)           // who speaks to Redis
	all        = []Role{Up, Publish, Export}
	engine     = []Role{Up, Publish}
	exporter   = []Role{Up, Export}
	serving    = []Role{Up, Publish, Export, Monitor}
	lasting    = []Role{Up, Publish, Monitor}
	// timed are the roles that need to know how often the publisher beats and publishes: its own, and the rules about it.
	timed = []Role{Up, Publish, Monitor, Rules, Proof}
	// alerting are the roles that make alert rules.
	alerting = []Role{Up, Monitor, Rules, Proof}
)

// Settings is the table: every setting of every role, in the order of help and docs.
func Settings() []Setting {
	return slices.Concat(inputSettings(), redisSettings(), keySettings(), leaseSettings(), cadenceSettings(), serveSettings(),
		monitorSettings(), notifySettings(), runSettings(), debugSettings(), watchSettings(), alertSettings(), proving(proofSettings()), drillSettings(), deploySettings(), applySettings())
}

func inputSettings() []Setting {
	rows := []Setting{
		{
			Env: "SYMBOLS", Flag: "symbols", Arg: "LIST", Roles: everyone, Legacy: true,
			DefaultText: "every open position",
			Usage:       "symbols to publish, separated by commas; open positions outside the list are counted as uncovered",
			set:         symbols("SYMBOLS", func(d *draft) *[]position.Symbol { return &d.Symbols }),
		},
		{
			Env: "HARVEST_FEED", Flag: "feed", Arg: "FEED", Roles: engine,
			DefaultText: "auto with the embedded Redis (synthetic where a speed or a seed is given), else redis",
			Usage:       "candles and prices: redis, binance (live public data, no account), synthetic (generated, labelled), auto (binance where it can be reached, else synthetic) or file:PATH[,PATH...] (recorded candles as CSV, replayed)",
			set:         setFeed,
		},
		{
			Env: "HARVEST_POSITIONS", Flag: "positions", Arg: "SOURCE", Roles: all,
			DefaultText: "demo with the embedded Redis and a feed of its own, else auto",
			Usage:       "positions: auto (the Redis sources), redis_hash, redis_stream, file:PATH (JSON) or demo (made up on the feed, labelled)",
			set:         setPositions,
		},
		{
			Env: "POSITION_SOURCE", Flag: "position-source", Arg: "SOURCE", Roles: all, Legacy: true,
			DefaultText: "auto",
			Usage:       "earlier name of the choice of positions: auto, redis_hash, redis_stream or synthetic (now demo)",
			set: choice(func(d *draft) *string { return &d.positionSource },
				"auto", "redis_hash", "redis_stream", "synthetic"),
		},
		{
			Env: "MARKETSTATE_SOURCE", Flag: "marketstate-source", Arg: "SOURCE", Roles: engine, Legacy: true,
			DefaultText: "candles",
			Usage:       "earlier choice of the market's source: candles, or synthetic (the same as the feed synthetic)",
			set:         choice(func(d *draft) *string { return &d.stateSource }, "candles", "synthetic"),
		},
		{
			Env: "MARKETSTATE_SYMBOLS", Flag: "marketstate-symbols", Arg: "LIST", Roles: engine, Legacy: true,
			DefaultText: "every symbol evaluated",
			Usage:       "symbols whose market state is produced from candles where nobody else writes it",
			set:         symbols("MARKETSTATE_SYMBOLS", func(d *draft) *[]position.Symbol { return &d.StateSymbols }),
		},
		{
			Env: "MARKETSTATE_WINDOW_SIZE", Flag: "marketstate-window-size", Arg: "N", Default: "300", Roles: engine, Legacy: true,
			Usage: "closes kept per symbol; the market state needs 257",
			set:   integer(func(d *draft) *int { return &d.Window }, minWindow, 100_000),
		},
		{
			Env: "BINANCE_BASE_URL", Flag: "binance-base-url", Arg: "URL", Roles: engine,
			DefaultText: "the exchange's own",
			Usage:       "REST interface that the binance feed asks, for a proxy or another environment",
			set:         baseURL(func(d *draft) *string { return &d.BinanceREST }, "http", "https"),
		},
		{
			Env: "BINANCE_STREAM_URL", Flag: "binance-stream-url", Arg: "URL", Roles: engine,
			DefaultText: "the exchange's own",
			Usage:       "streams that the binance feed listens to",
			set:         baseURL(func(d *draft) *string { return &d.BinanceStreams }, "ws", "wss"),
		},
		{
			Env: "HARVEST_SPEED", Flag: "speed", Arg: "N", Default: "1", Roles: engine,
			Usage: "strategy seconds per second of a replayed or generated feed",
			set:   number(func(d *draft) *float64 { return &d.Speed }, 0.001, 1_000_000),
		},
		{
			Env: "HARVEST_SEED", Flag: "seed", Arg: "N", Default: "1", Roles: engine,
			Usage: "seed of the generated market and the demonstration positions",
			set:   setSeed,
		},
		{
			Env: "FALLBACK_STOP_PCT", Flag: "fallback-stop-pct", Arg: "FRACTION", Default: "0.02", Roles: engine, Legacy: true,
			Usage: "stop distance as a fraction of the entry price while no stop proposal is known",
			set:   number(func(d *draft) *float64 { return &d.FallbackStopPct }, 0.0001, 0.99),
		},
	}
	return inGroup(GroupInput, rows)
}

func keySettings() []Setting {
	rows := []Setting{
		{
			Env: "KEY_PREFIX", Flag: "key-prefix", Arg: "PREFIX", Default: "quantum:", Roles: everyone,
			Usage: "prefix of every key that is written, where it has none of its own; another one lets a second instance run beside the first",
			set:   prefix("KEY_PREFIX", func(d *draft) *string { return &d.Keys.Prefix }),
		},
		{
			Env: "HARVEST_PREFIX", Flag: "harvest-prefix", Arg: "PREFIX", Roles: everyone, Legacy: true,
			DefaultText: "quantum:harvest:proposal:",
			Usage:       "prefix of the proposals",
			set:         prefix("HARVEST_PREFIX", func(d *draft) *string { return &d.Keys.Harvest }),
		},
		{
			Env: "MARKETSTATE_PREFIX", Flag: "marketstate-prefix", Arg: "PREFIX", Roles: engine, Legacy: true,
			DefaultText: "quantum:marketstate:",
			Usage:       "prefix of the market states",
			set:         prefix("MARKETSTATE_PREFIX", func(d *draft) *string { return &d.Keys.MarketState }),
		},
		{
			Env: "RISKPROPOSAL_PREFIX", Flag: "riskproposal-prefix", Arg: "PREFIX", Roles: engine, Legacy: true,
			DefaultText: "quantum:risk:proposal:",
			Usage:       "prefix of the stop proposals",
			set:         prefix("RISKPROPOSAL_PREFIX", func(d *draft) *string { return &d.Keys.RiskProposal }),
		},
		{
			Env: "ENABLE_STREAM", Flag: "enable-stream", Default: "false", Roles: engine, Legacy: true,
			Usage: "append every full publish to the streams as well",
			set:   boolean(func(d *draft) *bool { return &d.StreamEnabled }),
		},
		{
			Env: "STREAM_NAME", Flag: "stream-name", Arg: "KEY", Roles: engine, Legacy: true,
			DefaultText: "quantum:stream:harvest.proposal",
			Usage:       "key of the proposal stream",
			set:         token(func(d *draft) *string { return &d.Keys.Stream }),
		},
		{
			Env: "PUBLISHER_ID", Flag: "publisher-id", Arg: "ID", Roles: engine,
			DefaultText: "made from host and process",
			Usage:       "name of this writer in everything it writes",
			set:         setPublisherID,
		},
	}
	return inGroup(GroupKeys, rows)
}

func leaseSettings() []Setting {
	rows := []Setting{
		{
			Env: "HARVEST_SHARDS", Flag: "shards", Arg: "N", Default: "1", Roles: engine,
			Usage: "shards into which the symbols are divided, so that up to as many publishers share them; the same for every publisher of a prefix",
			set:   integer(func(d *draft) *int { return &d.Shards }, 1, 64),
		},
		{
			Env: "LEASE_INTERVAL_SEC", Flag: "lease-interval-sec", Arg: "SECONDS", Default: "2", Roles: engine,
			Usage: "a publisher that stands by takes over within three of these after the death of the one that writes",
			set:   seconds(func(d *draft) *time.Duration { return &d.LeaseInterval }, 0.5, 60),
		},
	}
	return inGroup(GroupLease, rows)
}

func cadenceSettings() []Setting {
	rows := []Setting{
		{
			Env: "HEARTBEAT_INTERVAL_SEC", Flag: "heartbeat-interval-sec", Arg: "SECONDS", Default: "1", Roles: timed,
			Usage: "whole seconds between heartbeats, 1 to 5",
			set:   wholeSeconds(func(d *draft) *time.Duration { return &d.Heartbeat }, 1, 5),
		},
		{
			Env: "PUBLISH_INTERVAL_SEC", Flag: "publish-interval-sec", Arg: "SECONDS", Default: "10", Roles: timed, Legacy: true,
			Usage: "length of a publish cycle; does not slow the heartbeat",
			set:   seconds(func(d *draft) *time.Duration { return &d.PublishInterval }, 0.1, 3600),
		},
		{
			Env: "MAX_PUBLISH_AGE_SEC", Flag: "max-publish-age-sec", Arg: "SECONDS", Default: "60", Roles: timed, Legacy: true,
			Usage: "publish in full at the latest after this time",
			set:   seconds(func(d *draft) *time.Duration { return &d.MaxPublishAge }, 0, 86400),
		},
		{
			Env: "CHANGE_EPS_PCT", Flag: "change-eps-pct", Arg: "FRACTION", Default: "0.001", Roles: engine, Legacy: true,
			Usage: "publish in full where the stop moved by more than this fraction or K by more than this amount",
			set:   number(func(d *draft) *float64 { return &d.ChangeEps }, 0, 1),
		},
		{
			Env: "MARKET_STALE_SEC", Flag: "market-stale-sec", Arg: "SECONDS", Default: "120", Roles: timed,
			Usage: "market input older than this is stale",
			set:   seconds(func(d *draft) *time.Duration { return &d.MarketStale }, 1, 86400),
		},
		{
			Env: "POSITION_STALE_SEC", Flag: "position-stale-sec", Arg: "SECONDS", Default: "30", Roles: timed,
			Usage: "position input older than this is stale",
			set:   seconds(func(d *draft) *time.Duration { return &d.PositionStale }, 1, 86400),
		},
		{
			Env: "MARKETSTATE_PUBLISH_INTERVAL", Flag: "marketstate-publish-interval", Arg: "SECONDS", Default: "60", Roles: engine, Legacy: true,
			Usage: "time between the market states and stops that are produced for one symbol",
			set:   seconds(func(d *draft) *time.Duration { return &d.StateInterval }, 1, 86400),
		},
	}
	return inGroup(GroupCadence, rows)
}

func serveSettings() []Setting {
	rows := []Setting{
		{
			Env: "LISTEN_HOST", Flag: "listen-host", Arg: "HOST", Default: "127.0.0.1", Roles: all,
			Usage: "address to listen on; 0.0.0.0 for every interface",
			set:   setListenHost,
		},
		{
			Env: "METRICS_PORT", Flag: "metrics-port", Arg: "PORT", Default: "8042", Roles: exporter, Legacy: true,
			Usage: "port of the exporter; 0: any",
			set:   integer(func(d *draft) *int { return &d.MetricsPort }, 0, 65535),
		},
		{
			Env: "PUBLISHER_PORT", Flag: "publisher-port", Arg: "PORT", Default: "8041", Roles: engine,
			Usage: "port of the publisher's own metrics; 0: any",
			set:   integer(func(d *draft) *int { return &d.PublisherPort }, 0, 65535),
		},
		{
			Env: "POLL_INTERVAL_SEC", Flag: "poll-interval-sec", Arg: "SECONDS", Default: "5", Roles: exporter, Legacy: true,
			Usage: "the exporter logs at most one line in this time; it reads Redis at every scrape",
			set:   seconds(func(d *draft) *time.Duration { return &d.PollInterval }, 0, 3600),
		},
		{
			Env: "WEB_CONFIG_FILE", Flag: "web-config-file", Arg: "FILE", Roles: serving,
			Usage: "TLS and authentication of the metric endpoints, in the format of Prometheus' exporters",
			set:   file(func(d *draft) *string { return &d.WebConfigFile }),
		},
	}
	return inGroup(GroupServe, rows)
}

func runSettings() []Setting {
	rows := []Setting{
		{
			Env: "HARVEST_FOR", Flag: "for", Arg: "DURATION", Default: "0", Roles: lasting,
			Usage: "stop after this time, for example 30s or 5m; 0: run until stopped",
			set:   duration(func(d *draft) *time.Duration { return &d.For }),
		},
		{
			Flag: "once", Default: "false", Roles: []Role{Publish},
			Usage: "run one cycle and stop",
			set:   boolean(func(d *draft) *bool { return &d.Once }),
		},
		{
			Env: "HARVEST_DATA", Flag: "data", Arg: "DIR", Roles: monitoring,
			DefaultText: "nothing is kept",
			Usage:       "folder for what must survive a restart of the embedded Redis and of the monitor",
			set:         directory(func(d *draft) *string { return &d.DataDir }),
		},
		{
			Env: "HARVEST_PLAIN", Flag: "plain", Default: "false", Roles: []Role{Up},
			Usage: "log lines on a terminal, too, in place of the live table",
			set:   boolean(func(d *draft) *bool { return &d.Plain }),
		},
		{
			Env: "LOG_LEVEL", Flag: "log-level", Arg: "LEVEL", Default: "INFO", Roles: logging, Legacy: true,
			Usage: "DEBUG, INFO, WARNING or ERROR",
			set:   setLogLevel,
		},
		{
			Env: "LOG_FORMAT", Flag: "log-format", Arg: "FORMAT", Default: "text", Roles: logging,
			Usage: "text or json",
			set: func(d *draft, text string) error {
				var format string
				err := choice(func(*draft) *string { return &format }, string(LogText), string(LogJSON))(d, text)
				d.LogFormat = LogFormat(format)
				return err
			},
		},
	}
	rows = append(rows, clockSetting())
	return inGroup(GroupRun, rows)
}

func watchSettings() []Setting {
	rows := []Setting{
		{
			Env: "HARVEST_WATCH_EXEC", Flag: "exec", Arg: "CMD", Roles: []Role{Watch},
			DefaultText: "events are printed",
			Usage:       "command that the shell runs on every event; it is told by HARVEST_ variables and by JSON on its standard input",
			set:         setExec,
		},
		{
			Env: "HARVEST_WATCH_ON", Flag: "on", Arg: "LIST", Roles: []Role{Watch},
			DefaultText: "all of them",
			Usage:       "events to tell, separated by commas: " + strings.Join(WatchEvents(), ", "),
			set:         setWatchOn,
		},
		{
			Flag: "initial", Default: "false", Roles: []Role{Watch},
			Usage: "tell what is there at the start as events, too",
			set:   boolean(func(d *draft) *bool { return &d.WatchInitial }),
		},
		{
			Env: "HARVEST_WATCH_TIMEOUT_SEC", Flag: "exec-timeout-sec", Arg: "SECONDS", Default: "10", Roles: []Role{Watch},
			Usage: "a command that takes longer is stopped and counts as failed",
			set:   seconds(func(d *draft) *time.Duration { return &d.WatchTimeout }, 0.1, 3600),
		},
		{
			Env: "HARVEST_WATCH_PARALLEL", Flag: "exec-parallel", Arg: "N", Default: "4", Roles: []Role{Watch},
			Usage: "commands that run at a time, never two for one symbol",
			set:   integer(func(d *draft) *int { return &d.WatchParallel }, 1, 64),
		},
		{
			Flag: "json", Default: "false", Roles: []Role{Top, Watch, Proof, Drill, Bench, Doctor},
			Usage: "print JSON: an object on a line of every symbol once, of every event, fault or figure; of a proof the whole pack, of doctor all findings",
			set:   boolean(func(d *draft) *bool { return &d.JSON }),
		},
	}
	return inGroup(GroupWatch, rows)
}

func alertSettings() []Setting {
	generated := []Role{Rules, Dashboards}
	rows := []Setting{
		{
			Flag: "out", Arg: "DIR", Roles: append(generated, Proof),
			DefaultText: "standard output",
			Usage:       "write the files into this folder",
			set:         directory(func(d *draft) *string { return &d.OutDir }),
		},
		{
			Flag: "check", Default: "false", Roles: generated,
			Usage: "write nothing; fail where the files in the folder are not what would be written",
			set:   boolean(func(d *draft) *bool { return &d.Check }),
		},
		{
			Flag: "inhibitions", Default: "false", Roles: []Role{Rules},
			Usage: "the inhibit_rules for alertmanager.yml in place of the rules: which alert silences which",
			set:   boolean(func(d *draft) *bool { return &d.Inhibitions }),
		},
		{
			Env: "ALERT_HEARTBEAT_LOST_SEC", Flag: "alert-heartbeat-lost-sec", Arg: "SECONDS", Roles: alerting,
			DefaultText: "4 more than a living publisher can look old: 25",
			Usage:       "age at which a heartbeat counts as lost",
			set:         seconds(func(d *draft) *time.Duration { return &d.HeartbeatLost }, 3, 600),
		},
		{
			Env: "ALERT_STALE_FOR_SEC", Flag: "alert-stale-for-sec", Arg: "SECONDS", Default: "120", Roles: alerting,
			Usage: "how long QuantumHarvestMetricsStale waits; 300 flaps less during deployments",
			set:   seconds(func(d *draft) *time.Duration { return &d.StaleFor }, 10, 3600),
		},
		{
			Env: "ALERT_CLOCK_SKEW_SEC", Flag: "alert-clock-skew-sec", Arg: "SECONDS", Default: "5", Roles: alerting,
			Usage: "by how much clocks may differ",
			set:   seconds(func(d *draft) *time.Duration { return &d.ClockSkew }, 1, 60),
		},
		{
			Env: "ALERT_STORE_SLOW_SEC", Flag: "alert-store-slow-sec", Arg: "SECONDS", Default: "0.5", Roles: alerting,
			Usage: "round trip from which Redis is called slow",
			set:   seconds(func(d *draft) *time.Duration { return &d.StoreSlow }, 0.001, 10),
		},
		{
			Env: "ALERT_EXIT_UNACTED_SEC", Flag: "alert-exit-unacted-sec", Arg: "SECONDS", Default: "300", Roles: alerting,
			Usage: "how long a position may stay open after the advice turned to a full close",
			set:   seconds(func(d *draft) *time.Duration { return &d.ExitUnacted }, 10, 86400),
		},
		{
			Env: "ALERT_RESEND_DELAY_SEC", Flag: "alert-resend-delay-sec", Arg: "SECONDS", Default: "10", Roles: alerting,
			Usage: "how often Prometheus sends a firing alert again: start one of your own with --rules.alert.resend-delay of as much. Four times as long the watchdog is told on after its death",
			set:   seconds(func(d *draft) *time.Duration { return &d.ResendDelay }, 1, 300),
		},
		{
			Env: "ALERT_FRESHNESS_SLO", Flag: "alert-freshness-slo", Arg: "PERCENT", Default: "99.9", Roles: alerting,
			Usage: "share of time for which the advice for a position must be younger than 30 s",
			set:   number(func(d *draft) *float64 { return &d.FreshnessSLO }, 50, 99.999),
		},
		{
			Env: "RUNBOOK_URL", Flag: "runbook-url", Arg: "URL", Default: "docs/runbooks", Roles: []Role{Up, Monitor, Rules, Dashboards},
			Usage: "where the runbooks are, as alerts and dashboards link to them",
			set:   link(func(d *draft) *string { return &d.RunbookURL }),
		},
		{
			Env: "GRAFANA_URL", Flag: "grafana-url", Arg: "URL", Roles: alerting,
			DefaultText: "paths without a host",
			Usage:       "where Grafana is, as alerts link to the dashboards",
			set:         link(func(d *draft) *string { return &d.GrafanaURL }),
		},
	}
	return inGroup(GroupAlerts, rows)
}

// applySettings are names that an env file may share with the apply service. No role of this version reads them.
func applySettings() []Setting {
	rows := []Setting{
		{Env: "APPLY_MODE", Default: "dry_run", Usage: "dry_run or testnet"},
		{Env: "APPLY_ALLOWLIST", Default: "BTCUSDT", Usage: "symbols that may be acted on"},
		{Env: "APPLY_KILL_SWITCH", Usage: "start halted"},
		{Env: "K_BLOCK_CRITICAL", Default: "0.80", Usage: "reported only: risk reduction is never blocked by a risk score"},
		{Env: "K_BLOCK_WARNING", Default: "0.60", Usage: "reported only"},
		{Env: "BINANCE_TESTNET_API_KEY", Secret: true, Usage: "key of the exchange's test network"},
		{Env: "BINANCE_TESTNET_API_SECRET", Secret: true, Usage: "its secret"},
	}
	for i := range rows {
		rows[i].Roles = []Role{Apply}
		rows[i].Legacy = true
	}
	return inGroup(GroupApply, rows)
}

func inGroup(g Group, rows []Setting) []Setting {
	for i := range rows {
		rows[i].Group = g
	}
	return rows
}

// For tells whether the role reads the setting.
func (s Setting) For(role Role) bool { return slices.Contains(s.Roles, role) }

// Name is how the setting is called in messages: its environment name with the flag in brackets, or the one it has.
func (s Setting) Name() string {
	switch {
	case s.Flag == "":
		return s.Env
	case s.Env == "":
		return "--" + s.Flag
	}
	return s.Env + " (--" + s.Flag + ")"
}

// shownDefault is the default for people; blank where there is none.
func (s Setting) shownDefault() string {
	if s.DefaultText != "" {
		return s.DefaultText
	}
	return s.Default
}
