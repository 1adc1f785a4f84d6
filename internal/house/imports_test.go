package house

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// may says which packages of ours a package may import, and why no others. A package that is not listed here fails, so
// that a new room in the house comes with its door drawn.
var may = []struct {
	path   string
	others []string
	reason string
}{
	{"kernel", nil, "the formulas are values in, values out, and others import them: nothing of ours comes along"},
	{"internal/position", nil, "everything imports position, so position imports nothing"},
	{"internal/feed", []string{"internal/position", "kernel"}, "a source pushes events and does not know who consumes them"},
	{
		"internal/feed/binance",
		[]string{"internal/feed", "internal/position"},
		"a source checks what comes in and pushes events; what is computed from them is none of its business",
	},
	{"internal/store", []string{"internal/position", "kernel"}, "the store is the wire contract and nothing else"},
	{"internal/lease", []string{"internal/store"}, "who writes what follows from the lease key alone"},
	{
		"internal/engine",
		[]string{"internal/feed", "internal/lease", "internal/position", "internal/store", "kernel"},
		"the engine is pure cadence: it is given its inputs and hands out a batch, and never sees a server or an exporter",
	},
	{
		"internal/exporter",
		[]string{"internal/listen", "internal/position", "internal/store", "kernel"},
		"the exporter shows what the store holds; with the engine at hand it would show what the engine believes",
	},
	{
		"internal/top",
		[]string{"internal/position", "internal/store", "kernel"},
		"the view shows what every reader of the store gets, not what a publisher in the same process believes",
	},
	{
		"internal/watch",
		[]string{"internal/position", "internal/store", "kernel"},
		"the alarm speaks of what is in the store; it works the same beside any publisher",
	},
	{
		"internal/monitor",
		[]string{"internal/listen", "internal/monitor/alert", "internal/monitor/folder", "internal/monitor/prom", "internal/statefile"},
		"supervision looks at what is exported, like any Prometheus: it must not know the desk from inside",
	},
	{"internal/monitor/prom", []string{"internal/monitor/folder"}, "a Prometheus knows targets and rules, and nothing of ours"},
	{"internal/monitor/alert", []string{"internal/monitor/folder", "internal/statefile"}, "an Alertmanager knows alerts and a configuration, and nothing of ours"},
	{"internal/monitor/routing", []string{"internal/rules"}, "who is told what is a text about the alerts of the table; any Alertmanager takes it"},
	{"internal/monitor/folder", []string{"internal/scratch", "internal/statefile"}, "a folder does not know what is kept in it"},
	{"internal/supervise", nil, "a service manager is told whether there is progress; what progress is, the part itself says"},
	{"internal/inside", []string{"internal/listen"}, "what a process shows of itself is given to it: it knows no part by name"},
	{"internal/flight", nil, "a record is what the runtime saw; why it is saved is said by whoever asks"},
	{"internal/tracing", []string{"internal/position", "internal/store"}, "a trace watches batches on their way to the store; nothing waits for it"},
	{"internal/endure", nil, "a soak starts the program as anybody does and looks at it from outside"},
	{"internal/listen", nil, "serving pages and metrics knows nothing of what is served"},
	{"internal/rules", nil, "the rules are a table: what others measure is named there, not imported"},
	{"internal/dashboards", []string{"internal/rules"}, "dashboards ask what Prometheus holds, and show the alerts"},
	{
		"internal/drill",
		[]string{"internal/freeport", "internal/rules", "internal/scratch", "internal/store"},
		"a drill looks at a system of processes from outside: it knows the rules that must see a fault and the fields of a proposal",
	},
	{
		"internal/proof",
		[]string{"internal/golden", "internal/position", "internal/rules", "internal/store"},
		"a proof believes no part alone: it reads Redis through the store, and everything else as anybody can",
	},
	{"internal/service", nil, "a service is a unit and a process, whatever runs in it"},
	{
		"internal/deploy",
		[]string{"internal/config", "internal/deploy/legacy", "internal/position", "internal/rules", "internal/service", "internal/statefile", "internal/store"},
		"a takeover moves files, services and what other writers left; how a proof or a rule is made it is told",
	},
	{"internal/deploy/legacy", []string{"internal/config", "kernel"}, "what the earlier services left is held against the table of settings and the contract, and computed anew where it was wrong"},
	{"internal/doctor", []string{"internal/proof", "internal/store"}, "a doctor asks as a proof asks, and says what follows"},
	{"deploy/systemd", nil, "the units are files"},
	{
		"internal/bench",
		[]string{"internal/engine", "internal/feed", "internal/freeport", "internal/position", "internal/scratch", "internal/store", "kernel"},
		"what is measured is put together from its parts; what depends on settings comes from outside",
	},
	{"internal/footprint", nil, "memory is bytes, whoever they belong to"},
	{"internal/freeport", nil, "a port is a number"},
	{"internal/scratch", nil, "a temporary folder does not know what is kept in it"},
	{"internal/statefile", nil, "a file does not know what is kept in it"},
	{"internal/embedded", []string{"internal/statefile"}, "the embedded Redis is a server like any other: it knows no key of ours"},
	{"internal/config", []string{"internal/position"}, "settings are values; who uses them imports config, not the other way round"},
	{"internal/config/gendocs", []string{"internal/reference"}, "it only writes down what the tables of the code say"},
	{
		"internal/reference",
		[]string{"internal/app", "internal/config", "internal/rules", "internal/store"},
		"what documents say of settings, metrics, keys and alerts comes from the tables of those who have them",
	},
	{"internal/buildinfo", nil, "the identity of a build depends on nothing"},
	{"internal/golden", []string{"internal/golden/vector", "kernel"}, "golden cases go through the kernel and nothing else"},
	{"internal/golden/pack", nil, "it only packs files"},
	{"internal/golden/vector", nil, "vectors are files and numbers: what is compared with them comes from elsewhere"},
	{"internal/app", []string{
		"deploy/systemd", "internal/deploy", "internal/doctor", "internal/service", "internal/bench", "internal/buildinfo", "internal/config", "internal/dashboards", "internal/drill", "internal/embedded", "internal/engine", "internal/exporter",
		"internal/feed", "internal/feed/binance", "internal/flight", "internal/footprint", "internal/golden", "internal/inside", "internal/listen", "internal/monitor", "internal/monitor/alert", "internal/monitor/prom", "internal/monitor/routing",
		"internal/position", "internal/proof", "internal/rules", "internal/statefile", "internal/store", "internal/supervise", "internal/top", "internal/tracing", "internal/watch", "kernel", "testdata/vectors",
	}, "the composition root is the only place that knows every room; nothing that is for tests comes in"},
	{
		"cmd/harvest",
		[]string{"internal/app", "internal/buildinfo", "internal/config", "internal/golden"},
		"a command turns arguments into options and calls app: what it needs of the other rooms belongs into app",
	},
	{"internal/house", nil, "the rules look at the tree from outside"},
}

