package main

import (
	"context"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSpread(t *testing.T) {
	tests := []struct {
		values []float64
		want   string
	}{
		{[]float64{7}, "7 (7-7)"},
		{[]float64{3, 1}, "2 (1-3)"},
		{[]float64{1000, 999.4, 1234567}, "1,000 (999-1,234,567)"},
		{[]float64{4, 1, 3, 2}, "3 (1-4)"},
	}
	for _, test := range tests {
		var samples []sample
		for _, v := range test.values {
			samples = append(samples, sample{cpuPerMessage: v})
		}
		require.Equal(t, test.want, spreadOf(samples, cpu).String())
	}
}

func TestTables(t *testing.T) {
	all := results{
		cell{"mpub", oursName, cold}:     {{100, 2e6}, {110, 2e6}, {90, 2e6}},
		cell{"mpub", peerMemName, cold}:  {{800, 1e6}, {900, 1e6}, {1000, 1e6}},
		cell{"mpub", peerDiskName, warm}: {{800, 1e6}},
	}
	o := options{peer: "none", ours: "none", dir: t.TempDir(), runs: 3, size: 200}
	var text strings.Builder
	o.out = &text
	require.NoError(t, writeMarkdown(context.Background(), o, all))
	require.Contains(t, text.String(), "Ours: unknown. Peer: unknown. Bodies of 200 random bytes, 3 runs")
	require.Contains(t, text.String(), "### Ours and the peer in memory (`--mem-queue-size=1000000`)")
	require.Contains(t, text.String(),
		"| MPUB x200, 4 connections | cold | 100 (90-110) | 900 (800-1,000) | 9.0 | 2,000,000 (2,000,000-2,000,000) |")
	require.NotContains(t, text.String(), "| warm |", "a row needs both sides")

	o.peer = ""
	text.Reset()
	require.NoError(t, writeMarkdown(context.Background(), o, all))
	require.Contains(t, text.String(), "| MPUB x200, 4 connections | cold | 100 (90-110) | 2,000,000")
	require.NotContains(t, text.String(), "peer")
}

func TestWorkloadNamesAreUnique(t *testing.T) {
	names := map[string]bool{}
	for _, w := range workloads {
		require.False(t, names[w.name], w.name)
		names[w.name] = true
	}
}

// TestEveryWorkloadRuns sends a few messages through each, against our own daemon in all three roles.
func TestEveryWorkloadRuns(t *testing.T) {
	nsqd := filepath.Join(t.TempDir(), "nsqd")
	if err := daemon.Build(context.Background(), nsqd); err != nil {
		t.Fatal("no nsqd to measure: ", err)
	}
	var text strings.Builder
	o := options{
		ours: nsqd, peer: nsqd, runs: 1, only: regexp.MustCompile(""), scale: 0.005, size: 200, dir: t.TempDir(), out: &text, progress: io.Discard,
	}
	require.NoError(t, run(context.Background(), o))
	t.Log(text.String())
	rows := strings.Count(text.String(), "\n| ")
	require.Equal(t, 2*(2+len(workloads)*passCount), rows, "two tables, each with a head, a rule and a row for each pass")
}
