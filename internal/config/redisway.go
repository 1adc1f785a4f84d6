package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// redisWays are the settings each of which says how Redis is reached. Without one it is REDIS_HOST and REDIS_PORT.
var redisWays = []string{"REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER"}

var sentinelSettingNames = []string{
	"REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE",
}

var redisSettingNames = slices.Concat(redisWays, sentinelSettingNames, []string{
	"REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE",
	"REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE",
})

func (l *loader) combineRedis() {
	d := &l.draft
	if (l.role == Up || l.role == Bench) && !slices.ContainsFunc(redisSettingNames, l.isSet) {
		d.Embedded = true
		return
	}
	for _, name := range redisSettingNames {
		if l.role == Bench && l.isSet(name) {
			d.RedisEnviron = append(d.RedisEnviron, name+"="+l.values[name].text)
		}
	}
	d.Redis = Redis{
		Network: "tcp", DB: d.db, Username: d.username, Password: d.password,
		SentinelUsername: d.sentinelUsername, SentinelPassword: d.sentinelPassword,
	}
	host, port := or(d.host, "127.0.0.1"), redisPort
	if d.port != 0 {
		port = d.port
	}
	useTLS := d.caFile != "" || d.certFile != ""
	way := l.redisWay()
	if way != "REDIS_URL" {
		d.url = redisURL{} // replaced by what a higher layer says
	}
	switch {
	case l.failed[way]: // whatever it is meant to say
	case way == "REDIS_URL":
		host, port = l.applyURL()
		useTLS = d.url.tls
	case way == "REDIS_SENTINELS":
		d.Redis.Sentinels, d.Redis.Master = d.sentinels, d.master
		if d.master == "" && !l.failed["REDIS_SENTINEL_MASTER"] {
			l.refuseEnv(way, "the Sentinels may watch many servers; say the name of the one to use in REDIS_SENTINEL_MASTER")
		}
	case way == "REDIS_CLUSTER":
		d.Redis.Cluster = d.cluster
		if d.db != 0 {
			l.contradict("a Cluster has no database but 0; leave the database out", way, "REDIS_DB")
		}
	}
	if len(d.Redis.Sentinels)+len(d.Redis.Cluster) > 0 {
		host = "" // each has its own
		l.agree(way, "REDIS_HOST", false)
		l.agree(way, "REDIS_PORT", false)
	} else if d.Redis.Addr = net.JoinHostPort(host, strconv.Itoa(port)); d.Redis.Network == "unix" {
		d.Redis.Addr = d.url.host
	}
	l.checkSentinelSettings(way)
	l.readPassword(&d.Redis.Password, "REDIS_PASSWORD", d.passwordFile, d.url.password)
	l.readPassword(&d.Redis.SentinelPassword, "REDIS_SENTINEL_PASSWORD", d.sentinelPasswordFile, "")
	l.readCredential(&d.Redis.Password, "redis-password", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE")
	if len(d.Redis.Sentinels) > 0 {
		l.readCredential(&d.Redis.SentinelPassword, "redis-sentinel-password", "REDIS_SENTINEL_PASSWORD", "REDIS_SENTINEL_PASSWORD_FILE")
	}
	l.buildTLS(useTLS, host)
}

// redisWay finds the one setting that says how Redis is reached: that of the highest layer. It is blank where there is
// none.
func (l *loader) redisWay() (way string) {
	for _, env := range redisWays {
		if l.isSet(env) && (way == "" || l.below(way, env)) {
			way = env
		}
	}
	for _, env := range redisWays {
		if env != way && l.isSet(env) && !l.below(env, way) {
			l.contradict("each says how to reach Redis; keep one of the two", way, env)
		}
	}
	return way
}

// checkSentinelSettings refuses what only means something to Sentinels where there are none.
func (l *loader) checkSentinelSettings(way string) {
	if d := &l.draft; len(d.Redis.Sentinels) > 0 || l.failed[way] {
		return
	}
	for _, env := range sentinelSettingNames {
		switch {
		case !l.isSet(env) || l.below(env, way):
		case way == "":
			l.contradict("no Sentinels are named; name them in REDIS_SENTINELS, or leave it out", env)
		default:
			l.contradict("no Sentinels are named there; name them in REDIS_SENTINELS, or leave it out", way, env)
		}
	}
}

// applyURL takes servers, database, user and password from the URL. The single settings stand in for it and may repeat
// it; where they disagree, the URL wins only from a higher layer.
func (l *loader) applyURL() (host string, port int) {
	const way = "REDIS_URL"
	d, u := &l.draft, l.draft.url
	d.Redis.Network, d.Redis.Sentinels, d.Redis.Master, d.Redis.Cluster = u.network, u.sentinels, u.master, u.cluster
	port = redisPort
	if u.port != "" {
		port, _ = strconv.Atoi(u.port) // checked when it was read
	}
	db, _ := strconv.Atoi(or(u.db, "0"))
	if u.host != "" {
		l.agree(way, "REDIS_HOST", u.network == "tcp" && sameHost(d.host, u.host))
		l.agree(way, "REDIS_PORT", u.network == "tcp" && d.port == port)
	}
	if u.db != "" || len(u.cluster) > 0 || l.below("REDIS_DB", way) {
		l.agree(way, "REDIS_DB", d.db == db)
		d.Redis.DB = db
	}
	if u.master != "" {
		l.agree(way, "REDIS_SENTINEL_MASTER", d.master == u.master)
	}
	if u.username != "" {
		l.agree(way, "REDIS_USERNAME", d.username == u.username)
		d.Redis.Username = u.username
	}
	if u.password != "" {
		l.agree(way, "REDIS_PASSWORD", d.password.Reveal() == u.password)
		d.Redis.Password = NewSecret(u.password)
	}
	return u.host, port
}

// below tells whether a setting comes from a lower layer than another, so that the other replaces it.
func (l *loader) below(env, other string) bool { return l.values[env].layer < l.values[other].layer }

func (l *loader) agree(way, env string, same bool) {
	if l.isSet(env) && !same && !l.below(env, way) {
		l.contradict("they name different servers or accounts; keep one of the two", way, env)
	}
}

func sameHost(a, b string) bool {
	local := func(h string) string {
		if h = strings.ToLower(h); h == "localhost" {
			return "127.0.0.1"
		}
		return h
	}
	return local(a) == local(b)
}

const maxPasswordFileBytes = 4096

// readPassword reads the file that stands in for the setting env, if there is one.
func (l *loader) readPassword(password *Secret, env, path, inURL string) {
	if path == "" {
		return
	}
	file := env + "_FILE"
	if l.isSet(env) {
		l.contradict("the password is given twice; keep one of the two", env, file)
		return
	}
	if inURL != "" {
		l.contradict("the password is given twice; take it out of the URL", "REDIS_URL", file)
		return
	}
	raw, err := readFile(path)
	text := strings.TrimRight(string(raw), "\r\n")
	switch {
	case err != nil:
		before := len(l.problems)
		l.refuseEnv(file, err.Error())
		l.unread(before, err)
	case text == "":
		l.refuseEnv(file, "the file is empty")
	case len(raw) > maxPasswordFileBytes || strings.ContainsAny(text, "\r\n"):
		l.refuseEnv(file, "the file holds more than one line; it must hold the password alone")
	default:
		*password = NewSecret(text)
	}
}

// readCredential takes a password from the credentials that systemd gives to a service (LoadCredential=). The units give
// a blank one where the operator has put none: that is no password.
func (l *loader) readCredential(password *Secret, name string, others ...string) {
	if l.credentials == "" {
		return
	}
	path := filepath.Join(l.credentials, name)
	raw, err := readFile(path)
	text := strings.TrimRight(string(raw), "\r\n")
	refuse := func(text string) {
		l.problems = append(l.problems, Problem{Setting: "credential " + name, Value: strconv.Quote(path), Text: text})
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && text == "":
	case err != nil:
		before := len(l.problems)
		refuse(err.Error())
		l.unread(before, err)
	case len(raw) > maxPasswordFileBytes || strings.ContainsAny(text, "\r\n"):
		refuse("the file holds more than one line; it must hold the password alone")
	case password.Reveal() != "" || slices.ContainsFunc(others, l.isSet):
		refuse("the password is given twice; keep the credential, or what the URL or " + strings.Join(others, " or ") + " says")
	default:
		*password = NewSecret(text)
	}
}

// buildTLS makes the TLS configuration, and says so where the parts do not fit together.
func (l *loader) buildTLS(use bool, host string) {
	d := &l.draft
	for _, env := range []string{"REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"} {
		if l.isSet(env) && !use && d.url.network != "" {
			l.contradict("the URL says plain text; begin it with "+d.url.secureScheme(), "REDIS_URL", env)
		}
	}
	if l.isSet("REDIS_TLS_CERT_FILE") != l.isSet("REDIS_TLS_KEY_FILE") {
		l.problems = append(l.problems, Problem{
			Setting: "REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE",
			Text:    "one is given without the other; a client certificate needs both",
		})
		return
	}
	if !use {
		return
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if d.caFile != "" {
		pem, err := os.ReadFile(d.caFile)
		conf.RootCAs = x509.NewCertPool()
		if err != nil || !conf.RootCAs.AppendCertsFromPEM(pem) {
			l.refuseEnv("REDIS_TLS_CA_FILE", "holds no PEM certificate")
		}
	}
	if d.certFile != "" && d.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(d.certFile, d.keyFile)
		if err != nil {
			l.refuseEnv("REDIS_TLS_CERT_FILE", "does not load together with REDIS_TLS_KEY_FILE: both must be PEM and belong together")
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	d.Redis.TLS = conf
}
