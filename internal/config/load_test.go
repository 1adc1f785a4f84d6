package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"quantumharvest/internal/position"
)

// load parses args and reads the settings of a role. environ are NAME=value lines.
func load(t *testing.T, role Role, args []string, environ ...string) (Config, []Note, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Register(flags, role)
	if err := flags.Parse(args); err != nil {
		t.Fatalf("flags: %v", err)
	}
	return Load(flags, role, environ)
}

func mustLoad(t *testing.T, role Role, args []string, environ ...string) Config {
	t.Helper()
	c, _, err := load(t, role, args, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// write makes a file in a folder of the test and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// diff compares secrets by their text, which cmp cannot see.
func diff(want, got Config) string {
	got.InForce = nil // has a test of its own
	return cmp.Diff(want, got, cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }))
}

// tracingDefaults is how the traces are called that nobody asked for.
var tracingDefaults = Tracing{Service: "quantum-harvest-proposal", Sampler: "parentbased_always_on", SamplerArg: 1}

// monitoringDefaults is what up runs beside the desk.
func monitoringDefaults() Monitoring {
	return Monitoring{
		On: true, ListenHost: "127.0.0.1", Port: 9091, AlertmanagerPort: 9093, ScrapeInterval: 10 * time.Second,
		Retention: 15 * 24 * time.Hour, RetentionMB: 512,
	}
}

// withAlerts adds the defaults of the alert rules.
func withAlerts(c Config) Config {
	c.TimeScale, c.ResendDelay = 1, 10*time.Second
	c.HeartbeatLost, c.StaleFor, c.ClockSkew, c.StoreSlow = 25*time.Second, 2*time.Minute, 5*time.Second, 500*time.Millisecond
	c.ExitUnacted, c.FreshnessSLO, c.RunbookURL = 5*time.Minute, 99.9, "docs/runbooks"
	return c
}

