package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRedis(t *testing.T) {
	pw := write(t, "pw", "from file\r\n")
	cases := []struct {
		name string
		args []string
		env  []string
		want string // Redis.String
		pass string
	}{
		{"nothing", nil, nil, "redis://127.0.0.1:6379/0", ""},
		{"URL", nil, []string{"REDIS_URL=redis://h:1/3"}, "redis://h:1/3", ""},
		{"URL with account", nil, []string{"REDIS_URL=redis://bob:p%40ss@h"}, "redis://bob@h:6379/0", "p@ss"},
		{"URL with database in the query", nil, []string{"REDIS_URL=redis://h?db=4"}, "redis://h:6379/4", ""},
		{"IPv6", nil, []string{"REDIS_URL=redis://[::1]:7/0"}, "redis://[::1]:7/0", ""},
		{"IPv6 host", nil, []string{"REDIS_HOST=::1"}, "redis://[::1]:6379/0", ""},
		{"TLS", nil, []string{"REDIS_URL=rediss://h"}, "rediss://h:6379/0", ""},
		{"socket", nil, []string{"REDIS_URL=unix:///run/r.sock?db=2"}, "unix:///run/r.sock?db=2", ""},
		{"parts", nil, []string{"REDIS_HOST=h", "REDIS_PORT=7", "REDIS_DB=8", "REDIS_USERNAME=u", "REDIS_PASSWORD=a$b c"}, "redis://u@h:7/8", "a$b c"},
		{"URL and agreeing parts", nil, []string{"REDIS_URL=redis://localhost/1", "REDIS_HOST=127.0.0.1", "REDIS_PORT=6379", "REDIS_DB=1"}, "redis://localhost:6379/1", ""},
		{"URL without a database and REDIS_DB", nil, []string{"REDIS_URL=redis://h", "REDIS_DB=5"}, "redis://h:6379/5", ""},
		{"a URL as flag replaces parts of the environment", []string{"--redis", "redis://new"}, []string{"REDIS_HOST=old", "REDIS_PORT=7", "REDIS_DB=8", "REDIS_PASSWORD=x"}, "redis://new:6379/0", "x"},
		{"password file", nil, []string{"REDIS_PASSWORD_FILE=" + pw}, "redis://127.0.0.1:6379/0", "from file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := mustLoad(t, Publish, c.args, c.env...)
			if got.Redis.String() != c.want || got.Redis.Password.Reveal() != c.pass {
				t.Errorf("got %s with %q, want %s with %q", got.Redis, got.Redis.Password.Reveal(), c.want, c.pass)
			}
			up := mustLoad(t, Up, c.args, c.env...)
			if embedded := len(c.args)+len(c.env) == 0; up.Embedded != embedded {
				t.Errorf("up: embedded is %v", up.Embedded)
			}
		})
	}
}

// selfSigned writes a certificate and its key, and returns the paths.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return write(t, "cert.pem", encode("CERTIFICATE", der)), write(t, "key.pem", encode("PRIVATE KEY", pkcs8))
}

