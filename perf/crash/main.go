package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

func main() {
	o := options{out: os.Stdout}
	var race, mutants bool
	var allow string
	flag.IntVar(&o.rounds, "n", 20, "kills")
	flag.StringVar(&o.nsqd, "nsqd", "", "nsqd binary; without one, cmd/nsqd is built")
	flag.BoolVar(&race, "race", false, "build cmd/nsqd with the race detector")
	flag.BoolVar(&mutants, "mutants", false, "build cmd/nsqd with planted faults and demand that each is found within -n kills")
	flag.Uint64Var(&o.seed, "seed", 0, "0 takes one from the clock")
	flag.IntVar(&o.drain, "drain", 10, "kills between two drains")
	flag.BoolVar(&o.deferred, "defer", false, "publish some messages with DPUB")
	flag.IntVar(&o.sigterm, "sigterm", 0, "percent of the rounds that end with SIGTERM instead of SIGKILL")
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
	if flag.NArg() > 0 || race && o.nsqd != "" || mutants && o.nsqd != "" {
		flag.Usage()
		os.Exit(2)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, race, mutants); err != nil {
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

func run(ctx context.Context, o options, race, mutants bool) error {
	if o.nsqd != "" {
		return crash(ctx, o)
	}
	dir, err := os.MkdirTemp("", "crash-build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o.nsqd = filepath.Join(dir, "nsqd")
	var flags []string
	if race {
		flags = append(flags, "-race")
	}
	if mutants {
		flags = append(flags, "-tags", "mutants")
	}
	if err := daemon.Build(ctx, o.nsqd, flags...); err != nil {
		return err
	}
	o.built = flags
	if mutants {
		return catchMutants(ctx, o)
	}
	return crash(ctx, o)
}
