package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
)

// Receiver is somebody who is told.
type Receiver struct {
	Name  string
	Kinds []string // slack, email and so on; none: nobody is told
}

// Receivers lists the receivers that a route leads to, by name.
func (s *Server) Receivers() []Receiver { return s.duty.Load().told }

// Silence is one that is in force.
type Silence struct {
	ID, Matchers, By, Comment string
	Until                     time.Time
}

// Silences lists the silences in force, the first to end first.
func (s *Server) Silences(ctx context.Context) ([]Silence, error) {
	found, _, err := s.silences.Query(ctx, silence.QState(silence.SilenceStateActive))
	if err != nil {
		return nil, fmt.Errorf("monitor: list the silences: %w", err)
	}
	var all []Silence
	for _, f := range found {
		var sets []string
		for _, set := range f.MatcherSets {
			sets = append(sets, matchers(set.Matchers))
		}
		if len(sets) == 0 {
			sets = []string{matchers(f.Matchers)}
		}
		all = append(all, Silence{f.Id, strings.Join(sets, " or "), f.CreatedBy, f.Comment, f.EndsAt.AsTime()})
	}
	slices.SortFunc(all, func(a, b Silence) int { return a.Until.Compare(b.Until) })
	return all, nil
}

var operators = map[silencepb.Matcher_Type]string{
	silencepb.Matcher_EQUAL: "=", silencepb.Matcher_NOT_EQUAL: "!=", silencepb.Matcher_REGEXP: "=~", silencepb.Matcher_NOT_REGEXP: "!~",
}

func matchers(list []*silencepb.Matcher) string {
	var all []string
	for _, m := range list {
		all = append(all, fmt.Sprintf("%s%s%q", m.Name, operators[m.Type], m.Pattern))
	}
	return strings.Join(all, ", ")
}
