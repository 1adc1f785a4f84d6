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

// A scrape costs a few allocations a symbol, and none a sample.
func TestScrapeAllocatesPerSymbol(t *testing.T) {
	const symbols = 1000
	h := handler(newExporter(t, Options{Reader: fixed(manySymbols(symbols))}))
	for _, accept := range []string{"text/plain", "application/openmetrics-text;version=1.0.0"} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		allocs := testing.AllocsPerRun(3, func() { h.ServeHTTP(discard{make(http.Header)}, r) })
		if allocs > 8*symbols {
			t.Errorf("%s: %d symbols took %.0f allocations", accept, symbols, allocs)
		}
	}
}
