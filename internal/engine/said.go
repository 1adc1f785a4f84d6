package engine

import "time"

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
