package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// pubWorkload is many producers that do not wait for their answers one by one.
var pubWorkload = workload{
	name: "pub", title: "PUB pipelined, 16 connections x 64", messages: 400_000, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return publishing(ctx, load.Publisher{Conns: 16, Window: 64}, t)
	},
}
