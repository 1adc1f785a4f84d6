package exporter

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

func manySymbols(n int) store.Collection {
	c := store.Collection{ServerTime: at}
	for i := range n {
		sym := position.Symbol(fmt.Sprintf("S%05dUSDT", i))
		c.Expected = append(c.Expected, sym)
		c.Entries = append(c.Entries, store.Entry{Symbol: sym, Found: true, Proposal: published(sym)})
		c.Entries[i].Proposal.SchemaVersion = store.SchemaVersion
	}
	return c
}

// discard is a client that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func benchmarkScrape(b *testing.B, symbols int, accept, encoding string) {
	h := handler(newExporter(b, Options{Reader: fixed(manySymbols(symbols))}))
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", encoding)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(discard{make(http.Header)}, r)
	}
}

func BenchmarkScrape1000(b *testing.B) {
	b.Run("text", func(b *testing.B) { benchmarkScrape(b, 1000, "text/plain", "") })
	b.Run("text,gzip", func(b *testing.B) { benchmarkScrape(b, 1000, "text/plain", "gzip") })
	b.Run("openmetrics,gzip", func(b *testing.B) {
		benchmarkScrape(b, 1000, "application/openmetrics-text;version=1.0.0", "gzip")
	})
}

func BenchmarkScrape10000(b *testing.B) { benchmarkScrape(b, 10000, "text/plain", "gzip") }

func BenchmarkGather1000(b *testing.B) {
	e := newExporter(b, Options{Reader: fixed(manySymbols(1000))})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// A sample costs less than one allocation: they come in blocks.
func TestSamplesAreAllocatedInBlocks(t *testing.T) {
	e := newExporter(t, Options{Reader: fixed(manySymbols(1000))})
	samples := 0
	families, err := e.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range families {
		samples += len(mf.Metric)
	}
	allocs := testing.AllocsPerRun(3, func() {
		if _, err := e.Gather(); err != nil {
			t.Fatal(err)
		}
	})
	if samples < 40000 || allocs > float64(samples) {
		t.Errorf("%d samples took %.0f allocations", samples, allocs)
	}
}
