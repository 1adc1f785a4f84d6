package reference

import (
	"strings"
	"testing"
)

func TestUpdate(t *testing.T) {
	for _, s := range sections {
		begin, end := "<!-- "+s.name+":begin -->", "<!-- "+s.name+":end -->"
		got, err := Update("# a\n" + begin + "\nwritten earlier\n" + end + "\nb\n")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, "# a\n"+begin+"\n") || !strings.HasSuffix(got, end+"\nb\n") || strings.Contains(got, "written earlier") {
			t.Errorf("got %s", got)
		}
		if again, err := Update(got); err != nil || again != got {
			t.Errorf("a second time changes it: %v", err)
		}
		for _, bad := range []string{"", begin, end + begin, begin + end + begin} {
			if _, err := Update(bad); err == nil {
				t.Errorf("%q: accepted", bad)
			}
		}
	}
}

// Nothing of ours is without a type, a meaning or a place where it is seen.
func TestMetricsAreWhole(t *testing.T) {
	text, err := metrics()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"quantum_harvest_kill_score", "quantum_harvest_publish_total", "quantum_harvest_cycle_seconds", "quantum_harvest_feed_used_weight", "quantum_harvest_monitor_damaged_total", "quantum_harvest_scrapes_total"} {
		if !strings.Contains(text, "| `"+name+"`") {
			t.Errorf("%s is missing", name)
		}
	}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") && (strings.TrimSpace(cells[2]) == "" || strings.TrimSpace(cells[5]) == "") {
			t.Errorf("without a type or a meaning: %s", line)
		}
	}
	if !strings.Contains(text, "[HeartbeatLost](runbooks/QuantumHarvestHeartbeatLost.md)") {
		t.Error("the alerts that rest on a metric are missing")
	}
}
