package compat

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// racingRows are proved by TestSubRacesWithDelete: no script can hold a daemon
// in the middle of a deletion.
var racingRows = []string{"8.1#8", "8.1#9"}

// loadRows reads testdata/rows.txt: the ids that must be proved, and those that
// wait, with the reason.
func loadRows(t *testing.T) (counted map[string]bool, waiting map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/rows.txt")
	if err != nil {
		t.Fatal(err)
	}
	counted, waiting = map[string]bool{}, map[string]string{}
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		id, what, ok := strings.Cut(line, " ")
		what = strings.TrimSpace(what)
		if !ok || what == "" {
			t.Fatalf("rows.txt:%d: a row needs an id and a text", n+1)
		}
		if counted[id] || waiting[id] != "" {
			t.Errorf("rows.txt:%d: %s is there twice", n+1, id)
		}
		if reason, waits := strings.CutPrefix(what, "WAITS: "); waits {
			waiting[id] = reason
		} else {
			counted[id] = true
		}
	}
	return counted, waiting
}

// TestRows holds the list of rows and the conversations against each other.
func TestRows(t *testing.T) {
	counted, waiting := loadRows(t)
	all, err := loadConversations()
	if err != nil {
		t.Fatal(err)
	}
	proved := map[string]bool{}
	for _, id := range slices.Concat(processRows(), racingRows, optionRows(), signalRows(), attemptRows, registryRows, clientStatsRows, sourceRows(t)) {
		proved[id] = true
	}
	titles := map[string]bool{}
	for _, c := range all {
		where := c.file + ": " + c.title
		if titles[where] {
			t.Errorf("%s: there are two of this title", where)
		}
		titles[where] = true
		if len(c.rows) == 0 || len(c.steps) == 0 {
			t.Errorf("%s: names no row, or has no step", where)
		}
		for _, id := range c.rows {
			proved[id] = true
		}
	}
	for id := range proved {
		if !counted[id] {
			t.Errorf("%s is named by a conversation but is no row of rows.txt that counts", id)
		}
	}
	for id := range counted {
		if !proved[id] {
			t.Errorf("%s is named by no conversation", id)
		}
	}
	t.Logf("%d conversations, %d rows counted, %d waiting", len(all), len(counted), len(waiting))
}

// TestDifferences holds the list of differences and the conversations against
// each other: an entry that nobody uses, or of which one side is never checked,
// is a claim without proof.
func TestDifferences(t *testing.T) {
	all, err := loadConversations()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]map[string]bool{}
	for _, d := range differences {
		if used[d.id] != nil {
			t.Errorf("%s is listed twice", d.id)
		}
		if d.stock == "" || d.ours == "" || d.reason == "" || d.line == "" {
			t.Errorf("%s lacks one of its texts", d.id)
		}
		used[d.id] = map[string]bool{}
		if d.builtIn {
			used[d.id] = map[string]bool{"stock": true, "ours": true}
		}
	}
	for _, c := range all {
		for _, s := range c.steps {
			if s.difference == "" {
				continue
			}
			if used[s.difference] == nil {
				t.Errorf("%s:%d: %s is not in the list of differences", c.file, s.line, s.difference)
				continue
			}
			used[s.difference][s.variant] = true
		}
	}
	for id, variants := range used {
		if !variants["stock"] || !variants["ours"] {
			t.Errorf("%s: conversations check %v, not both sides", id, variants)
		}
	}
}
