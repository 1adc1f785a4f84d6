package alert

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
)

// botToken is where Telegram's library leaves the token of a bot: in the URL that its errors repeat. The other
// integrations take URLs out of their errors themselves.
var botToken = regexp.MustCompile(`/bot[^/\s"]+/`)

func redact(text string) string { return botToken.ReplaceAllString(text, "/bot<secret>/") }

// redacting is a log handler that takes secrets out of what libraries say.
type redacting struct{ slog.Handler }

// Handle redacts the message and every attribute.
func (h redacting) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, redact(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(redactAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

// WithAttrs redacts what is added.
func (h redacting) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = redactAttr(a)
	}
	return redacting{h.Handler.WithAttrs(clean)}
}

// WithGroup keeps redacting.
func (h redacting) WithGroup(name string) slog.Handler { return redacting{h.Handler.WithGroup(name)} }

func redactAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, redact(v.String()))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, g := range group {
			clean[i] = redactAttr(g)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(clean...)}
	case slog.KindAny:
		// As it was, unless its text holds a secret: then the text stands for it.
		if text := fmt.Sprint(v.Any()); redact(text) != text {
			return slog.String(a.Key, redact(text))
		}
	}
	return a
}
