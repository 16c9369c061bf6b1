package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// mpubBatch is the number of messages of one MPUB in every workload that uses it.
const mpubBatch = 200

// mpubWorkload is the way to publish much: nobody consumes, one MPUB is outstanding on each connection.
var mpubWorkload = passes{
	messages: 800_000, twice: true, sinceExec: true,
	prepare: func(ctx context.Context, t *target) (measured, error) {
		return publishing(ctx, load.Publisher{Conns: 4, Batch: mpubBatch, Window: 1}, t)
	},
}.workload("mpub", "MPUB x200, 4 connections", times(5), times(8))

// publishing is a measured part that publishes, to the first topic if p names none.
func publishing(ctx context.Context, p load.Publisher, t *target) (measured, error) {
	p.Addr, p.Size, p.Link = t.process.TCPAddr, t.size, t.link
	if p.Topic == "" {
		p.Topic, p.Messages = t.topics[0], t.messages
	}
	prepared, err := p.Prepare(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{run: prepared.Run, close: prepared.Close}, nil
}
