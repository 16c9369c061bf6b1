package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

// mutant is a fault that a build with the tag mutants can be told to have (NSQLOOP_MUTANT), and the rig that must find it: the classes of the
// ledger that a run of kills must show, a loss at a power cut, or a test of mmapq that must fail.
type mutant struct {
	name  string
	finds []ledger.Class
	cut   string // the sync policy under which power cuts must lose something
	test  string
}

var mutants = []mutant{
	{name: "ack-before-append", finds: []ledger.Class{ledger.ClassLostMiddle, ledger.ClassLostSuffix, ledger.ClassLostPrefix}},
	{name: "forget-inflight", finds: []ledger.Class{ledger.ClassLostMiddle, ledger.ClassLostSuffix, ledger.ClassLostPrefix}},
	{name: "floor-ahead", finds: []ledger.Class{ledger.ClassLostMiddle, ledger.ClassLostSuffix, ledger.ClassLostPrefix}},
	{name: "forget-finish", finds: []ledger.Class{ledger.ClassFinishedAgain}},
	{name: "forget-delay", finds: []ledger.Class{ledger.ClassDelayForgotten}},
	{name: "reset-due", finds: []ledger.Class{ledger.ClassEarly}},
	{name: "ack-before-sync", cut: "always"},
	{name: "skip-manifest-sync", test: "TestPowerCutAtEveryOperation"},
	{name: "skip-dir-sync", test: "TestPowerCutAtEveryOperation"},
	{name: "sync-latecomers", test: "TestSyncCountsOnlyWhatItsManifestKnows"},
	{name: "retry-sync", test: "TestFaults/sync_of_a_segment,_for_ever_false,_policy_1"},
	{name: "free-pinned", test: "TestSyncHoldsWhatItSyncs"},
	{name: "trust-length", test: "TestEveryByteOfASmallLog"},
	{name: "commit-order", test: "TestHoleOfAnUnfinishedWriter"},
}

const (
	mutantVar   = "NSQLOOP_MUTANT"
	mutantDrain = 2 // kills between drains: a mutant is caught at the first drain that misses something
)

// catchMutants shows each mutant to its rig, after a control run of the same binaries without one, which no rig may blame.
func catchMutants(ctx context.Context, o options, dir string) error {
	o.drain, o.deferred = mutantDrain, true
	o.rounds = max(o.rounds, 2*mutantDrain)
	tests := filepath.Join(dir, "mmapq.test")
	if err := daemon.BuildTest(ctx, tests, "mmapq", "-tags", "mutants"); err != nil {
		return err
	}
	control := o
	control.rounds = 2 * mutantDrain
	if err := crash(ctx, control); err != nil {
		return fmt.Errorf("control run without a mutant: %w", err)
	}
	var failures []error
	for _, m := range mutants {
		began := time.Now()
		var found string
		var err error
		switch {
		case m.test != "":
			found, err = m.failsItsTest(ctx, tests)
		case m.cut != "" && mountable(ctx, dir) != nil:
			fmt.Fprintf(o.out, "SKIPPED %s: no image can be mounted here: %v\n", m.name, mountable(ctx, dir))
			continue
		case m.cut != "":
			found, err = o.catchByCuts(ctx, m)
		default:
			found, err = o.catch(ctx, m)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		fmt.Fprintf(o.out, "caught %s in %.1f s: %s\n", m.name, time.Since(began).Seconds(), found)
	}
	return errors.Join(failures...)
}

// catch kills a daemon that has the fault until the ledger finds it.
func (o options) catch(ctx context.Context, m mutant) (found string, err error) {
	o.env = []string{mutantVar + "=" + m.name}
	r, err := newRig(o)
	if err != nil {
		return "", err
	}
	err = r.loop(ctx)
	if r.daemon != nil {
		err = errors.Join(err, r.daemon.Kill())
	}
	err = errors.Join(err, r.remove())
	if err == nil {
		return "", fmt.Errorf("%s was not caught in %d kills; again with -seed %d", m.name, o.rounds, o.seed)
	}
	if !isFault(err) || r.verdict == nil {
		return "", fmt.Errorf("%s: %w", m.name, err)
	}
	for _, class := range m.finds {
		if n := r.verdict.Count(class); n > 0 {
			return fmt.Sprintf("%s %d of %d", class, n, r.verdict.Acked), nil
		}
	}
	return "", fmt.Errorf("%s: the rig found something else: %w", m.name, err)
}

// catchByCuts cuts the power of a daemon that has the fault until something is lost.
func (o options) catchByCuts(ctx context.Context, m mutant) (found string, err error) {
	o.env, o.policy = []string{mutantVar + "=" + m.name}, m.cut
	err = powerCuts(ctx, o)
	if err == nil {
		return "", fmt.Errorf("%s was not caught in %d power cuts; again with -seed %d", m.name, o.rounds, o.seed)
	}
	if !isFault(err) || !strings.Contains(err.Error(), " lost-") {
		return "", fmt.Errorf("%s: %w", m.name, err)
	}
	return "lost at a power cut", nil
}

// failsItsTest runs the mutant's test without and with the fault.
func (m mutant) failsItsTest(ctx context.Context, binary string) (found string, err error) {
	path := strings.Split(m.test, "/")
	for i := range path {
		path[i] = "^" + path[i] + "$"
	}
	command := func(env ...string) ([]byte, error) {
		c := exec.CommandContext(ctx, binary, "-test.run", strings.Join(path, "/"), "-test.failfast", "-test.v")
		c.Env = append(c.Environ(), env...)
		return c.CombinedOutput()
	}
	text, err := command()
	if err != nil || !strings.Contains(string(text), "--- PASS: "+m.test) {
		return "", fmt.Errorf("control run of %s: %w\n%s", m.test, err, text)
	}
	text, err = command(mutantVar + "=" + m.name)
	if err == nil {
		return "", fmt.Errorf("%s was not caught by %s", m.name, m.test)
	}
	if !strings.Contains(string(text), "--- FAIL: "+m.test) {
		return "", fmt.Errorf("%s: %s found something else: %w\n%s", m.name, m.test, err, text)
	}
	return m.test + " fails", nil
}
