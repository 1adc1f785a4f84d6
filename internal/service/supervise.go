//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// runDir has the process ids, logDir what services print; both below the root.
const (
	runDir = "run/quantum-harvest"
	logDir = "var/log/quantum-harvest"
)

// maxLogBytes is where a log is put aside and begun anew: at most two of that size are kept for each service.
const maxLogBytes = 16 << 20

// leastPause is the shortest pause before a service that ended is started again, so that a broken one takes no processor.
const leastPause = time.Second

// ReadEnvironment gives NAME=value lines of an environment file.
type ReadEnvironment func(path string) ([]string, error)

// Supervisor runs units of a root.
type Supervisor struct {
	Root string
	Read ReadEnvironment
}

// Run runs one unit, or with a blank name every one that is enabled, until ctx ends.
func (s Supervisor) Run(ctx context.Context, name string) error {
	if name != "" {
		return s.one(ctx, name)
	}
	links, err := os.ReadDir(filepath.Join(s.Root, wants))
	if err != nil {
		return fmt.Errorf("supervise: no unit is enabled: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	n := 0
	for _, l := range links {
		if strings.HasSuffix(l.Name(), ".service") {
			n++
			group.Go(func() error { return s.one(ctx, l.Name()) })
		}
	}
	if n == 0 {
		return errors.New("supervise: no unit is enabled")
	}
	return group.Wait()
}

// one runs a unit for as long as its Restart= says. Whoever holds its pid file is the only one.
func (s Supervisor) one(ctx context.Context, name string) error {
	pid, err := hold(filepath.Join(s.Root, runDir), name)
	if err != nil {
		return fmt.Errorf("supervise %s: %w", name, err)
	}
	defer pid.release()
	for {
		u, err := Read(s.Root, name)
		if err != nil {
			return fmt.Errorf("supervise: %w", err)
		}
		failed, err := s.child(ctx, u, pid)
		if err != nil {
			return fmt.Errorf("supervise %s: %w", name, err)
		}
		again := u.Restart == "always" || (failed && slices.Contains([]string{"on-failure", "on-abnormal", "on-abort"}, u.Restart))
		if ctx.Err() != nil || !again {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(u.RestartDelay, leastPause)):
		}
	}
}

// child runs what the unit says, once.
func (s Supervisor) child(ctx context.Context, u Unit, pid *pidFile) (failed bool, err error) {
	environ := append(os.Environ(), u.Environment...)
	for _, f := range u.EnvironmentFiles {
		lines, err := s.Read(f.Path)
		if err != nil && (!f.Optional || !errors.Is(err, os.ErrNotExist)) {
			return false, err
		}
		environ = append(environ, lines...)
	}
	for _, dir := range u.StateDirectories {
		if err := os.MkdirAll(filepath.Join(s.Root, "var/lib", dir), 0o750); err != nil {
			return false, err
		}
	}
	words := expand(u.Exec, environ)
	log, err := openLog(filepath.Join(s.Root, logDir), u.Name)
	if err != nil {
		return false, err
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environ, u.WorkingDirectory, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	if err := pid.write(os.Getpid(), cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return false, err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	var kill <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case err := <-over:
			// What it left behind in its group ends with it.
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			return err != nil, nil
		case <-hup:
			_ = cmd.Process.Signal(syscall.SIGHUP)
		case <-done:
			done = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
			kill = time.After(u.StopWithin)
		case <-kill:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
}

// pidFile says who runs a unit, and which process that is. It is locked for as long as that holds.
type pidFile struct{ f *os.File }

func hold(dir, name string) (*pidFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name+".pid"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	// Whoever asks whether it is held holds it for a moment, too.
	for deadline := time.Now().Add(2 * time.Second); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; {
		if time.Now().After(deadline) {
			f.Close()
			return nil, errors.New("another supervisor runs it already")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return &pidFile{f}, nil
}

func (p *pidFile) write(supervisor, child int) error {
	text := fmt.Sprintf("%d\n%d\n", supervisor, child)
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.WriteAt([]byte(text), 0)
	return err
}

// release gives the unit up. The file stays: somebody may be waiting for its lock.
func (p *pidFile) release() {
	_ = p.f.Truncate(0)
	p.f.Close()
}

// openLog appends to the log of a service. A long one is put aside first, in place of the one before it.
func openLog(dir, name string) (io.WriteCloser, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l := &logFile{path: filepath.Join(dir, name+".log")}
	return l, l.open()
}

type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
	size int64
}

func (l *logFile) open() (err error) {
	if l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640); err != nil {
		return err
	}
	info, err := l.f.Stat()
	if err == nil {
		l.size = info.Size()
	}
	return err
}

// Write appends, and turns a log that became too long.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > maxLogBytes {
		l.f.Close()
		_ = os.Rename(l.path, l.path+".1")
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error { return l.f.Close() }

// Exec has units run by supervisors of ours, each a process that outlives the one that started it.
type Exec struct {
	Root string
	Self string // this program, which supervises
}

// Name is exec.
func (Exec) Name() string { return "exec" }

// processes are the supervisor of a unit and its process; 0 where there is none.
func (e Exec) processes(unit string) (supervisor, child int, err error) {
	f, err := os.Open(filepath.Join(e.Root, runDir, unit+".pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0, 0, nil // nobody holds it
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, 0, err
	}
	words := strings.Fields(string(text))
	if len(words) != 2 {
		return 0, 0, nil // it is about to start, or to end
	}
	supervisor, err = strconv.Atoi(words[0])
	if err == nil {
		child, err = strconv.Atoi(words[1])
	}
	return supervisor, child, err
}

// Active tells whether a supervisor runs the unit, and its process is there.
func (e Exec) Active(_ context.Context, unit string) (bool, error) {
	_, child, err := e.processes(unit)
	return err == nil && child > 0 && syscall.Kill(child, 0) == nil, err
}

// Enabled tells whether there is a link for the unit.
func (e Exec) Enabled(_ context.Context, unit string) (bool, error) {
	_, err := os.Lstat(filepath.Join(e.Root, wants, unit))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Start starts a supervisor for the unit and waits until its process is there.
func (e Exec) Start(ctx context.Context, unit string) error {
	if on, err := e.Active(ctx, unit); on || err != nil {
		return err
	}
	if _, err := Read(e.Root, unit); err != nil {
		return err
	}
	log, err := openLog(filepath.Join(e.Root, logDir), "supervise")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(e.Self, "supervise", "--root", e.Root, "--unit", unit)
	cmd.Stdout, cmd.Stderr = log.(*logFile).f, log.(*logFile).f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	over := make(chan struct{})
	go func() { _ = cmd.Wait(); close(over) }()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		if on, err := e.Active(ctx, unit); on || err != nil {
			return err
		}
		select {
		case <-over:
			return fmt.Errorf("start %s: its supervisor ended: see %s", unit, filepath.Join(e.Root, logDir, "supervise.log"))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("start %s: it does not run after 15 s: see %s", unit, filepath.Join(e.Root, logDir))
}

// Stop ends the supervisor of a unit, which ends its process first.
func (e Exec) Stop(ctx context.Context, unit string) error {
	wait := 35 * time.Second
	if u, err := Read(e.Root, unit); err == nil {
		wait = u.StopWithin + 5*time.Second
	}
	for deadline := time.Now().Add(wait); ; {
		supervisor, child, err := e.processes(unit)
		if err != nil {
			return err
		}
		if supervisor == 0 && !e.held(unit) {
			return nil
		}
		if supervisor > 0 {
			_ = syscall.Kill(supervisor, syscall.SIGTERM)
		}
		if time.Now().After(deadline) {
			if child > 0 {
				_ = syscall.Kill(-child, syscall.SIGKILL)
			}
			return fmt.Errorf("stop %s: it goes on after %s", unit, wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (e Exec) held(unit string) bool {
	f, err := os.Open(filepath.Join(e.Root, runDir, unit+".pid"))
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// Enable makes the link that `harvest supervise` goes by.
func (e Exec) Enable(_ context.Context, unit string) error {
	path, err := Find(e.Root, unit)
	if err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	if err := os.MkdirAll(filepath.Join(e.Root, wants), 0o755); err != nil {
		return err
	}
	link := filepath.Join(e.Root, wants, unit)
	if target, err := os.Readlink(link); err == nil && target == path {
		return nil
	}
	_ = os.Remove(link)
	return os.Symlink(path, link)
}

// Disable removes that link.
func (e Exec) Disable(_ context.Context, unit string) error {
	err := os.Remove(filepath.Join(e.Root, wants, unit))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Signal sends SIGHUP.
func (e Exec) Signal(_ context.Context, unit string) error {
	_, child, err := e.processes(unit)
	if err != nil || child == 0 {
		return fmt.Errorf("signal %s: it does not run (%w)", unit, err)
	}
	return syscall.Kill(child, syscall.SIGHUP)
}

// Reread has nothing to do: a unit is read when it is started.
func (Exec) Reread(context.Context) error { return nil }

// ByHand is the supervisor for start and the process itself for the others.
func (e Exec) ByHand(verb, unit string) string {
	file := filepath.Join(e.Root, runDir, unit+".pid")
	switch verb {
	case "start":
		return "setsid harvest supervise --root " + e.Root + " --unit " + unit + " &"
	case "stop":
		return "kill $(head -1 " + file + ")"
	case "disable --now":
		return "rm -f " + filepath.Join(e.Root, wants, unit) + "; kill $(head -1 " + file + ")"
	case "enable":
		if path, err := Find(e.Root, unit); err == nil {
			return "ln -s " + path + " " + filepath.Join(e.Root, wants) + "/"
		}
	}
	return "kill -0 $(tail -1 " + file + ")"
}
