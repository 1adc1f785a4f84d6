package config

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Redis says how to reach the server that holds the wire contract: one server at Addr, the primary that Sentinels name,
// or a Cluster.
type Redis struct {
	Network  string // "tcp" or "unix"
	Addr     string // host:port, or the path of a socket; blank with Sentinels and Cluster
	DB       int    // 0 with Cluster
	Username string
	Password Secret
	TLS      *tls.Config // nil: plain. Without a server name each server is checked against its own

	Sentinels        []string // host:port of each
	Master           string   // the name under which the Sentinels watch the primary
	SentinelUsername string
	SentinelPassword Secret

	Cluster []string // host:port of some nodes
}

// String is the address as a URL, without any password.
func (r Redis) String() string {
	u := url.URL{Scheme: "redis", Host: r.Addr, Path: "/" + strconv.Itoa(r.DB)}
	if r.TLS != nil {
		u.Scheme = "rediss"
	}
	switch {
	case len(r.Sentinels) > 0:
		u.Scheme += "+sentinel"
		u.Host, u.RawPath = strings.Join(r.Sentinels, ","), "/"+url.PathEscape(r.Master)+u.Path
		u.Path = "/" + r.Master + u.Path
	case len(r.Cluster) > 0:
		u.Scheme += "+cluster"
		u.Host, u.Path = strings.Join(r.Cluster, ","), ""
	case r.Network == "unix":
		u = url.URL{Scheme: "unix", Path: r.Addr, RawQuery: "db=" + strconv.Itoa(r.DB)}
	}
	if r.Username != "" {
		u.User = url.User(r.Username)
	}
	return u.String()
}

// Command is redis-cli for this Redis, as one would type it into a shell. A password is never part of it: redis-cli takes it
// from REDISCLI_AUTH.
func (r Redis) Command() string {
	words := []string{"redis-cli"}
	at := func(addr string) string {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			host, port = addr, "6379"
		}
		return "-h " + ShellWord(host) + " -p " + port
	}
	switch {
	case len(r.Sentinels) > 0:
		words = append(words, "$(redis-cli "+at(r.Sentinels[0])+" SENTINEL get-master-addr-by-name "+ShellWord(r.Master)+" | sed '1s/^/-h /; 2s/^/-p /')")
	case len(r.Cluster) > 0:
		words = append(words, "-c", at(r.Cluster[0]))
	case r.Network == "unix":
		words = append(words, "-s", ShellWord(r.Addr))
	default:
		words = append(words, at(r.Addr))
	}
	if r.DB != 0 {
		words = append(words, "-n", strconv.Itoa(r.DB))
	}
	if r.TLS != nil {
		words = append(words, "--tls")
	}
	if r.Username != "" {
		words = append(words, "--user", ShellWord(r.Username))
	}
	return strings.Join(words, " ")
}

// plainWord is what a shell takes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=-]+$`)

// ShellWord writes a text so that a shell takes it as one word.
func ShellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// LogValue is String, so that neither a password nor the TLS configuration is taken apart by a logger.
func (r Redis) LogValue() slog.Value { return slog.StringValue(r.String()) }

