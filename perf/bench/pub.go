package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// pubWorkload is many producers that do not wait for their answers one by one.
var pubWorkload = passes{
	messages: 300_000, twice: true, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return publishing(ctx, load.Publisher{Conns: 16, Window: 64}, t)
	},
}.workload("pub", "PUB pipelined, 16 connections x 64", times(10))
