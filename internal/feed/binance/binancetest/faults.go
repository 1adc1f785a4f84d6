package binancetest

import (
	"net/http"
	"strings"
	"time"

	"quantumharvest/internal/position"
)

// Noise are faults that hit messages of streams at random; each is the share of messages it hits.
type Noise struct {
	Duplicate float64 // sent twice
	Drop      float64 // not sent
	Reorder   float64 // sent after the next one of its stream
	Garbage   float64 // something unreadable or impossible is sent besides
}

type silence struct {
	match func(stream string) bool
	until time.Time
}

// faults are those in force now.
type faults struct {
	noise         Noise
	silences      []silence
	refuseStreams time.Time
	refuseREST    time.Time
	slow          time.Duration
	slowUntil     time.Time
	limitStatus   int
	limitAfter    time.Duration // named as Retry-After
	limitUntil    time.Time
}

// SetNoise replaces the random faults; the zero value ends them.
func (s *Server) SetNoise(n Noise) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.noise = n
}

// Silence holds back the streams that match, without an error, for d. Trading goes on.
func (s *Server) Silence(d time.Duration, match func(stream string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	kept := s.faults.silences[:0]
	for _, f := range s.faults.silences {
		if f.until.After(now) {
			kept = append(kept, f)
		}
	}
	s.faults.silences = append(kept, silence{match, now.Add(d)})
}

// Of matches all streams of a symbol.
func Of(symbol position.Symbol) func(string) bool {
	prefix := strings.ToLower(string(symbol)) + "@"
	return func(stream string) bool { return strings.HasPrefix(stream, prefix) }
}

// Kind matches all streams of a kind, for example "kline" or "markPrice".
func Kind(kind string) func(string) bool {
	return func(stream string) bool { return strings.Contains(stream, "@"+kind) }
}

// Disconnect breaks each open connection with the given probability and tells how many it broke.
func (s *Server) Disconnect(share float64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		if s.rng.Float64() < share {
			c.cancel()
			n++
		}
	}
	return n
}

// RefuseStreams turns new stream connections away for d.
func (s *Server) RefuseStreams(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.refuseStreams = time.Now().Add(d)
}

// RefuseREST answers every request with 503 for d.
func (s *Server) RefuseREST(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.refuseREST = time.Now().Add(d)
}

// Slow delays every answer by delay, for d.
func (s *Server) Slow(delay, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.slow, s.faults.slowUntil = delay, time.Now().Add(d)
}

// Limit answers requests with status (429 or 418) and Retry-After for as long as that says. Asking again before is a
// violation.
func (s *Server) Limit(status int, retryAfter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.limitStatus, s.faults.limitAfter = status, retryAfter
	s.faults.limitUntil = time.Time{} // starts with the first answer
}

// limited gives the status to answer with instead, 0 for none.
func (s *Server) limited(now time.Time) (status int, retryAfter time.Duration) {
	f := &s.faults
	if f.limitStatus == 0 {
		return 0, 0
	}
	if f.limitUntil.IsZero() {
		f.limitUntil = now.Add(f.limitAfter)
		// Requests that were on their way already are no offence.
		s.weight.graceUntil = now.Add(2 * time.Second)
		return f.limitStatus, f.limitAfter
	}
	if !now.Before(f.limitUntil) {
		f.limitStatus = 0
		return 0, 0
	}
	if now.After(s.weight.graceUntil) {
		s.violation("asked again %v before Retry-After had passed", f.limitUntil.Sub(now))
	}
	return f.limitStatus, f.limitUntil.Sub(now)
}

// SetClockOffset moves the exchange's clock.
func (s *Server) SetClockOffset(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = d
}

// SetStatus changes the status of a symbol; only TRADING has live streams.
func (s *Server) SetStatus(symbol position.Symbol, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markets[symbol].status = status
}

// Inject sends a message as it is to every connection on the path ("/market/stream", "/public/stream").
func (s *Server) Inject(path, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.path == path {
			c.put(message)
		}
	}
}

// weights counts requests by minute of the exchange's clock.
type weights struct {
	window     time.Time
	used, peak int
	graceUntil time.Time
}

func (w *weights) add(ex time.Time, n int) int {
	if m := ex.Truncate(time.Minute); !m.Equal(w.window) {
		w.window, w.used = m, 0
	}
	w.used += n
	w.peak = max(w.peak, w.used)
	return w.used
}

// overWeight is where the exchange itself starts to limit.
func (s *Server) overWeight(ex time.Time, used int) bool {
	if used <= s.cfg.Weight {
		return false
	}
	s.violation("request weight %d in a minute, %d allowed", used, s.cfg.Weight)
	s.faults.limitStatus, s.faults.limitAfter = http.StatusTooManyRequests, ex.Truncate(time.Minute).Add(time.Minute).Sub(ex)
	s.faults.limitUntil = time.Time{}
	return true
}