// testOnly are packages that only tests import. They may import what they help to test.
var testOnly = regexp.MustCompile(`^internal/(realserver|([a-z]+/)*[a-z]+test)$`)

func TestImportsOfOurs(t *testing.T) {
	known := map[string]int{}
	for i, m := range may {
		known[m.path] = i
	}
	for _, p := range packages(t) {
		path := p.path()
		if testOnly.MatchString(path) {
			continue
		}
		i, ok := known[path]
		if !ok {
			t.Errorf("package %s is not in the table of imports: say there what it may import, and why no more", path)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			switch {
			case testOnly.MatchString(other):
				t.Errorf("%s imports %s: that is for tests and does not belong into the binary", path, other)
			case !slices.Contains(may[i].others, other):
				t.Errorf("%s must not import %s: %s", path, other, may[i].reason)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if imported == module+"/internal/app" && path != "internal/app" && path != "cmd/harvest" {
				t.Errorf("a test of %s imports app: it would test everything at once; give it what it needs", path)
			}
		}
	}
}

// pure is the part of the standard library that the kernel may use: no clock, no I/O, no goroutines.
var pure = []string{
	"cmp", "errors", "fmt", "iter", "maps", "math", "math/bits", "slices", "sort", "strconv", "strings", "unicode", "unicode/utf8",
}

func TestKernelIsPure(t *testing.T) {
	for _, p := range packages(t) {
		if p.path() != "kernel" {
			continue
		}
		for _, imported := range p.Imports {
			if !slices.Contains(pure, imported) {
				t.Errorf("kernel must not import %s: it has no clock and no I/O, so that every answer can be computed again", imported)
			}
		}
		return
	}
	t.Error("there is no package kernel")
}

// A library that reaches the outside is used in few places, so that it can be replaced there.
func TestImportsOfLibraries(t *testing.T) {
	rules := []struct {
		library string
		users   []string
		reason  string
	}{
		{"github.com/redis/go-redis", []string{"internal/store", "internal/feed", "internal/app", "internal/bench", "internal/drill", "internal/deploy"}, "Redis is spoken by the store and the feeds that read it; a drill is the bot that writes there, a bench sends the same bytes, deploy brings back what others wrote"},
		{"github.com/alicebob/miniredis", []string{"internal/embedded"}, "the embedded server is one package's secret"},
		{"github.com/spf13/cobra", []string{"cmd/harvest"}, "commands are the outermost layer"},
		{"github.com/spf13/pflag", []string{"cmd/harvest", "internal/config"}, "flags become settings in one place"},
		{"github.com/prometheus/exporter-toolkit", []string{"internal/listen"}, "TLS and authentication of every port are set up in one place"},
		{"github.com/grafana/grafana-foundation-sdk", []string{"internal/dashboards"}, "how Grafana is drawn is one package's business"},
		{"charm.land", []string{"internal/top"}, "how a terminal is drawn is one package's business"},
		{"github.com/charmbracelet", []string{"internal/top"}, "how a terminal is drawn is one package's business"},
		{"github.com/adshao/go-binance", []string{"internal/feed/binance"}, "the exchange's client is used where its answers are checked"},
		{"github.com/coder/websocket", []string{"internal/feed/binance"}, "streams of the exchange are the only WebSockets"},
		{
			"net/http",
			[]string{
				"internal/listen", "internal/exporter", "internal/app", "internal/feed/binance", "internal/bench", "internal/drill", "internal/proof", "internal/deploy",
				"internal/monitor", "internal/monitor/alert", "internal/monitor/prom", "internal/inside",
			},
			"only what serves pages, or asks others for theirs, speaks HTTP",
		},
		{"github.com/prometheus/prometheus", []string{"internal/monitor/prom"}, "its API changes between releases: one package follows it"},
		{"github.com/prometheus/alertmanager", []string{"internal/monitor/alert"}, "it is wired by hand: one package follows it"},
		{"go.opentelemetry.io/otel", []string{"internal/tracing"}, "who is told of traces is one package's business; the desk never waits for it"},
		{"pgregory.net/rapid", nil, "tests only"},
		{"go.uber.org/goleak", nil, "tests only"},
		{"github.com/google/go-cmp", nil, "tests only"},
		{"testing", nil, "tests only"},
	}
	for _, p := range packages(t) {
		path := p.path()
		if testOnly.MatchString(path) {
			continue
		}
		for _, imported := range p.Imports {
			for _, r := range rules {
				if (imported == r.library || strings.HasPrefix(imported, r.library+"/")) && !slices.Contains(r.users, path) {
					t.Errorf("%s must not import %s: %s", path, imported, r.reason)
				}
			}
		}
	}
}
