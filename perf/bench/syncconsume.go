package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// syncConsumeWorkload is synchronous producers and consumers that keep up with them: runs of messages are short.
var syncConsumeWorkload = func() workload {
	w := passes{
		messages: 80_000, channels: []string{"c"},
		prepare: func(ctx context.Context, t *target) (measured, error) {
			return collect(
				func() (measured, error) { return publishing(ctx, load.Publisher{Conns: 16, Window: 1}, t) },
				func() (measured, error) { return consuming(ctx, load.Consumer{Conns: 4, RDY: rdyMax}, t) },
			)
		},
	}.workload("sync-consume", "PUB synchronous + consume, 16 + 4 connections", floor{notWorse: true})
	w.runs = notWorseRuns
	return w
}()
