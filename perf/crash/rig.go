package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

type options struct {
	nsqd     string
	built    []string // flags nsqd was built with by this run; nil if -nsqd named it
	rounds   int
	seed     uint64
	drain    int
	deferred bool
	sigterm  int
	aimed    int           // percent of the rounds
	aimAt    string        // binary with crash points, for these
	oom      int           // percent of the rounds that the kernel ends, where it can be told to
	stopped  int           // percent of the rounds in which SIGSTOP comes before the end
	damaged  bool          // hurt files instead of killing
	full     string        // kind of the file system to fill
	strict   bool          // with full, limits of time count
	policy   string        // of syncing, for power cuts
	verify   bool          // run nsqd --verify after each kill
	restart  time.Duration // a start that takes longer breaks a promise; 0 for any
	allow    []ledger.Class
	args     string
	env      []string
	dir      string
	verbose  bool
	out      io.Writer
}

// The shape of the load. Small enough that two processors serve it with room to spare even under the race detector: a queue that only
// grows would make the drains the longest part.
const (
	publishers       = 4 // the last one over HTTP
	channelCount     = 3
	consumersPerChan = 2
	consumers        = channelCount * consumersPerChan
	topic            = "crash"

	loadMin = 50 * time.Millisecond
	loadMax = 1500 * time.Millisecond

	// In a short-timeout round held messages time out under load. A timeout that the rig sees late, because the machine was busy, looks like
	// none at all, so there every other attempt is excused, and only the same attempt twice is not; the other rounds are strict.
	shortTimeout = time.Second
	shortSlack   = shortTimeout
	longTimeout  = 60 * time.Second
	longSlack    = 10 * time.Second
)

// rig is one run: a data path, the book kept of it, and the daemon of the round.
type rig struct {
	options
	dataPath string
	book     *ledger.Ledger
	channels []string
	daemon   *daemon.Process
	timeout  time.Duration // message timeout of this round's consumers
	verdict  *ledger.Report
	web      *web
	stewards []*steward
	created  bool            // the topic and its channels
	idle     string          // a channel that nobody consumes under load
	started  func() error    // called by a drain before anybody consumes; nil for none
	slow     int             // starts that took too long and were repeated
	starts   []time.Duration // how long each start took, until both ports were open
	hits     aims
}

// faultError is a broken promise, in contrast to a rig that could not do its work.
type faultError struct{ text string }

func (e *faultError) Error() string { return e.text }

// crash runs the loop and explains a failure: what, where the evidence lies, how to run it again.
func crash(ctx context.Context, o options) error {
	r, err := newRig(o)
	if err != nil {
		return err
	}
	started := time.Now()
	err = r.loop(ctx)
	if r.daemon != nil {
		err = errors.Join(err, r.daemon.Kill())
	}
	if err == nil {
		fmt.Fprintf(o.out, "PASS %d kills in %.0f s, seed %d, allowed %v: %v\n%s\n", o.rounds, time.Since(started).Seconds(), o.seed, o.allow, r.verdict, r.figures())
		return r.remove()
	}
	var fault *faultError
	if !errors.As(err, &fault) {
		return errors.Join(err, r.remove())
	}
	offenders := r.dataPath + ".offenders"
	if r.verdict == nil {
		r.verdict = r.book.Report()
	}
	return errors.Join(fmt.Errorf("FAIL %w\nagain: %s\ndata path: %s\noffenders: %s", err, o.command(), r.dataPath, offenders),
		r.writeOffenders(offenders))
}

// command is the line that runs the same choices again.
func (o options) command() string {
	line := fmt.Sprintf("go run ./perf/crash -n %d -seed %d -drain %d", o.rounds, o.seed, o.drain)
	if o.built == nil {
		line += " -nsqd " + o.nsqd
	}
	for _, flag := range o.built {
		if flag == "-race" {
			line += " -race"
		}
	}
	if o.deferred {
		line += " -defer"
	}
	for _, share := range []struct {
		flag    string
		percent int
	}{{"sigterm", o.sigterm}, {"aimed", o.aimed}, {"stopped", o.stopped}, {"oom", o.oom}} {
		if share.percent > 0 {
			line += fmt.Sprintf(" -%s %d", share.flag, share.percent)
		}
	}
	if o.verify {
		line += " -verify"
	}
	if o.restart > 0 {
		line += fmt.Sprintf(" -restart %v", o.restart)
	}
	for i, class := range o.allow {
		line += []string{" -allow ", ","}[min(i, 1)] + class.String()
	}
	if o.args != "" {
		line += fmt.Sprintf(" -args %q", o.args)
	}
	return line
}

