package kernel

// Stream is the market state of a series of closes that moves on. It gives the numbers that Estimator.State gives for
// the closes of its window, bit for bit, at a fraction of the cost: what one candle changes is little, and the rest is
// kept. Nothing that is kept is a rounded sum that could drift: the medians are found by counting, the order statistics
// are held in order, and what remains is summed afresh.
//
// With windows of up to W points, a new candle (Push, State) costs about W steps and one more for each slope between the
// median before and the median after: usually a third of W. Another price of the open candle (Revise, State) costs less,
// because it moves the median less. A changed history (Reset, State) costs what Estimator.State costs. The worst case
// is W squared: all slopes of a window are computed where they are the same but for rounding, as in exactly exponential
// growth.
//
// A Stream holds about 4 kB with the default parameters and does not allocate. It uses the scratch of its Estimator:
// an Estimator and its streams must not be used by several goroutines at once.
type Stream struct {
	e     *Estimator
	limit int // closes of the window
	count int // closes in it

	// Log prices of the newest closes are in room[from:to], no more of them than the estimator needs.
	room     []float64
	from, to int
	first    uint16 // id of room[0]

	// Where ready, what follows belongs to those closes. It is made by the first State that has enough of them.
	ready bool
	// returns are those that volatility looks at. In a window of more points than there are ids they are sorted anew for
	// every state.
	returns returnOrder
	same    int // neighbouring returns of the same sign that the regime looks at
	moving  movingVariance
	sweeps  []sweep // of the trend windows; none where slopes are not followed

	fresh bool // state and err belong to the closes
	state MarketState
	err   error
}

const (
	// spare is the number of closes that are added between two moves of all log prices to the front of their room.
	spare = 31
	// mostRoom is for how many points there are ids.
	mostRoom = 1 << 16
)

// NewStream makes an empty stream whose window holds up to that many closes, at least one. It has a state where that
// is Required closes or more; the numbers are those of Estimator.State for the closes of the window.
func (e *Estimator) NewStream(window int) *Stream {
	e.reserve()
	s := &Stream{
		e:     e,
		limit: max(window, 1),
		room:  make([]float64, e.required+spare),
	}
	if len(s.room) <= mostRoom {
		s.returns = make(returnOrder, e.p.Vol.Window)
	}
	if e.p.Trend.Method == TrendTheilSen {
		s.sweeps = make([]sweep, len(e.p.Trend.Windows))
		for i, w := range e.p.Trend.Windows {
			s.sweeps[i].lost = true
			if w > directUpTo {
				s.sweeps[i].order = make([]uint16, w)
			}
		}
	}
	return s
}

// Len is the number of closes in the window.
func (s *Stream) Len() int { return s.count }

// Push adds the close of the candle behind the newest; where the window is full, the oldest close leaves it. A close
// that is not above 0 and finite is refused with the *FieldError that Estimator.State would give, and changes nothing.
func (s *Stream) Push(price float64) error {
	y, err := s.e.logPrice(min(s.count, s.limit-1), price)
	if err != nil {
		return err
	}
	s.count = min(s.count+1, s.limit)
	s.fresh = false
	if s.ready {
		s.advance(y)
	} else {
		s.append(y)
	}
	return nil
}

// Revise replaces the newest close, as often as its candle moves. It refuses what Push refuses.
func (s *Stream) Revise(price float64) error {
	if s.count == 0 {
		return refuse("prices", "there is no close to revise")
	}
	y, err := s.e.logPrice(s.count-1, price)
	if err != nil {
		return err
	}
	newest := &s.room[s.to-1]
	before := *newest
	if y == before {
		return nil
	}
	*newest = y
	s.fresh = false
	if s.ready {
		s.replace(before)
	}
	return nil
}

