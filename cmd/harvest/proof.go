package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newProofCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Proof, &cobra.Command{
		Use:   "proof",
		Short: "Prove from outside that a running desk is in order",
		Long: "proof asks Redis, the exporter, the publishers, Prometheus and Alertmanager for evidence, holds what one says against\n" +
			"what another shows, and prints twelve checks with the commands that show the same by hand. It exits with 0 only where\n" +
			"all of them hold. One check sends an alert called QuantumProofTest, of severity info, through Alertmanager.",
		Example: "  harvest proof --monitor-token-file data/monitor/token\n" +
			"  harvest proof --window-sec 600 --out proof --before before/proof.json",
	}, app.Proof)
}
