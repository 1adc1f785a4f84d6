package exporter

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"quantumharvest/internal/store"
)

// reason is why a reading failed. The set is fixed: it is a metric label.
type reason string

const (
	reasonTimeout  reason = "timeout"
	reasonRefused  reason = "refused"   // nothing listens there
	reasonAuth     reason = "auth"      // password or permission
	reasonNotReady reason = "not_ready" // loading, a replica without its primary, an incomplete cluster, a blocking script
	reasonCanceled reason = "canceled"  // everybody who had asked went away
	reasonOther    reason = "other"

	// Of one key among others.
	reasonWrongType reason = "wrong_type"
	reasonLost      reason = "node_away" // the node of a Cluster that holds it does not answer
)

var (
	readReasons   = [...]reason{reasonTimeout, reasonRefused, reasonAuth, reasonNotReady, reasonCanceled, reasonOther}
	symbolReasons = [...]reason{reasonWrongType, reasonAuth, reasonLost, reasonOther}
)

// explanation is what /-/ready and the landing page say.
func (r reason) explanation() string {
	switch r {
	case reasonTimeout:
		return "redis did not answer in time"
	case reasonRefused:
		return "redis refuses connections: is it running, and is its address right?"
	case reasonAuth:
		return "redis refuses this user: check user, password and permissions"
	case reasonNotReady:
		return "redis is not ready: it loads its data, or lacks its primary"
	}
	return "redis cannot be read: see the log"
}

// classify reads the reason off an error of the store.
func classify(err error) reason {
	// An error reply, as the Redis client types it.
	var reply interface {
		error
		RedisError()
	}
	var network net.Error
	switch {
	case errors.As(err, &reply):
		word, _, _ := strings.Cut(reply.Error(), " ")
		switch word {
		case "NOAUTH", "WRONGPASS", "NOPERM":
			return reasonAuth
		case "LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "TRYAGAIN", "READONLY":
			return reasonNotReady
		case "WRONGTYPE":
			return reasonWrongType
		}
		if strings.HasPrefix(reply.Error(), "ERR invalid password") {
			return reasonAuth
		}
		return reasonOther
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return reasonRefused
	case errors.Is(err, context.Canceled):
		return reasonCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return reasonTimeout
	}
	return reasonOther
}

// classifyRead and classifySymbol keep to the reasons of their metric.
func classifyRead(err error) reason {
	if r := classify(err); r != reasonWrongType {
		return r
	}
	return reasonOther
}

func classifySymbol(err error) reason {
	switch r := classify(err); r {
	case reasonWrongType, reasonAuth:
		return r
	}
	return reasonOther
}

func classifyEntry(e *store.Entry) reason {
	if e.Lost {
		return reasonLost
	}
	return classifySymbol(e.Err)
}

const maxLabelBytes = 64

// labelText makes a text from Redis fit for a label: valid UTF-8, printable, at most 64 bytes.
func labelText(s string) string {
	clean := len(s) <= maxLabelBytes
	for i := 0; clean && i < len(s); i++ {
		clean = s[i] >= ' ' && s[i] <= '~'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxLabelBytes {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
