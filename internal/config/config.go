// Package config turns flags, environment and an env file into one checked value. One table (see Settings) makes the
// flags, their environment twins, the help text, the README's table and the validation, so that none of them can
// say something else than the others.
//
// A flag wins over the environment, the environment over the file named by --env-file, the file over the default; a
// blank value counts as not given. Everything that is wrong is reported together, each problem with the setting, where
// it was set, the value (never that of a secret) and what to write instead.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"quantumharvest/internal/position"
)

// Role is what a process does; each role reads its own settings and knows the names of the others.
type Role string

// The roles. Apply has no command in this version: its names are known so that an env file shared with it loads.
const (
	Up      Role = "up"
	Publish Role = "publish"
	Export  Role = "export"
	Top     Role = "top"
	Watch   Role = "watch"
	Monitor Role = "monitor"
	// Rules and Dashboards print what a monitoring system loads.
	Rules      Role = "rules"
	Dashboards Role = "dashboards"
	Proof      Role = "proof"
	Drill      Role = "drill" // makes faults on a copy of its own
	Bench      Role = "bench" // measures, on keys of its own
	Apply      Role = "apply"
	// Deploy takes over a server of the earlier services, Doctor says what is wrong with one of ours, and Supervise runs units
	// where there is no systemd.
	Deploy    Role = "deploy"
	Doctor    Role = "doctor"
	Supervise Role = "supervise"
)

// evaluates tells whether the role runs the engine, with all that it needs.
func (r Role) evaluates() bool { return r == Up || r == Publish }

// generates tells whether the role only writes files.
func (r Role) generates() bool { return r == Rules || r == Dashboards }

// looks tells whether the role only looks at the store.
func (r Role) looks() bool { return r == Top || r == Watch || r == Proof }

// FeedKind is where candles and prices come from. The zero value is none.
type FeedKind string

// The feeds.
const (
	FeedSynthetic FeedKind = "synthetic" // a generated market
	FeedRedis     FeedKind = "redis"     // legacy candle keys or ready market states
	FeedFile      FeedKind = "file"      // recorded candles, replayed
	FeedBinance   FeedKind = "binance"   // the exchange's public data, live
	FeedAuto      FeedKind = "auto"      // live where it can be reached within 3 s, else generated
)

// PositionsKind is where positions come from. The zero value is none.
type PositionsKind string

// The position sources.
const (
	PositionsAuto        PositionsKind = "auto"         // the Redis sources, never made-up ones
	PositionsRedisHash   PositionsKind = "redis_hash"   // legacy hashes
	PositionsRedisStream PositionsKind = "redis_stream" // the execution stream
	PositionsFile        PositionsKind = "file"         // a JSON file
	PositionsDemo        PositionsKind = "demo"         // made up on the feed, labelled everywhere
)

// LogFormat is how log lines look.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Keys are the prefixes of every key that is read or written; each ends in a separator.
type Keys struct {
	Prefix       string // of all keys without a prefix of their own
	MarketState  string
	RiskProposal string
	Harvest      string
	Stream       string // name of the proposal stream, in full; blank: the store derives it
}

// Feed says where candles and prices come from.
type Feed struct {
	Kind  FeedKind
	Files []string // with FeedFile
}

// Positions says where positions come from.
type Positions struct {
	Kind PositionsKind
	File string // with PositionsFile
}

