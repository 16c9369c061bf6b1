package main

import (
	"context"
	"errors"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/load"
)

const (
	// idleConns is how many consumers wait for messages.
	idleConns = 10_000
	// idleTime is how long they are watched.
	idleTime = 10 * time.Second
	// idlePubs is how many messages are published to them, one at a time.
	idlePubs = 4000
)

// idleWorkload is a crowd of consumers of one channel, to whom little is sent.
var idleWorkload = workload{
	name: "idle", title: "10,000 subscribed connections",
	rows: []row{
		{name: "anonymous memory each", unit: "KB", floors: []floor{{limit: 4}}},
		{name: "CPU while idle", unit: "% of a core", floors: []floor{{limit: 1}}},
		{name: "synchronous PUB to them, median", unit: "us", floors: []floor{{limit: 60}}},
		{name: "time to connect all", unit: "s"},
	},
	subjects: inMemoryOnly, otherRuns: 1, turn: idle,
}

func idle(ctx context.Context, t *turn) (samples []sample, err error) {
	if err := t.process.API().CreateTopic(ctx, "bench0", "c"); err != nil {
		return nil, err
	}
	before, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	conns := t.count(idleConns)
	crowd, err := load.Subscribers{
		Addr: t.process.TCPAddr, Conns: conns, RDY: 1, Place: func(int) (string, string) { return "bench0", "c" },
	}.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, crowd.Close()) }()
	took := time.Since(began)
	share, err := t.idleShare(ctx)
	if err != nil {
		return nil, err
	}
	after, err := t.process.Memory()
	if err != nil {
		return nil, err
	}
	median, err := t.roundTrip(ctx, "bench0", t.count(idlePubs))
	if err != nil {
		return nil, err
	}
	return plain(float64(after.Anon-before.Anon)/1e3/float64(conns), share, median, took.Seconds()), nil
}

// idleShare lets the daemon come to rest and says what percentage of a core it uses then.
func (t *turn) idleShare(ctx context.Context) (float64, error) {
	if err := pause(ctx, t.settle); err != nil {
		return 0, err
	}
	before, err := takeAccount(t.process.PID())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := pause(ctx, time.Duration(float64(idleTime)*t.scale)); err != nil {
		return 0, err
	}
	after, err := takeAccount(t.process.PID())
	return 100 * float64(after.broker-before.broker) / float64(time.Since(began)), err
}

// roundTrip publishes messages one after the other and returns the median of the times to their OKs, in us.
func (t *turn) roundTrip(ctx context.Context, topic string, messages int) (float64, error) {
	conn, err := t.link.Dial(ctx, t.process.TCPAddr, map[string]any{"heartbeat_interval": -1})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // every OK was read
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	command := appendPub(topic, t.size)
	times := load.NewHistogram()
	for range messages {
		conn.Out = append(conn.Out, command...)
		began := time.Now()
		if err := conn.Expect("OK"); err != nil {
			return 0, err
		}
		record(times, int64(time.Since(began)))
	}
	return quantile(times, 50) / float64(time.Microsecond), nil
}

// appendPub is a PUB of size zero bytes.
func appendPub(topic string, size int) []byte { return codec.AppendPub(nil, topic, make([]byte, size)) }
