package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

// damageKind is one way to hurt the files of a daemon that has stopped or was killed, and what that may cost.
type damageKind struct {
	name    string
	files   string // pattern
	hurt    func(r *rand.Rand, b []byte) []byte
	running bool           // after the start, before anybody reads
	costs   []ledger.Class // besides duplicates
	most    int64          // messages that one case can hit in a segment; what is lost after a clean stop is exactly what --verify counts
	anyLoss bool           // any loss, if the log speaks of the file
}

var (
	lostClasses = []ledger.Class{ledger.ClassLostPrefix, ledger.ClassLostMiddle, ledger.ClassLostSuffix}
	// againClasses are what a message costs whose state is not known any more.
	againClasses = []ledger.Class{ledger.ClassFinishedAgain, ledger.ClassAttemptsDown, ledger.ClassDelayForgotten, ledger.ClassEarly}
)

var damageKinds = []damageKind{
	{name: "segment bits", files: "*.seg", hurt: flipBits, costs: lostClasses, most: bitsMax},
	{name: "segment page of zeros", files: "*.seg", hurt: zeroPage, costs: lostClasses, most: perPage},
	{name: "segment noise", files: "*.seg", hurt: noise, costs: lostClasses, most: 2 * perPage},
	{name: "segment bits under the daemon", files: "*.seg", hurt: flipBits, running: true, costs: lostClasses, most: bitsMax},
	{name: "state bits", files: "*.state", hurt: used(flipBits), costs: againClasses},
	{name: "state page of zeros", files: "*.state", hurt: used(zeroPage), costs: againClasses},
	{name: "table bit", files: "nsqloop.channels", hurt: used(flipBit), costs: againClasses},
	{name: "table page of zeros", files: "nsqloop.channels", hurt: zeroPage, costs: againClasses},
	{name: "delays bits", files: "*.delays", hurt: flipBits, costs: againClasses},
	{name: "manifest bits", files: "nsqloop.manifest", hurt: flipBits, costs: slices.Concat(lostClasses, againClasses), anyLoss: true},
	{name: "manifest cut", files: "nsqloop.manifest", hurt: cutOff, costs: slices.Concat(lostClasses, againClasses), anyLoss: true},
}

const (
	damagePage = 4096
	bitsMax    = 8
	perPage    = damagePage / 16 // entries
)

func flipBits(r *rand.Rand, b []byte) []byte {
	for range 1 + r.IntN(bitsMax) {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	return b
}

// flipBit is for what is kept twice: two hits can meet both copies.
func flipBit(r *rand.Rand, b []byte) []byte {
	b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	return b
}

// used hurts the part of a sparse file that holds anything.
func used(hurt func(r *rand.Rand, b []byte) []byte) func(r *rand.Rand, b []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		content := bytes.Trim(b, "\x00")
		if len(content) > 0 {
			hurt(r, content)
		}
		return b
	}
}

func zeroPage(r *rand.Rand, b []byte) []byte {
	at := r.IntN((len(b)+damagePage-1)/damagePage) * damagePage
	clear(b[at:min(len(b), at+damagePage)])
	return b
}

func noise(r *rand.Rand, b []byte) []byte {
	at := r.IntN(len(b))
	for i := range b[at:min(len(b), at+damagePage)] {
		b[at+i] = byte(r.Uint32())
	}
	return b
}

// cutOff leaves the header of a manifest at least: without it there is nothing to start from, which the daemon says.
func cutOff(r *rand.Rand, b []byte) []byte { return b[:min(len(b), 32+r.IntN(len(b)))] }

// damageRuns hurts the files of a daemon -n times, each time of a new one, and lets the ledger say what that cost.
func damageRuns(ctx context.Context, o options) error {
	began := time.Now()
	sums := map[string]*damageSum{}
	for n := range o.rounds {
		kind := damageKinds[n%len(damageKinds)]
		if sums[kind.name] == nil {
			sums[kind.name] = &damageSum{}
		}
		if err := o.damage(ctx, n, kind, sums[kind.name]); err != nil {
			return fmt.Errorf("FAIL damage case %d (%s) of seed %d: %w", n, kind.name, o.seed, err)
		}
	}
	fmt.Fprintf(o.out, "PASS %d damaged data paths in %.0f s, seed %d\n", o.rounds, time.Since(began).Seconds(), o.seed)
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(o.out, "  %s: %v\n", name, sums[name])
	}
	return nil
}

// damageSum is what the cases of one kind cost.
type damageSum struct {
	cases, noticed   int // noticed by --verify
	refused          int // starts, with a line
	hit, acked, lost int64
}

func (s *damageSum) String() string {
	text := fmt.Sprintf("%d cases, %d noticed by --verify, %d messages hit; of %d acknowledged %d lost in some channel", s.cases, s.noticed, s.hit,
		s.acked, s.lost)
	if s.refused > 0 {
		text += fmt.Sprintf("; %d starts refused", s.refused)
	}
	return text
}

