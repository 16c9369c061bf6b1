package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// turnMax bounds a turn: a broker that loses a message must end the bench, not hang it.
const turnMax = 10 * time.Minute

// cell names the samples of one subject in one row.
type cell struct {
	workload, subject string
	row               int
}

type results map[cell][]sample

// measureAll lets the subjects take turns; every second run in reverse order, so that none always follows the same other.
func measureAll(ctx context.Context, o options) (results, error) {
	all := results{}
	for _, w := range workloads {
		if !o.only.MatchString(w.name) {
			continue
		}
		for run := range w.runsOf(o, oursName) {
			subjects := w.of(o)
			if run%2 == 1 {
				slices.Reverse(subjects)
			}
			for _, s := range subjects {
				if run >= w.runsOf(o, s.name) {
					continue
				}
				began := time.Now()
				samples, err := measureOne(ctx, o, w, s, run)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, run %d: %w", w.name, s.name, run, err)
				}
				for i, sample := range samples {
					key := cell{w.name, s.name, i}
					all[key] = append(all[key], sample)
					fmt.Fprintf(o.progress, "%-14s %-22s run %d %-22s %s\n", w.name, s.name, run, w.rows[i].name, w.describe(i, sample))
				}
				fmt.Fprintf(o.progress, "%-14s %-22s run %d took %v\n", w.name, s.name, run, time.Since(began).Round(time.Millisecond))
			}
		}
	}
	return all, nil
}

// runsOf is how many turns a subject gets.
func (w workload) runsOf(o options, subject string) int {
	runs := o.runs
	if !o.quick && subject != peerDiskName {
		runs = max(runs, w.runs)
	}
	if w.otherRuns > 0 && subject != oursName {
		runs = min(runs, w.otherRuns)
	}
	if subject == emptyName {
		runs = min(runs, 1) // a mark to look at, compared with nothing
	}
	return runs
}

func (w workload) describe(row int, s sample) string {
	if w.rows[row].throughput {
		return fmt.Sprintf("%9.0f ns CPU/msg %9.0f ns busy/msg %12.0f msg/s", s.value, s.busy, s.rate)
	}
	return number(s.value) + " " + w.rows[row].unit
}

// measureOne is one turn: a fresh daemon on a fresh data path.
func measureOne(ctx context.Context, o options, w workload, s subject, run int) (samples []sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnMax)
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &turn{options: o, subject: s, link: o.link, dir: dir, args: slices.Concat(o.layerArgs, s.args)}
	if s.path, err = filepath.Abs(s.path); err != nil {
		return nil, err
	}
	t.path = s.path
	if o.profile != "" && s.name == oursName {
		profiles := filepath.Join(o.profileDir, fmt.Sprintf("%s-%d", w.name, run))
		if err := os.MkdirAll(profiles, 0o755); err != nil {
			return nil, err
		}
		t.args = append(t.args, "--profile="+o.profile, "--profile-dir="+profiles)
	}
	if w.before != nil {
		if err := w.before(t); err != nil {
			return nil, err
		}
	}
	if err := t.exec(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	if samples, err = w.turn(ctx, t); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, t.process.Tail(10))
	}
	if len(samples) != len(w.rows) {
		return nil, fmt.Errorf("%d samples for %d rows", len(samples), len(w.rows))
	}
	return samples, nil
}

// exec starts the subject on its data path.
func (t *turn) exec(ctx context.Context) (err error) {
	if t.start, err = takeAccount(0); err != nil {
		return err
	}
	t.process, err = daemon.Start(ctx, daemon.Options{Path: t.path, DataPath: t.dir, Args: t.args, Env: t.env, Ready: 5 * time.Minute})
	return err
}

// stopMax is how long a daemon may take to write what it has.
const stopMax = 2 * time.Minute

// end ends the process. Only where a profile is written at the end it is asked to.
func (t *turn) end() error {
	if t.profile != "" && t.name == oursName {
		return t.process.Stop(stopMax)
	}
	return t.process.Kill()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
