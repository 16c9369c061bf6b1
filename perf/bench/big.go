package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// bigWorkload is large bodies, published and consumed at the same time: memory bandwidth more than commands.
var bigWorkload = passes{
	messages: 30_000, size: 16 << 10, channels: []string{"c"}, twice: true, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return collect(
			func() (measured, error) { return publishing(ctx, load.Publisher{Conns: 2, Window: 16}, t) },
			func() (measured, error) { return consuming(ctx, load.Consumer{Conns: 2, RDY: rdyMax}, t) },
		)
	},
}.workload("16k", "16 KiB bodies, PUB + consume, 2 + 2 connections", floor{}, times(2))
