package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nsqloop/nsqloop/perf/load"
)

// drainRDY is the largest RDY nsqd accepts by default.
const drainRDY = 2500

// drainWorkload is consumers that catch up: the messages lie in the channel before the clock starts.
var drainWorkload = workload{
	name: "drain", title: "drain, 2 consumers, RDY 2500, FINs batched", messages: 800_000, channels: []string{"c"},
	prepare: func(ctx context.Context, t *target) (measured, error) { return draining(ctx, t, false) },
}

// drainEachWorkload is the same as most client libraries do it.
var drainEachWorkload = workload{
	name: "drain-each", title: "drain, 2 consumers, RDY 2500, one write per FIN", messages: 400_000, channels: []string{"c"},
	prepare: func(ctx context.Context, t *target) (measured, error) { return draining(ctx, t, true) },
}

func draining(ctx context.Context, t *target, each bool) (measured, error) {
	if err := fill(ctx, t); err != nil {
		return measured{}, err
	}
	return consuming(ctx, load.Consumer{Conns: 2, RDY: drainRDY, WriteEachFIN: each}, t)
}

// consuming is a measured part that takes all messages from the first channel.
func consuming(ctx context.Context, c load.Consumer, t *target) (measured, error) {
	c.Addr, c.Topic, c.Channel, c.Messages, c.Size = t.process.TCPAddr, t.topic, t.channels[0], t.messages, t.size
	prepared, err := c.Prepare(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{run: prepared.Run, close: prepared.Close}, nil
}

// fill publishes all messages and waits until the channels hold them.
func fill(ctx context.Context, t *target) error {
	part, err := publishing(ctx, load.Publisher{Conns: 4, Batch: mpubBatch, Window: 1}, t)
	if err != nil {
		return err
	}
	defer part.close()
	if err := part.run(ctx); err != nil {
		return err
	}
	for {
		stats, err := t.process.API().Topic(ctx, t.topic)
		if err != nil {
			return err
		}
		full := len(stats.Channels) == len(t.channels)
		for _, channel := range stats.Channels {
			full = full && channel.Depth == int64(t.messages)
		}
		if full {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the channels do not fill: %+v", stats)
		}
	}
}
