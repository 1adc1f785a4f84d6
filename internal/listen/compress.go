package listen

import (
	"cmp"
	"io"

	"github.com/klauspost/compress/gzip"
)

// compressor writes what it is given, compressed, to what it was begun with. Most desks have a page of a few positions, less
// than a block: it is compressed at the end, by a writer that keeps next to nothing between two. A longer page is compressed while
// it is made, by the quickest writer, which holds two megabytes. Scrapes come over a fast network and from a busy machine: speed
// before size.
//
// The zero value is ready. close must be called once after each begin.
type compressor struct {
	out    io.Writer
	first  *[blockSize]byte // of n bytes so far; nil once there are more than it holds
	n      int
	behind *behind
	short  *gzip.Writer
	long   *gzip.Writer
}

func (c *compressor) begin(out io.Writer) {
	c.out, c.n = out, 0
	c.first = blocks.Get().(*[blockSize]byte)
}

// Write takes p in; an error of the writer below shows in close.
func (c *compressor) Write(p []byte) (int, error) {
	if c.first != nil {
		if len(p) <= blockSize-c.n {
			c.n += copy(c.first[c.n:], p)
			return len(p), nil
		}
		c.long = restart(c.long, c.out, gzip.BestSpeed)
		c.behind = newBehind(c.long)
		_, _ = c.behind.Write(c.first[:c.n])
		c.drop()
	}
	return c.behind.Write(p)
}

func (c *compressor) close() error {
	if c.first == nil {
		err := c.behind.close()
		c.behind = nil
		return cmp.Or(err, c.long.Close())
	}
	defer c.drop()
	c.short = restart(c.short, c.out, gzip.StatelessCompression)
	_, err := c.short.Write(c.first[:c.n])
	return cmp.Or(err, c.short.Close())
}

// open tells that a page was begun and not ended.
func (c *compressor) open() bool { return c.first != nil || c.behind != nil }

// drop gives the first block back.
func (c *compressor) drop() {
	blocks.Put(c.first)
	c.first = nil
}

// restart makes a writer ready, a new one where there is none.
func restart(w *gzip.Writer, out io.Writer, level int) *gzip.Writer {
	if w == nil {
		w, _ = gzip.NewWriterLevel(out, level) // the level is one that there is
		return w
	}
	w.Reset(out)
	return w
}
