//go:build unix

package doctest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Place is where commands of a document are run.
type Place struct {
	Dir     string              // working directory
	Env     []string            // the whole environment
	Rewrite func(string) string // what a command of the document is here
	// Known tells whether a word for which a quiet block looks can be there at all.
	Known func(pattern string) bool
	Limit time.Duration // of a block
}

// Outcome is what became of a command.
type Outcome struct {
	Command Command
	Skip    Skip
	Skipped bool
	Err     error
	Output  string
}

// endless are the commands that go on until they are stopped, with what each of them prints once it works.
var endless = []struct{ command, unless, until *regexp.Regexp }{
	{regexp.MustCompile(`(^|\s)harvest up\b`), regexp.MustCompile(`--(for|help)\b`), regexp.MustCompile(`store reached|replay`)},
	{regexp.MustCompile(`(^|\s)harvest publish\b`), regexp.MustCompile(`--(for|once|help)\b`), regexp.MustCompile(`lease|=== Harvest`)},
	{regexp.MustCompile(`(^|\s)harvest export\b`), regexp.MustCompile(`--(for|help)\b`), regexp.MustCompile(`exporter started`)},
	{regexp.MustCompile(`(^|\s)harvest monitor\b`), regexp.MustCompile(`--(for|help|print-alertmanager-config)\b`), regexp.MustCompile(`monitor started`)},
	{regexp.MustCompile(`(^|\s)harvest watch\b`), regexp.MustCompile(`--(for|help)\b`), nil},
	{regexp.MustCompile(`(^|\s)(redis-cli\s.*MONITOR|make up\b|tail -[fF]|journalctl\s.*-f\b)`), nil, nil},
	{regexp.MustCompile(`^(prometheus|prometheus-alertmanager|alertmanager|redis-server)\s`), nil, regexp.MustCompile(`(?i)ready|listening`)},
}

// Endless tells whether a command goes on until it is stopped, and what it prints once it works (nil: nothing certain).
func Endless(command string) (until *regexp.Regexp, ok bool) {
	for _, e := range endless {
		if e.command.MatchString(command) && (e.unless == nil || !e.unless.MatchString(command)) {
			return e.until, true
		}
	}
	return nil, false
}

// prelude are the functions of the script. A command that goes on gets a group of its own and is told to stop as an
// operator does it; its shell waits for it, so that its code is known.
const prelude = `set -o pipefail
works() { # number, pattern: waits until a command that goes on prints what it should
	for tick in $(seq 900); do
		if [ -n "$2" ] && grep -qE -- "$2" "$RECORD/out.$1" "$RECORD/err.$1"; then return 0; fi
		kill -0 "$(cat "$RECORD/pid.$1")" 2>/dev/null || return 1
		if [ -z "$2" ] && [ "$tick" -ge 20 ]; then return 0; fi
		sleep 0.1
	done
	return 1
}
ends() { # number: tells a command that goes on to stop, and waits for it
	pid=$(cat "$RECORD/pid.$1")
	kill -TERM -- "-$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	echo $? > "$RECORD/code.$1"
}
`

