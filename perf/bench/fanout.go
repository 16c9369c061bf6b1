package main

import (
	"context"
	"fmt"

	"github.com/nsqloop/nsqloop/perf/load"
)

// Fan-out is one producer and one consumer for each channel; the cost is of a published message, all its deliveries included.
var (
	fanOutFourWorkload    = fanOut(4, 100_000)
	fanOutSixteenWorkload = fanOut(16, 50_000, times(16))
)

func fanOut(channels, messages int, floors ...floor) workload {
	p := passes{messages: messages}
	for i := range channels {
		p.channels = append(p.channels, fmt.Sprintf("c%d", i))
	}
	p.prepare = func(ctx context.Context, t *target) (measured, error) {
		parts := []func() (measured, error){
			func() (measured, error) {
				return publishing(ctx, load.Publisher{Conns: 1, Batch: mpubBatch, Window: 1}, t)
			},
		}
		for _, channel := range t.channels {
			parts = append(parts, func() (measured, error) {
				return consuming(ctx, load.Consumer{Channel: channel, Conns: 1, RDY: rdyMax}, t)
			})
		}
		return collect(parts...)
	}
	w := p.workload(fmt.Sprintf("fan-out-%d", channels), fmt.Sprintf("fan-out to %d channels, MPUB x200, 1 + %d connections", channels, channels),
		floors...)
	if len(floors) == 0 {
		w.subjects = inMemoryOnly
	}
	return w
}
