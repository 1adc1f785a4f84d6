package config

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// combine settles what needs more than one setting: defaults that follow from others, earlier names for the same
// thing, and contradictions.
func (l *loader) combine() {
	switch {
	case l.role.generates():
		l.checkGenerated()
		return
	case l.role == Drill:
		return // nothing of it touches a system of the operator
	case l.role.moves():
		l.combineDeploy() // what the services read is asked of their env files
		return
	}
	if l.role == Up || l.role == Monitor {
		l.combineMonitor()
	}
	if l.role == Monitor {
		l.checkServing()
		return
	}
	if l.role == Proof {
		l.checkAlerts()
	}
	l.combineRedis()
	if l.role == Bench {
		return // it measures on keys of its own, with everything else as it is by default
	}
	l.combineSources()
	l.combineKeys()
	l.checkCadence()
	l.checkServing()
	if d := &l.draft; d.WatchExec != "" && d.JSON {
		l.contradict("where a command is run nothing is printed, and the command gets JSON anyway; leave one of them out", "HARVEST_WATCH_EXEC", "--json")
	}
}

// isSet tells whether somebody gave the setting a value.
func (l *loader) isSet(env string) bool { return l.values[env].layer > fromDefault }

// contradict reports settings that do not go together, each with what it was set to.
func (l *loader) contradict(text string, envs ...string) {
	for _, env := range envs {
		if l.failed[env] {
			return // it has its own problem; a second one about the same text helps nobody
		}
	}
	names := make([]string, len(envs))
	for i, env := range envs {
		for _, s := range Settings() {
			if key(s) != env || !s.For(l.role) {
				continue
			}
			names[i] = s.Name()
			if v := l.values[env]; !s.Secret && v.text != "" {
				names[i] += " " + shown(v.text)
			}
			names[i] += " (" + l.values[env].origin + ")"
		}
	}
	l.problems = append(l.problems, Problem{Setting: strings.Join(names, " and "), Text: text})
}

