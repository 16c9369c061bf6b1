package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/perf/load"
)

const (
	// stallBacklog is how many messages lie on disk and not in memory.
	stallBacklog = 2_000_000
	// breatheEvery is after how many messages the consumer pauses for a millisecond. Without that it would take a processor for itself,
	// and what the probes find would be how long they wait for one.
	breatheEvery = 500
	// probeConns is enough that every loop has some: connections are spread over loops.
	probeConns = 8
	// probeRate is publishes per second over all of them: each asks every 4 ms.
	probeRate = 2000
	// probeTime is how long they ask, about as long as the drain takes.
	probeTime = 5 * time.Second
	// collectEvery is the time between two forced garbage collections.
	collectEvery = 50 * time.Millisecond
)

// stallWorkload watches from outside whether a loop falls silent: on otherwise idle connections PUBs leave by a schedule while a consumer
// drains a backlog that has to be read from disk, garbage collections are forced and the segments that were drained are reclaimed.
var stallWorkload = workload{
	name: "stall", title: "PUB to OK beside a drain from disk",
	rows: []row{
		{name: "longest", unit: "ms", floors: []floor{{limit: 50}, {limit: 50, of: twoLoopsName}}},
		{name: "p99.9", unit: "ms", floors: []floor{{limit: 5}, {limit: 5, of: twoLoopsName}}},
		{name: "p50", unit: "ms"},
	},
	subjects: func(o options) []subject {
		return o.without([]subject{o.oursWith(oursName), o.oursWith(twoLoopsName, "--loops=2"), o.peerWith(peerDiskName, peerDiskArgs...)})
	},
	otherRuns: 1, turn: stall,
}

func stall(ctx context.Context, t *turn) ([]sample, error) {
	backlog := &target{turn: t, topics: []string{"backlog"}, channels: []string{"c"}, messages: max(mpubBatch, t.count(stallBacklog)), size: t.options.size}
	if err := t.process.API().CreateTopic(ctx, "backlog", "c"); err != nil {
		return nil, err
	}
	if err := fill(ctx, backlog); err != nil {
		return nil, err
	}
	if err := t.restartCold(ctx); err != nil {
		return nil, err
	}
	if err := t.process.API().CreateTopic(ctx, "probe"); err != nil {
		return nil, err
	}
	taken := 0
	draining, err := consuming(ctx, load.Consumer{Conns: 1, RDY: rdyMax, Each: func(int, []byte) {
		if taken++; taken%breatheEvery == 0 {
			time.Sleep(time.Millisecond)
		}
	}}, backlog)
	if err != nil {
		return nil, err
	}
	defer draining.close()
	probes, err := load.Pace{
		Addr: t.process.TCPAddr, Topic: "probe", Conns: probeConns, Rate: probeRate, Messages: t.during(probeTime, probeRate), Size: t.options.size, Link: t.link,
	}.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer probes.Close()
	probing, stop := context.WithCancel(ctx)
	defer stop()
	err = together(
		measured{run: draining.run},
		measured{run: func(ctx context.Context) error { defer stop(); return probes.Run(ctx) }},
		measured{run: func(context.Context) error { return t.collectGarbage(probing) }},
	).run(ctx)
	if err != nil {
		return nil, err
	}
	times := probes.Acknowledgements()
	const ms = float64(time.Millisecond)
	return plain(float64(times.Max())/ms, quantile(times, 99.9)/ms, quantile(times, 50)/ms), nil
}

// restartCold stops the daemon, takes its files out of the page cache and starts it again.
func (t *turn) restartCold(ctx context.Context) error {
	if err := t.process.Stop(stopMax); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(t.dir, "*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := evict(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.exec(ctx)
}

func evict(name string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil { // dirty pages stay
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// collectGarbage forces a collection again and again until ctx ends.
func (t *turn) collectGarbage(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.process.HTTPAddr)
	if err != nil {
		return ended(ctx, err)
	}
	defer func() { _ = conn.Close() }() // nothing is left to lose
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := make([]byte, load.ReplyRoom)
	for {
		// A stock nsqd does it and answers 500.
		if _, err := load.Exchange(conn, load.AppendPost(nil, "/debug/freememory", nil), in); err != nil {
			return ended(ctx, err)
		}
		if err := pause(ctx, collectEvery); err != nil {
			return nil
		}
	}
}
