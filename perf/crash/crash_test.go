package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func build(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsqd")
	if err := daemon.Build(context.Background(), path, flags...); err != nil {
		t.Fatal("no nsqd to kill: ", err)
	}
	return path
}

// TestThreeKills is the short form of make crash.
func TestThreeKills(t *testing.T) {
	var out strings.Builder
	o := options{nsqd: build(t), rounds: 3, seed: 1, drain: 2, deferred: true, sigterm: 10, dir: t.TempDir(), out: &out}
	require.NoError(t, crash(context.Background(), o))
	require.Contains(t, out.String(), "PASS 3 kills")
	require.NotContains(t, out.String(), "acknowledged 0")
}

func TestMutantsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nsqd a dozen times")
	}
	var out strings.Builder
	o := options{
		nsqd: build(t, "-tags", "mutants"), built: []string{"-tags", "mutants"}, rounds: 20, seed: 1, dir: t.TempDir(), out: &out,
	}
	require.NoError(t, catchMutants(context.Background(), o))
	for _, mutant := range mutants {
		require.Contains(t, out.String(), "caught "+mutant)
	}
}

func TestFailureOutputRunsAgain(t *testing.T) {
	o := options{nsqd: "/bin/nsqd", rounds: 20, seed: 7, drain: 5, deferred: true, sigterm: 10, args: "--mem-queue-size=0 -x"}
	var err error
	o.allow, err = parseClasses("early,delay-forgotten")
	require.NoError(t, err)
	require.Equal(t, `go run ./perf/crash -n 20 -seed 7 -drain 5 -nsqd /bin/nsqd -defer -sigterm 10 -allow early,delay-forgotten -args "--mem-queue-size=0 -x"`, o.command())
	o = options{nsqd: "/tmp/built", built: []string{"-race"}, rounds: 1, seed: 7, drain: 5}
	require.Equal(t, "go run ./perf/crash -n 1 -seed 7 -drain 5 -race", o.command())
}
