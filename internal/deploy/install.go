package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"quantumharvest/internal/config"
	"quantumharvest/internal/statefile"
)

// binPath is where our units look for the program; account is who they run as.
const (
	binPath = "usr/bin/harvest"
	account = "quantum-harvest"
)

// packagedUnits is where a package of ours puts units: those of the operator come before them.
const packagedUnits = "usr/lib/systemd/system"

// unit is our unit, for this root.
func (r *run) unit(name string) ([]byte, error) {
	text, err := r.o.Desk.Unit(name)
	if err != nil || r.d.Root == "/" {
		return text, err
	}
	for _, path := range []string{"/usr/bin/harvest", "/etc/quantum/", "/var/lib/quantum-harvest"} {
		text = bytes.ReplaceAll(text, []byte(path), []byte(strings.TrimSuffix(r.d.Root, "/")+path))
	}
	return text, nil
}

// packaged tells whether a package put the unit there, as it is.
func (r *run) packaged(name string, text []byte) bool {
	is, err := os.ReadFile(r.at(filepath.Join(packagedUnits, name)))
	return err == nil && bytes.Equal(is, text)
}

// needsUser tells whether the account of the services has to be made: where systemd runs them, and nobody did yet.
func (r *run) needsUser() bool {
	_, err := user.Lookup(account)
	return err != nil && r.o.Manager.Name() == config.ManagerSystemd
}

func (r *run) planInstall(context.Context) ([]string, error) {
	var lines []string
	same, err := sameContent(r.o.Self, r.at(binPath))
	if err != nil {
		return nil, err
	}
	if same {
		lines = append(lines, r.at(binPath)+" is this program already")
	} else {
		lines = append(lines, "would write "+r.at(binPath))
	}
	for _, x := range roles {
		text, err := r.unit(x.unit)
		if err != nil {
			return lines, err
		}
		if r.packaged(x.unit, text) {
			lines = append(lines, r.at(filepath.Join(packagedUnits, x.unit))+" is there from a package")
		} else {
			lines = append(lines, "would keep "+x.unit+" ready; it counts from the switch-over on")
		}
	}
	if r.needsUser() {
		lines = append(lines, "would make the system user "+account)
	}
	return lines, nil
}

// install puts the program in place and keeps our units ready. They have the names of the earlier ones, which must stay what
// they are until the switch-over: a service that is restarted by then is still the earlier one.
func (r *run) install(ctx context.Context) (facts []string, err error) {
	content, err := os.ReadFile(r.o.Self)
	if err != nil {
		return nil, fmt.Errorf("read this program: %w", err)
	}
	path := r.at(binPath)
	wrote, err := r.put(path, content, 0o755)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.Mode().Perm() != 0o755 {
		if err := r.remember(path); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(content)
	facts = append(facts, fmt.Sprintf("%s: sha256 %x, written: %t", path, sum[:8], wrote))
	if out, err := exec.CommandContext(ctx, path, "version").CombinedOutput(); err != nil {
		return facts, fmt.Errorf("%s does not run: %w: %s", path, err, out)
	}
	for _, x := range roles {
		text, err := r.unit(x.unit)
		if err != nil {
			return facts, err
		}
		if r.packaged(x.unit, text) {
			facts = append(facts, x.unit+" is there from a package, as it should be")
			continue
		}
		if _, err := r.put(filepath.Join(r.dir, "units", x.unit), text, 0o644); err != nil {
			return facts, err
		}
		facts = append(facts, x.unit+" is kept ready for the switch-over")
	}
	if r.needsUser() {
		if err := r.record(Change{Kind: KindUser, What: account}); err != nil {
			return facts, err
		}
		out, err := exec.CommandContext(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/quantum-harvest",
			"--shell", "/usr/sbin/nologin", account).CombinedOutput()
		if err != nil {
			return facts, fmt.Errorf("make the user %s: %w: %s", account, err, out)
		}
		facts = append(facts, "made the system user "+account)
	}
	return facts, nil
}

func removeUser(ctx context.Context, name string) error {
	if _, err := user.Lookup(name); err != nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "userdel", name).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func sameContent(a, b string) (bool, error) {
	first, err := os.ReadFile(a)
	if err != nil {
		return false, fmt.Errorf("read this program: %w", err)
	}
	second, err := os.ReadFile(b)
	return err == nil && bytes.Equal(first, second), nil
}

// sayCarried shows every key of the earlier env files with what it now means.
func sayCarried(all []carried) []string {
	var lines []string
	for _, c := range all {
		if len(c.rows) > 0 {
			lines = append(lines, c.path+", from "+strings.Join(c.from, " and "))
		}
		for _, w := range c.rows {
			name := w.Name
			if name == w.Key || name == "" {
				name = ""
			} else {
				name = " -> " + name
			}
			lines = append(lines, fmt.Sprintf("  %-8s %s=%s%s: %s", w.Fate, w.Key, w.Value, name, w.Text))
		}
		for _, n := range c.notes {
			lines = append(lines, "  note     "+n.Setting+" "+n.Text)
		}
	}
	return lines
}

func (r *run) planCarry(context.Context) ([]string, error) {
	all, err := r.carryAll()
	lines := sayCarried(all)
	for _, c := range all {
		lines = append(lines, "would write "+c.path+" at the switch-over, and "+c.path+next+" now")
	}
	return lines, err
}

// carry writes our env files beside the earlier ones and loads each as its service will.
func (r *run) carry(context.Context) ([]string, error) {
	all, err := r.carryAll()
	lines := sayCarried(all)
	if err != nil {
		return lines, err
	}
	for _, c := range all {
		if c.role == config.Publish {
			// A rollback that was broken off after the env file came back still has to find Redis.
			if err := statefile.Write(r.settingsCopy(), c.text); err != nil {
				return lines, err
			}
		}
		if _, err := r.put(c.path+next, c.text, 0o640); err != nil {
			return lines, err
		}
		if err := r.readableByService(c.path + next); err != nil {
			return lines, err
		}
		if _, _, err := config.LoadFile(c.role, c.path+next); err != nil {
			return lines, fmt.Errorf("%s as it was written: %w", c.path+next, err)
		}
		lines = append(lines, c.path+next+" loads as "+string(c.role)+"; it counts from the switch-over on")
	}
	return lines, nil
}

// readableByService gives a file that may hold passwords to the group of the services, and to nobody else.
func (r *run) readableByService(path string) error {
	g, err := user.LookupGroup(account)
	if err != nil || os.Geteuid() != 0 {
		return nil // the services run as whoever starts them
	}
	var gid int
	if _, err := fmt.Sscan(g.Gid, &gid); err != nil {
		return err
	}
	return os.Chown(path, 0, gid)
}

// switched tells whether the switch-over has begun to change anything.
func (r *run) switched() bool {
	if r.state == nil {
		return false
	}
	for _, c := range r.state.Changes {
		if c.Kind == KindRedis && !c.Undone {
			return true
		}
	}
	return false
}
