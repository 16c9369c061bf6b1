package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nsqloop/nsqloop/perf/load"
)

// rdyMax is the largest RDY nsqd accepts by default.
const rdyMax = 2500

// drainWorkload is consumers that catch up: the messages lie in the channel before the clock starts.
var drainWorkload = passes{
	messages: 800_000, channels: []string{"c"}, prepare: draining(load.Consumer{Conns: 2, RDY: rdyMax}),
}.workload("drain", "drain, 2 consumers, RDY 2500, FINs batched", times(20))

// drainEachWorkload is the same as most client libraries do it.
var drainEachWorkload = passes{
	messages: 400_000, channels: []string{"c"}, prepare: draining(load.Consumer{Conns: 2, RDY: rdyMax, WriteEachFIN: true}),
}.workload("drain-each", "drain, 2 consumers, RDY 2500, one write per FIN", times(2.3))

// rdyOneWorkload is consumers that take one message at a time.
var rdyOneWorkload = passes{
	messages: 50_000, channels: []string{"c"}, prepare: draining(load.Consumer{Conns: 2, RDY: 1}),
}.workload("rdy-1", "drain, 2 consumers, RDY 1", times(1.3))

// draining fills the channel and then takes everything out of it.
func draining(c load.Consumer) func(ctx context.Context, t *target) (measured, error) {
	return func(ctx context.Context, t *target) (measured, error) {
		if err := fill(ctx, t); err != nil {
			return measured{}, err
		}
		return consuming(ctx, c, t)
	}
}

// consuming is a measured part that takes all messages from the first channel of the first topic, if c names no other.
func consuming(ctx context.Context, c load.Consumer, t *target) (measured, error) {
	c.Addr, c.Size, c.Link, c.Identify = t.process.TCPAddr, t.size, t.link, t.consumers
	if c.Topic == "" {
		c.Topic, c.Messages = t.topics[0], t.messages
	}
	if c.Channel == "" {
		c.Channel = t.channels[0]
	}
	prepared, err := c.Prepare(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{run: prepared.Run, close: prepared.Close}, nil
}

// fill publishes all messages to the first topic and waits until its channels hold them.
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
		stats, err := t.process.API().Topic(ctx, t.topics[0])
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
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the channels do not fill: %+v", stats)
		}
	}
}