func redisSettings() []Setting {
	rows := []Setting{
		{
			Env: "REDIS_URL", Flag: "redis", Arg: "URL", Roles: redisUsers, Legacy: true, Secret: true,
			DefaultText: "up: an embedded Redis; bench: one for the while; else redis://127.0.0.1:6379/0",
			Usage: "Redis server: redis://, rediss:// (TLS) or unix://, with [USER:PASSWORD@]HOST:PORT/DB; " +
				"redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB and redis+cluster://HOST:PORT,HOST:PORT name several",
			set: setRedisURL,
		},
		{
			Env: "REDIS_HOST", Flag: "redis-host", Arg: "HOST", Roles: redisUsers, Legacy: true,
			DefaultText: "127.0.0.1",
			Usage:       "Redis host, where no URL is given",
			set:         setRedisHost,
		},
		{
			Env: "REDIS_PORT", Flag: "redis-port", Arg: "PORT", Roles: redisUsers, Legacy: true,
			DefaultText: "6379",
			Usage:       "Redis port, where no URL is given",
			set:         integer(func(d *draft) *int { return &d.port }, 1, 65535),
		},
		{
			Env: "REDIS_DB", Flag: "redis-db", Arg: "N", Roles: redisUsers, Legacy: true,
			DefaultText: "0",
			Usage:       "Redis database number, where no URL is given",
			set:         integer(func(d *draft) *int { return &d.db }, 0, 65535),
		},
		{
			Env: "REDIS_USERNAME", Flag: "redis-username", Arg: "NAME", Roles: redisUsers,
			Usage: "ACL user",
			set:   token(func(d *draft) *string { return &d.username }),
		},
		{
			Env: "REDIS_PASSWORD", Roles: redisUsers, Secret: true,
			Usage: "password; has no flag because command lines are public",
			set:   func(d *draft, text string) error { d.password = NewSecret(text); return nil },
		},
		{
			Env: "REDIS_PASSWORD_FILE", Flag: "redis-password-file", Arg: "FILE", Roles: redisUsers,
			DefaultText: "the credential redis-password of systemd, where there is one",
			Usage:       "file that holds the password",
			set:         file(func(d *draft) *string { return &d.passwordFile }),
		},
		{
			Env: "REDIS_SENTINELS", Flag: "redis-sentinels", Arg: "HOST:PORT,...", Roles: redisUsers,
			Usage: "Sentinels that name the Redis server to use; the port is 26379 where none is given",
			set:   nodes(func(d *draft) *[]string { return &d.sentinels }, sentinelPort),
		},
		{
			Env: "REDIS_SENTINEL_MASTER", Flag: "redis-sentinel-master", Arg: "NAME", Roles: redisUsers,
			Usage: "name under which the Sentinels watch that server",
			set:   token(func(d *draft) *string { return &d.master }),
		},
		{
			Env: "REDIS_SENTINEL_USERNAME", Flag: "redis-sentinel-username", Arg: "NAME", Roles: redisUsers,
			Usage: "ACL user at the Sentinels",
			set:   token(func(d *draft) *string { return &d.sentinelUsername }),
		},
		{
			Env: "REDIS_SENTINEL_PASSWORD", Roles: redisUsers, Secret: true,
			DefaultText: "none; that of the servers is never sent to a Sentinel",
			Usage:       "password of the Sentinels; has no flag because command lines are public",
			set:         func(d *draft, text string) error { d.sentinelPassword = NewSecret(text); return nil },
		},
		{
			Env: "REDIS_SENTINEL_PASSWORD_FILE", Flag: "redis-sentinel-password-file", Arg: "FILE", Roles: redisUsers,
			DefaultText: "the credential redis-sentinel-password of systemd, where there is one",
			Usage:       "file that holds the password of the Sentinels",
			set:         file(func(d *draft) *string { return &d.sentinelPasswordFile }),
		},
		{
			Env: "REDIS_CLUSTER", Flag: "redis-cluster", Arg: "HOST:PORT,...", Roles: redisUsers,
			Usage: "some nodes of a Redis Cluster, which know the others; the port is 6379 where none is given",
			set:   nodes(func(d *draft) *[]string { return &d.cluster }, redisPort),
		},
		{
			Env: "REDIS_TLS_CA_FILE", Flag: "redis-tls-ca-file", Arg: "FILE", Roles: redisUsers,
			DefaultText: "the system's roots",
			Usage:       "PEM certificates to check the server against; turns TLS on where no URL is given",
			set:         file(func(d *draft) *string { return &d.caFile }),
		},
		{
			Env: "REDIS_TLS_CERT_FILE", Flag: "redis-tls-cert-file", Arg: "FILE", Roles: redisUsers,
			Usage: "PEM certificate to show to the server",
			set:   file(func(d *draft) *string { return &d.certFile }),
		},
		{
			Env: "REDIS_TLS_KEY_FILE", Flag: "redis-tls-key-file", Arg: "FILE", Roles: redisUsers,
			Usage: "PEM key of that certificate",
			set:   file(func(d *draft) *string { return &d.keyFile }),
		},
		{
			Env: "EMBEDDED_REDIS_PORT", Flag: "embedded-redis-port", Arg: "PORT", Default: "6379", Roles: []Role{Up},
			Usage: "port of the embedded Redis on 127.0.0.1; a taken one: the next free one; 0: any",
			set:   integer(func(d *draft) *int { return &d.EmbeddedPort }, 0, 65535),
		},
	}
	return inGroup(GroupRedis, rows)
}
