package config

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every way of printing a Secret gives.
const redacted = "[secret]"

// Secret is a text that cannot be printed by accident: every verb of fmt, slog, JSON and text encoding give
// "[secret]". It is kept behind a function so that even reflection over an unexported field finds an address only.
// The zero value holds nothing.
type Secret struct{ reveal func() string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{reveal: func() string { return text }} }

// Reveal returns the text itself, for the one place that sends it to a server. It is empty for the zero Secret.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// String returns "[secret]".
func (Secret) String() string { return redacted }

// GoString returns "[secret]".
func (Secret) GoString() string { return redacted }

// Format writes "[secret]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]"; JSON uses it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
