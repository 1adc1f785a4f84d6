//go:build unix

package main

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/doctest"
	"quantumharvest/internal/realserver"
)

// documented are the documents whose commands are run: README.md and everything below docs, but for the decisions, which
// tell of their time.
func documented(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(repository, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "adr" {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			rel, err := filepath.Rel(repository, path)
			if err != nil {
				return err
			}
			list = append(list, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Every command of the documents works, or says for which of few reasons it is not run. go test -v prints the table.
func TestCommandsInDocuments(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq", "promtool", "amtool", "redis-cli", "prometheus"} {
		realserver.Tool(t, tool)
	}
	var (
		w    = newWorld(t)
		mu   sync.Mutex
		rows []string
	)
	t.Run("documents", func(t *testing.T) {
		for _, document := range documented(t) {
			t.Run(document, func(t *testing.T) {
				t.Parallel()
				told := runDocument(t, w, document)
				mu.Lock()
				defer mu.Unlock()
				rows = append(rows, told...)
			})
		}
	})
	t.Run("metrics", func(t *testing.T) { comparePages(t, w) })
	slices.Sort(rows)
	t.Logf("commands of the documents:\n%s", strings.Join(rows, "\n"))
	if t.Failed() {
		t.Logf("log of the desk:\n%s", w.log)
	}
}

func runDocument(t *testing.T, w *world, document string) (rows []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, document))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := doctest.Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if len(blocks) == 0 {
		return nil
	}
	dir, root := t.TempDir(), t.TempDir()
	w.files(t, dir, root)
	tools := filepath.Dir(realserver.Tool(t, "promtool"))
	for _, b := range blocks {
		var addresses []string
		if b.Run.Sentinel {
			addresses = w.sentinels()
		}
		if b.Run.Cluster {
			addresses = w.cluster()
		}
		row := func(c doctest.Command, said string) {
			first, _, _ := strings.Cut(c.Text, "\n")
			rows = append(rows, fmt.Sprintf("  %-34s %-28s %s", fmt.Sprintf("%s:%03d", document, c.Line), said, first))
		}
		if b.Run.Long && os.Getenv("HARVEST_LONG") == "" {
			for _, c := range b.Commands {
				row(c, "long suites only")
			}
			continue
		}
		limit := 2 * time.Minute
		if b.Run.Long {
			limit = 20 * time.Minute
		}
		place := doctest.Place{
			Dir: dir, Limit: limit, Rewrite: w.rewrite(root, addresses), Known: w.known,
			Env: []string{
				"PATH=" + strings.Join([]string{w.programs, tools, os.Getenv("PATH")}, string(filepath.ListSeparator)),
				"HOME=" + root, "TMPDIR=" + t.TempDir(), "LANG=C.UTF-8", "GORACE=" + os.Getenv("GORACE"),
			},
		}
		outcomes, err := place.Run(t.Context(), b)
		if err != nil {
			t.Errorf("%s:%d: %v", document, b.Line, err)
		}
		for _, o := range outcomes {
			switch {
			case o.Skipped:
				row(o.Command, "not run: "+o.Skip.Reason+" "+o.Skip.Test)
			case o.Err != nil:
				row(o.Command, "FAILS")
				t.Errorf("%s:%d: %s\n%v\n%s", document, o.Command.Line, place.Rewrite(o.Command.Text), o.Err, tail(o.Output))
			default:
				row(o.Command, "works")
			}
		}
	}
	return rows
}

// comparePages looks at the pages of a running desk: each metric of ours is in docs/METRICS.md, with its type.
func comparePages(t *testing.T, w *world) {
	t.Helper()
	reference, err := os.ReadFile(filepath.Join(repository, "docs", "METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	family := regexp.MustCompile(`(?m)^# TYPE (quantum_(?:harvest|apply)_\w+) (\w+)$`)
	for _, port := range []string{"8041", "8042", "9091"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", w.ports[port]))
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		found := family.FindAllStringSubmatch(string(page), -1)
		if len(found) < 2 {
			t.Errorf("the page on %s has %d metrics of ours", port, len(found))
		}
		for _, m := range found {
			row := regexp.MustCompile("(?m)^\\| `" + m[1] + "`(?: ¹)? \\| " + m[2] + " \\|")
			if !row.Match(reference) {
				t.Errorf("%s, a %s on port %s, is not in docs/METRICS.md: add it to app.MetricDocs and run 'make generate'", m[1], m[2], port)
			}
		}
	}
}

func tail(s string) string {
	const most = 3000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// What a document says is run by a test, or by a stage of .ci/run, is.
func TestReasonsInDocuments(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, part := range []string{"cmd", "internal", "kernel", "tools", "deploy"} {
		err := filepath.WalkDir(filepath.Join(repository, part), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				tests[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ci, err := os.ReadFile(filepath.Join(repository, ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`\bmake ([a-z-]+)`)
	for _, document := range documented(t) {
		text, err := os.ReadFile(filepath.Join(repository, document))
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := doctest.Parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", document, err)
		}
		for _, b := range blocks {
			for _, c := range b.Commands {
				skip, ok := b.Skipped(c)
				switch {
				case !ok:
				case skip.Reason == "test" && !tests[skip.Test]:
					t.Errorf("%s:%d: there is no test %s", document, c.Line, skip.Test)
				case skip.Reason == "ci":
					m := target.FindStringSubmatch(c.Text)
					if m == nil || !stageOf(string(ci), string(makefile), m[1]) {
						t.Errorf("%s:%d: no stage of .ci/run makes %q", document, c.Line, c.Text)
					}
				}
			}
		}
	}
}

// stageOf tells whether .ci/run makes a target, itself or for another one.
func stageOf(ci, makefile, target string) bool {
	for _, m := range regexp.MustCompile(`(?m)^stage ([a-z-]+)`).FindAllStringSubmatch(ci, -1) {
		if m[1] == target || regexp.MustCompile(`(?m)^`+m[1]+`:[a-z -]*\b`+target+`\b`).MatchString(makefile) {
			return true
		}
	}
	return false
}
