package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// anyTool finds a server that the drill needs, under one of several names.
func anyTool(names, hint string) (string, error) {
	for name := range strings.FieldsSeq(names) {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH: %s", strings.Fields(names)[0], hint)
}

// child is one process of the copy, with its log in a file.
type child struct {
	name string
	path string
	args []string
	env  []string // all of it; nil: that of this process
	log  string

	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{}
	wanted  bool // it was ended on purpose
	crashes []string
}

func newChild(dir, name, path string, args, env []string) *child {
	return &child{name: name, path: path, args: args, env: env, log: filepath.Join(dir, name+".log")}
}

// start starts the process; its output is appended to its log.
func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	defer out.Close()
	cmd := exec.Command(c.path)
	cmd.Args, cmd.Env = append([]string{filepath.Base(c.args[0])}, c.args[1:]...), c.env
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	exited := make(chan struct{})
	c.cmd, c.exited, c.wanted = cmd, exited, false
	go func() {
		err := cmd.Wait()
		c.mu.Lock()
		if !c.wanted {
			c.crashes = append(c.crashes, fmt.Sprintf("%s ended by itself: %v", c.name, err))
		}
		c.mu.Unlock()
		close(exited)
	}()
	return nil
}

func (c *child) signal(sig os.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return nil
	}
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", c.name, err)
	}
	return nil
}

// kill ends the process at once, as a crash does, and waits until it is gone.
func (c *child) kill() {
	c.mu.Lock()
	cmd, exited := c.cmd, c.exited
	c.wanted = true
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	killGroup(cmd)
	<-exited
	c.mu.Lock()
	c.cmd = nil
	c.mu.Unlock()
}

// stop and proceed freeze the process and let it go on.
func (c *child) stop() error    { return c.signal(sigStop) }
func (c *child) proceed() error { return c.signal(sigCont) }

// faults are endings nobody asked for, and panics in the log.
func (c *child) faults() []string {
	c.mu.Lock()
	list := append([]string(nil), c.crashes...)
	c.mu.Unlock()
	text, _ := os.ReadFile(c.log)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			list = append(list, c.name+": "+strings.TrimSpace(line))
		}
	}
	return list
}

// await polls until ok, an ending of the context or the deadline.
func await(ctx context.Context, within time.Duration, what string, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var err error
	for {
		if err = ok(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s, %s long: %w", what, within.Round(time.Second), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
