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

// TestShort is the command with a fifth of a gigabyte.
func TestShort(t *testing.T) {
	dir := t.TempDir()
	nsqd := filepath.Join(dir, "nsqd")
	require.NoError(t, daemon.Build(context.Background(), nsqd))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, o := range []options{
		{gigabytes: 0.3, limit: 290, size: 1000},
		{gigabytes: 0.2, limit: 290, size: 1000, stay: 1000},
	} {
		var out strings.Builder
		o.nsqd, o.dir, o.out = nsqd, dir, &out
		err := o.run(ctx)
		t.Log(out.String())
		require.NoError(t, err)
	}
}
