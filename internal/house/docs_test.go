package house

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"quantumharvest/internal/config"
	"quantumharvest/internal/reference"
)

// documents calls f for each line of each document of ours.
func documents(t *testing.T, f func(where, dir, line string)) {
	t.Helper()
	files(t, func(path string, text []byte) {
		for i, line := range strings.Split(string(text), "\n") {
			f(path+":"+strconv.Itoa(i+1), filepath.Dir(path), line)
		}
	}, ".md")
}

// made are the documents with parts that are made from the code.
var made = []string{"docs/CONFIGURE.md", "docs/METRICS.md", "docs/KEYS.md", "docs/ALERTS.md"}

func TestReferencesAreThoseOfTheCode(t *testing.T) {
	have := map[string]bool{}
	files(t, func(path string, text []byte) {
		want, err := reference.Update(string(text))
		if err != nil { // nothing in it is made, or its marks do not fit together
			if slices.Contains(made, path) {
				t.Errorf("%s: %v", path, err)
			}
			return
		}
		have[path] = true
		if want != string(text) {
			t.Errorf("%s does not say what the code does: run 'make generate'", path)
		}
	}, ".md")
	for _, path := range made {
		if !have[path] {
			t.Errorf("%s has no part that is made", path)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for path := range have {
		if !strings.Contains(string(makefile), path) {
			t.Errorf("make generate leaves out %s", path)
		}
	}
}

// The table of threats names for each the test that shows what protects from it.
func TestProtectionsInDocumentsAreTested(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	tests := map[string]bool{}
	files(t, func(path string, text []byte) {
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
	}, "_test.go")
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	threats := 0
	documents(t, func(where, _, line string) {
		found := name.FindAllStringSubmatch(line, -1)
		for _, m := range found {
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", where, m[1])
			}
		}
		if strings.HasPrefix(where, "docs/SECURITY.md:") && strings.HasPrefix(line, "| **") {
			threats++
			if len(found) == 0 && !strings.Contains(line, "no test") {
				t.Errorf("%s: this threat names no test that shows its protection", where)
			}
		}
	})
	if threats < 15 {
		t.Errorf("docs/SECURITY.md has %d threats: its table has another form", threats)
	}
}

// words is every name that occurs in a file that is not a document.
func words(t *testing.T) map[string]bool {
	t.Helper()
	word := regexp.MustCompile(`[A-Za-z0-9_]+`)
	found := map[string]bool{}
	files(t, func(path string, text []byte) {
		for _, w := range word.FindAll(text, -1) {
			found[string(w)] = true
		}
	}, ".go", ".sh", ".txtar", ".yml", ".yaml", ".json", ".service", ".env", "Makefile", "run")
	return found
}

// literals is every string literal of the code that is not a test.
func literals(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, p := range parse(t, notTest) {
		ast.Inspect(p.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					found[text] = true
				}
			}
			return true
		})
	}
	return found
}

func TestNamesInDocumentsExist(t *testing.T) {
	known, said := words(t), literals(t)
	capitals := regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	metric := regexp.MustCompile(`\bquantum_harvest_[a-z0-9_]*[a-z0-9]\b\*?`)
	isMetric := func(name string) bool {
		for _, tail := range []string{"", "_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, tail); ok && (known[base] || said[base] || said[strings.TrimPrefix(base, "quantum_harvest_")] || said[strings.TrimPrefix(base, "quantum_harvest_feed_")]) {
				return true
			}
		}
		return false
	}
	documents(t, func(where, _, line string) {
		for _, name := range capitals.FindAllString(line, -1) {
			if !known[name] {
				t.Errorf("%s: %s is named here and nowhere in the code", where, name)
			}
		}
		for _, name := range metric.FindAllString(line, -1) {
			if !strings.HasSuffix(name, "*") && !isMetric(name) {
				t.Errorf("%s: the metric %s is not exported", where, name)
			}
		}
	})
}

func TestCommandsInDocumentsExist(t *testing.T) {
	flags := map[string]bool{"help": true, "env-file": true}
	for _, s := range config.Settings() {
		flags[s.Flag] = true
	}
	commands := map[string]bool{"completion": true, "help": true}
	use := regexp.MustCompile(`Use:\s+"([a-z]+)`)
	targets := map[string]bool{}
	target := regexp.MustCompile(`(?m)^([a-z-]+):`)
	files(t, func(path string, text []byte) {
		if strings.HasPrefix(path, "cmd/harvest/") {
			for _, m := range use.FindAllSubmatch(text, -1) {
				commands[string(m[1])] = true
			}
		}
		if path == "Makefile" {
			for _, m := range target.FindAllSubmatch(text, -1) {
				targets[string(m[1])] = true
			}
		}
	}, ".go", "Makefile")

	var (
		ownFlag   = regexp.MustCompile("`--([a-z][a-z0-9-]*)")
		ownCall   = regexp.MustCompile("(?:^|[\\s`/(])harvest ([a-z]+)((?: [^`|]*)?)")
		inCall    = regexp.MustCompile(`(?:^|\s)--([a-z][a-z0-9-]*)`)
		makeCall  = regexp.MustCompile("(?:^\\s*|`)make ([a-z-]+)")
		codeFence = false
	)
	documents(t, func(where, _, line string) {
		if strings.HasSuffix(where, ":1") {
			codeFence = false
		}
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			codeFence = !codeFence
		}
		for _, m := range ownFlag.FindAllStringSubmatch(line, -1) {
			if !flags[m[1]] {
				t.Errorf("%s: there is no flag --%s", where, m[1])
			}
		}
		if !codeFence && !strings.Contains(line, "`") {
			return // prose: "harvest" and "make" are words there
		}
		for _, m := range ownCall.FindAllStringSubmatch(line, -1) {
			if at := strings.Index(line, m[0]); !codeFence && strings.Count(line[:at+1], "`")%2 == 0 {
				continue // outside of a code span
			}
			if !commands[m[1]] {
				t.Errorf("%s: there is no command harvest %s", where, m[1])
			}
			for _, f := range inCall.FindAllStringSubmatch(m[2], -1) {
				if !flags[f[1]] {
					t.Errorf("%s: there is no flag --%s", where, f[1])
				}
			}
		}
		for _, m := range makeCall.FindAllStringSubmatch(line, -1) {
			if (codeFence || strings.HasPrefix(m[0], "`")) && !targets[m[1]] {
				t.Errorf("%s: there is no target make %s", where, m[1])
			}
		}
	})
}

func TestPathsInDocumentsExist(t *testing.T) {
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	link := regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)]*)?\)`)
	path := regexp.MustCompile("`((?:cmd|internal|kernel|docs|testdata|tools|deploy|ops)/[A-Za-z0-9_./-]+)`")
	documents(t, func(where, dir, line string) {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if strings.Contains(m[1], ":") {
				continue // another site
			}
			if !exists(filepath.Join(dir, m[1])) {
				t.Errorf("%s: the link leads to %s, which is not there", where, m[1])
			}
		}
		for _, m := range path.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(m[1], "...") && !exists(m[1]) {
				t.Errorf("%s: the path %s is not there", where, m[1])
			}
		}
	})
}
