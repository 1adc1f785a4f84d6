package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEnvFile(t *testing.T) {
	type kv struct{ Key, Value string }
	cases := []struct {
		name string
		src  string
		want []kv
		bad  string
	}{
		{"plain", "A=1\nB = 2 \n", []kv{{"A", "1"}, {"B", "2"}}, ""},
		{"comments and blank lines", "# x\n\n; y\n  A=1\n", []kv{{"A", "1"}}, ""},
		{"windows", "\xef\xbb\xbfA=1\r\nB=\"2\"\r\n", []kv{{"A", "1"}, {"B", "2"}}, ""},
		{"no newline at the end", "A=1", []kv{{"A", "1"}}, ""},
		{"blank values", "A=\nB=  \nC=''\nD=\"\"", []kv{{"A", ""}, {"B", ""}, {"C", ""}, {"D", ""}}, ""},
		{"equals and blanks inside", "A=a=b c  d", []kv{{"A", "a=b c  d"}}, ""},
		{"nothing is expanded", "A=$HOME ${B} `x`", []kv{{"A", "$HOME ${B} `x`"}}, ""},
		{"comment after the value", "A=1 # one\nB=2\t#\nC= # none\nD=a#b\nE=#f", []kv{{"A", "1"}, {"B", "2"}, {"C", ""}, {"D", "a#b"}, {"E", "#f"}}, ""},
		{"quotes", `A="a # b" # c` + "\n" + `B='a"$\' ` + "\nC=\"q\\\"w\\\\e\\$r\\`t\\n\"", []kv{{"A", "a # b"}, {"B", `a"$\`}, {"C", "q\"w\\e$r`t\\n"}}, ""},
		{"quotes inside are kept", `A=a"b"`, []kv{{"A", `a"b"`}}, ""},
		{"several lines", "A='1\n2'\nB=x\\\ny\nC=\"x\\\ny\"\nD=1", []kv{{"A", "1\n2"}, {"B", "xy"}, {"C", "xy"}, {"D", "1"}}, ""},
		{"backslashes", `A=a\ \#b\\c` + "\nB=x\\ ", []kv{{"A", `a #b\c`}, {"B", "x "}}, ""},
		{"export", "export A=1\nexport\tB=2\nexportC=3\n", []kv{{"A", "1"}, {"B", "2"}, {"exportC", "3"}}, ""},
		{"not a setting", "A=1\nhello\nB=2", []kv{{"A", "1"}, {"B", "2"}}, "2: this is not KEY=VALUE (a comment begins with #)"},
		{"bad keys", "1A=1\nA-B=2\n=3\nÄ=4\nC D=5", nil, strings.TrimSuffix(strings.Repeat("N: this is not KEY=VALUE (a comment begins with #)|", 5), "|")},
		{"open quote", "A=1\nB='x\ny\n", []kv{{"A", "1"}}, "2: the quote that opens here is never closed"},
		{"after the quote", "A='x'y\nB=2", []kv{{"B", "2"}}, "1: there is text after the closing quote"},
		{"binary", "A=1\nB=\x00", nil, "2: there is a NUL byte: this is not a text file"},
		{"not UTF-8", "A=\xff", nil, "1: the file is not UTF-8 text"},
		{"too large", strings.Repeat("#", maxEnvFileBytes+1), nil, "1: the file is larger than 1048576 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			entries, bad := parseEnvFile([]byte(c.src))
			var got []kv
			for _, e := range entries {
				got = append(got, kv{e.key, e.value})
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			var said []string
			for i, b := range bad {
				line := string(rune('0' + b.line))
				if strings.HasPrefix(c.bad, "N") {
					line = "N"
					if b.line != i+1 {
						t.Errorf("line %d, want %d", b.line, i+1)
					}
				}
				said = append(said, line+": "+b.text)
			}
			if d := cmp.Diff(c.bad, strings.Join(said, "|")); d != "" {
				t.Errorf("problems: -want +got\n%s", d)
			}
		})
	}
}

func TestEnvFileLines(t *testing.T) {
	entries, _ := parseEnvFile([]byte("# 1\nA='2\n3'\nB=4\\\n5\nC=6\n"))
	var lines []int
	for _, e := range entries {
		lines = append(lines, e.line)
	}
	if d := cmp.Diff([]int{2, 4, 6}, lines); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// A secret that an inline comment may have shortened is not guessed at.
func TestSecretWithComment(t *testing.T) {
	path := write(t, "env", "REDIS_PASSWORD=hunter2 # or so\n")
	_, _, err := load(t, Export, []string{"--env-file", path})
	if err == nil || !strings.Contains(err.Error(), "single quotes") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// Whatever the file: no panic, only valid keys, and a value written in single quotes reads back as itself.
func FuzzParseEnvFile(f *testing.F) {
	for _, seed := range []string{legacyEnv, "A='x\ny'\nB=\"\\\"\" # c\nC=a\\\nb", "export A=1\r\n;x\n=\nB", "A='", "A=\\", "A=\"\\"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		entries, bad := parseEnvFile(src)
		for _, b := range bad {
			if b.line < 1 || b.text == "" {
				t.Errorf("problem without a place or a text: %+v", b)
			}
		}
		for _, e := range entries {
			if !validKey(e.key) || e.line < 1 {
				t.Errorf("entry %+v", e)
			}
			if strings.Contains(e.value, "'") {
				continue
			}
			again, bad := parseEnvFile([]byte(e.key + "='" + e.value + "'\n"))
			if len(bad) > 0 || len(again) != 1 || again[0].value != e.value {
				t.Errorf("%q reads back as %+v, %v", e.value, again, bad)
			}
		}
	})
}

// Whatever the list: no panic, no blank and no repeated symbol, and the result reads back as itself.
func FuzzParseSymbols(f *testing.F) {
	for _, seed := range []string{"BTCUSDT, ETHUSDT,,SOLUSDT", "A,A", `"A"`, "a", " ", "Ä,1000PEPE/USDT:USDT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, _, err := parseSymbols(text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		var names []string
		for _, s := range list {
			if seen[string(s)] || s == "" {
				t.Errorf("%q gives %q", text, list)
			}
			seen[string(s)] = true
			names = append(names, string(s))
		}
		again, doubled, err := parseSymbols(strings.Join(names, ","))
		if err != nil || len(doubled) > 0 || !cmp.Equal(list, again) {
			t.Errorf("%q reads back as %q, %v", list, again, err)
		}
	})
}

// Whatever the URL: no panic, and no message that repeats a password.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{"redis://h:1/2", "rediss://u:p@[::1]", "unix:///s?db=1", "redis://h?db=1&db=2", "redis+sentinel://u:p@a:1,[::1]/m%2f/3", "rediss+cluster://a,b:2/0", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d draft
		if err := setRedisURL(&d, text); err == nil && d.url.host == "" && len(d.url.sentinels)+len(d.url.cluster) == 0 {
			t.Errorf("%q names no host", text)
		}
	})
}
