package listen

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// Whatever sizes it is given in, everything arrives, in order, and nothing of it is touched after it was given.
func TestBehindKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got, want bytes.Buffer
		b := newBehind(&got)
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, 3*blockSize), 0, 12).Draw(t, "sizes") {
			p := bytes.Repeat([]byte{byte(i)}, n)
			want.Write(p)
			if written, err := b.Write(p); written != n || err != nil {
				t.Fatal(written, err)
			}
			clear(p)
		}
		if err := b.close(); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%v, %d of %d bytes", err, got.Len(), want.Len())
		}
	})
}

type brokenWriter struct{ calls int }

func (w *brokenWriter) Write([]byte) (int, error) {
	w.calls++
	return 0, errors.New("full")
}

func TestBehindSaysWhatFailed(t *testing.T) {
	w := &brokenWriter{}
	b := newBehind(w)
	for range 10 {
		_, _ = b.Write(make([]byte, blockSize))
	}
	if err := b.close(); err == nil || w.calls != 1 {
		t.Errorf("%v after %d writes", err, w.calls)
	}
}
