package top

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"quantumharvest/internal/position"
)

// page is what fills the middle of the screen.
type page int

const (
	pageTable page = iota
	pageSymbol
	pageHelp
)

// noticesKept is how many lines the pane at the bottom remembers; noticesShown how many of them fit on a page.
const (
	noticesKept  = 50
	noticesShown = 4
)

// maxFilter bounds the text of the filter, in bytes.
const maxFilter = 64

// model is everything on the screen.
type model struct {
	header    string
	symbols   []position.Symbol
	style     *palette
	withPane  bool
	now       time.Time // on this machine's clock
	width     int
	height    int
	notices   []string // newest last
	live      picture
	have      bool  // there was a good reading
	err       error // of the last reading
	failing   time.Time
	meter     meter
	paused    bool
	pausedAt  time.Time
	held      picture // what is shown while paused
	sort      order
	filter    string
	typing    bool   // the filter is being typed
	before    string // the filter that esc brings back
	page      page
	back      page // where help returns to
	selected  position.Symbol
	scroll    int // of the page of one symbol
	firstSeen int // first row of the table on the screen
	left      bool
}

func newModel(o Options) model {
	return model{header: clean(o.Header), symbols: o.Symbols, style: newPalette(), withPane: o.Notices != nil, now: o.Now(), sort: bySymbol}
}

// update takes in one message. It changes nothing but the model that it returns.
func (m model) update(msg tea.Msg) (_ model, quit bool) {
	switch msg := msg.(type) {
	case clock:
		m.now = time.Time(msg)
	case reading:
		m = m.take(msg)
	case leave:
		quit = true
	case notice:
		kept := m.notices[max(0, len(m.notices)-noticesKept+1):]
		m.notices = append(slices.Clone(kept), clean(string(msg)))
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.PasteMsg:
		if m.typing {
			m = m.addToFilter(msg.Content)
		}
	case tea.KeyPressMsg:
		m, quit = m.key(msg)
	}
	return m.settle(), quit
}

// take takes in one reading of the store.
func (m model) take(r reading) model {
	m.now = r.end
	if m.err = r.err; r.err != nil {
		if m.failing.IsZero() {
			m.failing = r.end
		}
		m.meter = m.meter.lost()
		return m
	}
	m.failing = time.Time{}
	m.have = true
	m.live = newPicture(r, m.symbols)
	m.meter = m.meter.observe(&m.live)
	return m
}

// picture is what is shown, and as of when.
func (m *model) picture() (*picture, time.Time) {
	if m.paused {
		return &m.held, m.pausedAt
	}
	return &m.live, m.now
}

// rows is what the table shows.
func (m *model) rows() []*row {
	p, now := m.picture()
	return p.shown(m.sort, m.filter, now)
}

func (m model) key(k tea.KeyPressMsg) (_ model, quit bool) {
	if k.String() == "ctrl+c" {
		return m, true
	}
	if m.typing {
		return m.typeFilter(k), false
	}
	name := k.String()
	switch name {
	case "q":
		return m, true
	case "?":
		if m.page == pageHelp {
			m.page = m.back
		} else {
			m.back, m.page = m.page, pageHelp
		}
		return m, false
	case "p":
		m.paused = !m.paused && m.have
		if m.paused {
			m.held, m.pausedAt = m.live, m.now
		}
		return m, false
	case "s":
		m.sort = (m.sort + 1) % orders
		return m, false
	case "/":
		m.typing, m.before, m.page = true, m.filter, pageTable
		return m, false
	}
	switch m.page {
	case pageHelp:
		if name == "esc" || name == "enter" {
			m.page = m.back
		}
	case pageSymbol:
		switch name {
		case "esc", "enter", "backspace", "left":
			m.page, m.scroll = pageTable, 0
		case "n", "right":
			m = m.move(1)
			m.scroll = 0
		case "b":
			m = m.move(-1)
			m.scroll = 0
		default:
			m.scroll += m.distance(name, m.scroll)
		}
	default:
		switch name {
		case "enter", "right":
			if m.selected != "" {
				m.page, m.scroll = pageSymbol, 0
			}
		case "esc":
			m.filter = ""
		default:
			m = m.move(m.distance(name, m.at(m.rows())))
		}
	}
	return m, false
}

// distance is how far a key moves, from a place counted from the top.
func (m *model) distance(key string, from int) int {
	leaf := max(1, m.height-8)
	switch key {
	case "up", "k":
		return -1
	case "down", "j":
		return 1
	case "pgup", "ctrl+b":
		return -leaf
	case "pgdown", "ctrl+f", "space":
		return leaf
	case "home", "g":
		return -from
	case "end", "G":
		return 1 << 20
	}
	return 0
}

// at is where the selected symbol is in the table; where it is not there any more, the first row.
func (m *model) at(rows []*row) int {
	return max(0, slices.IndexFunc(rows, func(r *row) bool { return r.symbol == m.selected }))
}

// move selects another row.
func (m model) move(by int) model {
	rows := m.rows()
	if len(rows) == 0 || by == 0 {
		return m
	}
	m.selected = rows[min(max(m.at(rows)+by, 0), len(rows)-1)].symbol
	return m
}

func (m model) typeFilter(k tea.KeyPressMsg) model {
	switch k.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.filter = false, m.before
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-size]
	case "ctrl+u":
		m.filter = ""
	default:
		m = m.addToFilter(k.Text)
	}
	return m
}

func (m model) addToFilter(text string) model {
	first, _, _ := strings.Cut(text, "\n")
	if first = clean(first); len(m.filter)+len(first) <= maxFilter {
		m.filter += first
	}
	return m
}

// settle keeps the cursor on a row that is there, and that row on the screen. The page of a symbol stays open when its
// proposal goes: it then says so.
func (m model) settle() model {
	if m.width <= 0 || m.height <= 0 {
		return m
	}
	rows := m.rows()
	if m.page != pageSymbol && len(rows) > 0 {
		m.selected = rows[m.at(rows)].symbol
	}
	room := m.layout().room
	at := m.at(rows)
	m.firstSeen = min(m.firstSeen, max(0, len(rows)-room))
	if at < m.firstSeen {
		m.firstSeen = at
	}
	if at >= m.firstSeen+room {
		m.firstSeen = at - room + 1
	}
	if m.page == pageSymbol {
		m.scroll = min(max(m.scroll, 0), max(0, len(m.symbolLines())-room-1))
	}
	return m
}
