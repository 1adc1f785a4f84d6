package flight

import (
	"io"
	"log/slog"
	"runtime"
	"sync"
	"testing"
)

// BenchmarkRecording is what recording costs whoever works: goroutines that hand work to each other, as a publisher's do, with
// and without a recorder. Work between two hand-overs costs nothing more.
func BenchmarkRecording(b *testing.B) {
	for _, on := range []bool{false, true} {
		name := "off"
		if on {
			name = "on"
		}
		b.Run(name, func(b *testing.B) {
			if on {
				r, err := Open(Options{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				defer r.Close()
			}
			in, out := make(chan int), make(chan int)
			var worker sync.WaitGroup
			worker.Go(func() {
				for v := range in {
					out <- v + 1
				}
				close(out)
			})
			b.ReportAllocs()
			for b.Loop() {
				in <- 1
				<-out
			}
			b.StopTimer()
			close(in)
			worker.Wait()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/1e6, "MB")
		})
	}
}

// BenchmarkSave is what reading the window costs, once every five minutes at most.
func BenchmarkSave(b *testing.B) {
	r, err := Open(Options{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	for b.Loop() {
		n, err := r.WriteTo(io.Discard)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/1e6, "MB/record")
	}
}
