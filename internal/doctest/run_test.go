//go:build unix

package doctest

import (
	"os"
	"strings"
	"testing"
	"time"
)

func place(t *testing.T) Place {
	return Place{
		Dir: t.TempDir(), Env: os.Environ(), Limit: time.Minute,
		Rewrite: func(s string) string { return strings.ReplaceAll(s, "6379", "7777") },
		Known:   func(pattern string) bool { return pattern == "known" },
	}
}

func run(t *testing.T, p Place, text string) ([]Outcome, error) {
	t.Helper()
	blocks, err := Parse(strings.ReplaceAll(text, "'''", "```"))
	if err != nil {
		t.Fatal(err)
	}
	return p.Run(t.Context(), blocks[0])
}

func TestRun(t *testing.T) {
	outcomes, err := run(t, place(t), `<!-- run: no "rm" because root; expect "port 7777 of a" -->
'''sh
X=a
rm -rf /nowhere
tail -f /dev/null
echo "port 6379 of $X" | tee f
false
grep -q port f
'''`)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if (o.Err != nil) != (i == 4) || o.Skipped != (i == 1) {
			t.Errorf("%+v", o)
		}
	}
}

func TestRunJudges(t *testing.T) {
	for _, c := range []struct{ text, fault string }{
		{"<!-- run: exit 3 -->\n'''sh\n(exit 3)\n'''", ""},
		{"'''sh\n(exit 3)\n'''", "code 3"},
		{"'''sh\necho x | grep y\n'''", "code 1"},
		{"<!-- run: quiet -->\n'''sh\necho x | grep known\n'''", ""},
		{"<!-- run: quiet -->\n'''sh\necho x | grep -i 'known\\|stranger'\n'''", "stranger"},
		{"<!-- run: quiet -->\n'''sh\nfalse\n'''", "code 1"},
		{"<!-- run: until \"never\" -->\n'''sh\ntail -f /no/such/file\n'''", "did not print"},
		{"<!-- run: expect \"z\" -->\n'''sh\necho x\n'''", `"z"`},
	} {
		outcomes, err := run(t, place(t), c.text)
		if err == nil {
			err = outcomes[0].Err
		}
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v, not %q", c.text, err, c.fault)
		}
	}
}

// A block that hangs is ended, with everything that it started.
func TestRunIsBounded(t *testing.T) {
	p := place(t)
	p.Limit = time.Second
	if _, err := run(t, p, "'''sh\ntail -f /dev/null\nsleep 600\n'''"); err == nil || !strings.Contains(err.Error(), "not done within") {
		t.Error(err)
	}
}
