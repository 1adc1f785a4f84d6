package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Systemd asks the systemd that runs this host.
type Systemd struct{}

// SystemdRuns tells whether systemd runs this host.
func SystemdRuns() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Name is systemd.
func (Systemd) Name() string { return "systemd" }

func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// says asks a question whose answer is a word, with another exit code where that is no. Without a word there is no answer:
// a systemd that cannot be reached must not pass for a service that does not run.
func says(ctx context.Context, question, unit string) (string, error) {
	word, err := systemctl(ctx, question, unit)
	var exit *exec.ExitError
	if errors.As(err, &exit) && word != "" {
		err = nil
	}
	return word, err
}

// Active asks is-active.
func (Systemd) Active(ctx context.Context, unit string) (bool, error) {
	word, err := says(ctx, "is-active", unit)
	// One that is being stopped writes until it is.
	return word == "active" || word == "activating" || word == "reloading" || word == "deactivating", err
}

// Enabled asks is-enabled.
func (Systemd) Enabled(ctx context.Context, unit string) (bool, error) {
	word, err := says(ctx, "is-enabled", unit)
	return word == "enabled", err
}

func order(ctx context.Context, args ...string) error {
	_, err := systemctl(ctx, args...)
	return err
}

// Start starts a unit.
func (Systemd) Start(ctx context.Context, unit string) error { return order(ctx, "start", unit) }

// Stop stops a unit.
func (Systemd) Stop(ctx context.Context, unit string) error { return order(ctx, "stop", unit) }

// Enable has a unit started with the host.
func (Systemd) Enable(ctx context.Context, unit string) error { return order(ctx, "enable", unit) }

// Disable leaves a unit to be started by hand.
func (Systemd) Disable(ctx context.Context, unit string) error { return order(ctx, "disable", unit) }

// Signal has a unit read its configuration anew.
func (Systemd) Signal(ctx context.Context, unit string) error { return order(ctx, "reload", unit) }

// Reread makes systemd read the unit files anew.
func (Systemd) Reread(ctx context.Context) error { return order(ctx, "daemon-reload") }

// ByHand is systemctl with the verb.
func (Systemd) ByHand(verb, unit string) string { return "systemctl " + verb + " " + unit }
