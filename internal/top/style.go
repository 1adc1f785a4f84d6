package top

import "charm.land/lipgloss/v2"

// tone is what a piece of text is, from which its looks follow.
type tone int

const (
	plain tone = iota
	dim
	strong
	heading
	green
	yellow
	red
	alarm    // something that must not be overlooked
	selected // the row under the cursor
)

// palette is how each tone looks. The colours are the sixteen that every scheme defines, so that they are legible on a
// light and on a dark background; where a terminal has none, marks and words say the same.
type palette [selected + 1]lipgloss.Style

func newPalette() *palette {
	base := lipgloss.NewStyle().Inline(true)
	var p palette
	p[plain] = base
	p[dim] = base.Faint(true)
	p[strong] = base.Bold(true)
	p[heading] = base.Bold(true).Underline(true)
	p[green] = base.Foreground(lipgloss.Green)
	p[yellow] = base.Foreground(lipgloss.Yellow)
	p[red] = base.Foreground(lipgloss.Red).Bold(true)
	p[alarm] = base.Foreground(lipgloss.Red).Bold(true).Reverse(true)
	p[selected] = base.Reverse(true)
	return &p
}

func (p *palette) paint(t tone, text string) string {
	if t == plain || text == "" {
		return text
	}
	return p[t].Render(text)
}

// toneOf is the colour of a level.
func toneOf(l level) tone {
	switch l {
	case good:
		return green
	case late:
		return yellow
	case bad:
		return red
	}
	return dim
}