// script is a block as one text for the shell; a command's output and code go into files of its number.
func script(commands []string, until *regexp.Regexp) string {
	var b strings.Builder
	b.WriteString(prelude)
	var running []int
	for i, c := range commands {
		if c == "" {
			continue
		}
		if pattern, ok := Endless(c); ok {
			if until != nil {
				pattern = until
			}
			text := ""
			if pattern != nil {
				text = pattern.String()
			}
			fmt.Fprintf(&b, "set -m\n{ trap : TERM\n%s\n} >\"$RECORD/out.%d\" 2>\"$RECORD/err.%d\" </dev/null &\necho $! > \"$RECORD/pid.%d\"\nset +m\n", c, i, i, i)
			fmt.Fprintf(&b, "works %d %s || echo no > \"$RECORD/works.%d\"\n", i, quoted(text), i)
			running = append(running, i)
			continue
		}
		fmt.Fprintf(&b, "{ %s\n} >\"$RECORD/out.%d\" 2>\"$RECORD/err.%d\" </dev/null\necho $? > \"$RECORD/code.%d\"\n", c, i, i, i)
	}
	for i := len(running) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "ends %d\n", running[i])
	}
	return b.String()
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Run runs the commands of a block one after the other, in one shell.
func (p Place) Run(ctx context.Context, b Block) ([]Outcome, error) {
	record, err := os.MkdirTemp("", "doctest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(record)
	outcomes, commands := make([]Outcome, len(b.Commands)), make([]string, len(b.Commands))
	last := -1
	for i, c := range b.Commands {
		outcomes[i].Command = c
		outcomes[i].Skip, outcomes[i].Skipped = b.Skipped(c)
		if !outcomes[i].Skipped {
			commands[i], last = p.Rewrite(c.Text), i
		}
	}
	if last < 0 {
		return outcomes, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script(commands, b.Run.Until))
	cmd.Dir, cmd.Env = p.Dir, append(p.Env[:len(p.Env):len(p.Env)], "RECORD="+record)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return p.end(record, cmd.Process.Pid, len(commands)) }
	cmd.WaitDelay = 5 * time.Second
	_ = cmd.Run() // its code is that of its last step; what became of each is on record
	var ran error
	if ctx.Err() != nil {
		ran = fmt.Errorf("not done within %s", p.Limit)
	}
	var printed strings.Builder
	for i, text := range commands {
		if text == "" {
			continue
		}
		want := 0
		if i == last {
			want = b.Run.Exit
		}
		outcomes[i].Output, outcomes[i].Err = p.judge(record, i, text, want, b.Run.Quiet)
		printed.WriteString(outcomes[i].Output)
	}
	for _, text := range b.Run.Expect {
		if !strings.Contains(printed.String(), text) {
			ran = errors.Join(ran, fmt.Errorf("the block does not print %q", text))
		}
	}
	return outcomes, ran
}

// end kills the shell and every command that it left running, each with its group.
func (p Place) end(record string, shell, n int) error {
	for i := range n {
		if text, err := os.ReadFile(filepath.Join(record, "pid."+strconv.Itoa(i))); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
				_ = syscall.Kill(-pid, syscall.SIGKILL)
			}
		}
	}
	return syscall.Kill(-shell, syscall.SIGKILL)
}

// searched is the last step of a command where that looks for something.
var searched = regexp.MustCompile(`\|\s*grep ((?:-\w+ )*)(?:'([^']+)'|"([^"]+)"|(\S+))\s*(?:#.*)?$`)

func (p Place) judge(record string, i int, text string, want int, quiet bool) (output string, err error) {
	read := func(kind string) string {
		b, _ := os.ReadFile(filepath.Join(record, kind+"."+strconv.Itoa(i))) // no file: nothing was said
		return string(b)
	}
	output = read("out") + read("err")
	_, goesOn := Endless(text)
	if read("works") != "" {
		return output, errors.New("it ended, or did not print what it should")
	}
	code := strings.TrimSpace(read("code"))
	if goesOn && !strings.Contains(text, "harvest ") {
		return output, nil // how other people's servers end is their business
	}
	if m := searched.FindStringSubmatch(text); quiet && code == "1" && read("out") == "" && m != nil {
		for pattern := range strings.SplitSeq(m[2]+m[3]+m[4], `\|`) {
			if !p.Known(pattern) {
				err = errors.Join(err, fmt.Errorf("nothing in the code says %q: the search is silent for ever", pattern))
			}
		}
		return output, err
	}
	switch code {
	case strconv.Itoa(want):
		return output, nil
	case "":
		return output, errors.New("it did not end")
	}
	return output, fmt.Errorf("it ends with code %s, not %d", code, want)
}
