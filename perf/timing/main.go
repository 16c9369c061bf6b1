// Command timing measures how punctual a broker is: deferrals (DPUB), requeue delays (REQ) and message timeouts, on an idle broker and
// under load. None may be early, ever; how late they are is printed as percentiles and held against limits.
//
//	go run ./perf/timing [-nsqd PATH] [-n 2000] [-idle 20ms] [-busy 200ms] [-phase idle|busy] [-- FLAGS OF THE BROKER]
//
// The limits mean a machine that does nothing else; on a shared one, let the rig run before others (chrt -f 1, or nice -n -20), which its
// broker inherits. Every moment is taken on this machine's clock by the client, so what is measured is the broker, the kernel and the rig together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

type options struct {
	nsqd       string
	args       []string
	samples    int           // of each kind
	spread     time.Duration // longest delay
	idle, busy time.Duration // most that 99.9 % may be late
	phases     []string
	out        io.Writer
}

func main() {
	o := options{out: os.Stdout, phases: []string{"idle", "busy"}}
	flag.StringVar(&o.nsqd, "nsqd", "", "binary to measure; empty builds this project's")
	flag.IntVar(&o.samples, "n", 2000, "samples of each kind, at most 2500")
	flag.DurationVar(&o.spread, "spread", 3*time.Second, "longest delay asked for")
	flag.DurationVar(&o.idle, "idle", 20*time.Millisecond, "p99.9 allowed on an idle broker")
	flag.DurationVar(&o.busy, "busy", 200*time.Millisecond, "p99.9 allowed under load")
	phase := flag.String("phase", "", "measure only this phase: idle or busy")
	flag.Parse()
	if *phase != "" {
		o.phases = []string{*phase}
	}
	o.args = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "timing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "nsqloop-timing-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.nsqd == "" {
		o.nsqd = filepath.Join(dir, "nsqd")
		if err := daemon.Build(ctx, o.nsqd); err != nil {
			return err
		}
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	p, err := daemon.Start(ctx, daemon.Options{Path: o.nsqd, DataPath: data, Args: o.args})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(30*time.Second)) }()
	fmt.Fprintf(o.out, "| broker | what | samples | early | p50 | p99 | p99.9 | latest |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	var failures []error
	for _, phase := range o.phases {
		failures = append(failures, measure(ctx, o, p.TCPAddr, phase))
	}
	return errors.Join(failures...)
}

// measure runs every kind of sample in one phase.
func measure(ctx context.Context, o options, addr, phase string) error {
	limit := o.idle
	if phase == "busy" {
		limit = o.busy
		quit, err := startLoad(ctx, addr)
		if err != nil {
			return err
		}
		defer quit()
	}
	var failures []error
	for _, kind := range kinds {
		ctx, cancel := context.WithTimeout(ctx, time.Minute+10*o.spread)
		late, err := kind.sample(ctx, addr, phase+"-"+kind.name, o.samples, o.spread)
		cancel()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", phase, kind.name, err)
		}
		s := summarize(late)
		fmt.Fprintf(o.out, "| %s | %s | %d | %d | %s | %s | %s | %s |\n", phase, kind.name, s.n, s.early,
			short(s.p50), short(s.p99), short(s.p999), short(s.latest))
		if s.early > 0 || s.p999 > limit {
			failures = append(failures, fmt.Errorf("%s, %s: %d early, p99.9 is %s late, allowed are %s", phase, kind.name, s.early, short(s.p999), limit))
		}
	}
	return errors.Join(failures...)
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