func (r *rig) remove() error { return os.RemoveAll(r.dataPath) }

func (r *rig) writeOffenders(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.verdict.WriteOffenders(file), file.Close())
}

func newRig(o options) (*rig, error) {
	dataPath, err := os.MkdirTemp(o.dir, "crash-data-")
	if err != nil {
		return nil, err
	}
	return newRigOn(o, dataPath), nil
}

// newRigOn keeps its data in a directory that exists.
func newRigOn(o options, dataPath string) *rig {
	r := &rig{options: o, dataPath: dataPath, web: newWeb(), hits: aims{}}
	r.stewards = newStewards(r)
	for i := range channelCount {
		r.channels = append(r.channels, fmt.Sprintf("ch%d", i))
	}
	r.book = ledger.New(ledger.Config{
		Bodies:    ledger.Padded{Seed: o.seed, Min: 16, Max: 8 << 10},
		Producers: publishers + consumers, // consumers publish their barriers
		Channels:  r.channels,
	})
	return r
}

// random is the source of choices of one part of one round: the same for the same seed, whatever the others do.
func (r *rig) random(round, part int) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, uint64(round)<<16|uint64(part)))
}

const partRound = 1 << 15 // above every client's number

func (r *rig) loop(ctx context.Context) error {
	for round := range r.rounds {
		if err := r.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if (round+1)%r.drain == 0 && round+1 < r.rounds {
			if err := r.drainAll(ctx); err != nil {
				return fmt.Errorf("drain after round %d: %w", round, err)
			}
		}
	}
	// Twice: the second start must bring nothing back that the first drain finished.
	for range 2 {
		if err := r.drainAll(ctx); err != nil {
			return fmt.Errorf("last drain: %w", err)
		}
	}
	return nil
}

// figures are what a run measured beside the verdict.
func (r *rig) figures() string {
	slices.Sort(r.starts)
	n := len(r.starts)
	text := fmt.Sprintf("  starts: %d, median %v, longest %v; killed at a point: %v", n, r.starts[n/2].Round(time.Millisecond),
		r.starts[n-1].Round(time.Millisecond), r.hits)
	if r.slow > 0 {
		text += fmt.Sprintf("\n  %d starts took longer than %v and were quick when repeated", r.slow, r.restart)
	}
	return text
}

func (r *rig) timedStart(ctx context.Context, o daemon.Options) (took time.Duration, err error) {
	began := time.Now()
	r.daemon, err = daemon.Start(ctx, o)
	return time.Since(began), err
}

// start runs the daemon on what the last one left. With an aim it may be killed before it listens; that is no error.
func (r *rig) start(ctx context.Context, a *aim, args ...string) (err error) {
	o := daemon.Options{
		Path: r.nsqd, DataPath: r.dataPath, Args: append(strings.Fields(r.args), args...),
		Env: append([]string{"GORACE=halt_on_error=1"}, r.env...),
	}
	if a != nil {
		pipe, err := a.start()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pipe.Close()) }()
		o.Path, o.Files, o.Started = r.aimAt, []*os.File{pipe}, func(pid int) { a.pid.Store(int64(pid)) }
		o.Env = append(o.Env, pointsVar+"=3")
	}
	took, err := r.timedStart(ctx, o)
	if err == nil && r.restart > 0 && took > r.restart && !a.hit() {
		// Once more, on the same files: that it was the machine's fault is believed only if this one is quick.
		r.slow++
		first := took
		if err = r.daemon.Kill(); err == nil {
			took, err = r.timedStart(ctx, o)
		}
		if err == nil && took > r.restart {
			return &faultError{fmt.Sprintf("a start took %v, and then again %v", first, took)}
		}
	}
	switch {
	case err == nil:
		r.starts = append(r.starts, took)
		return nil
	case a.hit():
		return nil
	case ctx.Err() == nil:
		return &faultError{"does not start: " + err.Error()}
	}
	return err
}
