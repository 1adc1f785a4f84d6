package kernel

import "math"

const (
	// maxTries and maxTurns are limits for slopes that lie so oddly that guesses go wrong again and again.
	maxTries = 4
	maxTurns = 24
	// A turn aims for more slopes than needed, because how far apart they are can only be guessed.
	marginLeast = 4
	marginShift = 3
	// pitchMemory is the number of slopes that the pitch known before counts for.
	pitchMemory = 16
)

// passage is what a line passes while it turns in one direction: consecutive slopes, none left out. They are listed in
// theilSen.slopes, except those that are 0.
type passage struct {
	up    bool    // to larger slopes
	from  int     // slopes below the line at the start
	edge  float64 // a slope beyond this one is certainly beyond the start
	n     int     // slopes listed
	ties  int     // slopes that are 0
	sound bool    // no pair was passed the wrong way
}

// depart begins a passage.
func (s *sweep) depart(h heights, oldest uint16, up bool) passage {
	return passage{up: up, from: s.below, edge: s.certain(h, oldest, up), sound: true}
}

// certain is the slope above which, or below which, every slope is known to be counted on that side of the line.
func (s *sweep) certain(h heights, oldest uint16, above bool) float64 {
	edge := s.slack(h, oldest)
	if s.slope == 0 && s.flat != above {
		edge = -math.SmallestNonzeroFloat64 // ties are on that side, too
	}
	if above {
		return s.slope + edge
	}
	return s.slope - edge
}

// follow turns the line of a sweep until it has passed the median of the slopes, and returns that. False means that
// slopes around the median are closer to each other than heights are rounded.
//
// The median is right: it is picked by its rank from a sound passage, it is further from both ends of the passage than
// any pair that may be counted on the wrong side there, so every smaller slope is either listed or counted below the
// lower end, and every larger one listed or beyond the upper end.
func (t *theilSen) follow(s *sweep, h heights, oldest uint16) (float64, bool) {
	n := pairsOf(len(s.order))
	low, high := (n-1)/2, n/2 // ranks of the two middle slopes
	for range maxTries {
		up := s.below <= low
		p := s.depart(h, oldest, up)
		for turns := 0; up && s.below <= high || !up && s.below > low; turns++ {
			if turns == maxTurns {
				return 0, false
			}
			if turns > 0 && (up && s.below <= low || !up && s.below > high) {
				p = s.depart(h, oldest, up) // the median is not among those that were passed
			}
			need := high - s.below + 1
			if !up {
				need = s.below - low
			}
			t.turn(s, h, oldest, &p, need+marginLeast+need>>marginShift)
		}
		if high >= max(p.from, s.below) {
			continue // the line began between the two middle slopes, and has now left both on one side
		}
		if lower, upper, ok := t.pick(s, h, oldest, &p, low, high); ok {
			return 0.5 * (lower + upper), true
		}
		if p.n > n>>farShift {
			return 0, false // very many are very close
		}
		t.turn(s, h, oldest, &p, 4*marginLeast) // the ends lie badly: take others
	}
	return 0, false
}

// turn passes about as many slopes as given, in the direction of p, and adds them to p. It stops at the slope 0, whose
// ties it passes all at once: in quiet markets they are most of the slopes.
func (t *theilSen) turn(s *sweep, h heights, oldest uint16, p *passage, slopes int) {
	if s.slope == 0 && s.flat != p.up {
		s.flat = p.up
		ties := s.orderTies(h, oldest)
		p.ties += max(ties, -ties)
		return
	}
	from, below := s.slope, s.below
	step := max(float64(float64(slopes)*s.pitch), s.least(h))
	if !p.up {
		step = -step
	}
	to := from + step
	if from < 0 && to > 0 || from > 0 && to < 0 {
		to = 0
	}
	pairs := s.walk(h, oldest, to, &t.sweepScratch)
	if p.n+len(pairs) > len(t.slopes) {
		p.n, p.sound = 0, false // some were passed more than once
	}
	rising := h.slopes(t.slopes[p.n:], pairs)
	p.n += len(pairs)
	s.below += 2*rising - len(pairs)
	if p.up && rising < len(pairs) || !p.up && rising > 0 {
		p.sound = false
	}
	if to == 0 && s.orderTies(h, oldest) != 0 {
		p.sound = false
	}
	s.pitch = (float64(pitchMemory*s.pitch) + math.Abs(to-from)) / float64(pitchMemory+abs(s.below-below))
}

// pick finds the slopes of two ranks, the same or neighbours, in a passage that ends where the line is now. False means
// that they are not certain.
func (t *theilSen) pick(s *sweep, h heights, oldest uint16, p *passage, low, high int) (lower, upper float64, ok bool) {
	if !p.sound {
		return 0, 0, false
	}
	from, to, first := p.edge, s.certain(h, oldest, !p.up), p.from
	if !p.up {
		from, to, first = to, from, s.below
	}
	if !(from < to) {
		return 0, 0, false // the line has not turned by more than heights are rounded
	}
	low, high = low-first, high-first
	if p.ties == 0 {
		lower, upper = spreadNeighbours(t.slopes[:p.n], low, high, from, to)
	} else {
		lower, upper = neighboursWithTies(t.slopes[:p.n], p.ties, low, high)
	}
	return lower, upper, from < lower && upper < to
}
