package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// What the units of systemd give: a folder, with a blank password where there is none.
func TestCredentials(t *testing.T) {
	load := func(t *testing.T, files map[string]string, environ ...string) (Config, error) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := Load(pflag.NewFlagSet("", pflag.ContinueOnError), Publish, append(environ, "CREDENTIALS_DIRECTORY="+dir))
		return c, err
	}
	good := map[string]struct {
		files               map[string]string
		environ             []string
		password, sentinels string
	}{
		"a password":                   {map[string]string{"redis-password": "p w\n"}, nil, "p w", ""},
		"none":                         {nil, nil, "", ""},
		"the blank one of the unit":    {map[string]string{"redis-password": "\n"}, []string{"REDIS_PASSWORD=x"}, "x", ""},
		"a URL without a password":     {map[string]string{"redis-password": "p"}, []string{"REDIS_URL=redis://h/0"}, "p", ""},
		"Sentinels":                    {map[string]string{"redis-sentinel-password": "q"}, []string{"REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m"}, "", "q"},
		"of Sentinels where none are":  {map[string]string{"redis-sentinel-password": "q"}, nil, "", ""},
		"others that systemd may give": {map[string]string{"slack-url": "a\nb\n"}, nil, "", ""},
	}
	for name, c := range good {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, c.files, c.environ...)
			if err != nil {
				t.Fatal(err)
			}
			if p, q := got.Redis.Password.Reveal(), got.Redis.SentinelPassword.Reveal(); p != c.password || q != c.sentinels {
				t.Errorf("got %q and %q, want %q and %q", p, q, c.password, c.sentinels)
			}
		})
	}
	bad := map[string]struct {
		text, environ, want string
	}{
		"two lines":       {"hunter2\nhunter2\n", "A=b", "more than one line"},
		"given twice":     {"hunter2", "REDIS_PASSWORD=hunter2", "given twice"},
		"also in the URL": {"hunter2", "REDIS_URL=redis://:hunter2@h/0", "given twice"},
	}
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, map[string]string{"redis-password": c.text}, c.environ)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "credential redis-password") {
				t.Errorf("got %v, want %q", err, c.want)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the message holds the password: %v", err)
			}
		})
	}
}