// damage is one case.
func (o options) damage(ctx context.Context, n int, kind damageKind, sum *damageSum) (err error) {
	o.seed += uint64(n) << 32
	r, err := newRig(o)
	if err != nil {
		return err
	}
	defer func() {
		if r.daemon != nil {
			err = errors.Join(err, r.daemon.Kill())
		}
		if err == nil {
			err = r.remove()
		}
	}()
	r.stewards, r.idle = nil, r.channels[channelCount-1]
	random := r.random(n, partRound)
	clean := kind.running || random.IntN(2) == 0
	if err := r.makeData(ctx, n, random, clean); err != nil {
		return err
	}
	hurt := func() error { return r.hurt(random, kind) }
	if kind.running {
		r.started = hurt
	} else if err := hurt(); err != nil {
		return err
	}
	found, err := r.verified(ctx)
	if err != nil {
		return err
	}
	r.allow = kind.costs
	err = r.drainAll(ctx)
	if kind.anyLoss && err != nil && strings.Contains(err.Error(), "nsqloop.manifest: header is damaged") {
		sum.cases++
		sum.refused++
		return nil // and nothing is touched: somebody has to look
	}
	if err != nil {
		return err
	}
	if kind.running {
		if found, err = r.verified(ctx); err != nil {
			return err
		}
	}
	sum.add(r, found)
	return r.judgeDamage(kind, clean, found)
}

func (s *damageSum) add(r *rig, found verdictOfFiles) {
	s.cases++
	if !found.clean {
		s.noticed++
	}
	s.hit += found.damaged + found.holes
	s.acked += r.verdict.Acked
	lost := int64(0)
	for _, c := range r.verdict.Channels {
		lost = max(lost, c.Lost())
	}
	s.lost += lost
}

// judgeDamage compares what was lost with what was hit. In the idle channel nothing was finished before, so there it is the same number, if all
// had been synced and nobody read before the damage was counted.
func (r *rig) judgeDamage(kind damageKind, clean bool, found verdictOfFiles) error {
	for _, c := range r.verdict.Channels {
		lost := c.Lost()
		switch {
		case lost == 0:
		case kind.anyLoss:
			if !r.daemon.Logged("manifest: ") {
				return &faultError{fmt.Sprintf("%s lost %d messages and the log says nothing of the manifest", c.Name, lost)}
			}
		case kind.running:
			if !r.daemon.Logged("left out") {
				return &faultError{fmt.Sprintf("%s lost %d messages and the log does not say so", c.Name, lost)}
			}
		case lost > max(found.damaged+found.holes, kind.most): // the end of what was never synced looks torn, not damaged
			return &faultError{fmt.Sprintf("%s lost %d messages, --verify found %+v", c.Name, lost, found)}
		}
		if kind.most > 0 && clean && !kind.running && c.Name == r.idle && lost != found.damaged {
			return &faultError{fmt.Sprintf("%s lost %d messages, --verify counted %d damaged ones\n%s", c.Name, lost, found.damaged, found.text)}
		}
	}
	return nil
}

// makeData runs the daemon under load for a moment.
func (r *rig) makeData(ctx context.Context, n int, random *rand.Rand, clean bool) error {
	p := r.plan(random)
	p.pause, p.aim, p.timeout = 0, nil, longTimeout
	p.load = loadMin + time.Duration(random.Int64N(int64(loadMax/3)))
	r.timeout = longTimeout
	r.book.SetMsgTimeout(longTimeout, longSlack)
	if err := r.start(ctx, nil, fmt.Sprintf("--max-bytes-per-file=%d", segmentSizes[random.IntN(2)]), "--sync-timeout=50ms"); err != nil {
		return err
	}
	clients, err := r.load(ctx, n, p)
	if clients == nil {
		return err
	}
	clients.ending.Store(true)
	if err == nil && clean {
		err = r.daemon.Stop(10 * time.Second)
	}
	err = errors.Join(err, r.end(clients, nil))
	r.book.Restarted()
	return err
}

// hurt changes one file of the kind.
func (r *rig) hurt(random *rand.Rand, kind damageKind) error {
	paths, err := filepath.Glob(filepath.Join(r.dataPath, kind.files))
	if err != nil {
		return err
	}
	for len(paths) > 0 {
		i := random.IntN(len(paths))
		path := paths[i]
		paths = slices.Delete(paths, i, i+1)
		was, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(was) == 0 {
			continue
		}
		now := kind.hurt(random, slices.Clone(was))
		if err := rewrite(path, was, now); err != nil {
			return err
		}
		return nil
	}
	return nil // no such file: nothing to hurt, as after a run that requeued nothing
}

// rewrite stores the bytes that differ, in place: the file may be mapped by the daemon, and sparse.
func rewrite(path string, was, now []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i := range now {
		if was[i] != now[i] {
			if _, err := f.WriteAt(now[i:i+1], int64(i)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(len(now)))
}

// verdictOfFiles is what nsqd --verify says of the topic.
type verdictOfFiles struct {
	clean          bool
	damaged, holes int64
	text           string
}

func (r *rig) verified(ctx context.Context) (v verdictOfFiles, err error) {
	if v.clean, v.text, err = daemon.Verify(ctx, r.nsqd, r.dataPath); err != nil {
		return v, err
	}
	for line := range strings.Lines(v.text) {
		var segments, messages int64
		rest, ok := strings.CutPrefix(line, "TOPIC("+topic+"): ")
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d segments, %d messages, %d damaged, %d never completed", &segments, &messages, &v.damaged, &v.holes); err != nil {
			return v, fmt.Errorf("--verify says %q: %w", line, err)
		}
	}
	return v, nil
}
