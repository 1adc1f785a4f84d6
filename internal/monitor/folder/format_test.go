package folder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/statefile"
)

func TestAFolderOfAnEarlierReleaseIsBroughtForward(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"token": "secret", "silences": "s", "token.damaged-1": "old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "series"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		f, err := Open(dir, quietly())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	copies, _ := filepath.Glob(filepath.Join(dir, "*.format-*"))
	for _, path := range copies {
		name, _, _ := strings.Cut(filepath.Base(path), ".format-0-")
		names = append(names, name)
	}
	if strings.Join(names, " ") != "silences token" {
		t.Errorf("copied: %v", copies)
	}
	text, err := os.ReadFile(filepath.Join(dir, formatFile))
	if was, bad := format.Unmarshal(formatFile, text, &struct{}{}); err != nil || bad != nil || was != format.Version() {
		t.Errorf("format %d, %v, %v", was, err, bad)
	}
}

func TestAFolderOfANewerReleaseIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, formatFile)
	if err := os.WriteFile(path, []byte(`{"format":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and released: the second try does not find it in use
		_, err := Open(dir, quietly())
		var newer *statefile.NewerError
		if !errors.As(err, &newer) || !strings.Contains(err.Error(), "--data") {
			t.Errorf("%v", err)
		}
	}
	if text, _ := os.ReadFile(path); string(text) != `{"format":99}` {
		t.Errorf("it became %s", text)
	}
}

func TestAFormatThatIsDamagedIsSetAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, formatFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir, quietly())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := f.Damaged()[formatFile]; n != 1 {
		t.Errorf("counted %d", n)
	}
	if copies, _ := filepath.Glob(filepath.Join(dir, formatFile+".damaged-*")); len(copies) != 1 {
		t.Errorf("set aside: %v", copies)
	}
}
