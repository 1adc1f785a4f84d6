package monitor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/monitor/routing"
)

func TestTheTokenIsMadeOnceAndForNobodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := readToken(path)
	if err != nil || len(first) != 2*tokenBytes {
		t.Fatalf("token %q: %v", first, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, err := readToken(path); err != nil || again != first {
		t.Errorf("then %q: %v", again, err)
	}
}

// A crash may leave a file without content behind. That is no reason for a desk not to start.
func TestADamagedTokenIsMadeAnew(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "cut off": "0123456", "zeroes": strings.Repeat("\x00", 65)} {
		t.Run(name, func(t *testing.T) {
			d, dir := newDesk(t), t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tokenName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := start(t, d, routing.Options{}, func(o *Options) { o.Dir = dir })
			if len(r.token()) != 2*tokenBytes {
				t.Errorf("the token is %q", r.token())
			}
			r.silence("Planned", "Authorization", "Bearer "+r.token())
			aside, err := filepath.Glob(filepath.Join(dir, tokenName+".damaged-*"))
			if err != nil || len(aside) != 1 {
				t.Errorf("set aside is %v: %v", aside, err)
			}
			if n := r.folder.Damaged()[tokenName]; n != 1 {
				t.Errorf("counted %d", n)
			}
		})
	}
}
