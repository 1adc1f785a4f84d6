package lease

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quantumharvest/internal/store"
)

const interval = 2 * time.Second

var begin = time.Date(2026, 1, 23, 12, 0, 0, 0, time.UTC)

// server is the lease key as the script keeps it, in the simplest form.
type server struct {
	now     time.Time
	fence   int64
	shards  []store.ShardLease
	members map[string]time.Time
}

func newServer(shards int) *server {
	s := &server{now: begin, members: map[string]time.Time{}}
	for i := range shards {
		s.shards = append(s.shards, store.ShardLease{Shard: i})
	}
	return s
}

func (s *server) answer(ask store.LeaseAsk) store.LeaseAnswer {
	s.members[ask.Holder] = s.now.Add(ask.TTL)
	if ask.Leave {
		delete(s.members, ask.Holder)
	}
	var ans store.LeaseAnswer
	for _, t := range ask.Give {
		if l := &s.shards[t.Shard]; l.Holder == ask.Holder && l.Fence == t.Fence {
			l.Holder = ""
		}
	}
	for _, t := range ask.Renew {
		if l := &s.shards[t.Shard]; l.Live(s.now) && l.Holder == ask.Holder && l.Fence == t.Fence {
			l.Until = s.now.Add(ask.TTL)
			ans.Held = append(ans.Held, t)
		}
	}
	for _, shard := range ask.Take {
		if l := &s.shards[shard]; !l.Live(s.now) {
			s.fence++
			l.Holder, l.Fence, l.Until = ask.Holder, s.fence, s.now.Add(ask.TTL)
			ans.Held = append(ans.Held, store.Term{Shard: shard, Fence: s.fence})
		}
	}
	ans.View = store.LeaseView{Now: s.now, Layout: fmt.Sprint(len(s.shards), " all"), Shards: slices.Clone(s.shards)}
	for holder, until := range s.members {
		if s.now.Before(until) {
			ans.View.Members = append(ans.View.Members, store.Member{Holder: holder, Until: until})
		}
	}
	slices.SortFunc(ans.View.Members, func(a, b store.Member) int { return cmpText(a.Holder, b.Holder) })
	return ans
}

func cmpText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func keeper(t interface{ Fatal(...any) }, name string, shards int) *Keeper {
	k, err := New(Options{Holder: name, Layout: fmt.Sprint(shards, " all"), Shards: shards, Interval: interval})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// due lets every keeper ask that wants to at this moment.
func (s *server) due(all []*Keeper) {
	for range 5 {
		for _, k := range all {
			if !s.now.Before(k.Next()) {
				a := k.Ask(s.now)
				k.Answer(a, s.answer(a.LeaseAsk), s.now)
			}
		}
	}
}

// TestSharesAreEvenAndStay lets publishers come, die and leave in any order. Once that is over, the shards are held, spread
// as evenly as they can be, and never move again.
func TestSharesAreEvenAndStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 12).Draw(t, "shards")
		s := newServer(shards)
		var all []*Keeper
		made := 0
		pass := func(d time.Duration) {
			for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(interval / 12) {
				s.due(all)
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			switch rapid.IntRange(0, 2).Draw(t, "event") {
			case 0:
				made++
				all = append(all, keeper(t, fmt.Sprintf("p%02d", rapid.IntRange(0, 99).Draw(t, "name")*100+made), shards))
			case 1: // dies
				if len(all) > 1 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
					all = slices.Delete(all, i, i+1)
				}
			case 2: // leaves
				if len(all) > 1 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
					s.answer(all[i].Leave(s.now).LeaseAsk)
					for shard := range s.shards {
						if s.shards[shard].Holder == all[i].o.Holder {
							s.shards[shard].Holder = ""
						}
					}
					all = slices.Delete(all, i, i+1)
				}
			}
			pass(time.Duration(rapid.IntRange(0, 60).Draw(t, "pause")) * 100 * time.Millisecond)
		}
		if len(all) == 0 {
			all = append(all, keeper(t, "p", shards))
		}
		pass(3 * interval)
		for shard, l := range s.shards {
			if !l.Live(s.now) {
				t.Fatalf("shard %d has no holder three intervals later", shard)
			}
		}
		pass(interval)
		least, most := shards, 0
		for _, k := range all {
			n := k.Held(s.now)
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 {
			t.Fatalf("%d shards over %d publishers: between %d and %d", shards, len(all), least, most)
		}
		before := slices.Clone(s.shards)
		pass(5 * interval)
		for shard := range s.shards {
			if s.shards[shard].Fence != before[shard].Fence {
				t.Fatalf("shard %d moved from %s to %s without need", shard, before[shard].Holder, s.shards[shard].Holder)
			}
		}
	})
}

func TestWhatIsNotConfirmedInTimeIsNotHeld(t *testing.T) {
	s := newServer(1)
	k := keeper(t, "a", 1)
	s.due([]*Keeper{k})
	fence := k.Fence(0, s.now)
	if fence == 0 {
		t.Fatal("a free lease was not taken")
	}
	// The next answer takes long: what counts is when it was asked for.
	s.now = k.Next()
	a := k.Ask(s.now)
	ans := s.answer(a.LeaseAsk)
	late := s.now.Add(interval)
	k.Answer(a, ans, late)
	if k.Fence(0, a.Sent().Add(2*interval-time.Millisecond)) != fence || k.Fence(0, a.Sent().Add(2*interval)) != 0 {
		t.Error("the lease does not end two intervals after it was asked for")
	}
	if k.Held(a.Sent().Add(2*interval)) != 0 {
		t.Error("it is still counted")
	}

	// A refused write ends it at once; an old one does not end the new term.
	s.now = late
	k.Drop(0, fence-1)
	if k.Fence(0, s.now) == 0 {
		t.Error("the refusal of an older term ended this one")
	}
	k.Drop(0, fence)
	if k.Fence(0, s.now) != 0 || s.now.Before(k.Next()) {
		t.Error("a refused write changed nothing")
	}
	// The server says it is ours, under a fence that we do not trust any more: it is taken anew.
	s.shards[0].Until = s.now // by now it has run out
	s.due([]*Keeper{k})
	if got := k.Fence(0, s.now); got <= fence {
		t.Errorf("taken again under fence %d, before %d", got, fence)
	}
}

func TestConflictHoldsNothing(t *testing.T) {
	k := keeper(t, "a", 2)
	a := k.Ask(begin)
	k.Answer(a, store.LeaseAnswer{Conflict: "1 all", View: store.LeaseView{Now: begin, Layout: "1 all"}}, begin)
	if k.Conflict() != "1 all" || k.Held(begin) != 0 || !k.Settled() {
		t.Errorf("conflict %q, %d held", k.Conflict(), k.Held(begin))
	}
	if next := k.Ask(k.Next()); len(next.Take) != 0 {
		t.Errorf("it takes shards %v all the same", next.Take)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no holder":   {Shards: 1, Interval: interval},
		"no shards":   {Holder: "a", Interval: interval},
		"too many":    {Holder: "a", Shards: store.MaxShards + 1, Interval: interval},
		"no interval": {Holder: "a", Shards: 1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
