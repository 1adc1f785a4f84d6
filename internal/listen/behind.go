package listen

import (
	"io"
	"sync"
)

// behind writes in another goroutine what it is given, in order: one side fills a block while the other empties the one
// before. close waits for the rest and must be called.
type behind struct {
	block  []byte
	filled chan []byte
	empty  chan []byte
	done   sync.WaitGroup
	err    error // of the writer behind; to be read after close
}

// blockSize is what is handed over at a time.
const blockSize = 64 << 10

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

func newBehind(w io.Writer) *behind {
	b := &behind{filled: make(chan []byte, 1), empty: make(chan []byte, 3)}
	for range cap(b.empty) {
		b.empty <- blocks.Get().(*[blockSize]byte)[:0]
	}
	b.block = <-b.empty
	b.done.Go(func() {
		for block := range b.filled {
			if b.err == nil {
				_, b.err = w.Write(block)
			}
			b.empty <- block[:0]
		}
	})
	return b
}

// Write takes p in; an error of the writer behind shows in close.
func (b *behind) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room := min(blockSize-len(b.block), len(p))
		b.block = append(b.block, p[:room]...)
		if p = p[room:]; len(b.block) == blockSize {
			b.filled <- b.block
			b.block = <-b.empty
		}
	}
	return n, nil
}

func (b *behind) close() error {
	b.filled <- b.block
	close(b.filled)
	b.done.Wait()
	close(b.empty)
	for block := range b.empty {
		blocks.Put((*[blockSize]byte)(block[:blockSize]))
	}
	return b.err
}
