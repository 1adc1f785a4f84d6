package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Table is the figures for people.
func Table(figures []Figure) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "name\tvalue\t\ttarget\t\tto its rival\t")
	rivals := map[string]int{}
	var order []string
	for _, f := range figures {
		value, verdict, target, ratio := "-", "", "", ""
		if f.Value != nil {
			value = number(*f.Value)
		}
		if f.Target != nil {
			target = "<= " + number(*f.Target)
			switch {
			case f.Value == nil:
				verdict = "not measured"
			case f.Met():
				verdict = "met"
			default:
				verdict = "MISSED"
			}
		}
		if f.Allocs != nil {
			verdict += fmt.Sprintf(", %s allocs", number(*f.Allocs))
		}
		if f.Ratio != nil {
			if rivals[f.Rival] == 0 {
				rivals[f.Rival] = len(rivals) + 1
				order = append(order, f.Rival)
			}
			ratio = fmt.Sprintf("%s [%d]", number(*f.Ratio), rivals[f.Rival])
		}
		unit := f.Unit
		if unit == "1" {
			unit = ""
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Name, value, unit, target, verdict, ratio)
	}
	_ = w.Flush()
	for i, rival := range order {
		fmt.Fprintf(&b, "\n[%d] %s", i+1, rival)
	}
	for _, f := range figures {
		if f.Note != "" {
			fmt.Fprintf(&b, "\n%s: %s", f.Name, f.Note)
		}
	}
	return b.String() + "\n"
}

// number in three digits.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
