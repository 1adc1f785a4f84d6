package vector

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	tol := Tolerance{Rel: 1e-9, Abs: 1e-12}
	for _, c := range []struct {
		want, got string
		diffs     []string
	}{
		{`null`, `null`, nil},
		{`{"a":1,"b":[true,"x",null]}`, `{"b":[true,"x",null],"a":1.0000000001}`, nil},
		{`{"a":1}`, `{"a":1.00000001}`, []string{".a: got 1.00000001, want 1"}},
		{`0`, `1e-13`, nil},
		{`0`, `1e-11`, []string{": got 1e-11, want 0"}},
		{`{"a":1}`, `{"b":1}`, []string{".a: missing", ".b: not expected"}},
		{`[1,2]`, `[2,1]`, []string{"[0]: got 2, want 1", "[1]: got 1, want 2"}},
		{`[1,2]`, `[1]`, []string{": got [1], want [1 2]"}},
		{`null`, `0`, []string{": got 0, want <nil>"}},
		{`0`, `null`, []string{": got <nil>, want 0"}},
		{`"NaN"`, `0`, []string{": got 0, want NaN"}},
		{`{"a":{}}`, `{"a":[]}`, []string{".a: got [], want map[]"}},
	} {
		got, err := Compare([]byte(c.want), []byte(c.got), tol)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.diffs, got); d != "" {
			t.Errorf("%s and %s (-want +got):\n%s", c.want, c.got, d)
		}
	}
	if _, err := Compare([]byte(`1`), []byte(`NaN`), tol); err == nil {
		t.Error("what is not JSON was compared")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		`{`, `{"count":2,"tolerance":{"rel":1,"abs":1},"cases":[{"id":"a"}]}`, `{"count":1,"cases":[{"id":"a"}]}`, `{"cases":[]}`,
		`{"count":1,"tolerance":{"rel":1,"abs":1},"cases":[{"id":7}]}`,
	} {
		if _, err := Parse("bad.json", []byte(text)); err == nil {
			t.Errorf("parsed %s", text)
		}
	}
}

// TestVectorsAreTheReference: the vectors came with the specification and are never edited. SHA256SUMS holds what came.
func TestVectorsAreTheReference(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "testdata", "vectors")
	sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"SHA256SUMS": true}
	for line := range strings.Lines(string(sums)) {
		want, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("SHA256SUMS: %q", line)
		}
		listed[name] = true
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != want {
			t.Errorf("%s was changed: a change of formula is a new version of specification and vectors beside this one", name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !listed[e.Name()] && filepath.Ext(e.Name()) != ".go" && e.Name() != "vectors.zip" {
			t.Errorf("%s is not listed in SHA256SUMS", e.Name())
		}
	}
}
