package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/perf/load"
)

// mpubConsumeWorkload is a queue in steady use: what is published is consumed at the same time.
var mpubConsumeWorkload = workload{
	name: "mpub-consume", title: "MPUB x200 + consume, 2 + 2 connections", messages: 400_000, channels: []string{"c"}, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		publish, err := publishing(ctx, load.Publisher{Conns: 2, Batch: mpubBatch, Window: 1}, t)
		if err != nil {
			return measured{}, err
		}
		consume, err := consuming(ctx, load.Consumer{Conns: 2, RDY: drainRDY}, t)
		if err != nil {
			publish.close()
			return measured{}, err
		}
		return measured{
			run: func(ctx context.Context) error {
				group, ctx := errgroup.WithContext(ctx)
				group.Go(func() error { return publish.run(ctx) })
				group.Go(func() error { return consume.run(ctx) })
				return group.Wait()
			},
			close: func() { publish.close(); consume.close() },
		}, nil
	},
}
