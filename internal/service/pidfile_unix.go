//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mark is in the environment of every process that runs a unit, with its pid file: a process id that stands in a file may be that
// of somebody else by now.
const mark = "SUPERVISED_BY"

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

// ending stands between supervisor and process where the process is one of a supervisor before, which is being ended.
const ending = "ending"

// holders are those whom a pid file names; 0 for nobody.
type holders struct {
	supervisor, child int
	inherited         bool // the child is that of a supervisor before
}

func (p *pidFile) write(h holders) error {
	text := fmt.Sprintf("%d\n%d\n", h.supervisor, h.child)
	if h.inherited {
		text = fmt.Sprintf("%d\n%s\n%d\n", h.supervisor, ending, h.child)
	}
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.WriteAt([]byte(text), 0)
	return err
}

// read gives nobody where the file is being written, or its supervisor is about to start or to end.
func (p *pidFile) read() (h holders, err error) {
	text, err := io.ReadAll(io.NewSectionReader(p.f, 0, 64))
	if err != nil {
		return h, err
	}
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return h, nil
	}
	h.inherited = words[1] == ending
	if h.supervisor, err = strconv.Atoi(words[0]); err == nil {
		h.child, err = strconv.Atoi(words[len(words)-1])
	}
	if err != nil {
		return holders{}, fmt.Errorf("%s: %w", p.f.Name(), err)
	}
	return h, nil
}

func (p *pidFile) marked() string {
	path, err := filepath.Abs(p.f.Name())
	if err != nil {
		path = p.f.Name()
	}
	return mark + "=" + path
}

// lives tells whether a process is the one that runs the unit, and not somebody else's that was given its number.
func (p *pidFile) lives(pid int) bool {
	return Carries(pid, p.marked())
}

// ended tells whether a process is over, also where nobody has waited for it yet.
func ended(pid int) bool {
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, state, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// endOrphan stops the process that a killed supervisor left, where there is one, with all of its group.
func (p *pidFile) endOrphan(ctx context.Context, wait time.Duration) error {
	was, err := p.read()
	pid := was.child
	if err != nil || pid <= 0 || !p.lives(pid) {
		return nil
	}
	if err := p.write(holders{os.Getpid(), pid, true}); err != nil {
		return err
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	kill := time.Now().Add(wait)
	for late := kill.Add(5 * time.Second); p.lives(pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			return fmt.Errorf("process %d, which a killed supervisor left, cannot be ended: end it by hand", pid)
		}
		if ctx.Err() != nil || time.Now().After(kill) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // what it left behind
	return nil
}

// release gives the unit up. The file stays: somebody may be waiting for its lock.
func (p *pidFile) release() {
	_ = p.f.Truncate(0)
	p.f.Close()
}