func TestDefaults(t *testing.T) {
	engine := Config{
		EmbeddedPort: 0,
		Keys: Keys{
			Prefix: "quantum:", MarketState: "quantum:marketstate:", RiskProposal: "quantum:risk:proposal:",
			Harvest: "quantum:harvest:proposal:",
		},
		Speed: 1, Seed: 1,
		Heartbeat: time.Second, PublishInterval: 10 * time.Second, MaxPublishAge: time.Minute, ChangeEps: 0.001,
		FallbackStopPct: 0.02, MarketStale: 2 * time.Minute, PositionStale: 30 * time.Second, StateInterval: time.Minute,
		Shards: 1, LeaseInterval: 2 * time.Second,
		Window: 300, ListenHost: "127.0.0.1", PublisherPort: 8041, LogFormat: LogText, Tracing: tracingDefaults,
	}
	up := engine
	up.Role, up.Embedded, up.EmbeddedPort = Up, true, 6379
	up.Feed, up.Positions = Feed{Kind: FeedAuto}, Positions{Kind: PositionsDemo}
	up.PollInterval, up.MetricsPort = 5*time.Second, 8042
	up.Monitor = monitoringDefaults()
	up = withAlerts(up)

	monitor := withAlerts(Config{
		Role: Monitor, Monitor: monitoringDefaults(), LogFormat: LogText,
		Heartbeat: time.Second, PublishInterval: 10 * time.Second, MaxPublishAge: time.Minute, MarketStale: 2 * time.Minute, PositionStale: 30 * time.Second,
	})
	monitor.Monitor.ExporterTargets, monitor.Monitor.PublisherTargets = []string{"127.0.0.1:8042"}, []string{"127.0.0.1:8041"}

	publish := engine
	publish.Role = Publish
	publish.Redis = Redis{Network: "tcp", Addr: "127.0.0.1:6379"}
	publish.Feed, publish.Positions = Feed{Kind: FeedRedis}, Positions{Kind: PositionsAuto}

	export := Config{
		Role: Export, Redis: Redis{Network: "tcp", Addr: "127.0.0.1:6379"},
		Keys:      Keys{Prefix: "quantum:", Harvest: "quantum:harvest:proposal:"},
		Positions: Positions{Kind: PositionsAuto}, PollInterval: 5 * time.Second,
		ListenHost: "127.0.0.1", MetricsPort: 8042, LogFormat: LogText,
	}
	for _, want := range []Config{up, publish, export, monitor} {
		t.Run(string(want.Role), func(t *testing.T) {
			if d := diff(want, mustLoad(t, want.Role, nil)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Every legacy name of the publisher, the exporter and the market-state service, in one env file as a deployment of
// the earlier services has it, comments and apply's names included.
const legacyEnv = `# harvest
REDIS_HOST=localhost
REDIS_PORT=6380
REDIS_DB=2
SYMBOLS="BTCUSDT, ETHUSDT,,SOLUSDT"
PUBLISH_INTERVAL_SEC=20
MARKETSTATE_PREFIX=test:ms:
RISKPROPOSAL_PREFIX=test:risk
HARVEST_PREFIX=test:harvest:
ENABLE_STREAM=True
STREAM_NAME=test:stream
POSITION_SOURCE=redis_stream
MAX_PUBLISH_AGE_SEC=90
CHANGE_EPS_PCT=0.01
FALLBACK_STOP_PCT=0.03
LOG_LEVEL=debug
POLL_INTERVAL_SEC=7
METRICS_PORT=9042
MARKETSTATE_SYMBOLS=BTCUSDT
MARKETSTATE_PUBLISH_INTERVAL=30
MARKETSTATE_WINDOW_SIZE=400
MARKETSTATE_SOURCE=candles          # or "synthetic" for proof
APPLY_MODE=dry_run
APPLY_ALLOWLIST=BTCUSDT
APPLY_KILL_SWITCH=false
K_BLOCK_CRITICAL=0.80
K_BLOCK_WARNING=0.60
BINANCE_TESTNET_API_KEY=abc$1#x
BINANCE_TESTNET_API_SECRET='d e # f'
`

func TestLegacyEnvFile(t *testing.T) {
	path := write(t, "harvest.env", legacyEnv)
	got, notes, err := load(t, Up, []string{"--env-file", path})
	if err != nil {
		t.Fatal(err)
	}
	want := withAlerts(Config{
		Role: Up, Tracing: tracingDefaults, Redis: Redis{Network: "tcp", Addr: "localhost:6380", DB: 2}, EmbeddedPort: 6379,
		Keys: Keys{
			Prefix: "quantum:", MarketState: "test:ms:", RiskProposal: "test:risk:", Harvest: "test:harvest:",
			Stream: "test:stream",
		},
		Symbols: []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}, StateSymbols: []position.Symbol{"BTCUSDT"},
		Feed: Feed{Kind: FeedRedis}, Positions: Positions{Kind: PositionsRedisStream}, Speed: 1, Seed: 1,
		Heartbeat: time.Second, PublishInterval: 20 * time.Second, MaxPublishAge: 90 * time.Second, ChangeEps: 0.01,
		FallbackStopPct: 0.03, MarketStale: 2 * time.Minute, PositionStale: 30 * time.Second,
		StateInterval: 30 * time.Second, Shards: 1, LeaseInterval: 2 * time.Second, Window: 400, StreamEnabled: true, PollInterval: 7 * time.Second,
		ListenHost: "127.0.0.1", MetricsPort: 9042, PublisherPort: 8041, LogLevel: slog.LevelDebug, LogFormat: LogText,
		Monitor: monitoringDefaults(),
	})
	if d := diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	var said []string
	for _, n := range notes {
		said = append(said, n.Setting+": "+n.Text)
	}
	wantNotes := []string{
		`RISKPROPOSAL_PREFIX: read as "test:risk:", so that prefix and symbol stay apart`,
		": the env file also holds settings of apply, which up does not read: APPLY_MODE, APPLY_ALLOWLIST, " +
			"APPLY_KILL_SWITCH, K_BLOCK_CRITICAL, K_BLOCK_WARNING, BINANCE_TESTNET_API_KEY, BINANCE_TESTNET_API_SECRET",
	}
	if d := cmp.Diff(wantNotes, said); d != "" {
		t.Errorf("notes: -want +got\n%s", d)
	}
	for _, role := range []Role{Publish, Export} {
		if _, _, err := load(t, role, []string{"--env-file", path}); err != nil {
			t.Errorf("%s does not load the same file: %v", role, err)
		}
	}
}

func TestLayers(t *testing.T) {
	path := write(t, "env", "PUBLISH_INTERVAL_SEC=20\nMAX_PUBLISH_AGE_SEC=20\nLOG_FORMAT=json\n")
	got := mustLoad(t, Publish, []string{"--publish-interval-sec=40", "--env-file", path, "--log-format="},
		"PUBLISH_INTERVAL_SEC=30", "MAX_PUBLISH_AGE_SEC=30", "LOG_FORMAT= ", "UNKNOWN_TO_US=x", "APPLY_MODE=nonsense")
	if got.PublishInterval != 40*time.Second {
		t.Errorf("flag over environment over file: %v", got.PublishInterval)
	}
	if got.MaxPublishAge != 30*time.Second {
		t.Errorf("environment over file: %v", got.MaxPublishAge)
	}
	if got.LogFormat != LogJSON {
		t.Errorf("blank flag and environment count as not given: %v", got.LogFormat)
	}
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, "TRUE": true, "1": true, "yes": true, "On": true,
		"false": false, "False": false, "0": false, "no": false, "OFF": false,
	} {
		if got := mustLoad(t, Publish, nil, "ENABLE_STREAM="+text); got.StreamEnabled != want {
			t.Errorf("%s: %v", text, got.StreamEnabled)
		}
	}
	if got := mustLoad(t, Publish, []string{"--enable-stream", "--once"}); !got.StreamEnabled || !got.Once {
		t.Error("a switch without a value does not switch on")
	}
	if got := mustLoad(t, Publish, []string{"--enable-stream=false"}, "ENABLE_STREAM=true"); got.StreamEnabled {
		t.Error("a switch set to false does not win")
	}
}

// Every setting refuses what it cannot use, says which one it is and what to write instead.
func TestRefusals(t *testing.T) {
	folder := t.TempDir()
	empty := write(t, "empty", "")
	cases := []struct {
		name string
		env  string
		want string // part of the message
	}{
		{"quoted symbols", `SYMBOLS="BTCUSDT,ETHUSDT"`, `SYMBOLS (--symbols) is "\"BTCUSDT,ETHUSDT\"" (environment): has a quote in it`},
		{"lower-case symbol", "SYMBOLS=btcusdt", `write "BTCUSDT"`},
		{"two bad symbols", "SYMBOLS=a b,B*", `symbol "B*"`},
		{"only commas", "SYMBOLS= , ,", "names no symbol"},
		{"bad state symbol", "MARKETSTATE_SYMBOLS=BTC USDT", "MARKETSTATE_SYMBOLS (--marketstate-symbols)"},
		{"words for a number", "PUBLISH_INTERVAL_SEC=ten", "not a number of seconds; write digits only, for example 10"},
		{"unit in seconds", "PUBLISH_INTERVAL_SEC=10s", "not a number of seconds"},
		{"negative interval", "PUBLISH_INTERVAL_SEC=-1", "from 0.1 to 3600"},
		{"zero interval", "PUBLISH_INTERVAL_SEC=0", "from 0.1"},
		{"NaN", "MARKET_STALE_SEC=NaN", "not a number of seconds"},
		{"infinite", "POSITION_STALE_SEC=Inf", "not a number of seconds"},
		{"huge exponent", "MARKETSTATE_PUBLISH_INTERVAL=1e999", "not a number of seconds"},
		{"hexadecimal", "CHANGE_EPS_PCT=0x1p-3", "not a number"},
		{"eps", "CHANGE_EPS_PCT=-0.1", "from 0 to 1"},
		{"fallback stop", "FALLBACK_STOP_PCT=2", "from 0.0001 to 0.99"},
		{"fallback stop zero", "FALLBACK_STOP_PCT=0", "from 0.0001 to 0.99"},
		{"slow heartbeat", "HEARTBEAT_INTERVAL_SEC=10", "whole number of seconds from 1 to 5"},
		{"broken heartbeat", "HEARTBEAT_INTERVAL_SEC=1.5", "whole number of seconds"},
		{"window", "MARKETSTATE_WINDOW_SIZE=128", "from 257"},
		{"market source", "MARKETSTATE_SOURCE=ticks", "one of candles, synthetic"},
		{"position source", "POSITION_SOURCE=hash", "one of auto, redis_hash, redis_stream, synthetic"},
		{"positions", "HARVEST_POSITIONS=hash", "file:PATH or demo"},
		{"positions without a file", "HARVEST_POSITIONS=file:", "names no file"},
		{"positions file", "HARVEST_POSITIONS=file:/nonexistent/p.json", "cannot be read: no such file"},
		{"feed", "HARVEST_FEED=bybit", "redis, binance, synthetic, auto or file:PATH"},
		{"exchange", "BINANCE_BASE_URL=fapi.example.com/path", "without a path"},
		{"streams", "BINANCE_STREAM_URL=https://example.com", "wss://HOST"},
		{"feed without a file", "HARVEST_FEED=file: ,", "names no file"},
		{"feed file", "HARVEST_FEED=file:/nonexistent/a.csv", "/nonexistent/a.csv cannot be read"},
		{"feed folder", "HARVEST_FEED=file:" + folder, "is a folder"},
		{"feed twice", "HARVEST_FEED=file:" + empty + "," + empty, "is named twice"},
		{"speed", "HARVEST_SPEED=0", "from 0.001"},
		{"seed", "HARVEST_SEED=-1", "whole number from 0"},
		{"duration", "HARVEST_FOR=30", "a number with its unit"},
		{"negative duration", "HARVEST_FOR=-1s", "negative"},
		{"boolean", "ENABLE_STREAM=maybe", "write true or false"},
		{"stream name", "STREAM_NAME=a b", "has a blank"},
		{"prefix pattern", "KEY_PREFIX=quantum*", "plain prefix"},
		{"prefix brace", "HARVEST_PREFIX={a:", "hash tag"},
		{"prefix quotes", "HARVEST_PREFIX='a:'", "has a quote"},
		{"publisher id", "PUBLISHER_ID=a\tb", "has a blank or a control"},
		{"long id", "PUBLISHER_ID=" + strings.Repeat("x", 300), "longer than 256 bytes"},
		{"port", "PUBLISHER_PORT=65536", "from 0 to 65535"},
		{"listen host", "LISTEN_HOST=127.0.0.1:80", "without scheme and port"},
		{"web config", "WEB_CONFIG_FILE=/nonexistent", "cannot be read"},
		{"log level", "LOG_LEVEL=LOUD", "DEBUG, INFO, WARNING or ERROR"},
		{"log format", "LOG_FORMAT=xml", "one of text, json"},
		{"redis host", "REDIS_HOST=redis://h", "without scheme and port"},
		{"redis port", "REDIS_PORT=0", "from 1 to 65535"},
		{"redis db", "REDIS_DB=-1", "from 0"},
		{"password file", "REDIS_PASSWORD_FILE=/nonexistent", "cannot be read"},
		{"empty password file", "REDIS_PASSWORD_FILE=" + empty, "the file is empty"},
		{"password file of two lines", "REDIS_PASSWORD_FILE=" + write(t, "pw", "a\nb\n"), "more than one line"},
		{"CA without a certificate", "REDIS_TLS_CA_FILE=" + empty, "holds no PEM certificate"},
		{"certificate without key", "REDIS_TLS_CERT_FILE=" + empty, "one is given without the other"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, Publish, nil, c.env)
			if err == nil {
				t.Fatal("accepted")
			}
			if name, _, _ := strings.Cut(c.env, "="); !strings.Contains(err.Error(), name) {
				t.Errorf("does not name %s: %v", name, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("does not say %q: %v", c.want, err)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	path := write(t, "env", "PUBLISH_INTERVAL_SEC=no\nPUBLISH_INTERVALL_SEC=5\nnonsense\nLOG_LEVEL=debug\nLOG_LEVEL=info\n")
	_, notes, err := load(t, Publish, []string{"--speed", "fast", "--env-file", path}, "SYMBOLS='X'", "REDIS_PORT=x")
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatalf("%T: %v", err, err)
	}
	if notes != nil {
		t.Errorf("notes beside problems: %v", notes)
	}
	want := `7 problems with the settings stop the start:
  env file PATH, line 3: this is not KEY=VALUE (a comment begins with #)
  env file PATH, line 2: unknown setting PUBLISH_INTERVALL_SEC; did you mean PUBLISH_INTERVAL_SEC?
  env file PATH, line 5: LOG_LEVEL is set to something else in line 4 already; keep one of the two
  SYMBOLS (--symbols) is "'X'" (environment): has a quote in it; write the names without quotes, for example BTCUSDT,ETHUSDT
  HARVEST_SPEED (--speed) is "fast" (flag): not a number; write digits with a point, for example 0.5
  REDIS_PORT (--redis-port) is "x" (environment): not a whole number from 1 to 65535
  PUBLISH_INTERVAL_SEC (--publish-interval-sec) is "no" (env file, line 1): not a number of seconds; write digits only, for example 10`
	if d := cmp.Diff(want, strings.ReplaceAll(err.Error(), path, "PATH")); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestEnvFileProblems(t *testing.T) {
	for name, path := range map[string]string{"missing": "/nonexistent/env", "folder": t.TempDir()} {
		if _, _, err := load(t, Export, []string{"--env-file", path}); err == nil || !strings.Contains(err.Error(), "--env-file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := write(t, "env", "MY_OWN_THING=1\n")
	if _, _, err := load(t, Export, []string{"--env-file", path}); err == nil || !strings.Contains(err.Error(), "unknown setting MY_OWN_THING; remove it") {
		t.Errorf("unknown key: %v", err)
	}
	if _, _, err := load(t, Export, []string{"--env-file", write(t, "env", "LOG_LEVEL=info\nLOG_LEVEL=info\n")}); err != nil {
		t.Errorf("the same value twice: %v", err)
	}
}
