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
	"runtime"
	"slices"
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
	if err := pid.endOrphan(ctx, stopWithin(s.Root, name)); err != nil {
		return fmt.Errorf("supervise %s: %w", name, err)
	}
	if ctx.Err() != nil {
		return nil // stopped meanwhile: nothing begins any more
	}
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

// child runs what the unit says, once. A supervisor that is killed takes it along: nobody would stop it any more, and a second one
// would be started beside it.
func (s Supervisor) child(ctx context.Context, u Unit, pid *pidFile) (failed bool, err error) {
	runtime.LockOSThread() // see OwnGroup
	defer runtime.UnlockOSThread()
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
	environ = append(environ, pid.marked())
	words := expand(u.Exec, environ)
	log, err := openLog(filepath.Join(s.Root, logDir), u.Name)
	if err != nil {
		return false, err
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environ, u.WorkingDirectory, log, log
	OwnGroup(cmd, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return false, err
	}
	if err := pid.write(holders{supervisor: os.Getpid(), child: cmd.Process.Pid}); err != nil {
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

// processes are the supervisor of a unit and its process. A process without a supervisor is one that a killed supervisor left.
func (e Exec) processes(unit string) (holders, error) {
	f, err := os.Open(filepath.Join(e.Root, runDir, unit+".pid"))
	if errors.Is(err, os.ErrNotExist) {
		return holders{}, nil
	}
	if err != nil {
		return holders{}, err
	}
	defer f.Close()
	p := &pidFile{f}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
		h, err := p.read()
		if err == nil && ended(h.supervisor) {
			// One before wrote that, and the one that holds it now has not come to it.
			return holders{}, nil
		}
		return h, err
	}
	// Nobody holds it.
	was, err := p.read()
	if err != nil || was.child <= 0 || !p.lives(was.child) {
		return holders{}, nil
	}
	return holders{child: was.child, inherited: true}, nil
}

// Active tells whether the process of the unit is there, with its supervisor or without.
func (e Exec) Active(_ context.Context, unit string) (bool, error) {
	h, err := e.processes(unit)
	return err == nil && h.child > 0 && syscall.Kill(h.child, 0) == nil, err
}

// supervised tells whether a supervisor runs the unit, and its own process is there.
func (e Exec) supervised(unit string) (bool, error) {
	h, err := e.processes(unit)
	return err == nil && !h.inherited && h.child > 0 && syscall.Kill(h.child, 0) == nil, err
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
	if on, err := e.supervised(unit); on || err != nil {
		return err
	}
	u, err := Read(e.Root, unit)
	if err != nil {
		return err
	}
	within := 15 * time.Second
	if orphan, err := e.Active(ctx, unit); err != nil {
		return err
	} else if orphan {
		within += u.StopWithin // the supervisor ends it first
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
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		if on, err := e.supervised(unit); on || err != nil {
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
	return fmt.Errorf("start %s: it does not run after %s: see %s", unit, within, filepath.Join(e.Root, logDir))
}

// Stop ends the supervisor of a unit, which ends its process first.
func (e Exec) Stop(ctx context.Context, unit string) error {
	wait := stopWithin(e.Root, unit) + 5*time.Second
	for deadline := time.Now().Add(wait); ; {
		h, err := e.processes(unit)
		if err != nil {
			return err
		}
		if h.supervisor == 0 && !e.held(unit) {
			if h.child == 0 {
				return nil
			}
			return e.stopOrphan(ctx, unit)
		}
		if h.supervisor > 0 {
			_ = syscall.Kill(h.supervisor, syscall.SIGTERM)
		}
		if time.Now().After(deadline) {
			if h.child > 0 {
				_ = syscall.Kill(-h.child, syscall.SIGKILL)
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

// stopOrphan ends what a killed supervisor left. Its pid file is held meanwhile, so that no supervisor begins beside it.
func (e Exec) stopOrphan(ctx context.Context, unit string) error {
	pid, err := hold(filepath.Join(e.Root, runDir), unit)
	if err == nil {
		defer pid.release()
		err = pid.endOrphan(ctx, stopWithin(e.Root, unit))
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	return nil
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
	h, err := e.processes(unit)
	if err != nil || h.child == 0 {
		return fmt.Errorf("signal %s: it does not run (%w)", unit, err)
	}
	return syscall.Kill(h.child, syscall.SIGHUP)
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
