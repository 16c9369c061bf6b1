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

// subject is a daemon with flags.
type subject struct {
	name string
	path string
	args []string
}

// Names of the subjects; the tables look for them.
const (
	oursName     = "ours"
	peerMemName  = "peer in memory"
	peerDiskName = "peer on disk"
)

// The flags that make the two peers.
var (
	peerMemArgs  = []string{"--mem-queue-size=1000000"}
	peerDiskArgs = []string{"--mem-queue-size=0"}
)

func (o options) subjects() []subject {
	list := []subject{{oursName, o.ours, o.oursArgs}}
	if o.peer != "" {
		list = append(list,
			subject{peerMemName, o.peer, slices.Concat(peerMemArgs, o.peerArgs)},
			subject{peerDiskName, o.peer, slices.Concat(peerDiskArgs, o.peerArgs)})
	}
	return list
}

// sample is one pass.
type sample struct {
	cpuPerMessage float64 // ns
	perSecond     float64 // messages
}

// passes of one turn.
const (
	cold = iota
	warm
	passCount
)

var passNames = [passCount]string{"cold", "warm"}

// passMax bounds a pass: a broker that loses a message must end the bench, not hang it.
const passMax = 5 * time.Minute

// cell names the samples of one subject, workload and pass.
type cell struct {
	workload, subject string
	pass              int
}

type results map[cell][]sample

// measureAll lets the subjects take turns; every second run in reverse order, so that none always follows the same other.
func measureAll(ctx context.Context, o options) (results, error) {
	all := results{}
	for _, w := range workloads {
		if !o.only.MatchString(w.name) {
			continue
		}
		for run := range o.runs {
			subjects := o.subjects()
			if run%2 == 1 {
				slices.Reverse(subjects)
			}
			for _, s := range subjects {
				samples, err := measureOne(ctx, o, w, s)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, run %d: %w", w.name, s.name, run, err)
				}
				for pass, sample := range samples {
					key := cell{w.name, s.name, pass}
					all[key] = append(all[key], sample)
					fmt.Fprintf(o.progress, "%-14s %-15s run %d %s %9.0f ns CPU/msg %12.0f msg/s\n", w.name, s.name, run,
						passNames[pass], sample.cpuPerMessage, sample.perSecond)
				}
			}
		}
	}
	return all, nil
}

// measureOne is one turn: a fresh daemon and both passes.
func measureOne(ctx context.Context, o options, w workload, s subject) (samples [passCount]sample, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return samples, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, err := filepath.Abs(s.path)
	if err != nil {
		return samples, err
	}
	process, err := daemon.Start(ctx, daemon.Options{Path: path, DataPath: dir, Args: s.args})
	if err != nil {
		return samples, err
	}
	defer func() { err = errors.Join(err, process.Kill()) }()
	t := &target{
		process: process, topic: "bench", channels: w.channels, size: o.size, messages: max(mpubBatch, int(float64(w.messages)*o.scale)),
	}
	for pass := range passCount {
		if samples[pass], err = measurePass(ctx, o, w, t, pass == cold && w.sinceExec); err != nil {
			return samples, fmt.Errorf("%s: %w\n%s", passNames[pass], err, process.Tail(10))
		}
	}
	return samples, nil
}

func measurePass(ctx context.Context, o options, w workload, t *target, sinceExec bool) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, passMax)
	defer cancel()
	api := t.process.API()
	if err := api.CreateTopic(ctx, t.topic, t.channels...); err != nil {
		return sample{}, err
	}
	part, err := w.prepare(ctx, t)
	if err != nil {
		return sample{}, err
	}
	defer part.close()
	before := time.Duration(0)
	if !sinceExec {
		if err := pause(ctx, o.settle); err != nil { // what prepare caused is not ours to count
			return sample{}, err
		}
		if before, err = t.process.CPU(); err != nil {
			return sample{}, err
		}
	}
	started := time.Now()
	if err := part.run(ctx); err != nil {
		return sample{}, err
	}
	took := time.Since(started)
	if err := pause(ctx, o.settle); err != nil {
		return sample{}, err
	}
	after, err := t.process.CPU()
	if err != nil {
		return sample{}, err
	}
	if err := api.DeleteTopic(ctx, t.topic); err != nil {
		return sample{}, err
	}
	return sample{
		cpuPerMessage: float64(after-before) / float64(t.messages),
		perSecond:     float64(t.messages) / took.Seconds(),
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
