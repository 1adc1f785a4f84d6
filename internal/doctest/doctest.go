//go:build unix

// Package doctest reads the commands of documents and runs them, so that what a document tells a reader to type is what
// works. What stands in a fenced block of the language sh is run, in the order of the document, in one directory.
//
// What a block needs besides is said in a comment before it that no reader sees:
//
//	<!-- run: item; item -->
//
//	no because REASON           the block is not run; the reasons are those of Reasons
//	no "make test" because ...  of the block only the commands that begin so
//	expect "text"               the block prints it
//	until "text"                a command that runs for ever prints it before it is told to stop (a regular expression)
//	quiet                       what a grep looks for is there only in trouble; its words must then occur in the code
//	exit 3                      the last command ends with this code
//	long                        only in the long suites
//	sentinel, cluster           addresses 10.0.0.x are those of Sentinels, or of the nodes of a Cluster
package doctest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Reasons are the only ones for which a command is not run, with their meaning.
var Reasons = map[string]string{
	"root":    "needs root on a host of its own",
	"network": "needs a network beyond this host",
	"systemd": "needs systemd as the first process",
	"example": "shows a program of the reader's own",
	"ci":      "is a stage of .ci/run",
	"test":    "is run by a test, which is named",
}

// Skip is a command that is not run.
type Skip struct {
	Prefix string // the command begins so; blank: every command of the block
	Reason string // a key of Reasons
	Test   string // of the reason test: its name
}

// Annotation is what the comment before a block says.
type Annotation struct {
	Skips    []Skip
	Expect   []string
	Until    *regexp.Regexp
	Quiet    bool
	Long     bool
	Sentinel bool
	Cluster  bool
	Exit     int
}

// Command is one command of a block, which may go over several lines.
type Command struct {
	Line int // of the document
	Text string
}

// Block is a fenced block of a document.
type Block struct {
	Line     int
	Commands []Command
	Run      Annotation
}

// Skipped tells whether, and why, a command is not run.
func (b Block) Skipped(c Command) (Skip, bool) {
	for _, s := range b.Run.Skips {
		if strings.HasPrefix(c.Text, s.Prefix) {
			return s, true
		}
	}
	return Skip{}, false
}

var (
	comment = regexp.MustCompile(`^<!-- run: (.*) -->$`)
	item    = regexp.MustCompile(`^(?:no(?: "([^"]*)")? because ([a-z]+)(?: (\w+))?|(expect|until) "([^"]*)"|exit ([0-9]+)|(quiet|long|sentinel|cluster))$`)
	shells  = []string{"bash", "shell", "console", "zsh", "sh-session", "shell-session"}
)

// Parse gives the blocks of a document that hold commands. It fails where an annotation cannot be read or belongs to no
// block, and where commands stand in a block of another language.
func Parse(document string) ([]Block, error) {
	var (
		blocks  []Block
		pending *Annotation
		fence   string // that ends the block
		inside  []string
		begin   int
		errs    []error
	)
	fail := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("line %d: "+format, append([]any{line}, args...)...))
	}
	for i, line := range strings.Split(document, "\n") {
		n, trimmed := i+1, strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			if begin > 0 {
				commands, err := Split(inside, begin)
				if err != nil {
					errs = append(errs, err)
				}
				b := Block{Line: begin, Commands: commands}
				if pending != nil {
					b.Run = *pending
				}
				for _, s := range b.Run.Skips {
					if !slices.ContainsFunc(commands, func(c Command) bool { return strings.HasPrefix(c.Text, s.Prefix) }) {
						fail(begin, "no command of the block begins with %q", s.Prefix)
					}
				}
				blocks, pending = append(blocks, b), nil
			}
			fence, inside, begin = "", nil, 0
		case fence != "":
			inside = append(inside, line)
		case strings.HasPrefix(trimmed, "```"):
			language := strings.TrimLeft(trimmed, "`")
			fence = strings.TrimSuffix(trimmed, language)
			language, _, _ = strings.Cut(language, " ")
			if language == "sh" {
				begin = n
			} else if slices.Contains(shells, language) {
				fail(n, "commands stand in a block of the language sh, not %s", language)
			}
			if begin == 0 && pending != nil {
				fail(n, "the annotation before this block is for commands, and there are none in it")
				pending = nil
			}
		case comment.MatchString(trimmed):
			a, err := annotation(comment.FindStringSubmatch(trimmed)[1])
			if err != nil {
				fail(n, "%w", err)
			}
			if pending != nil {
				fail(n, "a second annotation for one block")
			}
			pending = &a
		case strings.HasPrefix(trimmed, "<!-- run"):
			fail(n, "an annotation reads <!-- run: item; item -->, on a line of its own")
		case trimmed != "" && pending != nil:
			fail(n, "an annotation stands right before its block")
			pending = nil
		}
	}
	if fence != "" {
		errs = append(errs, errors.New("a fenced block does not end"))
	}
	if pending != nil {
		errs = append(errs, errors.New("the last annotation belongs to no block"))
	}
	return blocks, errors.Join(errs...)
}

func annotation(text string) (Annotation, error) {
	var a Annotation
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		m := item.FindStringSubmatch(part)
		if m == nil {
			return a, fmt.Errorf("the annotation %q is not known", part)
		}
		switch {
		case m[2] != "":
			if _, ok := Reasons[m[2]]; !ok {
				return a, fmt.Errorf("%q is no reason; those that count are %v", m[2], slices.Sorted(maps.Keys(Reasons)))
			}
			if (m[2] == "test") != (m[3] != "") {
				return a, fmt.Errorf("%q: the reason test names one, and no other does", part)
			}
			a.Skips = append(a.Skips, Skip{Prefix: m[1], Reason: m[2], Test: m[3]})
		case m[4] == "expect":
			a.Expect = append(a.Expect, m[5])
		case m[4] == "until":
			re, err := regexp.Compile(m[5])
			if err != nil {
				return a, err
			}
			a.Until = re
		case m[6] != "":
			code, err := strconv.Atoi(m[6])
			if err != nil {
				return a, err
			}
			a.Exit = code
		case m[7] == "quiet":
			a.Quiet = true
		case m[7] == "long":
			a.Long = true
		case m[7] == "sentinel":
			a.Sentinel = true
		case m[7] == "cluster":
			a.Cluster = true
		}
	}
	return a, nil
}

// Split makes commands of the lines of a block that begins at a line of the document. The shell itself says where a
// command ends.
func Split(lines []string, begin int) ([]Command, error) {
	var (
		commands []Command
		current  []string
		first    int
	)
	for i, line := range lines {
		if len(current) == 0 {
			if text := strings.TrimSpace(line); text == "" || strings.HasPrefix(text, "#") {
				continue
			}
			first = begin + 1 + i
		}
		current = append(current, line)
		text := strings.TrimLeft(strings.Join(current, "\n"), " ")
		if strings.HasSuffix(line, `\`) || !whole(text) {
			continue
		}
		commands, current = append(commands, Command{first, text}), nil
	}
	if len(current) > 0 {
		return commands, fmt.Errorf("line %d: the shell does not understand %q", first, strings.Join(current, "\n"))
	}
	return commands, nil
}

// whole asks the shell whether a text is complete. An unfinished here-document is only a warning to it.
func whole(text string) bool {
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd.Run() == nil && stderr.Len() == 0
}
