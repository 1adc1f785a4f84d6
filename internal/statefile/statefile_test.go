package statefile

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

type desk struct {
	Name  string `json:"name"`
	Steps int    `json:"steps"`
}

// renamed has two formats behind it: the first called the name something else, the second had no steps.
var renamed = Format{Kind: "desk", Steps: []Step{
	func(o map[string]json.RawMessage) error {
		if old, there := o["title"]; there {
			o["name"] = old
			delete(o, "title")
		}
		return nil
	},
	func(o map[string]json.RawMessage) error {
		if _, there := o["steps"]; !there {
			o["steps"] = json.RawMessage("1")
		}
		return nil
	},
}}

func put(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "desk.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryEarlierFormatIsBroughtForward(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want desk
		copy string
	}{
		"without a number":                    {`{"title":"a"}`, desk{"a", 1}, ".format-0-"},
		"one behind":                          {`{"format":1,"name":"b"}`, desk{"b", 1}, ".format-1-"},
		"of now":                              {`{"format":2,"name":"c","steps":7}`, desk{"c", 7}, ""},
		"of now with a field that came later": {`{"format":2,"name":"c","steps":7,"more":true}`, desk{"c", 7}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, c.text)
			var got desk
			if err := renamed.Load(path, &got); err != nil || got != c.want {
				t.Fatalf("%+v, %v", got, err)
			}
			copies, _ := filepath.Glob(path + ".format-*")
			if c.copy == "" {
				if len(copies) > 0 || read(t, path) != c.text {
					t.Errorf("a file of this format was touched: %v", copies)
				}
				return
			}
			if len(copies) != 1 || !strings.Contains(copies[0], c.copy) || read(t, copies[0]) != c.text {
				t.Errorf("copies %v", copies)
			}
			var again desk
			if was, err := renamed.Unmarshal(path, []byte(read(t, path)), &again); err != nil || was != 2 || again != c.want {
				t.Errorf("the file now: format %d, %+v, %v", was, again, err)
			}
		})
	}
}

func TestANewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	const text = `{"format":3,"other":[1]}`
	path := put(t, text)
	var got desk
	err := renamed.Load(path, &got)
	var newer *NewerError
	if !errors.As(err, &newer) || newer.Found != 3 || newer.Known != 2 || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 || read(t, path) != text {
		t.Errorf("it was touched: %v", files)
	}
}

func TestDamageIsSaid(t *testing.T) {
	for _, text := range []string{"", "[]", "null", `{"format":"x"}`, `{"format":-1}`, `{"format":1.5}`, `{"format":2,"steps":"many"}`} {
		path := put(t, text)
		err := renamed.Load(path, &desk{})
		var newer *NewerError
		if err == nil || errors.As(err, &newer) || Missing(err) || !strings.Contains(err.Error(), "desk "+path) {
			t.Errorf("%q: %v", text, err)
		}
		if read(t, path) != text {
			t.Errorf("%q was touched", text)
		}
	}
	if err := renamed.Load(filepath.Join(t.TempDir(), "none"), &desk{}); !Missing(err) {
		t.Errorf("no file: %v", err)
	}
	failing := Format{Kind: "desk", Steps: []Step{func(map[string]json.RawMessage) error { return errors.New("no such thing") }}}
	path := put(t, `{}`)
	if err := failing.Load(path, &desk{}); err == nil || !strings.Contains(err.Error(), "format 0 to 1: no such thing") || read(t, path) != `{}` {
		t.Errorf("a step that fails: %v", err)
	}
	if err := failing.Save(path, []int{1}); err == nil {
		t.Error("a list was saved as an object")
	}
}

func TestCopiesAreFew(t *testing.T) {
	path := put(t, "x")
	for range Kept + 2 {
		if _, err := Backup(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	if copies, _ := filepath.Glob(path + ".format-0-*"); len(copies) != Kept {
		t.Errorf("%d copies", len(copies))
	}
	for i := range Kept + 2 {
		if err := Write(path, []byte{byte('0' + i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := SetAside(path); err != nil {
			t.Fatal(err)
		}
	}
	copies, _ := filepath.Glob(path + ".damaged-*")
	if len(copies) != Kept || read(t, copies[Kept-1]) != string(rune('0'+Kept+1)) {
		t.Errorf("set aside: %v", copies)
	}
	if rest, _ := filepath.Glob(path + ".tmp*"); len(rest) > 0 {
		t.Errorf("left over: %v", rest)
	}
}

func TestWriteThatFailsLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if rest, _ := filepath.Glob(filepath.Join(dir, "*.tmp*")); len(rest) > 0 {
		t.Errorf("left over: %v", rest)
	}
}

func TestModeAndOwner(t *testing.T) {
	path := put(t, "old")
	if err := Write(path, []byte("x"), Owner(os.Geteuid(), os.Getegid()), Mode(0o751|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o751|os.ModeSetgid {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Write(path, []byte("y"), func(*os.File) error { return errors.New("no") }); err == nil || read(t, path) != "x" {
		t.Errorf("what could not be given away was put in place: %v", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b") // no pattern
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(names ...string) {
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	write("a", "a.tmp", "a.tmp1x", "a.tmp12", "b.tmp3", "a.tmp4.tmp5", "c.tmp7.kept")
	if err := Sweep(dir, "a"); err != nil || left() != "a a.tmp a.tmp1x a.tmp4.tmp5 b.tmp3 c.tmp7.kept" {
		t.Errorf("%s, %v", left(), err)
	}
	if err := Sweep(dir); err != nil || left() != "a a.tmp a.tmp1x c.tmp7.kept" {
		t.Errorf("%s, %v", left(), err)
	}
	if err := Sweep(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
