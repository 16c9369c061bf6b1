package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

func TestSummary(t *testing.T) {
	require.Zero(t, summarize(nil))
	var samples []sample
	for i := range 1000 {
		samples = append(samples, sample{early: i < 3, late: time.Duration(1000 - i)})
	}
	require.Equal(t, summary{n: 1000, early: 3, p50: 500, p99: 990, p999: 999, latest: 1000}, summarize(samples))
	require.Equal(t, summary{n: 1, p50: 7, p99: 7, p999: 7, latest: 7}, summarize([]sample{{late: 7}}))
}

// Short runs against our own binary: nothing is early. How late something is, a busy machine decides.
func TestRuns(t *testing.T) {
	nsqd := filepath.Join(t.TempDir(), "nsqd")
	require.NoError(t, daemon.Build(t.Context(), nsqd))
	t.Run("nothing is early", func(t *testing.T) {
		var out bytes.Buffer
		o := options{nsqd: nsqd, samples: 60, spread: 200 * time.Millisecond, idle: time.Minute, busy: time.Minute, phases: []string{"idle", "busy"}, out: &out}
		require.NoError(t, run(t.Context(), o))
		require.Equal(t, 2+2*len(kinds), strings.Count(out.String(), "\n"), out.String())
		t.Log("\n" + out.String())
	})
	t.Run("limits are kept", func(t *testing.T) {
		o := options{nsqd: nsqd, samples: 5, spread: time.Millisecond, idle: -time.Hour, phases: []string{"idle"}, out: &bytes.Buffer{}}
		require.ErrorContains(t, run(t.Context(), o), "idle, DPUB: 0 early, p99.9 is ")
	})
}
