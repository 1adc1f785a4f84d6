package config

import (
	"fmt"

	"github.com/spf13/pflag"
)

// envFileFlag names the env file; it has no environment twin, since it would be read too late.
const envFileFlag = "env-file"

const envFileUsage = "read settings from a file of KEY=VALUE lines, as systemd reads an EnvironmentFile; flags and environment win"

// rawFlag keeps the text of a flag as given, so that it is checked together with everything else.
type rawFlag struct {
	text string
	arg  string
}

func (f *rawFlag) String() string     { return f.text }
func (f *rawFlag) Set(s string) error { f.text = s; return nil }
func (f *rawFlag) Type() string       { return f.arg }

// Register adds the flags of a role, --env-file included.
func Register(flags *pflag.FlagSet, role Role) {
	for _, s := range Settings() {
		if s.Flag == "" || !s.For(role) {
			continue
		}
		usage := s.Usage
		if s.Env != "" {
			usage = fmt.Sprintf("%s (env %s)", s.Usage, s.Env)
		}
		flag := flags.VarPF(&rawFlag{arg: s.Arg}, s.Flag, "", usage)
		if s.Arg == "" {
			flag.NoOptDefVal = "true"
		}
	}
	flags.VarP(&rawFlag{arg: "FILE"}, envFileFlag, "", envFileUsage)
}
