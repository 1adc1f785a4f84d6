package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DrillSettings say which faults are made on a private copy of the system, and how.
type DrillSettings struct {
	Only     []int  // rows of the fault table; empty: all
	Parallel int    // copies at a time
	Report   string // file of the report; blank: none
}

func drillSettings() []Setting {
	rows := []Setting{
		{
			Env: "MONITOR_TIME_SCALE", Flag: "time-scale", Arg: "N", Default: "1", Roles: []Role{Up, Monitor, Rules, Drill},
			Usage: "for drills: intervals and thresholds of the monitor and its rules are shorter by this factor, 1 to 5",
			set:   integer(func(d *draft) *int { return &d.TimeScale }, 1, 5),
		},
		{
			Flag: "only", Arg: "LIST", Roles: []Role{Drill},
			DefaultText: "all of them",
			Usage:       "rows of the fault table, separated by commas",
			set:         setOnly,
		},
		{
			Flag: "parallel", Arg: "N", Default: "4", Roles: []Role{Drill},
			Usage: "copies at a time; each is a whole system of its own",
			set:   integer(func(d *draft) *int { return &d.Drill.Parallel }, 1, 24),
		},
		{
			Flag: "report", Arg: "FILE", Roles: []Role{Drill},
			Usage: "write the table there, too, as Markdown",
			set:   func(d *draft, text string) error { d.Drill.Report = text; return nil },
		},
	}
	return inGroup(GroupDrill, rows)
}

func setOnly(d *draft, text string) error {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > 24 {
			return errors.New("not rows of the fault table; write numbers from 1 to 24, for example 3,17,20")
		}
		if !slices.Contains(d.Drill.Only, n) {
			d.Drill.Only = append(d.Drill.Only, n)
		}
	}
	return nil
}

// clockSetting is for drills of a clock that is off; it is among the settings of running.
func clockSetting() Setting {
	return Setting{
		Env: "HARVEST_CLOCK_OFFSET_SEC", Flag: "clock-offset-sec", Arg: "SECONDS", Default: "0", Roles: engine,
		Usage: "seconds added to the clock of this process, to try what is seen of a clock that is off; never in earnest",
		set:   seconds(func(d *draft) *time.Duration { return &d.ClockOffset }, -86400, 86400),
	}
}
