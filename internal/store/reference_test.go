package store

import (
	"testing"
	"time"
)

// The table of meanings speaks of every field, and of no other.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, f := range ProposalFields() {
		if f.Kind == "" || f.Meaning == "" {
			t.Errorf("%s has no kind or meaning", f.Name)
		}
	}
	if len(described) != len(fields) {
		t.Errorf("%d descriptions of %d fields", len(described), len(fields))
	}
	for _, k := range KeyDocs(time.Minute) {
		if k.Pattern == "" || k.Type == "" || k.Meaning == "" || k.Writer == "" || k.Reader == "" || k.Life == "" {
			t.Errorf("%+v is not whole", k)
		}
	}
}
