package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/ledger"
)

const (
	smallTmpfs = 48 << 20
	smallExt4  = 96 << 20
	fullMin    = 500 * time.Millisecond
	fullMax    = 1500 * time.Millisecond
	topUp      = 2 * time.Millisecond // how often the ballast takes what the daemon has given back
	fullRounds = 4                    // of the load between two drains
	// backAgain is how soon after space has returned every publisher must be accepted.
	backAgain = time.Second
	// refusedIn is how long the 99th of a hundred refusals may take.
	refusedIn = 10 * time.Millisecond
)

// fullDisk runs the daemon on a small file system, fills that to the last byte in the middle of the load, and frees it, again and again:
// publishing must be refused soon and go on soon, everything else must go on all the time, a start must succeed on the full disk, and nothing
// acknowledged may be lost.
func fullDisk(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(o.out, "SKIPPED: mounting a file system needs root; nothing was tested")
		return nil
	}
	m, err := smallDisk(ctx, o.full, o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	o.allow = append(o.allow, ledger.ClassDelayForgotten) // a delay finds no room: the message comes at once after a restart, says the log
	r := newRigOn(o, filepath.Join(m.mount, "data"))
	if err := os.Mkdir(r.dataPath, 0o700); err != nil {
		return err
	}
	r.stewards = nil
	began := time.Now()
	f := &filler{rig: r, ballast: filepath.Join(m.mount, "ballast"), figures: &fullFigures{}}
	err = f.run(ctx)
	if r.daemon != nil {
		err = errors.Join(err, r.daemon.Kill())
	}
	if err != nil {
		return fmt.Errorf("FAIL full disk, %s, seed %d: %w", o.full, o.seed, err)
	}
	fmt.Fprintf(o.out, "PASS %d times full on %s in %.0f s, seed %d: %v\n%v\n", o.rounds, o.full, time.Since(began).Seconds(), o.seed, f.figures, r.verdict)
	return nil
}

func smallDisk(ctx context.Context, kind, dir string) (*image, error) {
	switch kind {
	case "ext4":
		return newImage(ctx, dir, smallExt4)
	case "tmpfs":
		root, err := os.MkdirTemp(dir, "crash-tmpfs-")
		if err != nil {
			return nil, err
		}
		m := &image{dir: root, mount: filepath.Join(root, "mnt")}
		if err = os.Mkdir(m.mount, 0o700); err == nil {
			err = command(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", smallTmpfs), "tmpfs", m.mount)
			m.live = err == nil
		}
		if err != nil {
			return nil, errors.Join(err, m.remove())
		}
		return m, nil
	}
	return nil, fmt.Errorf("a full disk of kind %q: only tmpfs and ext4", kind)
}

// filler is one run.
type filler struct {
	*rig
	ballast string
	full    atomic.Bool
	figures *fullFigures
}

func (f *filler) run(ctx context.Context) error {
	for done := 0; done < f.rounds; {
		n := min(fullRounds, f.rounds-done)
		if err := f.life(ctx, done, n); err != nil {
			return err
		}
		done += n
		if err := f.drainAll(ctx); err != nil {
			return err
		}
	}
	return f.figures.judge(f.strict)
}

// life is a start, some times of fullness under load, and a kill while the disk is full; the start after it succeeds there.
func (f *filler) life(ctx context.Context, first, n int) (err error) {
	random := f.random(first, partRound)
	f.timeout = longTimeout
	f.book.SetMsgTimeout(longTimeout, longSlack)
	args := []string{fmt.Sprintf("--max-bytes-per-file=%d", segmentSizes[random.IntN(2)]), "--sync-timeout=200ms"}
	if err := f.start(ctx, nil, args...); err != nil {
		return err
	}
	if !f.created {
		if err := f.daemon.API().CreateTopic(ctx, topic, f.channels...); err != nil {
			return err
		}
		f.created = true
	}
	c, clientCtx := newClients(ctx, nil)
	lasts := f.startFull(clientCtx, c, first)
	for i := range n {
		if err = f.once(ctx, random, c, lasts, i == n-1); err != nil {
			err = errors.Join(err, errors.New(f.daemon.Tail(20)))
			break
		}
	}
	c.ending.Store(true)
	err = errors.Join(err, f.end(c, nil))
	f.book.Restarted()
	if err == nil {
		if err = f.start(ctx, nil, args...); err != nil {
			return fmt.Errorf("on the full disk: %w", err)
		}
		f.full.Store(false)
		err = errors.Join(f.empty(), f.channelDo(ctx, "/channel/unpause"), f.daemon.Kill())
	}
	return err
}

// once fills the disk for a while. last: it is left full.
func (f *filler) once(ctx context.Context, random *rand.Rand, c *clients, lasts []*atomic.Int64, last bool) error {
	if err := f.wait(ctx, loadMin+time.Duration(random.Int64N(int64(loadMax/2))), c); err != nil {
		return err
	}
	// A channel that takes nothing makes the backlog grow, so that no segment becomes free for the next messages.
	stalled := random.IntN(3) > 0
	if stalled {
		if err := f.channelDo(ctx, "/channel/pause"); err != nil {
			return err
		}
	}
	f.full.Store(true)
	before := c.finished.Load()
	for until := time.Now().Add(fullMin + time.Duration(random.Int64N(int64(fullMax-fullMin)))); time.Now().Before(until); {
		if err := f.fill(); err != nil {
			return err
		}
		if err := f.wait(ctx, topUp, c); err != nil {
			return err
		}
	}
	f.figures.finished += c.finished.Load() - before
	if last {
		return nil
	}
	f.full.Store(false)
	if err := f.empty(); err != nil {
		return err
	}
	freed := time.Now()
	for _, l := range lasts {
		for l.Load() < freed.UnixNano() {
			if time.Since(freed) > 10*backAgain {
				return &faultError{fmt.Sprintf("a publisher is still refused %v after space returned", time.Since(freed))}
			}
			if err := f.wait(ctx, topUp, c); err != nil {
				return err
			}
		}
	}
	f.figures.back = append(f.figures.back, time.Since(freed))
	if stalled {
		return f.channelDo(ctx, "/channel/unpause")
	}
	return nil
}

func (f *filler) channelDo(ctx context.Context, path string) error {
	return f.daemon.API().Post(ctx, path, map[string][]string{"topic": {topic}, "channel": {f.channels[channelCount-1]}})
}

// fill lets the ballast take everything that is left: in large steps, then in small ones.
func (f *filler) fill() (err error) {
	file, err := os.OpenFile(f.ballast, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for _, step := range []int{1 << 20, 64 << 10, 4 << 10} {
		for {
			if _, err := file.Write(make([]byte, step)); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *filler) empty() error {
	if err := os.Remove(f.ballast); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// startFull starts clients that live with refusals. What it returns is, for each publisher, when it was last accepted.
func (f *filler) startFull(ctx context.Context, c *clients, round int) (lasts []*atomic.Int64) {
	for i := range publishers {
		p := &fullPublisher{filler: f, clients: c, number: uint32(i), random: f.random(round, i), last: &atomic.Int64{}}
		lasts = append(lasts, p.last)
		c.run(fmt.Sprintf("publisher %d", i), func() error { return p.run(ctx) })
	}
	for i := range consumers {
		k := f.newConsumer(c, i)
		k.random, k.silent = f.random(round, publishers+i), true
		c.run(fmt.Sprintf("consumer %d of %s", i, k.channel), func() error { return k.run(ctx) })
	}
	return lasts
}
