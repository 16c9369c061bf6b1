package main

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
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
	o := options{
		nsqd: build(t), aimAt: build(t, "-tags", "crashpoints"), rounds: 3, seed: 1, drain: 2, deferred: true, sigterm: 10, aimed: 50, stopped: 20, verify: true,
		dir: t.TempDir(), out: &out,
	}
	require.NoError(t, crash(context.Background(), o))
	require.Contains(t, out.String(), "PASS 3 kills")
	require.NotContains(t, out.String(), "acknowledged 0")
}

func TestMutantsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("kills nsqd a dozen times")
	}
	var out strings.Builder
	o := options{nsqd: build(t, "-tags", "mutants"), built: []string{}, rounds: 20, seed: 1, dir: t.TempDir(), out: &out}
	o.drain, o.deferred = mutantDrain, true
	_, err := o.catch(t.Context(), mutants[0]) // make mutants runs them all
	require.NoError(t, err)
	o.rounds = 2
	_, err = o.catch(t.Context(), mutant{name: "none", finds: []ledger.Class{ledger.ClassLostMiddle}})
	require.ErrorContains(t, err, "was not caught")

	tests := filepath.Join(t.TempDir(), "mmapq.test")
	require.NoError(t, daemon.BuildTest(t.Context(), tests, "mmapq", "-tags", "mutants"))
	_, err = mutants[len(mutants)-1].failsItsTest(t.Context(), tests)
	require.NoError(t, err)
	_, err = mutant{name: "none", test: "TestFrameBytes"}.failsItsTest(t.Context(), tests)
	require.ErrorContains(t, err, "was not caught")
}

func TestFailureOutputRunsAgain(t *testing.T) {
	o := options{nsqd: "/bin/nsqd", rounds: 20, seed: 7, drain: 5, deferred: true, sigterm: 10, aimed: 30, args: "--mem-queue-size=0 -x"}
	var err error
	o.allow, err = parseClasses("early,delay-forgotten")
	require.NoError(t, err)
	require.Equal(t, `go run ./perf/crash -n 20 -seed 7 -drain 5 -nsqd /bin/nsqd -defer -sigterm 10 -aimed 30 -allow early,delay-forgotten -args "--mem-queue-size=0 -x"`, o.command())
	o = options{nsqd: "/tmp/built", built: []string{"-race"}, rounds: 1, seed: 7, drain: 5}
	require.Equal(t, "go run ./perf/crash -n 1 -seed 7 -drain 5 -race", o.command())
}

// TestCrashPointsAreThoseOfTheLog holds the table of the rig and that of the daemon together.
func TestCrashPointsAreThoseOfTheLog(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../mmapq/crashpoint.go", nil, 0)
	require.NoError(t, err)
	want := map[string]byte{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			sign, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			want[strings.ToLower(strings.TrimPrefix(spec.Names[0].Name, "Point"))] = sign[0]
		}
		return true
	})
	require.Greater(t, len(want), 20)
	got := map[string]byte{}
	for _, p := range crashPoints {
		got[strings.ReplaceAll(p.name, "-", "")] = p.sign
	}
	require.Equal(t, want, got)
}

// TestAimCountsAndKills: the process is killed when the point was passed as often as was asked, and not before.
func TestAimCountsAndKills(t *testing.T) {
	a := &aim{point: crashPoints[0], nth: 3}
	pipe, err := a.start()
	require.NoError(t, err)
	process := exec.Command("sleep", "60")
	require.NoError(t, process.Start())
	a.pid.Store(int64(process.Process.Pid))
	_, err = pipe.Write([]byte("abab"))
	require.NoError(t, err)
	require.False(t, a.hit())
	_, err = pipe.Write([]byte("xa"))
	require.NoError(t, err)
	require.ErrorContains(t, process.Wait(), "killed")
	require.True(t, a.hit())
	require.NoError(t, pipe.Close())
	require.NoError(t, a.stop())
}

func TestChurnModel(t *testing.T) {
	var s churnTopic
	for _, step := range []struct {
		op   churnOp
		want string
	}{
		{churnOp{path: "/pub", n: 1}, "depth 1"},
		{churnOp{path: "/topic/pause"}, "depth 1 paused"},
		{churnOp{path: "/channel/create", channel: "a"}, "depth 1 paused a:0"},
		{churnOp{path: "/mpub", n: 3}, "depth 4 paused a:0"},
		{churnOp{path: "/channel/create", channel: "b"}, "depth 4 paused a:0 b:0"},
		{churnOp{path: "/topic/unpause"}, "depth 0 a:4 b:4"},
		{churnOp{path: "/channel/pause", channel: "b"}, "depth 0 a:4 b:4 paused"},
		{churnOp{path: "/channel/empty", channel: "b"}, "depth 0 a:4 b:0 paused"},
		{churnOp{path: "/channel/delete", channel: "a"}, "depth 0 b:0 paused"},
		{churnOp{path: "/channel/delete", channel: "b"}, "depth 0"},
		{churnOp{path: "/mpub", n: 2}, "depth 2"},
		{churnOp{path: "/channel/create", channel: "a"}, "depth 0 a:2"},
		{churnOp{path: "/topic/delete"}, "none"},
	} {
		require.True(t, s.possible(step.op), step.op)
		s = s.apply(step.op)
		require.Equal(t, step.want, s.String(), step.op)
	}
	require.Len(t, s.outcomes(churnOp{path: "/mpub", n: 3}), 5)
	require.Len(t, s.outcomes(churnOp{path: "/topic/create"}), 2)
}

// TestPowerCut is the short form of make powercut.
func TestPowerCut(t *testing.T) {
	if err := mountable(t.Context(), t.TempDir()); err != nil {
		t.Skip("no image can be mounted here: ", err)
	}
	for _, policy := range []string{"always", "interval"} {
		var out strings.Builder
		o := options{nsqd: build(t), rounds: 2, seed: 1, deferred: true, policy: policy, dir: t.TempDir(), out: &out}
		require.NoError(t, powerCuts(t.Context(), o))
		require.Contains(t, out.String(), "PASS 2 power cuts")
		require.NotContains(t, out.String(), " 0 messages acknowledged")
	}
}

// TestFullDisk is the short form of make fulldisk.
func TestFullDisk(t *testing.T) {
	if err := mountable(t.Context(), t.TempDir()); err != nil {
		t.Skip("nothing can be mounted here: ", err)
	}
	var out strings.Builder
	o := options{nsqd: build(t), rounds: 2, seed: 1, deferred: true, full: "tmpfs", dir: t.TempDir(), out: &out}
	require.NoError(t, fullDisk(t.Context(), o))
	require.Contains(t, out.String(), "PASS 2 times full")
}

// TestDamage is the short form of make damage: one case of each of the first kinds.
func TestDamage(t *testing.T) {
	var out strings.Builder
	o := options{nsqd: build(t), rounds: 4, seed: 1, deferred: true, dir: t.TempDir(), out: &out}
	require.NoError(t, damageRuns(t.Context(), o))
	require.Contains(t, out.String(), "PASS 4 damaged data paths")
	require.Contains(t, out.String(), damageKinds[3].name+": 1 cases")
}
