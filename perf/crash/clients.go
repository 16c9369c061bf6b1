package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/perf/client"
)

// clients are the connections of one round or drain, one goroutine each.
type clients struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan error  // the first failure of a client that nobody asked to end
	ending  atomic.Bool // set before the daemon is ended: from then on broken connections and refusals are what we want
	aim     *aim        // may end it any time; nil for none

	published, delivered, finished, requeued, refused, hangups, changed atomic.Int64
}

func newClients(ctx context.Context, a *aim) (*clients, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &clients{cancel: cancel, failed: make(chan error, 1), aim: a}, ctx
}

// run starts a client.
func (c *clients) run(name string, work func() error) {
	c.running.Go(func() {
		err := work()
		if err == nil || c.ending.Load() || c.aim.hit() {
			return
		}
		select {
		case c.failed <- &faultError{name + ": " + err.Error()}:
		default:
		}
	})
}

// stop breaks what connections are left and waits for every client; a failure nobody has seen yet is returned.
func (c *clients) stop() error {
	c.ending.Store(true)
	c.cancel()
	c.running.Wait()
	select {
	case err := <-c.failed:
		return err
	default:
		return nil
	}
}

// dial connects; the connection breaks when ctx ends. release must be called to close it.
func dial(ctx context.Context, addr string, identify map[string]any) (conn *client.Conn, release func(), err error) {
	conn, err = client.Dial(ctx, addr, identify)
	if err != nil {
		return nil, nil, err
	}
	closeConn := func() { _ = conn.Close() } // closing twice is what happens when ctx ended first
	unhook := context.AfterFunc(ctx, closeConn)
	return conn, func() { unhook(); closeConn() }, nil
}

func (c *clients) String() string {
	return fmt.Sprintf("published %d, delivered %d, finished %d, requeued %d, refused %d, hung up %d, changed %d", c.published.Load(),
		c.delivered.Load(), c.finished.Load(), c.requeued.Load(), c.refused.Load(), c.hangups.Load(), c.changed.Load())
}

// startLoad starts publishers, consumers and stewards of one round.
func (r *rig) startLoad(ctx context.Context, round int, a *aim) *clients {
	c, ctx := newClients(ctx, a)
	for i := range publishers - 1 {
		p := &publisher{rig: r, clients: c, number: uint32(i), random: r.random(round, i)}
		c.run(fmt.Sprintf("publisher %d", i), func() error { return p.run(ctx) })
	}
	w := &webPublisher{rig: r, clients: c, number: publishers - 1, random: r.random(round, publishers-1)}
	c.run("HTTP publisher", func() error { return w.run(ctx) })
	for i, s := range r.stewards {
		s.random = r.random(round, publishers+consumers+i)
		c.run("steward of "+s.topic, func() error { return s.run(ctx, c) })
	}
	for i := range consumers {
		k := r.newConsumer(c, i)
		if k.channel == r.idle {
			continue
		}
		k.random = r.random(round, publishers+i)
		c.run(fmt.Sprintf("consumer %d of %s", i, k.channel), func() error { return k.run(ctx) })
	}
	return c
}
