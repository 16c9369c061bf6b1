package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

const (
	stewards    = 2
	stewardPace = 4 * time.Millisecond
	mpubChurn   = 20
)

// steward makes, empties, pauses and deletes one topic of its own and its channels, one request at a time, and knows what must be left of it:
// what it was before the request that the kill interrupted, or after it.
type steward struct {
	*rig
	topic   string
	state   churnTopic
	pending *churnOp // asked for and not answered
	random  *rand.Rand
}

func newStewards(r *rig) []*steward {
	list := make([]*steward, stewards)
	for i := range list {
		list[i] = &steward{rig: r, topic: fmt.Sprintf("churn%d", i)}
	}
	return list
}

// run works until the daemon is gone.
func (s *steward) run(ctx context.Context, clients *clients) error {
	for ctx.Err() == nil {
		op := s.draw()
		s.pending = &op
		if err := s.do(ctx, op); err != nil {
			return fmt.Errorf("%s %+v: %w", s.topic, op, err)
		}
		s.state, s.pending = s.state.apply(op), nil
		clients.changed.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(stewardPace):
		}
	}
	return ctx.Err()
}

func (s *steward) draw() churnOp {
	for {
		choice := churnOps[s.random.IntN(len(churnOps))]
		op := churnOp{path: choice.path}
		switch op.path {
		case "/pub":
			op.n = 1
		case "/mpub":
			op.n = 1 + s.random.IntN(mpubChurn)
		}
		if choice.channel {
			op.channel = fmt.Sprintf("c%d", s.random.IntN(3))
		}
		if s.state.possible(op) {
			return op
		}
	}
}

func (s *steward) do(ctx context.Context, op churnOp) error {
	query := url.Values{"topic": {s.topic}}
	if op.channel != "" {
		query.Set("channel", op.channel)
	}
	if op.n == 0 {
		return s.daemon.API().Post(ctx, op.path, query)
	}
	bodies := make([][]byte, op.n)
	for i := range bodies {
		bodies[i] = make([]byte, 1+s.random.IntN(2000))
	}
	return s.web.publish(ctx, s.daemon.HTTPAddr, query, bodies)
}

// check compares what is there after a start with what may be, and goes on from it.
func (s *steward) check(topics []daemon.TopicStats) error {
	is, may := found(topics, s.topic), []churnTopic{s.state}
	if s.pending != nil {
		may = s.state.outcomes(*s.pending)
	}
	if !slices.ContainsFunc(may, is.equal) {
		return &faultError{fmt.Sprintf("topic %s is %q after the start; it was %q, with %+v under way", s.topic, is, s.state, s.pending)}
	}
	s.state, s.pending = is, nil
	return nil
}

// checkChurn lets every steward look at what the start brought back.
func (r *rig) checkChurn(ctx context.Context) error {
	topics, err := r.daemon.API().Topics(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.stewards {
		if err := s.check(topics); err != nil {
			return err
		}
	}
	return nil
}
