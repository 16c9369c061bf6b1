package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

// fairTime is over how long shares are counted.
const fairTime = 10 * time.Second

// twoLoopsName is the subject that must be fair across loops too.
const twoLoopsName = "ours, 2 loops"

// crowd is four equal consumers of a channel to whom less is published than they could take: who gets it is the broker's choice.
type crowd struct {
	name  string
	rdy   int
	burst int           // messages published at once
	every time.Duration // between bursts
	job   time.Duration // what a consumer takes for a message before it finishes it; 0 finishes what came at once
}

// crowds run at the same time on topics of their own.
var crowds = []crowd{
	{name: "jobs of 5 ms at RDY 1", rdy: 1, burst: 1, every: 2500 * time.Microsecond, job: 5 * time.Millisecond},
	{name: "bursts at RDY 8", rdy: 8, burst: 50, every: 20 * time.Millisecond},
	{name: "bursts at RDY 200", rdy: 200, burst: 500, every: 50 * time.Millisecond},
}

const equals = 4

// fairnessWorkload is Jain's index of the shares: 1 when all are equal, 1/4 when one consumer has everything.
var fairnessWorkload = func() workload {
	w := workload{
		name: "fairness", title: "shares of 4 equal consumers", otherRuns: 1, turn: fairness,
		subjects: func(o options) []subject {
			return o.without([]subject{o.oursWith(oursName), o.oursWith(twoLoopsName, "--loops=2"), o.peerWith(peerMemName, peerMemArgs...)})
		},
	}
	for _, c := range crowds {
		w.rows = append(w.rows, row{name: c.name, unit: "Jain index", more: true, floors: []floor{{limit: 0.95}, {limit: 0.95, of: twoLoopsName}}})
	}
	return w
}()

func fairness(ctx context.Context, t *turn) ([]sample, error) {
	indices := make([]float64, len(crowds))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range crowds {
		group.Go(func() (err error) {
			indices[i], err = c.measure(ctx, t, "bench"+string(rune('0'+i)))
			return err
		})
	}
	err := group.Wait()
	return plain(indices...), err
}

// measure is the index of one crowd.
func (c crowd) measure(ctx context.Context, t *turn, topic string) (float64, error) {
	if err := t.process.API().CreateTopic(ctx, topic, "c"); err != nil {
		return 0, err
	}
	end := time.Duration(float64(fairTime) * max(t.scale, 0.05))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shares := make([]float64, equals)
	group, ctx := errgroup.WithContext(ctx)
	for i := range equals {
		conn, err := t.link.Dial(ctx, t.process.TCPAddr, nil)
		if err == nil {
			defer func() { _ = conn.Close() }() // what is left is not counted
			err = conn.Subscribe(topic, "c")
		}
		if err != nil {
			return 0, errors.Join(err, group.Wait())
		}
		group.Go(func() error { return c.consume(ctx, conn, &shares[i]) })
	}
	conn, err := t.link.Dial(ctx, t.process.TCPAddr, map[string]any{"heartbeat_interval": -1})
	if err == nil {
		defer func() { _ = conn.Close() }() // every OK was read
		err = c.publish(ctx, conn, topic, t.options.size, end)
	}
	cancel()
	err = errors.Join(err, group.Wait())
	return jain(shares), err
}

func (c crowd) publish(ctx context.Context, conn *client.Conn, topic string, size int, end time.Duration) error {
	bodies := make([][]byte, c.burst)
	for i := range bodies {
		bodies[i] = make([]byte, size)
	}
	command := codec.AppendMpub(nil, topic, bodies)
	began := time.Now()
	for due := time.Duration(0); due < end; due += c.every {
		if err := pause(ctx, due-time.Since(began)); err != nil {
			return err
		}
		conn.Out = append(conn.Out, command...)
		if err := conn.Expect("OK"); err != nil {
			return err
		}
	}
	return nil
}

// consume takes messages until ctx ends, and counts them.
func (c crowd) consume(ctx context.Context, conn *client.Conn, share *float64) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.Out = codec.AppendRdy(conn.Out, int64(c.rdy))
	for {
		if !conn.Ready() {
			if err := conn.Flush(); err != nil {
				return ended(ctx, err)
			}
		}
		frameType, data, err := conn.Next()
		if err != nil {
			return ended(ctx, err)
		}
		message, ok := codec.ParseMessage(data)
		if frameType != codec.FrameMessage || !ok {
			return errors.New("the broker sends something else than messages: " + string(data))
		}
		if c.job > 0 {
			if err := pause(ctx, c.job); err != nil {
				return ended(ctx, err)
			}
		}
		*share++
		conn.Out = codec.AppendFin(conn.Out, message.ID)
	}
}

// ended is nil if err is only what the end of ctx did.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// jain is the fairness index of shares, 0 if nobody has anything.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, s := range shares {
		sum, squares = sum+s, squares+s*s
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(shares)) * squares)
}
