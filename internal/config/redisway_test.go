package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSeveralServers(t *testing.T) {
	pw := write(t, "pw", "from file\n")
	for _, c := range []struct {
		name     string
		args     []string
		env      []string
		want     string // Redis.String
		pass     string
		sentinel string // user and password of the Sentinels
	}{
		{
			"Sentinels", nil,
			[]string{"REDIS_SENTINELS=a, b:7,[::1]:8", "REDIS_SENTINEL_MASTER=m", "REDIS_DB=3", "REDIS_USERNAME=u", "REDIS_PASSWORD=p"},
			"redis+sentinel://u@a:26379,b:7,[::1]:8/m/3", "p", "",
		},
		{
			"accounts at the Sentinels", nil,
			[]string{"REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_USERNAME=watcher", "REDIS_SENTINEL_PASSWORD=q"},
			"redis+sentinel://a:26379/m/0", "", "watcher q",
		},
		{
			"a password file of the Sentinels",
			[]string{"--redis-sentinels=a", "--redis-sentinel-master=m", "--redis-sentinel-password-file=" + pw},
			nil,
			"redis+sentinel://a:26379/m/0", "", " from file",
		},
		{"Cluster", []string{"--redis-cluster", "a:1,b"}, []string{"REDIS_USERNAME=u", "REDIS_DB=0"}, "redis+cluster://u@a:1,b:6379", "", ""},
		{"Sentinels as a URL", []string{"--redis=redis+sentinel://u:p%40s%2Fs@a,b:7/m/3"}, nil, "redis+sentinel://u@a:26379,b:7/m/3", "p@s/s", ""},
		{"a URL without a database", nil, []string{"REDIS_URL=redis+sentinel://a/m", "REDIS_DB=4"}, "redis+sentinel://a:26379/m/4", "", ""},
		{"a database in the query", nil, []string{"REDIS_URL=redis+sentinel://[::1],[fe80::1]:7/m?db=4"}, "redis+sentinel://[::1]:26379,[fe80::1]:7/m/4", "", ""},
		{"a name with special characters", nil, []string{"REDIS_URL=redis+sentinel://a/m%2Fx"}, "redis+sentinel://a:26379/m%2Fx/0", "", ""},
		{"a URL and its own parts", nil, []string{"REDIS_URL=redis+sentinel://u:p@a/m/3", "REDIS_DB=3", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_PASSWORD=q"}, "redis+sentinel://u@a:26379/m/3", "p", " q"},
		{"Cluster as a URL", nil, []string{"REDIS_URL=redis+cluster://u:p@a:1,b:2"}, "redis+cluster://u@a:1,b:2", "p", ""},
		{"Cluster and its only database", nil, []string{"REDIS_URL=redis+cluster://a/0"}, "redis+cluster://a:6379", "", ""},
		{"over TLS", nil, []string{"REDIS_URL=rediss+sentinel://a/m"}, "rediss+sentinel://a:26379/m/0", "", ""},
		{"Cluster over TLS", nil, []string{"REDIS_URL=rediss+cluster://a"}, "rediss+cluster://a:6379", "", ""},
		{
			"a flag replaces another way",
			[]string{"--redis-cluster=a"},
			[]string{"REDIS_URL=redis://:x@old/7", "REDIS_HOST=old", "REDIS_SENTINELS=old", "REDIS_SENTINEL_MASTER=m", "REDIS_PASSWORD_FILE=" + pw},
			"redis+cluster://a:6379", "from file", "",
		},
		{"a URL replaces Sentinels", []string{"--redis=redis://a"}, []string{"REDIS_SENTINELS=old", "REDIS_SENTINEL_MASTER=m"}, "redis://a:6379/0", "", ""},
		{"a URL replaces a Sentinel's database", []string{"--redis=redis+cluster://a"}, []string{"REDIS_DB=2"}, "redis+cluster://a:6379", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustLoad(t, Publish, c.args, c.env...).Redis
			if got.String() != c.want || got.Password.Reveal() != c.pass {
				t.Errorf("got %s with %q, want %s with %q", got, got.Password.Reveal(), c.want, c.pass)
			}
			account := ""
			if got.SentinelPassword.Reveal() != "" {
				account = got.SentinelUsername + " " + got.SentinelPassword.Reveal()
			}
			if account != c.sentinel {
				t.Errorf("at the Sentinels %q, want %q", account, c.sentinel)
			}
			if several := len(got.Sentinels)+len(got.Cluster) > 0; several == (got.Addr != "") {
				t.Errorf("%+v also has the address %q", got, got.Addr)
			}
			if strings.HasPrefix(c.want, "rediss+") != (got.TLS != nil) || got.TLS != nil && got.TLS.ServerName != "" {
				t.Errorf("TLS %+v", got.TLS)
			}
			if mustLoad(t, Up, c.args, c.env...).Embedded {
				t.Error("up: embedded")
			}
			again := mustLoad(t, Publish, []string{"--redis", got.String()}).Redis
			again.Password, again.SentinelUsername, again.SentinelPassword = got.Password, got.SentinelUsername, got.SentinelPassword
			if diff := cmp.Diff(got.String(), again.String()); diff != "" {
				t.Errorf("read again: %s", diff)
			}
		})
	}
}

func TestSeveralServersOverTLS(t *testing.T) {
	cert, key := selfSigned(t)
	files := []string{"REDIS_TLS_CA_FILE=" + cert, "REDIS_TLS_CERT_FILE=" + cert, "REDIS_TLS_KEY_FILE=" + key}
	got := mustLoad(t, Publish, nil, append(files, "REDIS_CLUSTER=a")...).Redis
	if got.TLS == nil || got.TLS.ServerName != "" || len(got.TLS.Certificates) != 1 || got.String() != "rediss+cluster://a:6379" {
		t.Errorf("%s: %+v", got, got.TLS)
	}
	for url, want := range map[string]string{
		"redis+cluster://a":    "begin it with rediss+cluster://",
		"redis+sentinel://a/m": "begin it with rediss+sentinel://",
	} {
		if _, _, err := load(t, Publish, nil, append(files, "REDIS_URL="+url)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestContradictingServers(t *testing.T) {
	pw := write(t, "pw", "x")
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"URL and Sentinels":     {[]string{"REDIS_URL=redis://a", "REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m"}, []string{"REDIS_URL", "REDIS_SENTINELS (--redis-sentinels)", "keep one of the two"}},
		"URL and Cluster":       {[]string{"REDIS_URL=redis+cluster://a", "REDIS_CLUSTER=a"}, []string{"REDIS_URL", "REDIS_CLUSTER (--redis-cluster)", "keep one of the two"}},
		"Sentinels and Cluster": {[]string{"REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_CLUSTER=a"}, []string{"REDIS_SENTINELS", "REDIS_CLUSTER", "keep one of the two"}},
		"Sentinels and host":    {[]string{"REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_HOST=a"}, []string{"REDIS_SENTINELS", "REDIS_HOST", "different servers"}},
		"Cluster and port":      {[]string{"REDIS_CLUSTER=a", "REDIS_PORT=6379"}, []string{"REDIS_CLUSTER", "REDIS_PORT"}},
		"Cluster URL and host":  {[]string{"REDIS_URL=redis+cluster://a", "REDIS_HOST=a"}, []string{"REDIS_URL", "REDIS_HOST"}},
		"Cluster and database":  {[]string{"REDIS_CLUSTER=a", "REDIS_DB=1"}, []string{`REDIS_CLUSTER (--redis-cluster) "a"`, `REDIS_DB (--redis-db) "1"`, "no database but 0"}},
		"URL and database":      {[]string{"REDIS_URL=redis+cluster://a", "REDIS_DB=1"}, []string{"REDIS_URL", "REDIS_DB"}},
		"URL and master":        {[]string{"REDIS_URL=redis+sentinel://a/m", "REDIS_SENTINEL_MASTER=n"}, []string{"REDIS_URL", "REDIS_SENTINEL_MASTER"}},
		"no master":             {[]string{"REDIS_SENTINELS=a"}, []string{"REDIS_SENTINELS", "REDIS_SENTINEL_MASTER"}},
		"a master alone":        {[]string{"REDIS_SENTINEL_MASTER=m"}, []string{"REDIS_SENTINEL_MASTER", "name them in REDIS_SENTINELS"}},
		"a server's master":     {[]string{"REDIS_URL=redis://h", "REDIS_SENTINEL_MASTER=m"}, []string{"REDIS_URL", "REDIS_SENTINEL_MASTER", "no Sentinels are named there"}},
		"a Cluster's Sentinels": {[]string{"REDIS_CLUSTER=h", "REDIS_SENTINEL_PASSWORD=hunter2"}, []string{"REDIS_CLUSTER", "REDIS_SENTINEL_PASSWORD (environment)"}},
		"two passwords":         {[]string{"REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_PASSWORD=hunter2", "REDIS_SENTINEL_PASSWORD_FILE=" + pw}, []string{"REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE", "given twice"}},
		"a bad port":            {[]string{"REDIS_SENTINELS=a:x"}, []string{`REDIS_SENTINELS (--redis-sentinels) is "a:x"`, "has a port that is not a number"}},
		"a host twice":          {[]string{"REDIS_CLUSTER=a,a:6379"}, []string{"twice"}},
		"no host":               {[]string{"REDIS_CLUSTER= , "}, []string{"names no host"}},
		"a URL for a host":      {[]string{"REDIS_CLUSTER=redis://a"}, []string{"not a host"}},
	} {
		_, _, err := load(t, Publish, nil, c.env...)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: does not say %q: %v", name, part, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret is shown: %v", name, err)
		}
	}
}

func TestBadURLOfSeveralServers(t *testing.T) {
	for url, want := range map[string]string{
		"redis+sentinel://u:hunter2@a":          "under which name",
		"redis+sentinel://u:hunter2@a//3":       "under which name",
		"redis+sentinel://u:hunter2@a/%zz":      "not a URL",
		"redis+sentinel://u:hunter2@a/m/x":      "database that is not a number",
		"redis+sentinel://u:hunter2@/m":         "names no host",
		"redis+sentinel://u:hunter2@a:0/m":      "port that is not a number",
		"redis+sentinel://u:hunter2@a:hunter/m": "port that is not a number",
		"redis+cluster://u:hunter2@a,b/1":       "a Cluster has none but 0",
		"redis+cluster://u:hunter2@a,b/hunter":  "database that is not a number",
		"redis+cluster://u:hunter2@":            "names no host",
		"redis+cluster://u:hun/ter2@a":          "", // a slash ends the hosts
		"redis+other://u:hunter2@a":             "behind the +",
		"unix+cluster://u:hunter2@a":            "does not begin with",
		"redis://u:hunter2@a,b":                 "begin it with redis+sentinel:// or redis+cluster://",
		"redis://u:hunter2@a:1,b:2":             "begin it with redis+sentinel:// or redis+cluster://",
	} {
		_, _, err := load(t, Publish, nil, "REDIS_URL="+url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "REDIS_URL (--redis) (environment)") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestTheRedisCommand(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"redis://127.0.0.1:6379/0", "redis-cli -h 127.0.0.1 -p 6379"},
		{"rediss://desk:sesame@redis.example.com:7000/3", "redis-cli -h redis.example.com -p 7000 -n 3 --tls --user desk"},
		{"redis://:sesame@[::1]:6379/0", "redis-cli -h ::1 -p 6379"},
		{"unix:///run/redis desk/redis.sock?db=2", "redis-cli -s '/run/redis desk/redis.sock' -n 2"},
		{"redis+cluster://a:1,b:2", "redis-cli -c -h a -p 1"},
		{
			"redis+sentinel://u:sesame@a,b:7/m/3",
			"redis-cli $(redis-cli -h a -p 26379 SENTINEL get-master-addr-by-name m | sed '1s/^/-h /; 2s/^/-p /') -n 3 --user u",
		},
	} {
		if got := mustLoad(t, Proof, []string{"--redis", c.url}).Redis.Command(); got != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}
