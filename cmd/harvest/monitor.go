package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newMonitorCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Monitor, &cobra.Command{
		Use:   "monitor",
		Short: "Run an embedded Prometheus and Alertmanager on the desk's metrics",
		Long: "monitor scrapes exporter and publisher, keeps the series, evaluates the alert rules and notifies. Prometheus\n" +
			"answers on 127.0.0.1:9091 (also the usual port of a Pushgateway), Alertmanager on 127.0.0.1:9093: promtool,\n" +
			"amtool and Grafana work on them. Reading is free, every change needs the token. Each of the two can be a server\n" +
			"elsewhere instead. harvest up runs the same in its own process.",
		Example: "  harvest monitor --data /var/lib/harvest --notify-slack-url-file /etc/harvest/slack-url\n" +
			"  harvest monitor --alertmanager-url http://127.0.0.1:9095\n" +
			"  harvest monitor --print-alertmanager-config > alertmanager.yml",
	}, app.Monitor)
}
