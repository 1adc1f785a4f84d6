package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// A part of the store that does not answer when its memory is read: nothing is written over what nobody has seen, others go
// on, and when it answers the episode goes on, too.
func TestNothingIsWrittenOverMemoryThatWasNotRead(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	recs := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50)}
	d.seconds(2, true, recs...)
	recs[0].Current = 120
	d.seconds(2, true, recs...)
	recs[0].Current = 100
	d.seconds(2, true, recs...)
	before, hash := d.whole(btc), d.hash(btc)

	d.lost = []position.Symbol{btc}
	d.restart()
	d.market(btc, 100)
	d.market(eth, 50)
	recs[0].OpenedAt = time.Time{} // this process would not know the episode by itself
	d.seconds(40, true, recs...)
	if diff := cmp.Diff(hash, d.hash(btc)); diff != "" {
		t.Fatalf("written over unread memory:\n%s", diff)
	}
	if got := d.client.SMembers(context.Background(), "quantum:harvest:expected").Val(); len(got) != 2 {
		t.Errorf("expected %v", got)
	}
	if a := d.age(eth); a != 0 {
		t.Errorf("the heartbeat of another symbol is %v old", a)
	}

	d.lost = nil
	d.seconds(2, true, recs...)
	p := d.whole(btc)
	if a := d.age(btc); a != 0 || p.Revision <= before.Revision || p.Fence <= before.Fence || p.Episode != before.Episode || p.Peak != before.Peak {
		t.Errorf("%v old, revision %d after %d, fence %d after %d, episode %s after %s, peak %v after %v",
			a, p.Revision, before.Revision, p.Fence, before.Fence, p.Episode, before.Episode, p.Peak, before.Peak)
	}
}

// A close that waits beside its hash for the stream is found when its node answers.
func TestAPendingCloseIsRepeatedWhenItsNodeAnswers(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	recs := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50)}
	d.seconds(2, true, recs...)
	episode := d.whole(btc).Episode
	d.lost = []position.Symbol{btc}
	d.restart()
	later := d.now.Add(2 * time.Second)
	if !d.eng.WantsRecall(later) {
		t.Fatal("what was out of reach is never looked for again")
	}
	recall := d.eng.BeginRecall(later)
	if !recall.Late() {
		t.Error("others are to wait for it")
	}
	d.eng.Restore(recall, store.Memory{
		Collection: store.Collection{Entries: []store.Entry{{Symbol: btc}}},
		Pending:    []store.Close{{Symbol: btc, Episode: episode, Reason: "flat", At: d.now}},
	}, later)
	d.lost = nil
	d.now = later
	d.redis.SetTime(d.now)
	d.run(d.eng)
	records, err := d.client.XRange(context.Background(), "quantum:stream:harvest.proposal", "-", "+").Result()
	if err != nil || len(records) != 1 || records[0].Values["episode"] != episode {
		t.Errorf("%v, %v", records, err)
	}
}

// What a reading of the store could not reach was not changed by anybody.
func TestWhatIsOutOfReachWasNotChanged(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	recs := []position.Record{d.long(btc, 99, 100)}
	d.seconds(3, true, recs...)
	before := d.whole(btc).Revision
	d.eng.AuditExpected(store.Collection{Expected: []position.Symbol{btc}}, d.now)
	if part := d.eng.AuditNext(); len(part) != 1 {
		t.Fatalf("to be read back: %v", part)
	}
	d.eng.AuditEntries([]store.Entry{{Symbol: btc, Lost: true, Err: errors.New("node away")}}, d.now)
	d.seconds(2, true, recs...)
	if got := d.whole(btc).Revision; got != before {
		t.Errorf("written in full without a cause: revision %d after %d", got, before)
	}
}

// A position whose record was refused, and whose node does not answer now, is still there as far as is known.
func TestARefusedPositionThatIsOutOfReachIsExpected(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	look := func(refused, lost []position.Symbol) {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		snap := d.snapshot(d.long(btc, 99, 100))
		snap.Refused, snap.Lost = refused, lost
		d.eng.Offer(snap)
		d.run(d.eng)
	}
	expected := func() int {
		return len(d.client.SMembers(context.Background(), "quantum:harvest:expected").Val())
	}
	only := []position.Symbol{eth}
	look(only, nil)
	for range 40 {
		look(nil, only)
	}
	if expected() != 2 {
		t.Error("out of reach, out of mind")
	}
	look(nil, nil)
	look(nil, nil)
	if expected() != 1 {
		t.Error("it is gone, and still expected")
	}
}
