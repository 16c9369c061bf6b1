package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/perf/load"
)

const (
	// topicCount is how many topics there are, with a channel each.
	topicCount = 10_000
	// firstTopics is how many the peer is asked to create too: a stock nsqd writes the list of all topics with each new one.
	firstTopics = 1_000
)

// manyTopicsWorkload is topics that exist and do nothing.
var manyTopicsWorkload = workload{
	name: "many-topics", title: "10,000 topics with a channel each",
	rows: []row{
		{name: "time to create the first 1,000, over HTTP", unit: "s"},
		{name: "time to create all", unit: "s", floors: []floor{{limit: 10}}},
		{name: "time to start again", unit: "s", floors: []floor{{limit: 3}}},
		{name: "anonymous memory each, started again", unit: "KB", floors: []floor{{limit: 16}}},
		{name: "CPU while idle", unit: "% of a core", floors: []floor{{limit: 1}}},
	},
	subjects: inMemoryOnly, otherRuns: 1, turn: manyTopics,
}

func manyTopics(ctx context.Context, t *turn) ([]sample, error) {
	fresh, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	count, first := t.count(topicCount), t.count(firstTopics)
	began := time.Now()
	if err := createTopics(ctx, t.process.HTTPAddr, 0, first); err != nil {
		return nil, err
	}
	few, all := time.Since(began).Seconds(), math.NaN()
	if t.name == oursName {
		if err := createTopics(ctx, t.process.HTTPAddr, first, count); err != nil {
			return nil, err
		}
		all = time.Since(began).Seconds()
	}
	if err := t.process.Stop(stopMax); err != nil {
		return nil, err
	}
	if t.name != oursName { // it is given all of them
		t.dir = filepath.Join(t.dir, "given")
		if err := errors.Join(os.Mkdir(t.dir, 0o755), knownTopics(t.dir, count, 1)); err != nil {
			return nil, err
		}
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
	share, err := t.idleShare(ctx)
	if err != nil {
		return nil, err
	}
	after, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	return plain(few, all, again.Seconds(), float64(after.Anon-fresh.Anon)/1e3/float64(count), share), nil
}

// creators is how many connections create at a time.
const creators = 4

// createTopics asks for topics and channels as a script would.
func createTopics(ctx context.Context, addr string, from, to int) error {
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
			for n := from + creator; n < to; n += creators {
				for _, target := range []string{fmt.Sprintf("/topic/create?topic=topic%d", n), fmt.Sprintf("/channel/create?topic=topic%d&channel=channel0", n)} {
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
