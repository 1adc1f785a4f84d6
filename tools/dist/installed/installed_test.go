package installed

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const tree = "../../.."

var units = []string{"quantum-harvest-proposal.service", "quantum-harvest-metrics-exporter.service", "quantum-harvest-monitor.service"}

// root is a Debian that a test may change.
type root string

func cleanRoot(t *testing.T) root {
	t.Helper()
	clean := filepath.Join(tree, ".tools/debian-root")
	if _, err := os.Stat(filepath.Join(clean, ".complete")); err != nil {
		t.Fatalf("there is no clean Debian: %v\nrun 'make debian-root'", err)
	}
	dir := t.TempDir()
	r := root(filepath.Join(dir, "root"))
	if out, err := exec.Command("cp", "-a", "--reflink=auto", clean+"/.", string(r)).CombinedOutput(); err != nil {
		t.Fatalf("copy of the clean Debian: %v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join(string(r), "proc")
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		t.Fatalf("mount /proc: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(proc, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount /proc: %v", err)
		}
	})
	return r
}

// try runs a command in the root, without a terminal and without an answer to any question.
func (r root) try(args ...string) (string, error) {
	cmd := exec.Command("chroot", append([]string{string(r)}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r root) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r root) read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(r), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (r root) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	path = filepath.Join(string(r), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// state is what a package could leave behind: every file with its mode, every user and group.
func (r root) state(t *testing.T) []string {
	t.Helper()
	// What dpkg writes for itself, and what redis leaves while it runs.
	own := regexp.MustCompile(`^(proc|dev|run|tmp|var/log/dpkg\.log|var/lib/dpkg/(status|status-old|available|lock.*|triggers/.*|diversions-old|statoverride-old)|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|var/lib/redis/.*|var/log/redis/.*)(/|$)`)
	var list []string
	err := filepath.WalkDir(string(r), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(string(r), path)
		if own.MatchString(rel) {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		list = append(list, rel+" "+info.Mode().String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, db := range []string{"passwd", "group", "shadow"} {
		for _, line := range strings.Fields(r.read(t, "etc/"+db)) {
			name, _, _ := strings.Cut(line, ":")
			list = append(list, "etc/"+db+": "+name)
		}
	}
	return list
}

func compare(t *testing.T, before, after []string) {
	t.Helper()
	for _, x := range after {
		if !slices.Contains(before, x) {
			t.Errorf("left behind: %s", x)
		}
	}
	for _, x := range before {
		if !slices.Contains(after, x) {
			t.Errorf("gone or changed: %s", x)
		}
	}
}

// built is the package that 'make dist' made.
func built(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tree, "dist/quantum-harvest_*_amd64.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("dist has %d packages for amd64 (%v): run 'make dist-check' or 'make dist'", len(found), err)
	}
	return found[0]
}

// bring copies the package into the root; an older one, with other env files, is made of it on request.
func (r root) bring(t *testing.T, older bool) string {
	t.Helper()
	const dst = "/tmp/harvest.deb"
	into := filepath.Join(string(r), dst)
	if !older {
		text, err := os.ReadFile(built(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(into, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	work := filepath.Join(t.TempDir(), "older")
	script := fmt.Sprintf(`set -e
dpkg-deb -R '%[1]s' '%[2]s'
sed -i 's/^Version: .*/Version: 0~0older/' '%[2]s/DEBIAN/control'
for f in '%[2]s'/usr/share/quantum-harvest/env/*.env; do echo '# of the older package' >>"$f"; done
dpkg-deb --root-owner-group -Znone -b '%[2]s' '%[3]s' >/dev/null`, built(t), work, into)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("an older package: %v\n%s", err, out)
	}
	return dst
}

const password = "rehearsal"

// The whole life of the package: older build, an edit, upgrade, the services by their units, proof, removal, purge.
func TestLife(t *testing.T) {
	r := cleanRoot(t)
	before := r.state(t)

	r.run(t, "dpkg", "-i", r.bring(t, true))
	if text := r.read(t, "etc/quantum/harvest-monitor.env"); !strings.Contains(text, "# of the older package") {
		t.Errorf("the older package placed no env file of its own:\n%s", text)
	}
	edited := "# edited\nMETRICS_PORT=8042\nLOG_LEVEL=INFO\n"
	r.write(t, "etc/quantum/harvest-metrics-exporter.env", edited, 0o640)
	r.run(t, "dpkg", "-i", r.bring(t, false))
	if text := r.read(t, "etc/quantum/harvest-metrics-exporter.env"); text != edited {
		t.Errorf("an edited env file was changed by an upgrade:\n%s", text)
	}
	if text := r.read(t, "etc/quantum/harvest-monitor.env"); text != r.read(t, "usr/share/quantum-harvest/env/harvest-monitor.env") {
		t.Errorf("an env file that nobody edited was not renewed:\n%s", text)
	}
	entries, err := os.ReadDir(filepath.Join(string(r), "etc/quantum"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 {
		t.Errorf("/etc/quantum has %v", entries)
	}
	version := strings.TrimSpace(r.run(t, "dpkg-query", "-W", "-f", "${Version}", "quantum-harvest"))
	if out := r.run(t, "harvest", "version"); !strings.Contains(out, "harvest "+version+" ") {
		t.Errorf("the package is %s and the program says %s", version, out)
	}

	r.write(t, "etc/quantum/credentials/redis-password", password+"\n", 0o400)
	redis := exec.Command("chroot", string(r), "redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp", "--requirepass", password)
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Process.Kill(); _ = redis.Wait() })
	market(t, password)
	receiver(t)
	r.write(t, "etc/quantum/harvest-monitor.env", "NOTIFY_WEBHOOK_URL="+receiverURL+"\n", 0o640)

	var services []*service
	for _, name := range units {
		services = append(services, r.start(t, name))
	}
	for port, s := range map[string]*service{"8041": services[0], "8042": services[1], "9091": services[2]} {
		eventually(t, 90*time.Second, func() error {
			out, err := r.try("harvest", "healthcheck", "http://127.0.0.1:"+port+"/-/ready")
			if err != nil {
				return fmt.Errorf("%s: %w %s", s.name, err, out)
			}
			return nil
		})
	}
	notified(t, services)

	proof := []string{
		"env", "REDIS_PASSWORD=" + password, "harvest", "proof", "--window-sec", "45",
		"--monitor-token-file", "/var/lib/quantum-harvest/monitor/token",
	}
	// The first minute has no past to look back on.
	eventually(t, 4*time.Minute, func() error {
		out, err := r.try(proof...)
		if err != nil {
			return fmt.Errorf("proof: %w\n%s", err, out)
		}
		t.Logf("proof:\n%s", out)
		return nil
	})
	for _, s := range slices.Backward(services) {
		s.stop(t)
	}

	r.run(t, "dpkg", "-r", "quantum-harvest")
	if text := r.read(t, "etc/quantum/harvest-metrics-exporter.env"); text != edited {
		t.Error("a removal changed an env file")
	}
	// The operator's own secret goes with the operator.
	if err := os.Remove(filepath.Join(string(r), "etc/quantum/credentials/redis-password")); err != nil {
		t.Fatal(err)
	}
	r.run(t, "dpkg", "-P", "quantum-harvest")
	compare(t, before, r.state(t))
}

const receiverURL = "http://127.0.0.1:9099/alerts"

// receiver is told of alerts, as somebody must be for the proof.
func receiver(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:9099")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// notified looks at what the services say to their supervisor.
func notified(t *testing.T, services []*service) {
	t.Helper()
	for _, s := range services {
		eventually(t, 60*time.Second, func() error {
			if s.heard("READY=1") == 0 || s.heard("WATCHDOG=1") == 0 {
				return fmt.Errorf("%s said READY=1 %d times and WATCHDOG=1 %d times", s.name, s.heard("READY=1"), s.heard("WATCHDOG=1"))
			}
			return nil
		})
	}
}

// Where the earlier services are, their env files stay what they are, and nothing is switched on.
func TestBesideTheEarlierServices(t *testing.T) {
	r := cleanRoot(t)
	const legacy = "SYMBOLS=BTCUSDT,ETHUSDT\nPUBLISH_INTERVAL_SEC=10\n"
	const path = "etc/quantum/harvest-proposal.env"
	r.write(t, path, legacy, 0o640)
	before := r.state(t)
	out := r.run(t, "dpkg", "-i", r.bring(t, false))
	if !strings.Contains(out, "not started") {
		t.Errorf("nothing is said of the earlier services:\n%s", out)
	}
	if _, err := os.Lstat(filepath.Join(string(r), "etc/systemd/system/multi-user.target.wants/quantum-harvest-proposal.service")); err == nil {
		t.Error("the publisher is switched on beside an earlier one")
	}
	if text := r.read(t, path); text != legacy {
		t.Errorf("the env file of the earlier service was changed:\n%s", text)
	}
	r.run(t, "dpkg", "-P", "quantum-harvest")
	if text := r.read(t, path); text != legacy {
		t.Errorf("the env file of the earlier service was changed by the purge:\n%s", text)
	}
	compare(t, before, r.state(t))
}
