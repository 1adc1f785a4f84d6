package config

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The ports that are meant where none is written.
const (
	redisPort    = 6379
	sentinelPort = 26379
)

// redisURL is a REDIS_URL taken apart.
type redisURL struct {
	network, host, port string // port as text; path of the socket in host; both blank where there are several servers
	db                  string // blank: not said
	username, password  string
	tls                 bool

	sentinels []string // host:port
	master    string
	cluster   []string // host:port
}

// secureScheme is how the URL begins where it means TLS.
func (r redisURL) secureScheme() string {
	switch {
	case len(r.sentinels) > 0:
		return "rediss+sentinel://"
	case len(r.cluster) > 0:
		return "rediss+cluster://"
	}
	return "rediss://"
}

const urlExample = "write for example redis://127.0.0.1:6379/0"

// setRedisURL never repeats any of the text in an error: it may hold a password.
func setRedisURL(d *draft, text string) error {
	scheme, rest, _ := strings.Cut(text, "://")
	scheme, several, _ := strings.Cut(scheme, "+")
	hosts, without := cutHosts(rest)
	switch {
	case several != "":
		rest = without // several hosts with their ports are no host of a URL
	case strings.Contains(hosts, ","):
		return errors.New("names several hosts; begin it with redis+sentinel:// or redis+cluster://")
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return errors.New("not a URL; " + urlExample + ", with special characters of the password as %XX")
	}
	if u.Fragment != "" {
		return errors.New("has a # in it; write it as %23")
	}
	r := redisURL{network: "tcp", host: u.Hostname(), port: u.Port(), tls: scheme == "rediss"}
	r.username = u.User.Username()
	r.password, _ = u.User.Password()
	path := strings.Trim(u.EscapedPath(), "/")
	switch {
	case scheme == "unix" && several == "":
		r.network, r.host, path = "unix", u.Path, ""
		if u.Host != "" || u.Path == "" {
			return errors.New("a socket is written with its full path: unix:///run/redis/redis.sock")
		}
	case scheme != "redis" && scheme != "rediss":
		return errors.New("does not begin with redis://, rediss:// or unix://; " + urlExample)
	case several == "":
		err = checkOneHost(r)
	case several == "sentinel":
		r.host, r.port = "", ""
		path, err = r.bySentinels(hosts, strings.TrimPrefix(u.EscapedPath(), "/"))
	case several == "cluster":
		r.host, r.port = "", ""
		r.cluster, err = parseNodes(hosts, redisPort)
	default:
		return errors.New("has something else than sentinel or cluster behind the + of its scheme")
	}
	if err != nil {
		return err
	}
	if err := r.readDatabase(path, u.RawQuery); err != nil {
		return err
	}
	d.url = r
	return nil
}

// cutHosts takes the hosts out of what follows the scheme and leaves a stand-in for them.
func cutHosts(rest string) (hosts, without string) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	at := strings.LastIndexByte(authority, '@') + 1
	return authority[at:], authority[:at] + "hosts" + tail
}

func checkOneHost(r redisURL) error {
	if r.host == "" {
		return errors.New("names no host; " + urlExample)
	}
	if port, err := strconv.Atoi(r.port); r.port != "" && (err != nil || port < 1 || port > 65535) {
		return errors.New("has a port that is not a number from 1 to 65535; " + urlExample)
	}
	return nil
}

// bySentinels reads the hosts and the first part of the path, and gives what follows in it.
func (r *redisURL) bySentinels(hosts, path string) (rest string, err error) {
	if r.sentinels, err = parseNodes(hosts, sentinelPort); err != nil {
		return "", err
	}
	master, rest, _ := strings.Cut(path, "/")
	if r.master, err = url.PathUnescape(master); err != nil || r.master == "" || checkToken(r.master) != nil {
		return "", errors.New("does not say under which name the Sentinels watch the server; write redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB")
	}
	return strings.TrimSuffix(rest, "/"), nil
}

// readDatabase reads the number at the end of the path, or behind the question mark.
func (r *redisURL) readDatabase(path, rawQuery string) error {
	r.db = path
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return errors.New("has an unreadable part after the question mark; only db=N is understood there")
	}
	for name, values := range query {
		if name != "db" || len(values) != 1 {
			return errors.New("has a part after the question mark that is not understood; only db=N is, the rest has settings of its own")
		}
		if r.db != "" && r.db != values[0] {
			return errors.New("names two databases; leave out ?db=")
		}
		r.db = values[0]
	}
	db, err := strconv.Atoi(r.db)
	if r.db != "" && (err != nil || db < 0 || db > 65535) {
		return errors.New("has a database that is not a number from 0 up; " + urlExample)
	}
	if db != 0 && len(r.cluster) > 0 {
		return errors.New("names a database, and a Cluster has none but 0; leave it out")
	}
	return nil
}

func setRedisHost(d *draft, text string) (err error) {
	d.host, err = checkHost(text)
	return err
}

func nodes(field func(*draft) *[]string, port int) func(*draft, string) error {
	return func(d *draft, text string) (err error) {
		*field(d), err = parseNodes(text, port)
		return err
	}
}

// parseNodes reads HOST or HOST:PORT, separated by commas, into host:port. Its errors do not repeat the text.
func parseNodes(text string, port int) ([]string, error) {
	const example = "write HOST:PORT,HOST:PORT"
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if strings.ContainsAny(part, "/@") {
			return nil, errors.New("has something in it that is not a host; " + example + ", without scheme and account")
		}
		host, digits, err := net.SplitHostPort(part)
		if err != nil { // no port, or an address that is full of colons
			host, digits = part, strconv.Itoa(port)
		}
		if host, err = checkHost(host); err != nil || host == "" {
			return nil, errors.New("has something in it that is not a host; " + example)
		}
		if n, err := strconv.Atoi(digits); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("has a port that is not a number from 1 to 65535; " + example)
		}
		node := net.JoinHostPort(host, digits)
		if slices.Contains(list, node) {
			return nil, errors.New("names a host and port twice; each counts once")
		}
		list = append(list, node)
	}
	if len(list) == 0 {
		return nil, errors.New("names no host; " + example)
	}
	return list, nil
}
