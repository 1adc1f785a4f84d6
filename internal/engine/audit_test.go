package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// auditing is a desk with a position in each of n symbols, all published, at the moment when a read-back begins. No other comes
// by itself.
func auditing(t *testing.T, n, atOnce int) (*desk, []position.Record) {
	t.Helper()
	d := newDesk(t, func(o *engine.Options) { o.Cycle = time.Hour })
	records := d.many(n)
	d.seconds(1, true, records...)
	d.eng.SetReadsAtOnce(atOnce)
	d.audit()
	return d, records
}

// audit begins a read-back.
func (d *desk) audit() {
	d.t.Helper()
	c, err := d.store.Head(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	d.eng.AuditExpected(c, d.now)
}

// repairs is how many proposals were found changed so far.
func (d *desk) repairs() int {
	d.eng.Snapshot(d.now)
	return int(d.eng.Status().Repairs)
}

// read reads the proposals of a part.
func (d *desk) read(part []position.Symbol) []store.Entry {
	d.t.Helper()
	entries, err := d.store.Entries(context.Background(), part)
	if err != nil {
		d.t.Fatal(err)
	}
	return entries
}

// The proposals are read back in parts, each of them once, and what was changed is found in whichever part it is.
func TestReadBackGoesInParts(t *testing.T) {
	const symbols, most = 25, 10
	d, records := auditing(t, symbols, most)
	var spoilt []position.Symbol
	for _, i := range []int{0, 12, symbols - 1} {
		spoilt = append(spoilt, records[i].Symbol)
		if err := d.client.HSet(context.Background(), "quantum:harvest:proposal:"+string(records[i].Symbol), "kill_score", "0.1").Err(); err != nil {
			t.Fatal(err)
		}
	}
	var all []position.Symbol
	for _, want := range []int{most, most, symbols - 2*most, 0} {
		part := d.eng.AuditNext()
		if len(part) != want {
			t.Fatalf("a part of %d, want %d, after %d", len(part), want, len(all))
		}
		all = append(all, part...)
		before := d.repairs()
		d.eng.AuditEntries(d.read(part), d.now)
		found := 0
		for _, s := range spoilt {
			if slices.Contains(part, s) {
				found++
			}
		}
		if got := d.repairs() - before; got != found {
			t.Errorf("of a part with %d spoilt hashes %d are repaired", found, got)
		}
	}
	for i, r := range records {
		if all[i] != r.Symbol {
			t.Fatalf("in place %d is %s, want %s", i, all[i], r.Symbol)
		}
	}
	d.audit()
	if part := d.eng.AuditNext(); len(part) != most || part[0] != records[0].Symbol {
		t.Errorf("the next read-back begins with %v", part)
	}
}

// What opens, closes, flips or is published between two parts, and before a part that was already chosen is read, is as it was
// confirmed last: nothing of it counts as changed.
func TestReadBackWhileThingsChange(t *testing.T) {
	const symbols, most = 12, 4
	d, records := auditing(t, symbols, most)
	closed, flipped := records[6].Symbol, 7
	opened := d.long("S1005XUSDT", 99, 100)
	d.market(opened.Symbol, 100)
	parts, price := 0, 100.0
	for part := d.eng.AuditNext(); len(part) > 0; part = d.eng.AuditNext() {
		switch parts {
		case 1: // of this part: it ends, it begins anew on the other side
			if !slices.Contains(part, closed) || !slices.Contains(part, records[flipped].Symbol) {
				t.Fatalf("part %d is %v", parts, part)
			}
			records[flipped].Side = position.Short
			records = append(slices.Delete(slices.Clone(records), 6, 7), opened)
		case 2:
			price = 103 // other advice for all
		}
		for _, r := range records {
			d.prices[r.Symbol] = price
		}
		d.seconds(4, true, records...)
		d.eng.AuditEntries(d.read(part), d.now)
		parts++
	}
	if n := d.repairs(); parts != symbols/most || n != 0 || d.eng.Status().Open != symbols {
		t.Errorf("%d parts, %d repairs, %d open", parts, n, d.eng.Status().Open)
	}
	d.seconds(2, true, records...)
	if hash := d.hash(closed); len(hash) > 0 {
		t.Errorf("%s is closed, and there is %v", closed, hash)
	}
	expected := d.client.SMembers(context.Background(), "quantum:harvest:expected").Val()
	if len(expected) != symbols || slices.Contains(expected, string(closed)) || !slices.Contains(expected, string(opened.Symbol)) {
		t.Errorf("expected are %v", expected)
	}
}

// What is out of reach was not changed, and the parts behind it are read all the same.
func TestReadBackGoesOnBehindANodeThatIsAway(t *testing.T) {
	const symbols, most = 12, 3
	d, records := auditing(t, symbols, most)
	entries := d.read(d.eng.AuditNext())
	for i := range entries {
		entries[i] = store.Entry{Symbol: entries[i].Symbol, Lost: true, Err: errors.New("node away")}
	}
	d.eng.AuditEntries(entries, d.now)
	part := d.eng.AuditNext()
	if len(part) != most || part[0] != records[most].Symbol {
		t.Fatalf("the next part is %v", part)
	}
	entries = d.read(part)
	entries[0].Proposal.KillScore += 0.1
	d.eng.AuditEntries(entries, d.now)
	if n := d.repairs(); n != 1 {
		t.Errorf("%d repairs, want that of %s", n, records[most].Symbol)
	}
}

// Where the way to the store is long, a part is larger, as a batch of heartbeats is.
func TestReadBackSavesRoundTrips(t *testing.T) {
	d, _ := auditing(t, 30, 10)
	d.eng.SetBeatsAtOnce(200)
	if part := d.eng.AuditNext(); len(part) != 20 {
		t.Errorf("a part of %d, want 20", len(part))
	}
}

// What other publishers write, and what is not covered, is theirs to read back.
func TestReadBackIsOfWhatIsWrittenHere(t *testing.T) {
	d := newDesk(t, func(o *engine.Options) { o.Symbols = []position.Symbol{btc} })
	d.market(btc, 100)
	d.market(eth, 100)
	d.seconds(2, true, d.long(btc, 99, 100), d.long(eth, 99, 100))
	d.eng.Offer(feed.Price{Symbol: eth, Price: 101, At: d.now})
	d.audit()
	if part := d.eng.AuditNext(); !slices.Equal(part, []position.Symbol{btc}) {
		t.Errorf("read back are %v", part)
	}
}

// A lease that has run out: whoever has it now reads back.
func TestReadBackEndsWithTheLease(t *testing.T) {
	d, _ := auditing(t, 5, 2)
	if len(d.eng.AuditNext()) == 0 {
		t.Fatal("nothing is read back")
	}
	d.now = d.now.Add(time.Minute)
	d.eng.Step(d.now)
	if part := d.eng.AuditNext(); len(part) > 0 {
		t.Errorf("%v are read back without a lease", part)
	}
}
