package kernel

import (
	"math"
	"slices"
)

// heights are the log prices of consecutive points, found by the id of the point. Ids count the points of a series and
// wrap around; the distance of two points is the difference of their ids.
type heights struct {
	y     []float64
	first uint16 // id of y[0]
}

func (h heights) at(id uint16) float64 { return h.y[id-h.first] }

func (h heights) from(id uint16) []float64 { return h.y[id-h.first:] }

// sweep knows, for one window of points and one slope, how many of the slopes between two points are below that slope,
// without holding any of them. The slope of a pair is below that of a line where its later point is lower above the
// line than its earlier one. So in the order of the points by height above the line those pairs stand the wrong way
// round in time: their number is the number of inversions of that order.
//
// Turning the line to another slope changes the order by one swap of neighbours for each slope that is passed, which
// both counts those slopes and finds them (walk). A point that comes or goes moves nothing but itself (slide, move). So
// the median of all slopes can be followed from candle to candle at the price of the slopes that it passes (follow).
//
// The count is always exactly the number of inversions. The order is that by height only as far as heights are not
// rounded; slack says how far that is.
type sweep struct {
	order  []uint16 // ids of the points, the lowest above the line first
	slope  float64  // of the line
	below  int      // inversions of order: pairs with a slope below that of the line
	flat   bool     // the slope is 0, and pairs of the same log price count as below, too
	lost   bool     // nothing here is true: start anew
	origin uint16   // distances along the line are counted from this point
	base   float64  // and heights from here; walk and start alone change them
	pitch  float64  // distance from slope to slope near the median, as last seen
}

// maxDrift is how many windows the newest point may be away from the origin, lest slack grows without bound.
const maxDrift = 3

// height is that of a point above the line: until the line is turned the same number each time.
func (s *sweep) height(h heights, id uint16) float64 {
	return (h.at(id) - s.base) - float64(s.slope*float64(id-s.origin))
}

// aim gives the line a slope, and heights a new origin. Above a level line they are the log prices themselves.
func (s *sweep) aim(h heights, oldest uint16, slope float64) {
	s.slope, s.origin, s.base = slope, oldest, h.at(oldest)
	if slope == 0 {
		s.base = 0
	}
}

// slack is how far a slope must be from that of the line to be certainly on the side where it is counted: more than
// twice what the heights of two points are rounded by. Above a level line nothing is rounded.
func (s *sweep) slack(h heights, oldest uint16) float64 {
	if s.slope == 0 {
		return 0
	}
	along := float64(oldest + uint16(len(s.order)) - 1 - s.origin)
	return float64(0x1p-50 * (s.reach(h) + float64(2*math.Abs(s.slope)*along)))
}

// reach is at least the largest height.
func (s *sweep) reach(h heights) float64 {
	return math.Abs(s.height(h, s.order[0])) + math.Abs(s.height(h, s.order[len(s.order)-1]))
}

// least is a step that turns the line by more than heights are rounded.
func (s *sweep) least(h heights) float64 {
	return float64(0x1p-46 * (s.reach(h) + float64(math.Abs(s.slope)*float64(len(s.order)))))
}

// start puts the line at a slope, and the points from oldest on, len(order) of them, into order.
func (s *sweep) start(h heights, oldest uint16, slope float64, c *sweepScratch) {
	s.aim(h, oldest, slope)
	z := c.z[:len(s.order)]
	y := h.from(oldest)[:len(z)]
	for t := range z {
		z[t] = (y[t] - s.base) - float64(slope*float64(t))
	}
	// Only roughly; walking on the spot does the rest.
	rank, drawer, _ := c.fill(z)
	for t, d := range drawer {
		s.order[rank[d]] = oldest + uint16(t)
		rank[d]++
	}
	s.walk(h, oldest, slope, c)
	s.flat, s.lost = false, false
	s.below = inversions(s.order, oldest, c.seen)
}

// slide takes the oldest point out and the one after the newest in.
func (s *sweep) slide(h heights, oldest uint16) {
	if s.lost {
		return
	}
	newest := oldest + uint16(len(s.order))
	if int(newest-s.origin) > maxDrift*len(s.order) {
		s.lost = true
		return
	}
	p := slices.Index(s.order, oldest)
	s.below -= p // all that stands before the oldest point is later
	s.put(h, newest, p)
}

// move puts the newest point to its place after its height has changed.
func (s *sweep) move(h heights, newest uint16) {
	if s.lost {
		return
	}
	p := slices.Index(s.order, newest)
	s.below -= len(s.order) - 1 - p // all that stands behind the newest point is earlier
	s.put(h, newest, p)
}

// put inserts the newest point, where position p is free.
func (s *sweep) put(h heights, newest uint16, p int) {
	x := s.height(h, newest)
	q := s.search(h, s.order[:p], x)
	if q == p { // behind all of those
		behind := s.order[p+1:]
		q += s.search(h, behind, x)
		copy(s.order[p:], behind[:q-p])
	} else {
		copy(s.order[q+1:], s.order[q:p])
	}
	s.order[q] = newest
	s.below += len(s.order) - 1 - q
}

// search tells before how many of the ids a newest point of height x does not belong.
func (s *sweep) search(h heights, ids []uint16, x float64) int {
	q := 0
	for n := len(ids); n > 0; {
		half := n >> 1
		z := s.height(h, ids[q+half])
		if z < x || z == x && !s.flat {
			q += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return q
}

// level tells whether the line is level and the median of the slopes is 0: whether pairs of the same log price are in
// the middle.
func (s *sweep) level(h heights) bool {
	if s.slope != 0 {
		return false
	}
	ties, run := 0, 0
	before := math.NaN()
	for _, id := range s.order {
		y := h.at(id)
		if y != before {
			run = 0
		}
		ties += run
		run++
		before = y
	}
	below := s.below
	if s.flat {
		below -= ties
	}
	n := pairsOf(len(s.order))
	return below <= (n-1)/2 && n/2 < below+ties
}
