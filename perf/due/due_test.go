package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestShort is the command with a few seconds' delay; how late a message is depends on what else this machine does.
func TestShort(t *testing.T) {
	dir := t.TempDir()
	nsqd := filepath.Join(dir, "nsqd")
	require.NoError(t, daemon.Build(context.Background(), nsqd))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out strings.Builder
	o := options{nsqd: nsqd, dir: dir, delay: 8 * time.Second, samples: 200, late: 10 * time.Second, fill: 20000, out: &out}
	err := o.run(ctx)
	t.Log(out.String())
	require.NoError(t, err)
}