// Config is everything the settings say, checked and with all defaults in place. Fields of settings that the role does
// not read hold their zero value.
type Config struct {
	Role Role

	// Redis is the server to use; with Embedded it is not filled and the process brings its own, on EmbeddedPort or
	// the next free one (0: any).
	Redis        Redis
	Embedded     bool
	EmbeddedPort int
	// RedisEnviron is how Redis was set, as NAME=value lines for a process that is to use the same one. Of Bench only.
	RedisEnviron []string
	Keys         Keys

	Symbols        []position.Symbol // publish only these; empty: every open position
	StateSymbols   []position.Symbol // produce market states for these; empty: for every symbol evaluated
	Feed           Feed
	Positions      Positions
	BinanceREST    string        // base URL of the exchange's REST interface; blank: its own
	BinanceStreams string        // base URL of its streams; blank: its own
	Speed          float64       // strategy seconds per wall second, > 0
	Seed           uint64        // of the synthetic market and the demonstration positions
	For            time.Duration // stop after; 0: run until stopped
	Once           bool          // one cycle, then stop
	DataDir        string        // where local state is kept; blank: nowhere

	Heartbeat       time.Duration // whole seconds
	PublishInterval time.Duration
	MaxPublishAge   time.Duration
	ChangeEps       float64 // relative for the stop, absolute for K
	FallbackStopPct float64 // fraction of entry
	MarketStale     time.Duration
	PositionStale   time.Duration
	StateInterval   time.Duration // between produced market states of one symbol
	Window          int           // closes kept per symbol
	StreamEnabled   bool
	PublisherID     string // blank: the composition root makes one
	Shards          int    // into which the publishers of a prefix divide the symbols
	LeaseInterval   time.Duration

	PollInterval  time.Duration // at most one log line of the exporter in this time
	ListenHost    string
	MetricsPort   int // 0: any free one
	PublisherPort int // 0: any free one
	WebConfigFile string

	Monitor Monitoring
	Notify  Notifications

	WatchExec     string   // given to the shell on every event; blank: events are printed
	WatchOn       []string // of WatchEvents; empty: all
	WatchInitial  bool
	WatchTimeout  time.Duration // of one command
	WatchParallel int           // commands at a time
	JSON          bool          // print objects, not a table or lines

	OutDir string // where generated files go; blank: standard output
	Check  bool   // compare the files that are there instead of writing them

	Inhibitions bool // the relations between alerts, not the alerts

	TimeScale     int           // by how much intervals are shorter, 1 to 5
	HeartbeatLost time.Duration // age at which a heartbeat counts as lost; 0: derived from Heartbeat
	StaleFor      time.Duration // how long QuantumHarvestMetricsStale waits
	ClockSkew     time.Duration
	StoreSlow     time.Duration // round trip from which Redis is slow
	ExitUnacted   time.Duration // how long an asked-for close may stay undone
	ResendDelay   time.Duration // how often Prometheus sends a firing alert again
	FreshnessSLO  float64       // percent of time
	RunbookURL    string        // without a slash at the end
	GrafanaURL    string        // without a slash at the end; blank: paths without a host

	Drill  DrillSettings
	Proof  ProofSettings
	Deploy DeploySettings
	Unit   string // of Supervise; blank: every one that is enabled

	Debug   Debugging
	Tracing Tracing
	InForce []Value // every setting of the role as it is, for people to read

	ClockOffset time.Duration // added to the clock, for drills

	Plain     bool // log lines on a terminal, too, in place of the live table
	LogLevel  slog.Level
	LogFormat LogFormat
}

// Note is something that the operator should read and that does not stop the start.
type Note struct {
	Setting string // its environment name, or blank
	Text    string
}

// Problem is one thing that stops the start.
type Problem struct {
	Setting string // as the operator knows it: NAME (--flag), or the env file and line
	Origin  string // where the value was set; blank where there is no one place
	Value   string // ready to print; blank where it must not be shown or there is none
	Text    string // what is wrong, and what to write instead
	Unread  error  // why a file could not be read; nil: it was, and what it holds is wrong
}

// String is the problem on one line.
func (p Problem) String() string {
	s := p.Setting
	if p.Value != "" {
		s += " is " + p.Value
	}
	if p.Origin != "" {
		s += " (" + p.Origin + ")"
	}
	return s + ": " + p.Text
}

// Error is every problem found, in the order of the table.
type Error struct {
	Problems []Problem
	Running  bool // they were read again while a process runs, which goes on with what it has
}

// Passing tells that nothing is known to be wrong but that files could not be read: the same settings may be good at a later try.
func (e *Error) Passing() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Unread == nil })
}

// Denied tells that nothing is known to be wrong but that this user may not read files: another one may.
func (e *Error) Denied() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return !errors.Is(p.Unread, fs.ErrPermission) })
}

// Error lists all problems, one on a line.
func (e *Error) Error() string {
	s := "1 problem with the settings stops the start:"
	n := len(e.Problems)
	if n != 1 {
		s = fmt.Sprintf("%d problems with the settings stop the start:", n)
	}
	if e.Running {
		s = fmt.Sprintf("problems with the new settings: %d:", n)
	}
	for _, p := range e.Problems {
		s += "\n  " + p.String()
	}
	return s
}
