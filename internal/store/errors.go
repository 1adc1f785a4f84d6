package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// fault wraps what went wrong with op so that an operator knows where, and what to do about it. The password never
// shows.
func (s *Store) fault(op string, err error) error {
	return &opError{op: op, addr: s.addr, secrets: s.secrets, err: err}
}

type opError struct {
	op, addr string
	secrets  []string
	err      error
}

func (e *opError) Unwrap() error { return e.err }

func (e *opError) Error() string {
	said, hint := explain(e.err)
	where := "at " + e.addr
	var node *nodeError
	if errors.As(e.err, &node) {
		where = "node " + node.addr + " of " + e.addr
	}
	msg := fmt.Sprintf("%s: redis %s %s", e.op, where, said)
	if hint != "" {
		msg += ": " + hint
	}
	for _, secret := range e.secrets {
		if secret != "" {
			msg = strings.ReplaceAll(msg, secret, "***")
		}
	}
	return msg
}

// replyHints are what an operator can do about an error reply, by its prefix. Where the session itself is refused, one
// such reply speaks for the whole batch.
var replyHints = [...]struct {
	prefix, hint string
	session      bool
}{
	{"NOAUTH", "it wants a password: set it in REDIS_URL", true},
	{"ERR Protocol error: unauthenticated", "it wants a password: set it in REDIS_URL", true},
	{"WRONGPASS", "check the user and the password in REDIS_URL", true},
	{"ERR invalid password", "check the password in REDIS_URL", true},
	{"ERR max number of clients", "raise maxclients or close idle programs", true},
	{"NOPERM", "the Redis user lacks a permission: see ACL in the documentation", false},
	{"LOADING", "it is still loading its data and heals by itself", false},
	{"READONLY", "it is a replica: point REDIS_URL at the primary, or name Sentinels in REDIS_SENTINELS", false},
	{"MASTERDOWN", "it is a replica without its primary: point REDIS_URL at the primary, or name Sentinels in REDIS_SENTINELS", false},
	{"MISCONF", "it cannot save to its disk and refuses writes: free space or look at its log", false},
	{"OOM", "it is at maxmemory: raise it, and use the policy noeviction", false},
	{"BUSY", "a script of another program blocks it", false},
	{"CLUSTERDOWN", "the cluster is not complete and heals by itself or by its operator", false},
	{"MOVED", "it is one node of a Cluster: name some of its nodes in REDIS_CLUSTER", false},
	{"ERR This instance has cluster support disabled", "it is no Cluster: name it in REDIS_URL instead of REDIS_CLUSTER", true},
	{"WRONGTYPE", "the key holds another type than the contract says: something else writes it", false},
}

// explain says in words what the server or the network did, and what helps.
func explain(err error) (said, hint string) {
	var (
		reply      redis.Error
		authority  x509.UnknownAuthorityError
		hostname   x509.HostnameError
		dns        *net.DNSError
		recordHead tls.RecordHeaderError
		network    net.Error
		sentinel   *sentinelError
	)
	switch {
	case errors.As(err, &sentinel):
		return sentinel.said, sentinel.hint
	case errors.Is(err, errLeaseOver):
		return "was not told: " + errLeaseOver.Error(), ""
	case errors.Is(err, errNotPrimary):
		return "is not known yet: " + errNotPrimary.Error(), "a failover is under way and heals by itself"
	case errors.As(err, &reply):
		msg := reply.Error()
		for _, h := range replyHints {
			if strings.HasPrefix(msg, h.prefix) {
				return "answered " + msg, h.hint
			}
		}
		return "answered " + msg, ""
	case errors.Is(err, context.Canceled):
		return "was not waited for: " + err.Error(), ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection", "is it running? set REDIS_URL"
	case errors.Is(err, os.ErrNotExist):
		return "has no such socket", "is it running? set REDIS_URL"
	case errors.As(err, &dns):
		return "cannot be found: " + dns.Err, "check the host name in REDIS_URL"
	case errors.As(err, &authority), errors.As(err, &hostname):
		return "showed a certificate that is not trusted: " + err.Error(), "give the CA file of its authority, and the name that is in the certificate"
	case errors.As(err, &recordHead):
		return "does not speak TLS", "write redis:// instead of rediss://"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "did not answer in time: " + err.Error(), "is it overloaded, stopped or behind a firewall?"
	case errors.Is(err, redis.ErrClosed):
		return "is not used any more: " + err.Error(), ""
	}
	return "is out of reach: " + err.Error(), "is it running? does the url say TLS where the server does not, or the other way round?"
}

// replied gives the error reply in err, blank where the server did not answer. The client may have wrapped it.
func replied(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	return reply.Error()
}

// stopsAll tells whether an error reply is about the server or the session, not about the one key.
func stopsAll(err error) bool {
	msg := replied(err)
	for _, h := range replyHints {
		if h.prefix != "WRONGTYPE" && strings.HasPrefix(msg, h.prefix) {
			return true
		}
	}
	return false
}

// stopsSession tells whether an error reply refuses everything that this connection could say.
func stopsSession(err error) bool {
	msg := replied(err)
	for _, h := range replyHints {
		if h.session && strings.HasPrefix(msg, h.prefix) {
			return true
		}
	}
	return false
}
