package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

const (
	cutsPerImage = 10
	cutInterval  = 200 * time.Millisecond // --sync-timeout
	// cutSlack is what the syncs around a cut may take: a message that comes in while one runs waits for its end, the interval, and the next.
	cutSlack = time.Second
)

// powerCuts runs the daemon on an ext4 image, copies the image in the middle of the load, and goes on from the copy: what was not synced is
// not there. Under policy always nothing acknowledged may be missing, under interval only what is younger than the interval and a sync.
func powerCuts(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(o.out, "SKIPPED: mounting an image needs root; nothing was tested")
		return nil
	}
	o.allow = append(o.allow, ledger.ClassFinishedAgain, ledger.ClassDelayForgotten, ledger.ClassAttemptsDown) // what FIN and REQ did is synced later
	o.args = strings.TrimSpace(fmt.Sprintf("%s --sync-policy=%s --sync-timeout=%v", o.args, o.policy, cutInterval))
	if o.dir == "" {
		o.dir = "/dev/shm"
	}
	began := time.Now()
	var sum cutSum
	var m *image
	defer func() {
		if m != nil {
			err = errors.Join(err, m.remove())
		}
	}()
	for n := range o.rounds {
		if n%cutsPerImage == 0 {
			if m != nil {
				if err := m.remove(); err != nil {
					return err
				}
			}
			if m, err = newImage(ctx, o.dir, imageSize); err != nil {
				return err
			}
		}
		if err := o.cut(ctx, n, m, &sum); err != nil {
			return fmt.Errorf("FAIL cut %d of seed %d, policy %s: %w", n, o.seed, o.policy, err)
		}
	}
	fmt.Fprintf(o.out, "PASS %d power cuts in %.0f s, policy %s, seed %d: %v\n", o.rounds, time.Since(began).Seconds(), o.policy, o.seed, &sum)
	return nil
}

// cutSum is what a run of cuts found.
type cutSum struct {
	acked, lost     int64
	oldest          time.Duration // of the lost: how long before the cut it was acknowledged
	clean, damaged  int           // verdicts of --verify
	starts          []time.Duration
	verifiedDamages []string
}

func (s *cutSum) String() string {
	slices.Sort(s.starts)
	text := fmt.Sprintf("%d messages acknowledged, %d lost", s.acked, s.lost)
	if s.lost > 0 {
		text += fmt.Sprintf(", the oldest acknowledged %v before its cut", s.oldest.Round(time.Millisecond))
	}
	text += fmt.Sprintf("; --verify: %d clean, %d not; longest start %v", s.clean, s.damaged, s.starts[len(s.starts)-1].Round(time.Millisecond))
	for _, line := range s.verifiedDamages {
		text += "\n  " + line
	}
	return text
}

// cut is one: load, cut, start, drain, judge.
func (o options) cut(ctx context.Context, n int, m *image, sum *cutSum) (err error) {
	o.seed += uint64(n) << 32 // bodies of another cut are no bodies of this one
	r := newRigOn(o, m.mount)
	defer func() {
		if r.daemon != nil {
			err = errors.Join(err, r.daemon.Kill())
		}
	}()
	r.stewards = nil
	p := r.plan(r.random(n, partRound))
	p.pause, p.aim, p.timeout = 0, nil, longTimeout
	r.timeout = longTimeout
	r.book.SetMsgTimeout(longTimeout, longSlack)
	if err := r.start(ctx, nil, p.args[0]); err != nil {
		return err
	}
	clients, err := r.load(ctx, n, p)
	if clients == nil || err != nil {
		return err
	}
	cutAt, err := r.pullPlug(ctx, m, clients)
	if err != nil {
		return err
	}
	clean, text, err := daemon.Verify(ctx, r.nsqd, m.mount)
	if err != nil {
		return err
	}
	if clean {
		sum.clean++
	} else {
		sum.damaged++
		sum.verifiedDamages = append(sum.verifiedDamages, damageLines(text)...)
	}
	err = r.drainAll(ctx)
	if r.verdict == nil {
		return err
	}
	sum.acked, sum.lost = sum.acked+r.verdict.Acked, sum.lost+r.verdict.Lost()
	sum.starts = append(sum.starts, r.starts...)
	if o.policy != "interval" {
		return err
	}
	for _, lost := range r.verdict.Offenders {
		if strings.HasPrefix(lost.Class.String(), "lost") {
			age := cutAt - lost.Acked
			if sum.oldest = max(sum.oldest, age); age > cutInterval+cutSlack {
				return &faultError{fmt.Sprintf("lost although it was acknowledged %v before the cut: %v", age, lost)}
			}
		}
	}
	if r.verdict.Faults(append(r.allow, ledger.ClassLostPrefix, ledger.ClassLostMiddle, ledger.ClassLostSuffix)...) == 0 && isFault(err) {
		return nil // it lost what it may lose
	}
	return err
}

// damageLines are those that say what --verify found.
func damageLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "DAMAGED") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// pullPlug takes what the medium holds in the middle of the load and puts it in the place of what runs. It returns when that was, on the
// ledger's clock.
func (r *rig) pullPlug(ctx context.Context, m *image, clients *clients) (cutAt time.Duration, err error) {
	if err := syscall.Kill(r.daemon.PID(), syscall.SIGSTOP); err != nil {
		return 0, err
	}
	if err := awaitStopped(ctx, r.daemon.PID()); err != nil {
		return 0, err
	}
	cutAt = r.book.Elapsed()
	snapshot, err := m.snapshot(ctx)
	clients.ending.Store(true)
	if err = errors.Join(err, r.end(clients, nil)); err != nil {
		return 0, err
	}
	r.book.Restarted()
	return cutAt, m.replace(ctx, snapshot)
}
