package engine

import (
	"hash/fnv"
	"time"

	"quantumharvest/internal/store"
)

// holderSilent is for how many of our beats the advice of another holder may stand still before it counts as dead. It
// is measured on our own clock and by change alone: what the other one's clock says, or a field that somebody
// overwrote, decides nothing.
const holderSilent = validIntervals + 1

// WantsFence tells that a fence must be taken from the store before anything is written.
func (e *Engine) WantsFence() bool { return e.fence == 0 }

// SetFence hands over a fence taken from the store, > 0.
func (e *Engine) SetFence(f int64) { e.fence = max(e.fence, f) }

// fenceOf is the fence that one symbol is written under.
func (e *Engine) fenceOf(s *symbol) int64 { return max(e.fence, s.fence) }

// fencedBy stands by: another writer holds the key under a higher fence. Its advice keeps moving while it lives; once it
// has stood still for a while, this symbol, and no other, is taken over under a higher one.
func (e *Engine) fencedBy(s *symbol, r store.Result) {
	s.held = held{} // what stands there is not ours
	s.retryBeat = e.beatNo + 1
	by := r.FencedBy
	switch {
	case s.standby.movedAt.IsZero():
		e.say("fenced", s.name, "another publisher holds this symbol: standing by", "holder", by.Publisher)
		s.standby = standby{by: by, movedAt: e.now}
	case by != s.standby.by:
		s.standby = standby{by: by, movedAt: e.now}
	case e.now.Sub(s.standby.movedAt) > holderSilent*e.opts.Heartbeat:
		e.opts.Log.Warn("the holder of this symbol is silent: taking over", "symbol", s.name, "holder", by.Publisher, "holders_fence", by.Fence)
		// Two that wait for the same holder must not meet on one fence.
		s.fence = max(e.fenceOf(s), by.Fence) + 1 + spread(e.opts.Publisher)
		s.standby = standby{}
		s.retryBeat = e.beatNo
	}
	if len(s.closing) > maxClosing {
		s.closing = s.closing[len(s.closing)-maxClosing:]
	}
}

// maxClosing bounds the closing records that wait while another publisher holds the key and writes its own.
const maxClosing = 8

func spread(publisher string) int64 {
	h := fnv.New32a()
	h.Write([]byte(publisher))
	return int64(h.Sum32() % 4096)
}

// unheld notes that a write went through: nobody else holds the key.
func (s *symbol) unheld() { s.standby = standby{} }

// say logs a warning about one symbol, at most once a minute for the same subject.
func (e *Engine) say(subject string, name any, text string, args ...any) {
	key := saidKey{subject, name}
	if last, ok := e.said[key]; ok && e.now.Sub(last) < time.Minute && !e.now.Before(last) {
		return
	}
	if len(e.said) >= maxSaid {
		clear(e.said)
	}
	e.said[key] = e.now
	e.opts.Log.Warn(text, append([]any{"symbol", name}, args...)...)
}

// maxSaid bounds the memory of what was already logged; past it everything may be said once more.
const maxSaid = 4096

type saidKey struct {
	subject string
	name    any
}
