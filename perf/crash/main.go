package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

func main() {
	o := options{out: os.Stdout}
	var race, mutated bool
	var allow string
	flag.IntVar(&o.rounds, "n", 20, "kills")
	flag.StringVar(&o.nsqd, "nsqd", "", "nsqd binary; without one, cmd/nsqd is built")
	flag.BoolVar(&race, "race", false, "build cmd/nsqd with the race detector")
	flag.BoolVar(&mutated, "mutants", false, "build cmd/nsqd with planted faults and demand that each is found within -n kills")
	flag.Uint64Var(&o.seed, "seed", 0, "0 takes one from the clock")
	flag.IntVar(&o.drain, "drain", 10, "kills between two drains")
	flag.BoolVar(&o.deferred, "defer", false, "publish some messages with DPUB")
	flag.IntVar(&o.sigterm, "sigterm", 0, "percent of the rounds that end with SIGTERM instead of SIGKILL")
	flag.IntVar(&o.aimed, "aimed", 0, "percent of the rounds that are killed at a named point of the daemon, which is built for that")
	flag.IntVar(&o.stopped, "stopped", 0, "percent of the rounds in which the daemon is held by SIGSTOP for a while, or killed then")
	flag.StringVar(&o.policy, "powercut", "", "cut the power -n times instead of killing, under this sync policy: always or interval. Needs root")
	flag.StringVar(&o.full, "fulldisk", "", "fill the disk -n times instead of killing, on a file system of this kind: tmpfs or ext4. Needs root")
	flag.BoolVar(&o.damaged, "damage", false, "damage the files of -n data paths instead of killing")
	flag.BoolVar(&o.strict, "strict", false, "with -fulldisk: refusals and the return to work must be as fast as promised")
	flag.BoolVar(&o.verify, "verify", false, "run nsqd --verify on what each round leaves: it must find no damage")
	flag.IntVar(&o.oom, "oom", 0, "percent of the rounds that the kernel's OOM killer ends, where this process may make memory groups")
	flag.DurationVar(&o.restart, "restart", 0, "fail if a start takes longer; 0 = only measure")
	flag.StringVar(&allow, "allow", "", "classes of the ledger that are counted but do not fail the run, separated by commas")
	flag.StringVar(&o.args, "args", "", "more flags for nsqd, separated by spaces")
	flag.StringVar(&o.dir, "dir", "", "where to put the data path; empty is the directory for temporary files")
	flag.BoolVar(&o.verbose, "v", false, "a line for every round")
	flag.Parse()
	var err error
	if o.allow, err = parseClasses(allow); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(2)
	}
	if flag.NArg() > 0 || race && o.nsqd != "" || mutated && o.nsqd != "" {
		flag.Usage()
		os.Exit(2)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, race, mutated); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		stop()
		os.Exit(1)
	}
}

func parseClasses(list string) (classes []ledger.Class, err error) {
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		class, err := ledger.ParseClass(name)
		if err != nil {
			return nil, err
		}
		classes = append(classes, class)
	}
	return classes, nil
}

// run builds what is needed and does what was asked for.
func run(ctx context.Context, o options, race, mutated bool) (err error) {
	dir, err := os.MkdirTemp("", "crash-build-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var flags []string
	if race {
		flags = append(flags, "-race")
	}
	build := func(name string, tags ...string) (string, error) {
		path := filepath.Join(dir, name)
		return path, daemon.Build(ctx, path, append(slices.Clone(flags), "-tags", strings.Join(tags, ","))...)
	}
	if mutated {
		o.nsqd, err = build("nsqd-mutants", "mutants", "crashpoints")
		o.aimAt, o.built = o.nsqd, []string{}
		if err != nil {
			return err
		}
		return catchMutants(ctx, o, dir)
	}
	if o.nsqd == "" {
		if o.nsqd, err = build("nsqd"); err != nil {
			return err
		}
		o.built = flags
		if flags == nil {
			o.built = []string{}
		}
	}
	if o.aimed > 0 {
		if o.aimAt, err = build("nsqd-crashpoints", "crashpoints"); err != nil {
			return err
		}
	}
	switch {
	case o.policy != "":
		return powerCuts(ctx, o)
	case o.damaged:
		return damageRuns(ctx, o)
	case o.full != "":
		return fullDisk(ctx, o)
	}
	return crash(ctx, o)
}
