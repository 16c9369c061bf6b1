package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// mpubBatch is the number of messages of one MPUB in every workload that uses it.
const mpubBatch = 200

// mpubWorkload is the way to publish much: nobody consumes, one MPUB is outstanding on each connection.
var mpubWorkload = workload{
	name: "mpub", title: "MPUB x200, 4 connections", messages: 800_000, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return publishing(ctx, load.Publisher{Conns: 4, Batch: mpubBatch, Window: 1}, t)
	},
}

// publishing is a measured part that only publishes.
func publishing(ctx context.Context, p load.Publisher, t *target) (measured, error) {
	p.Addr, p.Topic, p.Messages, p.Size = t.process.TCPAddr, t.topic, t.messages, t.size
	prepared, err := p.Prepare(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{run: prepared.Run, close: prepared.Close}, nil
}
