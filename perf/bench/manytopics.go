package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/perf/load"
)

const (
	// topicCount is how many topics there are, with a channel each.
	topicCount = 10_000
	// peerTopicCount is how many the peer gets: a stock nsqd writes the list of all topics with each new one.
	peerTopicCount = 2_000
	// fewerTopicsName is its column.
	fewerTopicsName = "peer, 2,000 topics"
)

// manyTopicsWorkload is topics that exist and do nothing.
var manyTopicsWorkload = workload{
	name: "many-topics", title: "10,000 topics with a channel each",
	rows: []row{
		{name: "time to create, over HTTP", unit: "s", floors: []floor{{limit: 10}}},
		{name: "anonymous memory each", unit: "KB", floors: []floor{{limit: 16}}},
		{name: "CPU while idle", unit: "% of a core", floors: []floor{{limit: 1}}},
		{name: "time to start again", unit: "s", floors: []floor{{limit: 3}}},
	},
	subjects: func(o options) []subject {
		return o.without([]subject{o.oursWith(oursName), o.peerWith(fewerTopicsName)})
	},
	otherRuns: 1, turn: manyTopics,
}

func manyTopics(ctx context.Context, t *turn) ([]sample, error) {
	before, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	count := t.count(topicCount)
	if t.name == fewerTopicsName {
		count = t.count(peerTopicCount)
	}
	began := time.Now()
	if err := createTopics(ctx, t.process.HTTPAddr, count); err != nil {
		return nil, err
	}
	took := time.Since(began)
	share, err := t.idleShare(ctx)
	if err != nil {
		return nil, err
	}
	after, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	if err := t.process.Stop(stopMax); err != nil {
		return nil, err
	}
	began = time.Now()
	if err := t.exec(ctx); err != nil { // until both listeners are up
		return nil, err
	}
	again := time.Since(began)
	// The last one must be there: a start that forgets is no fast start.
	if _, err := t.process.API().Topic(ctx, fmt.Sprintf("topic%d", count-1)); err != nil {
		return nil, err
	}
	return plain(took.Seconds(), float64(after.Anon-before.Anon)/1e3/float64(count), share, again.Seconds()), nil
}

// creators is how many connections create at a time.
const creators = 4

// createTopics asks for topics and channels as a script would.
func createTopics(ctx context.Context, addr string, count int) error {
	group, ctx := errgroup.WithContext(ctx)
	for creator := range creators {
		group.Go(func() error {
			var dialer net.Dialer
			conn, err := dialer.DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // every answer was read
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			for n := creator; n < count; n += creators {
				for _, target := range []string{fmt.Sprintf("/topic/create?topic=topic%d", n), fmt.Sprintf("/channel/create?topic=topic%d&channel=c", n)} {
					if err := load.Post(conn, target); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}
