package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newRulesCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Rules, &cobra.Command{
		Use:   "rules",
		Short: "Print the alert and recording rules for Prometheus",
		Long: "rules prints the rule file with the thresholds of the settings: give it the env file of the publisher, so that both\n" +
			"agree. Prometheus 2.42 and newer load it. Every alert has a runbook.\n\n" +
			"With --inhibitions it prints which alert silences which, for the configuration of Alertmanager.",
		Example: "  harvest rules > /etc/prometheus/rules/quantum_harvest.yml\n" +
			"  harvest rules --env-file /etc/quantum/harvest.env --out /etc/prometheus/rules --check",
	}, app.Rules)
}

func newDashboardsCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Dashboards, &cobra.Command{
		Use:   "dashboards",
		Short: "Write the dashboards for Grafana",
		Long:  "dashboards writes two Grafana dashboards as JSON, for provisioning or for import by hand.",
		Example: "  harvest dashboards --out /var/lib/grafana/dashboards\n" +
			"  harvest dashboards --out /var/lib/grafana/dashboards --check",
	}, app.Dashboards)
}
