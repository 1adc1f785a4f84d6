package main

import (
	"github.com/spf13/cobra"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
)

func newDoctorCmd(p process) *cobra.Command {
	return newRoleCmd(p, config.Doctor, &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with the services of this host, why, and what to do",
		Long: "doctor looks at settings, Redis, ports, the pages of exporter and publisher, leases, ages, refused inputs, monitoring,\n" +
			"alerts, clocks, disk, units and earlier services that still run. It changes nothing. It exits with 0 where there is\n" +
			"nothing to say, with 1 where there are findings.",
		Example: "  harvest doctor\n" +
			"  harvest doctor --json",
	}, app.Doctor)
}
