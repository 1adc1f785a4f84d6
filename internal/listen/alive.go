package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Alive asks the port over the network whether it answers at all. Whoever must show a password or a certificate is refused,
// and a refusal is an answer.
func (s *Server) Alive(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/-/healthy", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask port %s: %w", s.name, err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// The certificate is the own one and names the host that others use.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing is sent and nothing believed
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, reachable(s.listener.Addr()))
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	var alert tls.AlertError
	switch {
	case errors.As(err, &alert):
		return nil
	case err != nil:
		return fmt.Errorf("port %s does not answer: %w", s.name, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	return resp.Body.Close()
}

// reachable is where this host reaches what listens on an address.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	switch ip := net.ParseIP(host); {
	case ip == nil || !ip.IsUnspecified():
	case ip.To4() != nil:
		host = "127.0.0.1"
	default:
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
