package listen

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// Named tells whether a request is for this server under a name it has: a loopback address, the address it came in on,
// localhost, or one of others, in lower case. A name of anybody else's may lead here, too, and with it the pages of another
// origin in a browser on this host.
func Named(r *http.Request, others ...string) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || slices.Contains(others, host) {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}
