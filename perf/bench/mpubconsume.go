package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// mpubConsumeWorkload is a queue in steady use: what is published is consumed at the same time.
var mpubConsumeWorkload = passes{
	messages: 400_000, channels: []string{"c"}, twice: true, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return collect(
			func() (measured, error) {
				return publishing(ctx, load.Publisher{Conns: 2, Batch: mpubBatch, Window: 1}, t)
			},
			func() (measured, error) { return consuming(ctx, load.Consumer{Conns: 2, RDY: rdyMax}, t) },
		)
	},
}.workload("mpub-consume", "MPUB x200 + consume, 2 + 2 connections", times(10))
