package app

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
)

// errUnserved ends a run in which an open position never got a proposal.
var errUnserved = errors.New("an open position never got a proposal")

// errNoPositions ends a run that never could read its positions.
var errNoPositions = errors.New("the positions were never read, so nothing is known to be protected: see the log for the source")

// errNoStore ends a run that never reached its store.
var errNoStore = errors.New("the store was never reached, nothing was published: is Redis running where REDIS_URL says?")

// summarize prints what a run did, and returns an error where an open position never got a proposal.
func summarize(w io.Writer, st engine.Status, ran time.Duration, once, positionsRead bool) error {
	fmt.Fprintf(w, "\nRan %s: %d evaluations, %d publishes, %d beats, %d held back by the gate, %d closes, %d refusals",
		ran.Round(100*time.Millisecond), st.Evaluations, st.Publishes, st.Beats, st.RateLimited, st.Closes, st.Refusals)
	if st.StoreErrors > 0 {
		fmt.Fprintf(w, ", %d failed exchanges with Redis", st.StoreErrors)
	}
	fmt.Fprintln(w)
	var never []string
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(st.Symbols) > 0 {
		fmt.Fprintln(tw, "symbol\tside\taction\tR\tK\tpublishes\tbeats\theartbeat\tcontent\tmarket\tposition\tinputs")
	}
	for _, s := range st.Symbols {
		served := s.EverServed
		if once {
			served = s.Publishes > 0 // by this run, not by one before
		}
		if s.Open && s.Covered && !served && !s.Elsewhere {
			never = append(never, fmt.Sprintf("%s (%s)", s.Symbol, or(s.Waiting, "not evaluated")))
		}
		if !s.EverOpen {
			continue
		}
		state := string(s.InputState)
		switch {
		case !s.Covered:
			state = "not covered (outside SYMBOLS)"
		case !s.Open:
			state = "closed"
		case s.Elsewhere:
			state = "held by another publisher"
		case s.Waiting != "":
			state = s.Waiting
		}
		r, k := "-", "-"
		if s.Action != "" {
			r, k = fmt.Sprintf("%.2f", s.RNet), fmt.Sprintf("%.3f", s.KillScore)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Symbol, or(string(s.Side), "-"), or(string(s.Action), "-"), r, k,
			s.Publishes, s.Beats, age(st.At, s.HeartbeatAt), age(st.At, s.ContentAt), age(st.At, s.MarketAt), age(st.At, s.PositionAt), state)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, s := range st.Symbols {
		if len(s.Refusals) > 0 {
			fmt.Fprintf(w, "refused for %s: %s (last: %s %s)\n", s.Symbol, reasons(s.Refusals), s.LastRefusal.Field, s.LastRefusal.Reason)
		}
	}
	for _, sym := range st.Refused {
		never = append(never, fmt.Sprintf("%s (its record is refused, see the log)", sym))
	}
	if !st.Restored {
		return errNoStore
	}
	if !positionsRead {
		return errNoPositions
	}
	if len(never) > 0 {
		return fmt.Errorf("%w: %s", errUnserved, strings.Join(never, "; "))
	}
	return nil
}

func age(now, at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1fs", max(0, now.Sub(at).Seconds()))
}

func reasons(counts map[feed.Reason]uint64) string {
	var parts []string
	for r, n := range counts {
		parts = append(parts, fmt.Sprintf("%s %d", r, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
