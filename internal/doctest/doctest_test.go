//go:build unix

package doctest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	blocks, err := Parse(strings.ReplaceAll(`# A document

<!-- run: no "make up" because ci; expect "PONG"; exit 2 -->
'''sh
make up        # a remark
# a line of remarks

redis-cli \
  PING
cat > file <<END
a
END
if true; then
  echo yes
fi
'''

'''json
{"not": "run"}
'''

<!-- run: no because test TestProof -->

'''sh
harvest proof
'''
`, "'''", "```"))
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 2 || blocks[0].Line != 4 {
		t.Fatalf("%+v", blocks)
	}
	want := []Command{{5, "make up        # a remark"}, {8, "redis-cli \\\n  PING"}, {10, "cat > file <<END\na\nEND"}, {13, "if true; then\n  echo yes\nfi"}}
	if diff := cmp.Diff(want, blocks[0].Commands); diff != "" {
		t.Error(diff)
	}
	if s, ok := blocks[0].Skipped(want[0]); !ok || s.Reason != "ci" {
		t.Errorf("%+v, %v", s, ok)
	}
	if _, ok := blocks[0].Skipped(want[1]); ok {
		t.Error("only what is named is left out")
	}
	if blocks[0].Run.Exit != 2 || !cmp.Equal(blocks[0].Run.Expect, []string{"PONG"}) {
		t.Errorf("%+v", blocks[0].Run)
	}
	if s, ok := blocks[1].Skipped(blocks[1].Commands[0]); !ok || s.Test != "TestProof" {
		t.Errorf("%+v, %v", s, ok)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"```bash\nls\n```", "of the language sh"},
		{"<!-- run: no because tired -->\n```sh\nls\n```", `"tired" is no reason`},
		{"<!-- run: no because test -->\n```sh\nls\n```", "the reason test names one"},
		{"<!-- run: no because ci TestX -->\n```sh\nls\n```", "the reason test names one"},
		{"<!-- run: maybe -->\n```sh\nls\n```", "not known"},
		{"<!-- run long -->\n```sh\nls\n```", "reads <!-- run: item"},
		{"<!-- run: long -->\ntext\n```sh\nls\n```", "right before its block"},
		{"<!-- run: long -->\n<!-- run: quiet -->\n```sh\nls\n```", "second annotation"},
		{"<!-- run: long -->\n```json\n{}\n```", "for commands"},
		{"<!-- run: no \"cd\" because ci -->\n```sh\nls\n```", `begins with "cd"`},
		{"<!-- run: until \"[\" -->\n```sh\nls\n```", "missing closing ]"},
		{"```sh\necho \"open\n```", "does not understand"},
		{"```sh\nls", "does not end"},
		{"<!-- run: long -->", "belongs to no block"},
	} {
		if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, not %q", c.text, err, c.want)
		}
	}
}