// Reset replaces all closes, oldest first; of more than the window holds the newest are kept. Where one of them is
// refused the stream is empty.
func (s *Stream) Reset(prices []float64) error {
	s.count, s.from, s.to = 0, 0, 0
	s.ready, s.fresh = false, false
	if err := checkPrices(prices); err != nil {
		return err
	}
	unused := max(0, len(prices)-s.e.required)
	for i, p := range prices[unused:] {
		y, err := s.e.logPrice(unused+i, p)
		if err != nil {
			s.to = 0
			return err
		}
		s.append(y)
	}
	s.count = min(len(prices), s.limit)
	return nil
}

// State is the market state of the closes in the window. As with Estimator.State, ok is false where they are too few,
// and the error is a *FieldError where their combination is too extreme.
func (s *Stream) State() (st MarketState, ok bool, err error) {
	if s.count < s.e.required {
		return MarketState{}, false, nil
	}
	if !s.fresh {
		s.refresh()
	}
	return s.state, s.err == nil, s.err
}

func (s *Stream) logPrices() []float64 { return s.room[s.from:s.to] }

// points are all that there are log prices of.
func (s *Stream) points() heights {
	return heights{y: s.logPrices(), first: s.first + uint16(s.from)}
}

// heights are those of the points of every sweep, with the id of the newest.
func (s *Stream) heights() (h heights, newest uint16) {
	from := max(s.from, s.to-maxTheilSenWindow)
	return heights{y: s.room[from:s.to], first: s.first + uint16(from)}, s.first + uint16(s.to-1)
}

func (s *Stream) append(y float64) {
	if s.to == len(s.room) {
		s.first += uint16(s.from)
		s.from, s.to = 0, copy(s.room, s.logPrices())
	}
	s.room[s.to] = y
	s.to++
	s.from = max(s.from, s.to-s.e.required)
}

// advance is append where everything else follows.
func (s *Stream) advance(y float64) {
	lp, n := s.logPrices(), s.e.required-1
	if regime := s.e.p.Regime.Window; regime > 1 {
		s.same += sameSign(lp[n-1], lp[n], y) - sameSign(lp[n-regime], lp[n-regime+1], lp[n-regime+2])
	}
	s.moving.known = false
	s.append(y)
	h, newest := s.heights()
	if s.returns != nil {
		s.returns.put(s.points(), newest-uint16(len(s.returns)), newest)
	}
	for i := range s.sweeps {
		sw := &s.sweeps[i]
		sw.slide(h, newest-uint16(len(sw.order)))
	}
}

// replace brings everything else up to date after the newest log price has changed.
func (s *Stream) replace(before float64) {
	lp, n := s.logPrices(), s.e.required-1
	if s.e.p.Regime.Window > 1 {
		s.same += sameSign(lp[n-2], lp[n-1], lp[n]) - sameSign(lp[n-2], lp[n-1], before)
	}
	h, newest := s.heights()
	if s.returns != nil {
		s.returns.put(s.points(), newest, newest)
	}
	for i := range s.sweeps {
		s.sweeps[i].move(h, newest)
	}
}

// refresh computes the state.
func (s *Stream) refresh() {
	e, lp := s.e, s.logPrices()
	if !s.ready {
		if s.returns != nil {
			e.orderReturns(s.returns, s.points())
		}
		s.same = sameSigns(last(lp, e.p.Regime.Window+1))
		s.moving.known = false
		for i := range s.sweeps {
			s.sweeps[i].lost = true
		}
		s.ready = true
	}
	h, newest := s.heights()
	for i, w := range e.p.Trend.Windows {
		if s.sweeps == nil || w <= directUpTo {
			e.mu[i] = e.trend(last(lp, w))
			continue
		}
		e.mu[i] = e.slopes.next(&s.sweeps[i], h, newest-uint16(w-1))
	}
	if invariants {
		s.check()
	}
	sorted := sortedReturns{order: s.returns, points: s.points()}
	if s.returns == nil {
		sorted.values = e.sortReturns(lp)
	}
	s.state, s.err = e.state(lp, sorted, s.same, &s.moving)
	s.fresh = true
}
