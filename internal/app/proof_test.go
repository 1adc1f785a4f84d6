package app

import (
	"os"
	"path/filepath"
	"testing"
)

// Changing an Alertmanager by hand needs its token, in the form that amtool takes.
func TestAmtoolIsCalledWithTheToken(t *testing.T) {
	dir := t.TempDir()
	token, client := filepath.Join(dir, "token"), filepath.Join(dir, "amtool.yml")
	if got := amtool(""); got != "amtool" {
		t.Errorf("without a token: %s", got)
	}
	want := `printf 'authorization: {credentials_file: "%s"}\n' ` + token + " > amtool.yml && amtool --http.config.file=amtool.yml"
	if got := amtool(token); got != want {
		t.Errorf("beside a token of another: %s, want %s", got, want)
	}
	if err := os.WriteFile(client, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := amtool(token), "amtool --http.config.file="+client; got != want {
		t.Errorf("beside our token: %s, want %s", got, want)
	}
}
