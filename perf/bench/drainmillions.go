package main

import (
	"context"
	"fmt"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/load"
)

// millions is the depth of a channel that nobody has read for a while.
const millions = 5_000_000

// drainMillionsWorkload is a deep queue: what it costs in memory while it waits, and to get rid of. The peer may keep all of it in memory,
// where --mem-queue-size=1000000 would send most of it to disk.
var drainMillionsWorkload = workload{
	name: "drain-5m", title: "drain of 5,000,000, 2 consumers, RDY 2500, FINs batched",
	rows: []row{
		{name: "first", unit: "CPU ns/msg", throughput: true, floors: []floor{times(12)}},
		{name: "anonymous memory when filled", unit: "MB", floors: []floor{{limit: 40}}},
	},
	subjects: func(o options) []subject {
		return o.without([]subject{o.oursWith(oursName), o.peerWith(peerMemName, fmt.Sprintf("--mem-queue-size=%d", millions))})
	},
	turn: drainMillions,
}

func drainMillions(ctx context.Context, t *turn) ([]sample, error) {
	var queued daemon.Memory
	p := passes{messages: millions, channels: []string{"c"}}
	p.prepare = func(ctx context.Context, part *target) (measured, error) {
		if err := fill(ctx, part); err != nil {
			return measured{}, err
		}
		if err := pause(ctx, t.settle); err != nil {
			return measured{}, err
		}
		var err error
		if queued, err = t.process.Memory(); err != nil {
			return measured{}, err
		}
		return consuming(ctx, load.Consumer{Conns: 2, RDY: rdyMax}, part)
	}
	s, err := p.pass(ctx, p.target(t), fromNow)
	return []sample{s, {value: float64(queued.Anon) / 1e6}}, err
}
