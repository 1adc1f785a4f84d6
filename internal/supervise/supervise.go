// Package supervise tells the service manager how this process is doing: that it is ready, that it works, that it takes new
// settings in, that it stops. It speaks sd_notify, so systemd and whatever understands the same are told; where nobody
// asked (no NOTIFY_SOCKET), nothing is sent.
//
// The watchdog is fed for progress that was seen, never by a timer alone: a process that hangs must look like one.
package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// lookEvery is how often progress is looked for where the watchdog does not ask for more.
	lookEvery = 5 * time.Second
	// startEvery is how often it is looked for until the first was seen.
	startEvery = 50 * time.Millisecond
	// patience is what one look for progress may take.
	patience = 3 * time.Second
)

// Part is what is supervised.
type Part struct {
	// Progress returns nil where the part works, and what hangs where it does not. It should end with its context; one that
	// does not hangs, too.
	Progress func(context.Context) error
	// Status is one line for people; nil: none.
	Status func() string
}

// Notifier tells one service manager. It may be used from several goroutines.
type Notifier struct {
	log      *slog.Logger
	on       bool
	watchdog time.Duration // how long it waits to be fed; 0: it does not

	mu     sync.Mutex
	ready  bool
	failed bool // the last message could not be sent
	hangs  bool // progress was missing at the last look
	ended  bool // that it stops was told: the last word
}

// New makes the notifier of this process from what the service manager put into its environment.
func New(log *slog.Logger) (*Notifier, error) {
	n := &Notifier{log: log, on: os.Getenv("NOTIFY_SOCKET") != ""}
	var err error
	if n.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		return nil, fmt.Errorf("watchdog: %w (the service manager sets WATCHDOG_USEC, in microseconds: leave it alone)", err)
	}
	return n, nil
}

// Run tells that the part is ready once progress was seen for the first time, then how it does and, for as long as there is
// progress, that the watchdog may wait. When ctx ends it tells that the process stops.
func (n *Notifier) Run(ctx context.Context, part Part) {
	if !n.on {
		<-ctx.Done()
		return
	}
	look := newLook(part.Progress)
	wait := startEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			n.send(daemon.SdNotifyStopping, "STATUS=stopping")
			return
		case <-timer.C:
		}
		err := look.take(ctx)
		if ctx.Err() != nil {
			continue
		}
		if err == nil {
			wait = n.every()
		}
		n.tell(part, err)
		timer.Reset(wait)
	}
}

// every is the time between two looks: twice within what the watchdog waits, at least.
func (n *Notifier) every() time.Duration {
	if n.watchdog > 0 {
		return min(n.watchdog/2, lookEvery)
	}
	return lookEvery
}

// tell passes on what a look brought.
func (n *Notifier) tell(part Part, err error) {
	n.mu.Lock()
	first := !n.ready && err == nil
	n.ready = n.ready || first
	began, ended := err != nil && n.ready && !n.hangs, err == nil && n.hangs
	n.hangs = err != nil && n.ready
	ready := n.ready
	n.mu.Unlock()
	switch {
	case began:
		n.log.Error("no progress: the watchdog of the service manager is not fed", "err", err, "watchdog", n.watchdog)
	case ended:
		n.log.Info("progress again: the watchdog of the service manager is fed")
	}
	var lines []string
	switch {
	case !ready:
		lines = append(lines, "STATUS=starting: "+oneLine(err.Error()))
	case err != nil:
		lines = append(lines, "STATUS=hangs: "+oneLine(err.Error()))
	case part.Status != nil:
		lines = append(lines, "STATUS="+oneLine(part.Status()))
	}
	if first {
		lines = append(lines, daemon.SdNotifyReady)
	}
	if err == nil && n.watchdog > 0 {
		lines = append(lines, daemon.SdNotifyWatchdog)
	}
	n.send(lines...)
}

// Reload tells that new settings are taken in while take runs.
func (n *Notifier) Reload(take func()) {
	n.mu.Lock()
	ready := n.ready
	n.mu.Unlock()
	if ready { // before that a second READY would be the first
		n.send(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
		defer n.send(daemon.SdNotifyReady)
	}
	take()
}

// send sends one message of some lines; after that of the end no other. That it cannot be sent is said once: the work goes on.
func (n *Notifier) send(lines ...string) {
	if !n.on || len(lines) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	n.ended = lines[0] == daemon.SdNotifyStopping
	_, err := daemon.SdNotify(false, strings.Join(lines, "\n"))
	if err != nil && !n.failed {
		n.log.Warn("the service manager cannot be told", "err", err, "hint", "NOTIFY_SOCKET names a socket that this process may not or cannot write to")
	}
	n.failed = err != nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// look looks for progress. A look that does not come back is not followed by another one.
type look struct {
	progress func(context.Context) error
	under    chan error // one that is under way; nil: none
}

func newLook(progress func(context.Context) error) *look { return &look{progress: progress} }

// take waits for one look, or for the one that has not come back.
func (l *look) take(ctx context.Context) error {
	if l.under == nil {
		under := make(chan error, 1)
		l.under = under
		go func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			under <- l.progress(ctx)
		}()
	}
	late := time.NewTimer(patience + patience/2)
	defer late.Stop()
	select {
	case err := <-l.under:
		l.under = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return fmt.Errorf("the look for progress has not come back for %s", patience+patience/2)
	}
}

// Advance notes since when a figure has not moved. The zero value has seen none. It is not safe for concurrent use.
type Advance struct {
	value uint64
	at    time.Time
}

// Still tells for how long the figure has had this value, as far as was seen.
func (a *Advance) Still(value uint64, now time.Time) time.Duration {
	if a.at.IsZero() || value != a.value {
		a.value, a.at = value, now
	}
	return now.Sub(a.at)
}
