package app

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"quantumharvest/internal/embedded"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/monitor"
)

// banner says plainly what runs where, and what of it is not real.
func banner(env Env, emb *embedded.Server, r *publisherRole, exp *exporterPort, mon *monitor.Monitor) {
	c := env.Config
	var b strings.Builder
	fmt.Fprintf(&b, "Quantum Harvest %s\n\n", env.Build.Version)
	if emb != nil {
		fmt.Fprintf(&b, "  redis      %s  (embedded)", emb.Addr())
		if emb.Moved() {
			fmt.Fprintf(&b, "; port %d was taken", c.EmbeddedPort)
		}
		if c.DataDir == "" {
			fmt.Fprint(&b, "; nothing is kept, --data DIR keeps it")
		}
		fmt.Fprintln(&b)
	} else {
		fmt.Fprintf(&b, "  redis      %s\n", c.Redis)
	}
	fmt.Fprintf(&b, "  exporter   %s/metrics%s\n", exp.URL(), moved(exp.Server, c.MetricsPort))
	fmt.Fprintf(&b, "  publisher  %s/metrics%s\n", r.port.URL(), moved(r.port, c.PublisherPort))
	monitorLines(&b, env, mon)
	fmt.Fprintf(&b, "  market     %s\n  positions  %s\n", r.in.market.Name(), r.in.positions.Name())
	if r.in.synthetic != "" {
		fmt.Fprintf(&b, "\n  NOT REAL: %s\n", r.in.synthetic)
	}
	if emb != nil {
		port := emb.Addr()[strings.LastIndexByte(emb.Addr(), ':')+1:]
		fmt.Fprintf(&b, "\n  redis-cli -p %s HGETALL %sBTCUSDT\n", port, c.Keys.Harvest)
	}
	fmt.Fprintf(&b, "  curl -s %s/metrics | grep quantum_harvest_last_update_epoch\n\n", exp.URL())
	fmt.Fprint(env.Out, b.String())
}

// monitorLines say where alerts are evaluated and told.
func monitorLines(b *strings.Builder, env Env, mon *monitor.Monitor) {
	m := env.Config.Monitor
	if !m.On {
		fmt.Fprintln(b, "  monitor    off")
		return
	}
	if m.PrometheusURL != nil {
		fmt.Fprintf(b, "  prometheus %s  (elsewhere)\n", m.PrometheusURL)
	} else {
		fmt.Fprintf(b, "  prometheus %s%s\n", mon.URL(), movedFrom(mon.URL(), m.Port))
	}
	if m.AlertmanagerURL != nil {
		fmt.Fprintf(b, "  alerts     %s  (elsewhere)\n", m.AlertmanagerURL)
	} else {
		fmt.Fprintf(b, "  alerts     %s%s  (changes need the token in %s)\n", mon.AlertmanagerURL(), movedFrom(mon.AlertmanagerURL(), m.AlertmanagerPort), mon.TokenFile())
	}
}

// moved says that a wanted port was taken.
func moved(s *listen.Server, wanted int) string { return movedFrom(s.URL(), wanted) }

func movedFrom(at string, wanted int) string {
	if u, err := url.Parse(at); wanted == 0 || err != nil || u.Port() == strconv.Itoa(wanted) {
		return ""
	}
	return fmt.Sprintf("  (port %d was taken)", wanted)
}
