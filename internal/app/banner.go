package app

import (
	"fmt"
	"strings"

	"quantumharvest/internal/embedded"
	"quantumharvest/internal/listen"
)

// banner says plainly what runs where, and what of it is not real.
func banner(env Env, emb *embedded.Server, r *publisherRole, exp *listen.Server) {
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
	fmt.Fprintf(&b, "  exporter   %s/metrics\n  publisher  %s/metrics\n", exp.URL(), r.port.URL())
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
