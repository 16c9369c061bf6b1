package main

import (
	"context"
	"fmt"

	"github.com/nsqloop/nsqloop/perf/load"
)

// Publishing over HTTP on kept connections, each request waiting for its answer.
var (
	httpPubOneWorkload  = httpPublishing("http-pub-1", 1, 0, 30_000, times(1.5))
	httpPubManyWorkload = httpPublishing("http-pub-64", 64, 0, 64_000, times(1.5))
	httpMpubOneWorkload = httpPublishing("http-mpub-1", 1, mpubBatch, 400_000, times(3.5))
	httpMpubAllWorkload = httpPublishing("http-mpub-64", 64, mpubBatch, 512_000, times(3.5))
)

func httpPublishing(name string, conns, batch, messages int, floors ...floor) workload {
	title := fmt.Sprintf("HTTP /pub, %d connections", conns)
	if batch > 0 {
		title = fmt.Sprintf("HTTP /mpub x%d, %d connections", batch, conns)
	}
	each := conns * max(1, batch)
	p := passes{messages: messages, least: each}
	p.prepare = func(ctx context.Context, t *target) (measured, error) {
		prepared, err := load.HTTPPublisher{
			Addr: t.process.HTTPAddr, Topic: t.topics[0], Conns: conns, Messages: t.messages, Size: t.size, Batch: batch,
		}.Prepare(ctx)
		if err != nil {
			return measured{}, err
		}
		return measured{run: prepared.Run, close: prepared.Close}, nil
	}
	return workload{
		name: name, title: title,
		rows:     []row{{name: "broker CPU", unit: "ns/msg", floors: floors}, {name: "rate", unit: "msg/s", more: true}},
		subjects: func(o options) []subject { return append(inMemoryOnly(o), emptyServer()) },
		turn: func(ctx context.Context, t *turn) ([]sample, error) {
			part := p.target(t)
			part.messages -= part.messages % each // every connection sends as many whole requests
			short := *part
			short.messages = each
			if _, err := p.pass(ctx, &short, unmeasured); err != nil {
				return nil, err
			}
			s, err := p.pass(ctx, part, fromNow)
			return plain(s.value, s.rate), err
		},
	}
}
