package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/load"
)

// topicsWorkload is several topics of several channels at once: 8 producers, 16 consumers.
var topicsWorkload = func() workload {
	w := manyByMany.workload("topics", "8 topics x 2 channels, MPUB x200 + consume, 8 + 16 connections")
	w.subjects = inMemoryOnly
	return w
}()

var manyByMany = passes{
	messages: 160_000, least: 8 * mpubBatch, topics: 8, channels: []string{"c", "d"},
	prepare: func(ctx context.Context, t *target) (measured, error) {
		var parts []func() (measured, error)
		for i, topic := range t.topics {
			share := (i+1)*t.messages/len(t.topics) - i*t.messages/len(t.topics)
			parts = append(parts, func() (measured, error) {
				return publishing(ctx, load.Publisher{Topic: topic, Messages: share, Conns: 1, Batch: mpubBatch, Window: 1}, t)
			})
			for _, channel := range t.channels {
				parts = append(parts, func() (measured, error) {
					return consuming(ctx, load.Consumer{Topic: topic, Channel: channel, Messages: share, Conns: 1, RDY: rdyMax}, t)
				})
			}
		}
		return collect(parts...)
	},
}
