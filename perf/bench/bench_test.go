package main

import (
	"context"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := play(role); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func TestSpread(t *testing.T) {
	tests := []struct {
		values []float64
		want   string
	}{
		{[]float64{7}, "7"},
		{[]float64{3, 1}, "2 (1-3)"},
		{[]float64{1000, 999.4, 1234567}, "1,000 (999-1,234,567)"},
		{[]float64{4, 1, 3, 2}, "2.5 (1-4)"},
		{[]float64{0.98765}, "0.988"},
		{[]float64{99.96}, "100"},
		{[]float64{-1234}, "-1,234"},
		{[]float64{0}, "0"},
	}
	for _, test := range tests {
		require.Equal(t, test.want, spreadOf(plain(test.values...), value).String())
	}
}

func TestFloors(t *testing.T) {
	less, more := row{}, row{more: true}
	tests := []struct {
		name        string
		floor       floor
		row         row
		ours, peer  []float64
		asked, says string
	}{
		{"ratio reached", times(5), less, []float64{100}, []float64{500}, "5 x", "holds"},
		{"ratio missed", times(5), less, []float64{100}, []float64{499}, "5 x", "**missed**: 4.99 x"},
		{"ratio where more is better", times(5), more, []float64{500}, []float64{101}, "5 x", "**missed**: 4.95 x"},
		{"ratio without a peer", times(5), less, []float64{100}, nil, "5 x", "not measured"},
		{"at most", floor{limit: 40}, less, []float64{40}, nil, "at most 40", "holds"},
		{"too much", floor{limit: 40}, less, []float64{41}, nil, "at most 40", "**missed**: 41"},
		{"at least", floor{limit: 0.95}, more, []float64{0.95}, nil, "at least 0.95", "holds"},
		{"too little", floor{limit: 0.95}, more, []float64{0.949}, nil, "at least 0.95", "**missed**: 0.949"},
		{"the median decides", floor{limit: 40}, less, []float64{1, 39, 90}, nil, "at most 40", "holds"},
		{"ranges overlap", floor{notWorse: true}, less, []float64{10, 12}, []float64{8, 10}, "not worse", "holds"},
		{"ranges do not", floor{notWorse: true}, less, []float64{11, 12}, []float64{8, 10}, "not worse", "**missed**: 0.783 x"},
		{"none", floor{}, less, []float64{11}, []float64{8}, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := map[string][]sample{oursName: plain(test.ours...), peerMemName: plain(test.peer...)}
			require.Equal(t, test.asked, test.floor.text(test.row))
			require.Equal(t, test.says, test.floor.verdict(test.row, func(subject string) []sample { return all[subject] }))
		})
	}
	slow := func(subject string) []sample {
		return map[string][]sample{oursName: {{10, 0, 90}}, peerMemName: {{10, 0, 100}}}[subject]
	}
	require.Equal(t, "**missed**: 0.90 of its rate", floor{notWorse: true}.verdict(less, slow))
}

func TestTables(t *testing.T) {
	all := results{
		cell{"mpub", oursName, 0}:        {{100, 130, 2e6}, {110, 140, 2e6}, {90, 120, 2e6}},
		cell{"mpub", peerMemName, 0}:     {{800, 900, 1e6}, {900, 950, 1e6}, {1000, 990, 1e6}},
		cell{"mpub", peerDiskName, 1}:    {{800, 900, 1e6}},
		cell{"drain-5m", oursName, 1}:    plain(3),
		cell{"drain-5m", peerMemName, 1}: plain(1700),
	}
	o := options{peer: "none", ours: "none", dir: t.TempDir(), runs: 3, scale: 1, size: 200}
	var text strings.Builder
	o.out = &text
	require.NoError(t, writeMarkdown(context.Background(), o, all))
	require.Contains(t, text.String(), "Ours: unknown. Peer: unknown. Bodies of 200 random bytes where nothing else is said, 3 runs")
	require.Contains(t, text.String(), "### Ours and the peer in memory (`--mem-queue-size=1000000`)")
	require.Contains(t, text.String(),
		"| MPUB x200, 4 connections | cold | 100 (90-110) | 900 (800-1,000) | 9.0 | 5 x | holds | 130 (120-140) | 950 (900-990) | 2,000,000 |")
	require.NotContains(t, text.String(), "| warm |", "a row needs both sides")
	require.Contains(t, text.String(), "| anonymous memory when filled | MB | at most 40 | holds | 3 | 1,700 |")
	picture := drawing(o, all)
	require.NoError(t, xml.Unmarshal([]byte(picture), new(struct{})))
	require.Contains(t, picture, "MPUB x200, 4 connections")

	o.tls = true
	asked, _ := judge(o, all, mpubWorkload, 0)
	require.Equal(t, "4 x", asked, "TLS has floors of its own")
	o.tls = false

	o.peer = ""
	text.Reset()
	require.NoError(t, writeMarkdown(context.Background(), o, all))
	require.Contains(t, text.String(), "| MPUB x200, 4 connections | cold | 100 (90-110) | 130 (120-140) | 2,000,000 |")
	require.NotContains(t, text.String(), "peer")
}

func TestWorkloadNamesAreUnique(t *testing.T) {
	names := map[string]bool{}
	for _, w := range workloads {
		require.False(t, names[w.name], w.name)
		require.NotEmpty(t, w.rows, w.name)
		names[w.name] = true
	}
}

// TestEveryWorkloadRuns sends a few messages through each, against our own daemon in all roles.
func TestEveryWorkloadRuns(t *testing.T) {
	nsqd := filepath.Join(t.TempDir(), "nsqd")
	if err := daemon.Build(context.Background(), nsqd); err != nil {
		t.Fatal("no nsqd to measure: ", err)
	}
	var text strings.Builder
	o := options{
		ours: nsqd, peer: nsqd, runs: 1, quick: true, only: regexp.MustCompile(""), scale: 0.005, size: 200, dir: t.TempDir(), out: &text,
		progress: io.Discard, svg: filepath.Join(t.TempDir(), "bench.svg"),
	}
	require.NoError(t, run(context.Background(), o))
	t.Log(text.String())
	want := 0
	for _, w := range workloads {
		for _, r := range w.rows {
			if want++; r.throughput && len(w.of(o)) == 3 {
				want++
			}
		}
	}
	require.Equal(t, want, strings.Count(text.String(), "\n| ")-2*strings.Count(text.String(), "\n| ---"), "a row for each figure")
	require.NotContains(t, text.String(), "not measured")
	require.FileExists(t, o.svg)
}
