package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/stretchr/testify/require"
)

// A small node, ours on both sides: every form is measured.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nsqd")
	require.NoError(t, daemon.Build(t.Context(), path))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, path, path, options{topics: 2, channels: 3, polls: 2}))
	require.Equal(t, len(forms), strings.Count(out.String(), "\n| peer |"))
	require.Equal(t, len(forms), strings.Count(out.String(), "\n| ours |"))
}
