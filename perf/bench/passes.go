package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// passes is a workload that moves messages and counts what each costs.
type passes struct {
	messages int // of one pass, at scale 1; the peer in memory holds a million
	least    int // messages at any scale; 0 is one MPUB
	size     int // bytes of a body; 0 is what -size says
	topics   int // 0 is one
	channels []string
	// twice measures a cold pass, the first since exec, and a warm one after it. Otherwise there is a warm one only, after an unmeasured
	// tenth of it.
	twice bool
	// sinceExec counts the CPU of the cold pass from exec. For workloads whose messages are published in prepare it must be false.
	sinceExec bool
	// prepare brings the target to where the clock starts; what it returns is the measured part.
	prepare func(ctx context.Context, t *target) (measured, error)
}

// measured is the part of a workload that counts. close is called afterwards, in any case.
type measured struct {
	run   func(ctx context.Context) error
	close func()
}

// target is a daemon under load, with topics that are empty but for what prepare puts into them.
type target struct {
	*turn
	topics   []string
	channels []string
	messages int // over all topics
	size     int
}

// workload makes one of p. One floor counts for all passes, else there is one for each.
func (p passes) workload(name, title string, floors ...floor) workload {
	w := workload{name: name, title: title, turn: p.turn}
	names := []string{"warm"}
	if p.twice {
		names = []string{"cold", "warm"}
	}
	for i, pass := range names {
		r := row{name: pass, unit: "CPU ns/msg", throughput: true}
		if len(floors) > 0 {
			r.floors = floors[min(i, len(floors)-1):][:1]
		}
		w.rows = append(w.rows, r)
	}
	return w
}

func (p passes) target(t *turn) *target {
	part := &target{turn: t, channels: p.channels, size: p.size, messages: max(p.least, mpubBatch, t.count(p.messages))}
	if part.size == 0 {
		part.size = t.options.size
	}
	for i := range max(1, p.topics) {
		part.topics = append(part.topics, fmt.Sprintf("bench%d", i))
	}
	return part
}

func (p passes) turn(ctx context.Context, t *turn) ([]sample, error) {
	part := p.target(t)
	if !p.twice {
		short := *part
		short.messages = max(p.least, mpubBatch, part.messages/10)
		if _, err := p.pass(ctx, &short, unmeasured); err != nil {
			return nil, fmt.Errorf("warming up: %w", err)
		}
		s, err := p.pass(ctx, part, fromNow)
		return []sample{s}, err
	}
	first := fromNow
	if p.sinceExec {
		first = fromExec
	}
	cold, err := p.pass(ctx, part, first)
	if err != nil {
		return nil, fmt.Errorf("cold: %w", err)
	}
	warm, err := p.pass(ctx, part, fromNow)
	return []sample{cold, warm}, err
}

// counting says from when on a pass is accounted for.
type counting int

const (
	unmeasured counting = iota
	fromExec
	fromNow // from when prepare is done and what it caused is over
)

func (p passes) pass(ctx context.Context, t *target, from counting) (sample, error) {
	api := t.process.API()
	for _, topic := range t.topics {
		if err := api.CreateTopic(ctx, topic, t.channels...); err != nil {
			return sample{}, err
		}
	}
	part, err := p.prepare(ctx, t)
	if err != nil {
		return sample{}, err
	}
	defer part.close()
	before := t.start
	if from == fromNow {
		if err := pause(ctx, t.settle); err != nil {
			return sample{}, err
		}
		if before, err = takeAccount(t.process.PID()); err != nil {
			return sample{}, err
		}
	}
	started := time.Now()
	if err := part.run(ctx); err != nil {
		return sample{}, err
	}
	took := time.Since(started)
	if from != unmeasured {
		if err := pause(ctx, t.settle); err != nil {
			return sample{}, err
		}
	}
	after, err := takeAccount(t.process.PID())
	if err != nil {
		return sample{}, err
	}
	for _, topic := range t.topics {
		if err := api.DeleteTopic(ctx, topic); err != nil {
			return sample{}, err
		}
	}
	return after.since(before, t.messages, took), nil
}

// together runs parts at the same time.
func together(parts ...measured) measured {
	return measured{
		run: func(ctx context.Context) error {
			group, ctx := errgroup.WithContext(ctx)
			for _, part := range parts {
				group.Go(func() error { return part.run(ctx) })
			}
			return group.Wait()
		},
		close: func() {
			for _, part := range parts {
				part.close()
			}
		},
	}
}

// collect prepares parts; after an error none stays open.
func collect(parts ...func() (measured, error)) (measured, error) {
	var done []measured
	for _, prepare := range parts {
		part, err := prepare()
		if err != nil {
			together(done...).close()
			return measured{}, err
		}
		done = append(done, part)
	}
	return together(done...), nil
}
