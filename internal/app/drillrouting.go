package app

import (
	"fmt"
	"strings"

	"quantumharvest/internal/rules"
)

func drillRouting(alerts, watchdog string, scale int) []byte {
	var b strings.Builder
	ms := func(s int) string { return fmt.Sprintf("%dms", s*1000/scale) }
	fmt.Fprintf(&b, "route:\n  receiver: all\n  group_by: [alertname, symbol]\n  group_wait: %s\n  group_interval: %s\n  repeat_interval: 4h\n", ms(5), ms(30))
	fmt.Fprintf(&b, "  routes:\n    - matchers: ['alertname=\"Watchdog\"']\n      receiver: dead\n      group_wait: 0s\n      group_interval: %s\n      repeat_interval: %s\n", ms(10), ms(15))
	b.WriteString("inhibit_rules:\n")
	for _, i := range rules.Inhibitions() {
		fmt.Fprintf(&b, "  - source_matchers: ['%s']\n    target_matchers: ['%s']\n", i.SourceMatch, i.TargetMatch)
		if len(i.Equal) > 0 {
			fmt.Fprintf(&b, "    equal: [%s]\n", strings.Join(i.Equal, ", "))
		}
	}
	fmt.Fprintf(&b, "receivers:\n  - name: all\n    webhook_configs: [{url: '%s'}]\n  - name: dead\n    webhook_configs: [{url: '%s', send_resolved: false}]\n", alerts, watchdog)
	return []byte(b.String())
}