func (l *loader) note(env, text string) {
	l.draft.notes = append(l.draft.notes, Note{Setting: env, Text: text})
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (l *loader) refuseEnv(env, text string) {
	for _, s := range Settings() {
		if s.Env == env && s.For(l.role) {
			l.refuse(s, text)
		}
	}
}

// combineSources settles feed and positions, under their own and their earlier names.
func (l *loader) combineSources() {
	d := &l.draft
	if l.role.looks() {
		return
	}
	if l.role.evaluates() {
		l.combineFeed()
		if d.ClockOffset != 0 {
			l.note("HARVEST_CLOCK_OFFSET_SEC", "the clock of this process is off on purpose: its advice is for a drill, not to be acted on")
		}
	}

	positions, source := l.values["HARVEST_POSITIONS"], l.values["POSITION_SOURCE"]
	legacy := PositionsKind(d.positionSource)
	if legacy == "synthetic" {
		legacy = PositionsDemo
	}
	switch {
	case l.isSet("HARVEST_POSITIONS") && l.isSet("POSITION_SOURCE"):
		if d.positions.Kind != legacy && positions.layer == source.layer {
			l.contradict("they name different sources of positions; keep one of the two", "HARVEST_POSITIONS", "POSITION_SOURCE")
		}
		if d.Positions = d.positions; source.layer > positions.layer {
			d.Positions = Positions{Kind: legacy}
		}
	case l.isSet("HARVEST_POSITIONS"):
		d.Positions = d.positions
	case l.isSet("POSITION_SOURCE"):
		d.Positions = Positions{Kind: legacy}
	case d.Embedded && d.Feed.Kind != FeedRedis:
		d.Positions = Positions{Kind: PositionsDemo}
	default:
		d.Positions = Positions{Kind: PositionsAuto}
	}
	if !d.Embedded && l.role.evaluates() {
		if d.Feed.Kind == FeedSynthetic {
			l.note("HARVEST_FEED", "a generated market is published to a Redis of yours, under its keys and labelled")
		}
		if d.Positions.Kind == PositionsDemo {
			l.note("HARVEST_POSITIONS", "made-up positions are published to a Redis of yours, under its keys and labelled")
		}
	}
}

func (l *loader) combineFeed() {
	d := &l.draft
	feed, source := l.values["HARVEST_FEED"], l.values["MARKETSTATE_SOURCE"]
	synthetic := d.stateSource == "synthetic"
	switch {
	case l.isSet("HARVEST_FEED"):
		d.Feed = d.feed
		if synthetic && d.feed.Kind != FeedSynthetic {
			if feed.layer == source.layer {
				l.contradict("they name different markets; keep one of the two", "HARVEST_FEED", "MARKETSTATE_SOURCE")
			} else if source.layer > feed.layer {
				d.Feed = Feed{Kind: FeedSynthetic}
			}
		}
	case synthetic, d.Embedded && (l.isSet("HARVEST_SPEED") || l.isSet("HARVEST_SEED")):
		d.Feed = Feed{Kind: FeedSynthetic} // only a generated market has a speed and a seed
	case d.Embedded:
		d.Feed = Feed{Kind: FeedAuto}
	default:
		d.Feed = Feed{Kind: FeedRedis}
	}
	if d.Feed.Kind == FeedAuto && !d.Embedded {
		l.contradict("auto may fall back to a generated market, and that must not reach a Redis of yours by itself; write binance or synthetic", "HARVEST_FEED")
	}
	if (d.BinanceREST == "") != (d.BinanceStreams == "") {
		l.contradict("candles of one place and prices of another do not belong together; set both or neither", "BINANCE_BASE_URL", "BINANCE_STREAM_URL")
	}
	if (d.Feed.Kind == FeedRedis || d.Feed.Kind == FeedBinance || d.Feed.Kind == FeedAuto) && l.isSet("HARVEST_SPEED") && d.Speed != 1 {
		l.contradict("only a replayed or generated feed can run at another speed; choose --feed file:PATH or synthetic, or leave the speed out", "HARVEST_SPEED")
	}
	if d.For > 0 && d.Once {
		l.contradict("one cycle and a running time exclude each other; keep one of the two", "HARVEST_FOR", "--once")
	}
}

func (l *loader) combineKeys() {
	k := &l.draft.Keys
	for _, key := range []struct {
		field *string
		tail  string
		read  bool
	}{
		{&k.Harvest, "harvest:proposal:", true},
		{&k.MarketState, "marketstate:", l.role.evaluates()},
		{&k.RiskProposal, "risk:proposal:", l.role.evaluates()},
	} {
		if *key.field == "" && key.read {
			*key.field = k.Prefix + key.tail
		}
	}
	if !l.role.evaluates() {
		return
	}
	for _, pair := range [][2]string{
		{"HARVEST_PREFIX", "MARKETSTATE_PREFIX"},
		{"HARVEST_PREFIX", "RISKPROPOSAL_PREFIX"},
		{"MARKETSTATE_PREFIX", "RISKPROPOSAL_PREFIX"},
	} {
		prefixes := map[string]string{
			"HARVEST_PREFIX": k.Harvest, "MARKETSTATE_PREFIX": k.MarketState, "RISKPROPOSAL_PREFIX": k.RiskProposal,
		}
		if prefixes[pair[0]] == prefixes[pair[1]] {
			l.contradict("two kinds of records would share the same keys; choose different prefixes", pair[0], pair[1])
		}
	}
}

func (l *loader) checkCadence() {
	d := &l.draft
	if !l.role.evaluates() {
		return
	}
	for _, stale := range []struct {
		env string
		sec float64
	}{{"MARKET_STALE_SEC", d.MarketStale.Seconds()}, {"POSITION_STALE_SEC", d.PositionStale.Seconds()}} {
		if stale.sec <= d.Heartbeat.Seconds() {
			l.contradict("input would be stale between two heartbeats; raise the first", stale.env, "HEARTBEAT_INTERVAL_SEC")
		}
	}
}

func (l *loader) checkGenerated() {
	d := &l.draft
	if d.Check && d.OutDir == "" && !l.failed["--out"] {
		l.contradict("there is nothing to compare with; say with --out where the files are", "--check")
	}
	if l.role == Rules {
		l.checkAlerts()
	}
}

// checkAlerts settles from which age on a heartbeat counts as lost. At a time scale everything but the heartbeat itself
// shrinks.
func (l *loader) checkAlerts() {
	d := &l.draft
	scale := time.Duration(max(d.TimeScale, 1))
	oldest := 2*d.Monitor.ScrapeInterval + scale*d.Heartbeat
	switch {
	case d.HeartbeatLost == 0:
		d.HeartbeatLost = max(oldest, 2*d.Monitor.ScrapeInterval+d.Heartbeat+4*time.Second)
	case d.HeartbeatLost < oldest:
		l.contradict(fmt.Sprintf("a living publisher can look %s old; raise the first, or lower one of the others", oldest),
			"ALERT_HEARTBEAT_LOST_SEC", "HEARTBEAT_INTERVAL_SEC", "MONITOR_SCRAPE_INTERVAL_SEC")
	}
}

func (l *loader) checkServing() {
	d := &l.draft
	if l.role.looks() {
		return // it listens nowhere
	}
	type wanted struct {
		env  string
		port int
	}
	ports := []wanted{{"METRICS_PORT", d.MetricsPort}, {"PUBLISHER_PORT", d.PublisherPort}}
	if d.Embedded {
		ports = append(ports, wanted{"EMBEDDED_REDIS_PORT", d.EmbeddedPort})
	}
	if d.Monitor.On && d.Monitor.PrometheusURL == nil {
		ports = append(ports, wanted{"MONITOR_PORT", d.Monitor.Port})
	}
	if d.Monitor.On && d.Monitor.AlertmanagerURL == nil {
		ports = append(ports, wanted{"ALERTMANAGER_PORT", d.Monitor.AlertmanagerPort})
	}
	for i, a := range ports {
		for _, b := range ports[:i] {
			if a.port == b.port && a.port != 0 {
				l.contradict(fmt.Sprintf("both want port %d; give one of them another", a.port), b.env, a.env)
			}
		}
	}
	if l.role == Monitor {
		return
	}
	if ip := net.ParseIP(d.ListenHost); d.WebConfigFile == "" && d.ListenHost != "localhost" && (ip == nil || !ip.IsLoopback()) && !l.failed["LISTEN_HOST"] {
		l.note("LISTEN_HOST", "the metrics are open to everyone who reaches "+d.ListenHost+"; WEB_CONFIG_FILE adds TLS and a password")
	}
}
