// Command hostile lets clients that mean harm loose on a broker and watches an honest producer and consumer beside them.
//
//	go run ./perf/hostile [-nsqd PATH] [-seconds 8] [-only REGEXP] [-factor 2] [-floor 10ms] [-memory 64]
//
// Each attack runs twice: first against a socket that reads and discards, while the honest pair works with the broker; then against the
// broker. The first tells what the machine and the rig themselves cost. Held against limits are the pair's p99 from publish to delivery
// (at most -factor times the first one, or -floor), the broker's anonymous memory (at most -memory MiB more than before), and that
// descriptors and goroutines are back where they were when the attackers are gone.
//
// All of that shares one machine. Where other programs run too, let the rig run before them (chrt -r 1), which its broker inherits.
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
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

type options struct {
	nsqd   string
	length time.Duration // of each attack, and of its counterpart
	only   *regexp.Regexp
	factor float64
	floor  time.Duration
	memory int64 // bytes
	rate   int   // messages per second of the honest producer
	most   int   // clients of an attack, topics of a flood of names
	short  bool  // no attack is made longer than length for what it has to show
	out    io.Writer
}

func main() {
	o := options{out: os.Stdout, rate: 500, most: 10000}
	var seconds int
	var memory int64
	var only string
	flag.StringVar(&o.nsqd, "nsqd", "", "binary to attack; empty builds this project's")
	flag.IntVar(&seconds, "seconds", 8, "length of each attack")
	flag.StringVar(&only, "only", "", "run the attacks whose names match this `regexp`")
	flag.Float64Var(&o.factor, "factor", 2, "how much the honest p99 may grow")
	flag.DurationVar(&o.floor, "floor", 10*time.Millisecond, "a p99 up to this is always good")
	flag.Int64Var(&memory, "memory", 64, "anonymous memory an attack may cost, in MiB")
	flag.Parse()
	o.length, o.memory = time.Duration(seconds)*time.Second, memory<<20
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if err := allowFiles(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nsqloop-hostile-")
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
	watched := &panics{}
	p, err := start(ctx, o.nsqd, dir, watched)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(60*time.Second)) }()
	if err := prepareTopics(ctx, p); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "| attack | connections | p50, p99 beside a discarded flood | p50, p99 under attack | MiB more | left open |\n| --- | ---: | ---: | ---: | ---: | --- |\n")
	var failures []error
	for _, a := range slices.Concat(attacks, httpAttacks) {
		if !o.only.MatchString(a.name) || ctx.Err() != nil {
			continue
		}
		if err := errors.Join(try(ctx, o, p, a), watched.err()); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", a.name, err))
		}
	}
	for name, trial := range map[string]func(context.Context, options, string) error{hold.name: scarce, nameFlood: names} {
		if !o.only.MatchString(name) || ctx.Err() != nil {
			continue
		}
		if err := trial(ctx, o, dir); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(append(failures, ctx.Err())...)
}

// start runs the broker with a certificate, so that TLS can be attacked too.
func start(ctx context.Context, nsqd, dir string, log io.Writer) (*daemon.Process, error) {
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	certificate, err := client.SelfSigned()
	if err != nil {
		return nil, err
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(cert, certificate.Cert, 0o600), os.WriteFile(key, certificate.Key, 0o600)); err != nil {
		return nil, err
	}
	return daemon.Start(ctx, daemon.Options{Path: nsqd, DataPath: data, Log: log,
		Args: []string{"--tls-cert=" + cert, "--tls-key=" + key, "--https-address=127.0.0.1:0"}})
}

// try runs one attack and its counterpart.
func try(ctx context.Context, o options, p *daemon.Process, a attack) error {
	discard, err := startDiscard()
	if err != nil {
		return err
	}
	a.clients = min(a.clients, o.most)
	if !o.short {
		o.length = max(o.length, a.whole)
	}
	target := p.TCPAddr
	if a.http {
		target = p.HTTPAddr
	}
	beside, _, err := bout(ctx, o, p.TCPAddr, discard.addr(), a)
	if err := errors.Join(err, discard.close()); err != nil {
		return fmt.Errorf("counterpart: %w", err)
	}
	before, err := look(ctx, p)
	if err != nil {
		return err
	}
	watch := watchMemory(p)
	under, flood, err := bout(ctx, o, p.TCPAddr, target, a)
	most := watch()
	if err != nil {
		return err
	}
	left, leak := settle(ctx, p, before)
	grown := max(0, most-before.memory)
	fmt.Fprintf(o.out, "| %s | %d | %s, %s | %s, %s | %d | %s |\n", a.name, flood.opened.Load(),
		short(beside.p50), short(beside.p99), short(under.p50), short(under.p99), grown>>20, left)
	var failures []error
	if limit := max(o.floor, time.Duration(o.factor*float64(beside.p99))); under.p99 > limit {
		failures = append(failures, fmt.Errorf("the honest p99 is %s, allowed are %s", short(under.p99), short(limit)))
	}
	if grown > o.memory {
		failures = append(failures, fmt.Errorf("it cost %d MiB", grown>>20))
	}
	if a.whole > 0 && o.length >= a.whole && flood.judged.Load() == 0 {
		failures = append(failures, errors.New("no answer or closing was seen that is as it must be"))
	}
	return errors.Join(append(failures, flood.verdict(), leak)...)
}

// bout runs the honest pair on broker for the length of an attack on target.
func bout(ctx context.Context, o options, broker, target string, a attack) (latency, *flood, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pair, err := connectPair(ctx, broker)
	if err != nil {
		return latency{}, nil, err
	}
	flood := startFlood(ctx, target, a)
	found, err := pair.run(o.length, o.rate)
	cancel()
	flood.wait()
	return found, flood, err
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