func TestRedisOverTLS(t *testing.T) {
	cert, key := selfSigned(t)
	files := []string{"REDIS_TLS_CA_FILE=" + cert, "REDIS_TLS_CERT_FILE=" + cert, "REDIS_TLS_KEY_FILE=" + key}
	for _, c := range []struct {
		name  string
		env   []string
		host  string
		files bool
	}{
		{"by the URL alone", []string{"REDIS_URL=rediss://h"}, "h", false},
		{"URL and files", append([]string{"REDIS_URL=rediss://u:p@h:7"}, files...), "h", true},
		{"the files alone", append([]string{"REDIS_HOST=h"}, files...), "h", true},
		{"IPv6", []string{"REDIS_URL=rediss://[::1]:7"}, "::1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustLoad(t, Publish, nil, c.env...).Redis.TLS
			if got == nil {
				t.Fatal("plain")
			}
			if got.ServerName != c.host || got.MinVersion != tls.VersionTLS12 || got.InsecureSkipVerify {
				t.Errorf("for %s from version %x, unverified %v", got.ServerName, got.MinVersion, got.InsecureSkipVerify)
			}
			if (got.RootCAs != nil) != c.files || (len(got.Certificates) == 1) != c.files {
				t.Errorf("authorities %v, %d certificates", got.RootCAs != nil, len(got.Certificates))
			}
		})
	}
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"a CA file that is not there":      {[]string{"REDIS_TLS_CA_FILE=" + cert + "x"}, "cannot be read"},
		"a CA file that is none":           {[]string{"REDIS_TLS_CA_FILE=" + key}, "no PEM certificate"},
		"half a client certificate":        {[]string{"REDIS_URL=rediss://h", "REDIS_TLS_KEY_FILE=" + key}, "needs both"},
		"a key that is none":               {[]string{"REDIS_TLS_CERT_FILE=" + cert, "REDIS_TLS_KEY_FILE=" + cert}, "does not load"},
		"files although the URL says none": {append([]string{"REDIS_URL=redis://u:hunter2@h"}, files...), "begin it with rediss://"},
	} {
		_, _, err := load(t, Publish, nil, c.env...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// No message about a URL repeats any of it: a password may be anywhere in a text that cannot be taken apart.
func TestBadRedisURL(t *testing.T) {
	for _, url := range []string{
		"hunter2", "127.0.0.1:6379", "http://u:hunter2@h", "redis://u:hunter2@", "redis://u:hunter2@h:port", "redis://u:hunter2@h:0",
		"redis://u:hunter2@h/x", "redis://u:hunter2@h/1?db=2", "redis://u:hunter2@h?hunter2=1", "redis://u:hunter2@h?a;b",
		"redis://u:hun#ter2@h", "redis://u:hunter2@h/0#x", "unix://hunter2/x", "redis://u:hunter2%zz@h", "redis:hunter2", "redis://h/-1",
		"rediss://u:hunter2@h/0?skip_verify=true", // an unverified server could be anyone
	} {
		_, _, err := load(t, Publish, nil, "REDIS_URL="+url)
		if err == nil {
			t.Errorf("%s: accepted", url)
		} else if strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "REDIS_URL (--redis) (environment)") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestContradictions(t *testing.T) {
	csv := write(t, "a.csv", "x")
	pw := write(t, "pw", "x")
	cases := []struct {
		name string
		role Role
		args []string
		env  []string
		want []string // parts of the message
	}{
		{"URL and host", Publish, nil, []string{"REDIS_URL=redis://a", "REDIS_HOST=b"}, []string{"REDIS_URL", `REDIS_HOST (--redis-host) "b"`, "different servers"}},
		{"URL and port", Publish, nil, []string{"REDIS_URL=redis://a", "REDIS_PORT=1"}, []string{"REDIS_PORT"}},
		{"URL and database", Publish, nil, []string{"REDIS_URL=redis://a/1", "REDIS_DB=2"}, []string{"REDIS_DB"}},
		{"URL and user", Publish, nil, []string{"REDIS_URL=redis://u:p@a", "REDIS_USERNAME=v"}, []string{"REDIS_USERNAME"}},
		{"URL and password", Publish, nil, []string{"REDIS_URL=redis://u:p@a", "REDIS_PASSWORD=hunter2"}, []string{"REDIS_PASSWORD (environment)"}},
		{"socket and host", Publish, nil, []string{"REDIS_URL=unix:///s", "REDIS_HOST=b"}, []string{"REDIS_HOST"}},
		{"a part as flag beside a URL", Publish, []string{"--redis-host=b"}, []string{"REDIS_URL=redis://a"}, []string{"REDIS_HOST"}},
		{"two passwords", Publish, nil, []string{"REDIS_PASSWORD=hunter2", "REDIS_PASSWORD_FILE=" + pw}, []string{"given twice"}},
		{"password in URL and file", Publish, nil, []string{"REDIS_URL=redis://:hunter2@h", "REDIS_PASSWORD_FILE=" + pw}, []string{"given twice"}},
		{"plain URL and CA", Publish, nil, []string{"REDIS_URL=redis://h", "REDIS_TLS_CA_FILE=" + pw}, []string{"rediss://"}},
		{"auto on a Redis of yours", Publish, []string{"--feed=auto"}, nil, []string{"HARVEST_FEED", "generated market"}},
		{"half an exchange", Publish, []string{"--feed=binance", "--binance-base-url=http://h"}, nil, []string{"BINANCE_BASE_URL", "BINANCE_STREAM_URL"}},
		{"synthetic positions and a file", Publish, []string{"--positions=file:" + csv, "--position-source=synthetic"}, nil, []string{"HARVEST_POSITIONS", "POSITION_SOURCE", "different sources"}},
		{"synthetic market and a feed", Publish, nil, []string{"MARKETSTATE_SOURCE=synthetic", "HARVEST_FEED=redis"}, []string{"different markets"}},
		{"speed of a live feed", Publish, []string{"--speed=60"}, nil, []string{"HARVEST_SPEED", "only a replayed or generated feed"}},
		{"speed of a live feed, up", Up, []string{"--speed=60", "--redis=redis://h"}, nil, []string{"HARVEST_SPEED"}},
		{"once and for", Publish, []string{"--once", "--for=1s"}, nil, []string{"--once", "HARVEST_FOR"}},
		{"shared keys", Publish, nil, []string{"HARVEST_PREFIX=a:", "MARKETSTATE_PREFIX=a:"}, []string{"share the same keys"}},
		{"stale within a beat", Publish, nil, []string{"MARKET_STALE_SEC=3", "HEARTBEAT_INTERVAL_SEC=3"}, []string{"MARKET_STALE_SEC", "HEARTBEAT_INTERVAL_SEC"}},
		{"ports", Up, nil, []string{"METRICS_PORT=8041"}, []string{"METRICS_PORT", "PUBLISHER_PORT", "8041"}},
		{"embedded port", Up, nil, []string{"METRICS_PORT=6379"}, []string{"EMBEDDED_REDIS_PORT"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, c.role, c.args, c.env...)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("does not say %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestSources(t *testing.T) {
	csv, js := write(t, "a.csv", "x"), write(t, "p.json", "x")
	cases := []struct {
		name      string
		role      Role
		args      []string
		env       []string
		feed      Feed
		positions Positions
		notes     int
	}{
		{"live data", Publish, []string{"--feed=binance"}, nil, Feed{Kind: FeedBinance}, Positions{Kind: PositionsAuto}, 0},
		{"live where possible", Up, []string{"--feed=auto"}, nil, Feed{Kind: FeedAuto}, Positions{Kind: PositionsDemo}, 0},
		{"a replay that names its symbol", Up, []string{"--feed", "file:BTCUSDT=" + csv}, nil, Feed{FeedFile, []string{"BTCUSDT=" + csv}}, Positions{Kind: PositionsDemo}, 0},
		{"a replay in up", Up, []string{"--feed", "file:" + csv + ", file:" + js}, nil, Feed{FeedFile, []string{csv, js}}, Positions{Kind: PositionsDemo}, 0},
		{"redis feed in the embedded one", Up, []string{"--feed", "redis"}, nil, Feed{Kind: FeedRedis}, Positions{Kind: PositionsAuto}, 0},
		{"up on a Redis of ours", Up, []string{"--redis", "redis://h"}, nil, Feed{Kind: FeedRedis}, Positions{Kind: PositionsAuto}, 0},
		{"made-up market on a Redis of ours", Up, []string{"--redis", "redis://h", "--feed=Synthetic"}, nil, Feed{Kind: FeedSynthetic}, Positions{Kind: PositionsAuto}, 1},
		{"positions of a file", Publish, []string{"--positions", "file:" + js}, nil, Feed{Kind: FeedRedis}, Positions{PositionsFile, js}, 0},
		{"earlier name", Publish, nil, []string{"POSITION_SOURCE=redis_hash"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsRedisHash}, 0},
		{"earlier synthetic", Publish, nil, []string{"POSITION_SOURCE=synthetic"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsDemo}, 1},
		{"both names agree", Publish, nil, []string{"POSITION_SOURCE=synthetic", "HARVEST_POSITIONS=demo"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsDemo}, 1},
		{"a flag beats the earlier name", Publish, []string{"--positions=redis_stream"}, []string{"POSITION_SOURCE=auto"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsRedisStream}, 0},
		{"the earlier name as flag beats", Publish, []string{"--position-source=auto"}, []string{"HARVEST_POSITIONS=demo"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsAuto}, 0},
		{"earlier synthetic market", Publish, nil, []string{"MARKETSTATE_SOURCE=synthetic"}, Feed{Kind: FeedSynthetic}, Positions{Kind: PositionsAuto}, 1},
		{"earlier synthetic market as flag", Publish, []string{"--marketstate-source=synthetic"}, []string{"HARVEST_FEED=redis"}, Feed{Kind: FeedSynthetic}, Positions{Kind: PositionsAuto}, 1},
		{"a feed as flag beats", Publish, []string{"--feed=redis"}, []string{"MARKETSTATE_SOURCE=synthetic"}, Feed{Kind: FeedRedis}, Positions{Kind: PositionsAuto}, 0},
		{"exporter", Export, nil, []string{"POSITION_SOURCE=redis_hash", "HARVEST_FEED=nonsense of another role"}, Feed{}, Positions{Kind: PositionsRedisHash}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, notes, err := load(t, c.role, c.args, c.env...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.feed, got.Feed); d != "" {
				t.Errorf("feed: -want +got\n%s", d)
			}
			if d := cmp.Diff(c.positions, got.Positions); d != "" {
				t.Errorf("positions: -want +got\n%s", d)
			}
			if len(notes) != c.notes {
				t.Errorf("notes: %v", notes)
			}
		})
	}
}

func TestKeyPrefixGovernsAll(t *testing.T) {
	got := mustLoad(t, Publish, nil, "KEY_PREFIX={b}:second", "RISKPROPOSAL_PREFIX=quantum:risk:proposal:")
	want := Keys{
		Prefix: "{b}:second:", MarketState: "{b}:second:marketstate:", RiskProposal: "quantum:risk:proposal:",
		Harvest: "{b}:second:harvest:proposal:",
	}
	if d := cmp.Diff(want, got.Keys); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestNotes(t *testing.T) {
	cases := []struct {
		env  string
		want string
	}{
		{"SYMBOLS=A,B,A, A", "SYMBOLS: A is listed more than once: taken once"},
		{"LISTEN_HOST=0.0.0.0", "LISTEN_HOST: the metrics are open to everyone who reaches 0.0.0.0; WEB_CONFIG_FILE adds TLS and a password"},
		{"LISTEN_HOST=::1", ""},
		{"LISTEN_HOST=localhost", ""},
	}
	for _, c := range cases {
		_, notes, err := load(t, Publish, nil, c.env)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		for _, n := range notes {
			got += n.Setting + ": " + n.Text
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.env, got, c.want)
		}
	}
}
