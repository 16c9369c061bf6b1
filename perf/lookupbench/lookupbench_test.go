package main

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/stretchr/testify/require"
)

// A small cluster, ours on both sides: every step runs and the table is whole.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nsqlookupd")
	require.NoError(t, daemon.BuildPackage(t.Context(), path, daemon.LookupPackage))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, options{
		ours: path, peer: path, peers: 4, topics: 6, producers: 2, registers: 100, connections: 2, time: 100 * time.Millisecond,
	}))
	require.Regexp(t, `(?s)limit of peer, 2 connections: \d+ lookups/s.*\| peer \| \d+ \|.*\| ours \| \d+ \|`, out.String())
}
