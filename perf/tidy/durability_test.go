package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDurabilityNamesItsTests: every promise in docs/DURABILITY.md names what holds it, and that exists.
func TestDurabilityNamesItsTests(t *testing.T) {
	tests := map[string]bool{}
	named := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, file := range sources(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			tests[match[1]] = true
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	text, err := os.ReadFile("../../docs/DURABILITY.md")
	require.NoError(t, err)
	holders := regexp.MustCompile("`(make )?(\\w+)`")
	promises, held := 0, false
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "|") {
			held = false
		}
		if strings.HasSuffix(line, "| held by |") {
			held = true // until the table ends
			continue
		}
		if !held || strings.HasPrefix(line, "| --- ") {
			continue
		}
		promises++
		found := holders.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(found) == 0 {
			t.Errorf("nothing holds: %s", line)
		}
		for _, holder := range found {
			if holder[1] == "" && !tests[holder[2]] {
				t.Errorf("there is no %s, which should hold: %s", holder[2], line)
			}
			if holder[1] != "" && !regexp.MustCompile(`(?m)^`+holder[2]+`:`).Match(makefile) {
				t.Errorf("there is no make target %s, which should hold: %s", holder[2], line)
			}
		}
	}
	require.Greater(t, promises, 30)
}
