package position

import "testing"

func TestSeveralSources(t *testing.T) {
	book := NewBook("redis_hash", "redis_json", "redis_stream")
	read := func(source string, sec float64, records ...Record) []Change {
		snap := Snapshot{Source: source, At: at(sec), Complete: source != "redis_stream", Standing: source == "redis_stream", Records: records}
		return book.Observe(snap, snap.At)
	}
	d := &desk{t: t, book: book}
	btc, eth := long("BTCUSDT", 100), long("ETHUSDT", 50)
	other := long("BTCUSDT", 777)

	d.want(read("redis_json", 0, other, eth), "BTCUSDT opened seen", "ETHUSDT opened seen")
	d.want(read("redis_hash", 0.1, btc), "BTCUSDT updated content") // higher priority takes over
	d.want(read("redis_json", 1, other, eth))                       // and lower is not heard
	if p := d.get("BTCUSDT"); p.Entry != 100 || p.Source != "redis_hash" {
		t.Fatalf("got %+v", p)
	}
	// Gone from the higher one: the lower one has it still.
	d.want(read("redis_hash", 2, long("SOLUSDT", 20)), "SOLUSDT opened seen")
	d.want(read("redis_json", 2.1, other, eth), "BTCUSDT updated content")
	d.want(read("redis_hash", 3, long("SOLUSDT", 20)))
	if p := d.get("BTCUSDT"); p.Entry != 777 || p.Source != "redis_json" {
		t.Fatalf("got %+v", p)
	}
	// The higher one says flat: that is the end, however long the lower one repeats itself.
	flat := Record{Symbol: "BTCUSDT", HasQuantity: true}
	d.want(read("redis_hash", 4, long("SOLUSDT", 20), flat), "BTCUSDT closed quantity_zero")
	for i := range 5 {
		d.want(read("redis_json", 5+float64(i), other, eth))
		d.want(read("redis_hash", 5.5+float64(i), long("SOLUSDT", 20), flat))
	}
	// Absence is judged per source.
	d.want(read("redis_json", 20, other, eth))
	for i := range 10 {
		d.want(read("redis_hash", 21+float64(i), long("SOLUSDT", 20), flat))
	}
	// The higher one falls silent: the lower one is heard after half a minute.
	sol := long("SOLUSDT", 21)
	d.want(read("redis_json", 40, sol, eth))
	d.want(read("redis_json", 60, sol, eth))
	d.want(read("redis_json", 61, sol, eth), "SOLUSDT updated content")

	// Events of a stream that are older than what is known say nothing.
	d.want(read("redis_stream", 100, Record{Symbol: "SOLUSDT", Closed: true, UpdatedAt: at(50)}))
	d.want(read("redis_stream", 101, Record{Symbol: "SOLUSDT", Closed: true, UpdatedAt: at(100)}), "SOLUSDT closed close_event")
}

func TestStreamCloseOfAnEarlierPosition(t *testing.T) {
	d := newDesk(t)
	d.snap.Standing, d.snap.Complete = true, false
	d.book.Restore(Position{Symbol: "BTCUSDT", Side: Long, Entry: 100, OpenedAt: at(0), Source: "redis_hash"})
	closing := func(sec float64) Record { return Record{Symbol: "BTCUSDT", Closed: true, UpdatedAt: at(sec)} }
	d.want(d.read(500, closing(-3600)))
	d.want(d.read(501, closing(400)), "BTCUSDT closed close_event")
}
