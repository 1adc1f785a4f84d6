package app

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/config"
	"quantumharvest/internal/doctor"
	"quantumharvest/internal/service"
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

// Systemd gives passwords to the services from a folder: the doctor asks Redis with the same.
func TestTheDoctorTakesTheCredentialsOfTheServices(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc/quantum/credentials")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "redis-password"), []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range []service.Manager{service.Systemd{}, service.Exec{}} {
		c, _, err := config.LoadFile(config.Publish, "", credentials(m, root)...)
		if err != nil || (c.Redis.Password.Reveal() == "sesame") != (m.Name() == config.ManagerSystemd) {
			t.Errorf("%s: password %t, %v", m.Name(), c.Redis.Password.Reveal() != "", err)
		}
	}
}

// A group opens an env file, and not a password that is root's alone.
func TestTheDoctorNamesAGroupThatHelps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.env")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if service.MayRead(path) == "" {
		t.Skip("no group of this user's has a name")
	}
	for setting, helps := range map[string]bool{"--env-file": true, "credential redis-password": false} {
		r := &doctor.Report{}
		cannotRead(r, "a.service", path, &config.Error{Problems: []config.Problem{{Setting: setting, Unread: fs.ErrPermission}}})
		if got := strings.Contains(r.Unknown[0].Fix, "member of the group"); got != helps {
			t.Errorf("%s: %q", setting, r.Unknown[0].Fix)
		}
	}
}
