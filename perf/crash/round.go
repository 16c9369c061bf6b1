package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// plan is what the random numbers of a round decided.
type plan struct {
	load    time.Duration
	timeout time.Duration // of messages
	clean   bool          // SIGTERM instead of SIGKILL
	pause   time.Duration // of the process, by SIGSTOP; 0 for none
	dies    bool          // during that pause
	oom     bool          // the kernel kills it, for want of memory
	aim     *aim
	args    []string
}

// Small segments make the log roll and recycle, short intervals make it sync.
var (
	segmentSizes  = []int{64 << 10, 1 << 20, 100 << 20}
	syncIntervals = []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second}
)

func (r *rig) plan(random *rand.Rand) plan {
	p := plan{timeout: longTimeout}
	if random.IntN(3) == 0 {
		p.timeout = shortTimeout
	}
	p.load = loadMin + time.Duration(random.Int64N(int64(loadMax-loadMin)))
	p.clean = random.IntN(100) < r.sigterm
	if random.IntN(100) < r.stopped {
		p.pause, p.dies = loadMin+time.Duration(random.Int64N(int64(loadMax))), random.IntN(3) == 0
	}
	if random.IntN(100) < r.aimed {
		p.aim, p.load = drawAim(random), loadMax
		p.clean = p.clean || p.aim.point.name == "close"
	}
	p.oom = random.IntN(100) < r.oom && p.aim == nil && !p.clean
	p.args = []string{
		fmt.Sprintf("--max-bytes-per-file=%d", segmentSizes[random.IntN(len(segmentSizes))]),
		fmt.Sprintf("--sync-timeout=%v", syncIntervals[random.IntN(len(syncIntervals))]),
	}
	return p
}

// round starts the daemon, loads it and ends it in the middle.
func (r *rig) round(ctx context.Context, round int) (err error) {
	p := r.plan(r.random(round, partRound))
	r.timeout = p.timeout
	r.book.SetMsgTimeout(longTimeout, longSlack)
	if p.timeout == shortTimeout {
		r.book.SetMsgTimeout(shortTimeout, shortSlack)
	}
	if err := r.start(ctx, p.aim, p.args...); err != nil {
		return err
	}
	clients, err := r.load(ctx, round, p)
	if p.aim.hit() && !isFault(err) {
		err = nil
	}
	if clients != nil {
		clients.ending.Store(true)
	}
	if err == nil && p.clean && !p.aim.hit() {
		if stopErr := r.daemon.Stop(10 * time.Second); stopErr != nil && !p.aim.hit() {
			err = &faultError{"SIGTERM: " + stopErr.Error() + "\n" + r.daemon.Tail(30)}
		}
	}
	if err == nil && p.oom && !p.dies {
		var killed bool
		if killed, err = oomKill(r.daemon); killed {
			r.hits["out of memory"]++
		}
	}
	err = errors.Join(err, r.end(clients, p.aim))
	r.book.Restarted()
	if err == nil && r.verify {
		err = r.checkFiles(ctx)
	}
	if r.verbose {
		fmt.Fprintf(r.out, "round %d: load %v, timeout %v, sigterm %v, stopped %v, %v, %v\n", round, p.load.Round(time.Millisecond), p.timeout,
			p.clean, p.pause.Round(time.Millisecond), p.aim, clients)
	}
	return err
}

// end kills what still runs and waits for every part of the round.
func (r *rig) end(clients *clients, a *aim) (err error) {
	if r.daemon != nil { // else it was killed before it listened
		err = r.daemon.Kill()
	}
	if clients != nil {
		err = errors.Join(err, clients.stop())
	}
	r.web.CloseIdleConnections()
	if a != nil {
		err = errors.Join(err, a.stop())
	}
	if a.hit() {
		r.hits[a.point.name]++
	}
	return err
}

// checkFiles has the daemon's own check look at what a kill left.
func (r *rig) checkFiles(ctx context.Context) error {
	clean, text, err := daemon.Verify(ctx, r.nsqd, r.dataPath)
	if err == nil && !clean {
		err = &faultError{"nsqd --verify:\n" + text}
	}
	return err
}

func isFault(err error) bool {
	var fault *faultError
	return errors.As(err, &fault)
}

// load looks at what the start brought back and lets the clients work. The daemon must survive it unless it is killed.
func (r *rig) load(ctx context.Context, round int, p plan) (*clients, error) {
	if p.aim.hit() {
		return nil, nil
	}
	if err := r.checkChurn(ctx); err != nil {
		return nil, err
	}
	if !r.created {
		if err := r.daemon.API().CreateTopic(ctx, topic, r.channels...); err != nil {
			return nil, err
		}
		r.created = true
	}
	c := r.startLoad(ctx, round, p.aim)
	if p.pause == 0 {
		return c, r.wait(ctx, p.load, c)
	}
	if err := r.wait(ctx, p.load/2, c); err != nil || p.aim.hit() {
		return c, err
	}
	if err := syscall.Kill(r.daemon.PID(), syscall.SIGSTOP); err != nil {
		return c, err
	}
	if err := r.wait(ctx, p.pause, c); err != nil || p.aim.hit() {
		return c, err
	}
	if p.dies {
		c.ending.Store(true)
		return c, r.daemon.Kill()
	}
	if err := syscall.Kill(r.daemon.PID(), syscall.SIGCONT); err != nil {
		return c, err
	}
	return c, r.wait(ctx, p.load/2, c)
}

// wait lets the load run. The daemon must survive it, and so must every client, unless the aim ends it.
func (r *rig) wait(ctx context.Context, load time.Duration, clients *clients) error {
	timer := time.NewTimer(load)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-clients.failed:
		return err
	case <-r.daemon.Done():
		if clients.aim.hit() {
			return nil
		}
		return &faultError{fmt.Sprintf("ended by itself: %v\n%s", r.daemon.ExitError(), r.daemon.Tail(100))}
	case <-ctx.Done():
		return ctx.Err()
	}
}
