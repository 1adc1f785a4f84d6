package listen

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// Short pages and long ones in turns, in pieces of any size, come out as they went in.
func TestCompressorKeepsEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c compressor
		for range rapid.IntRange(1, 5).Draw(t, "pages") {
			var page, want bytes.Buffer
			c.begin(&page)
			sizes := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, blockSize+1), rapid.Just(blockSize))
			for i, n := range rapid.SliceOfN(sizes, 0, 8).Draw(t, "sizes") {
				p := bytes.Repeat([]byte{byte(i), byte(n)}, n/2+1)[:n]
				want.Write(p)
				if written, err := c.Write(p); written != n || err != nil {
					t.Fatal(written, err)
				}
				clear(p)
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			if short := want.Len() <= blockSize; short && c.short == nil || !short && c.long == nil {
				t.Fatalf("a page of %d bytes met the other writer", want.Len())
			}
			zr, err := gzip.NewReader(&page)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, want.Bytes()) || page.Len() > 0 {
				t.Fatalf("%v, %d of %d bytes, %d left", err, len(got), want.Len(), page.Len())
			}
		}
	})
}

// Who has short pages never pays for long ones.
func TestCompressorOfShortPagesIsSmall(t *testing.T) {
	var c compressor
	for range 3 {
		c.begin(io.Discard)
		_, _ = c.Write(make([]byte, blockSize))
		if err := c.close(); err != nil || c.long != nil {
			t.Fatal(err, c.long)
		}
	}
}

// A writer that fails shows when the page ends, and the next page begins anew.
func TestCompressorSaysWhatFailed(t *testing.T) {
	var c compressor
	for _, n := range []int{10, 3 * blockSize, 10, 3 * blockSize} {
		c.begin(&brokenWriter{})
		_, _ = c.Write(make([]byte, n))
		if c.close() == nil {
			t.Errorf("%d bytes went nowhere, and nobody says so", n)
		}
		var page bytes.Buffer
		c.begin(&page)
		_, _ = c.Write(make([]byte, n))
		if err := c.close(); err != nil || page.Len() == 0 {
			t.Errorf("%v, %d bytes after a failure", err, page.Len())
		}
	}
}
