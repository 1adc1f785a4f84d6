package config

import (
	"fmt"
	"slices"
	"strings"
)

const (
	helpColumn = 38  // where the text of a setting begins
	helpWidth  = 110 // where it is wrapped
)

// Help lists the settings of a role for a terminal: grouped, each with its flag, environment twin and default.
func Help(role Role) string {
	var b strings.Builder
	for _, group := range groups() {
		rows := groupRows(group, role)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", group)
		for _, s := range rows {
			head := "  " + s.Env
			if s.Flag != "" {
				head = strings.TrimRight("  --"+s.Flag+" "+s.Arg, " ")
			}
			var tail []string
			if s.Env != "" && s.Flag != "" {
				tail = append(tail, "env "+s.Env)
			} else if s.Flag == "" {
				tail = append(tail, "env only")
			}
			if def := s.shownDefault(); def != "" && s.Arg != "" {
				tail = append(tail, "default "+def)
			}
			if s.Live(role) {
				tail = append(tail, "reloads")
			}
			words := strings.Fields(s.Usage)
			if len(tail) > 0 {
				last := "[" + strings.Join(tail, "; ") + "]"
				if len(last) <= helpWidth-helpColumn {
					words = append(words, last) // kept together on a line
				} else {
					words = append(words, strings.Fields(last)...)
				}
			}
			writeEntry(&b, head, words)
		}
		b.WriteByte('\n')
	}
	b.WriteString("Env file:\n")
	writeEntry(&b, "  --"+envFileFlag+" FILE", strings.Fields(envFileUsage))
	return b.String()
}

// writeEntry writes head and, from helpColumn on, the words, wrapped between them.
func writeEntry(b *strings.Builder, head string, words []string) {
	column := len(head)
	b.WriteString(head)
	if column >= helpColumn-1 {
		b.WriteByte('\n')
		column = 0
	}
	b.WriteString(strings.Repeat(" ", helpColumn-column))
	column = helpColumn
	for i, word := range words {
		if i > 0 && column+1+len(word) > helpWidth {
			b.WriteString("\n" + strings.Repeat(" ", helpColumn))
			column = helpColumn
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}

func groups() []Group {
	var list []Group
	for _, s := range Settings() {
		if !slices.Contains(list, s.Group) {
			list = append(list, s.Group)
		}
	}
	return list
}

// groupRows are the settings of a group that one of the roles reads.
func groupRows(group Group, roles ...Role) []Setting {
	var rows []Setting
	for _, s := range Settings() {
		if s.Group == group && slices.ContainsFunc(roles, s.For) {
			rows = append(rows, s)
		}
	}
	return rows
}

// MarkdownTable is the list of settings in docs/CONFIGURE.md: one table per group, and the names that are only known.
func MarkdownTable() string {
	var b strings.Builder
	for _, group := range groups() {
		rows := groupRows(group, Up, Publish, Export, Top, Watch, Monitor, Rules, Dashboards, Proof, Drill, Bench, Deploy, Doctor, Supervise)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "**%s**\n\n| environment | flag | default | read by | reload | meaning |\n|---|---|---|---|---|---|\n", group)
		for _, s := range rows {
			env, flag, def := "", "", s.shownDefault()
			if s.Env != "" {
				env = "`" + s.Env + "`"
			}
			if s.Legacy {
				env += " ¹"
			}
			if s.Flag != "" {
				flag = "`--" + s.Flag + "`"
			}
			if s.Default != "" && s.DefaultText == "" {
				def = "`" + def + "`"
			}
			roles := make([]string, len(s.Roles))
			for i, r := range s.Roles {
				roles[i] = string(r)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", env, flag, def, strings.Join(roles, ", "), reloads(s), escapeCell(s.Usage))
		}
		b.WriteByte('\n')
	}
	var known []string
	for _, s := range groupRows(GroupApply, Apply) {
		known = append(known, "`"+s.Env+"`")
	}
	fmt.Fprintf(&b, "¹ Name of the earlier services, unchanged. An env file may also hold the names of the apply service, which are known "+
		"and not read: %s. Any other key in an env file stops the start. A change of "+
		"the env file takes effect without a restart in the roles under reload.\n", strings.Join(known, ", "))
	return b.String()
}

// reloads names the roles in which a change takes effect without a restart.
func reloads(s Setting) string {
	var roles []string
	for _, r := range s.Roles {
		if s.Live(r) {
			roles = append(roles, string(r))
		}
	}
	return strings.Join(roles, ", ")
}

func escapeCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
