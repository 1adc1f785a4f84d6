package top

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// steady is a Reader that always gives the same.
type steady struct {
	c   store.Collection
	err error
}

func (s steady) Collect(context.Context, []position.Symbol) (store.Collection, error) {
	return s.c, s.err
}

// closing is a store in which a position closes while it is read: its hash is gone, and then it is not expected either.
type closing struct {
	readings []store.Collection
}

func (c *closing) Collect(context.Context, []position.Symbol) (store.Collection, error) {
	now := c.readings[0]
	c.readings = c.readings[1:]
	return now, nil
}

func TestAPositionThatClosesIsNotShownAsMissing(t *testing.T) {
	between := store.Collection{Expected: []position.Symbol{"BTCUSDT"}, Entries: []store.Entry{{Symbol: "BTCUSDT"}}, ServerTime: epoch}
	for name, readings := range map[string][]store.Collection{"closed": {between, {ServerTime: epoch}}, "missing": {between, between}} {
		var out bytes.Buffer
		if err := Snapshot(context.Background(), Options{Reader: &closing{readings}, Out: &out, Now: func() time.Time { return epoch }}, false); err != nil {
			t.Fatal(err)
		}
		if shown := strings.Contains(out.String(), "no proposal"); shown != (name == "missing") {
			t.Errorf("%s:\n%s", name, out.String())
		}
	}
}

func TestSnapshot(t *testing.T) {
	o := Options{Reader: steady{c: desk()}, Header: "redis://127.0.0.1:6379/0", Now: func() time.Time { return epoch }}
	for name, asJSON := range map[string]bool{"snapshot": false, "snapshot-json": true} {
		var out bytes.Buffer
		o.Out = &out
		if err := Snapshot(context.Background(), o, asJSON); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		if strings.ContainsRune(out.String(), '\x1b') {
			t.Error("an escape sequence came through")
		}
	}
	o.Reader = steady{err: errAway}
	if err := Snapshot(context.Background(), o, false); !errors.Is(err, errAway) {
		t.Errorf("got %v", err)
	}
	o.Reader = steady{c: store.Collection{ExpectedErr: errAway}}
	if err := Snapshot(context.Background(), o, false); !errors.Is(err, errAway) {
		t.Errorf("an unreadable set and nothing else: %v", err)
	}
	r, w := io.Pipe()
	r.Close()
	o.Reader, o.Out = steady{c: desk()}, w
	for _, asJSON := range []bool{false, true} {
		if err := Snapshot(context.Background(), o, asJSON); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a broken pipe: %v", err)
		}
	}
	if err := Snapshot(context.Background(), Options{}, false); err == nil {
		t.Error("without a reader")
	}
}

// drawn tells whether a text stands anywhere in what a program drew.
func drawn(b *livetest.Buffer, text string) bool {
	return strings.Contains(ansi.Strip(b.String()), text)
}

func TestRun(t *testing.T) {
	for _, how := range []string{"key", "context"} {
		t.Run(how, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			keys, typed := io.Pipe()
			notices := make(chan string, 1)
			notices <- "hello from below"
			var out livetest.Buffer
			done := make(chan error, 1)
			go func() {
				done <- run(ctx, Options{
					Reader: steady{c: desk()}, Header: "here", Notices: notices, In: keys, Out: &out, Environ: []string{"TERM=xterm"},
				}, tea.WithWindowSize(100, 30))
			}()
			for _, text := range []string{"here", "BTCUSDT", "hello from below"} {
				deadline := time.Now().Add(20 * time.Second)
				for !drawn(&out, text) {
					if time.Now().After(deadline) {
						t.Fatalf("%q never appears", text)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
			if how == "key" {
				if _, err := typed.Write([]byte("q")); err != nil {
					t.Fatal(err)
				}
			} else {
				cancel()
			}
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("got %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("does not end")
			}
			typed.Close() // a pipe cannot be told to stop reading
		})
	}
}

func TestInteractive(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if Interactive(file, nil) || Interactive(&bytes.Buffer{}, nil) {
		t.Error("a file is no terminal")
	}
}
