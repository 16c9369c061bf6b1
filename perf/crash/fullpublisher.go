package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

// refusedPace is the pause after a refusal: each costs the connection.
const refusedPace = 2 * time.Millisecond

// fullPublisher publishes one command after the other and goes on after a refusal. The last one uses HTTP.
type fullPublisher struct {
	*filler
	clients *clients
	number  uint32
	random  *rand.Rand
	last    *atomic.Int64 // when it was last accepted, ns since 1970
	conn    *client.Conn
	release func()
	body    []byte
}

func (p *fullPublisher) run(ctx context.Context) error {
	defer p.hangup()
	for ctx.Err() == nil {
		keys, delay := p.draw()
		sent := time.Now()
		refused, err := p.publish(ctx, keys, delay)
		switch took := time.Since(sent); {
		case err != nil:
			return err
		case refused:
			p.figures.took(&p.figures.refused, took)
			time.Sleep(refusedPace)
		default:
			for _, key := range keys {
				p.book.Acked(key)
			}
			p.last.Store(time.Now().UnixNano())
			p.clients.published.Add(int64(len(keys)))
			if p.full.Load() {
				p.figures.took(&p.figures.accepted, took)
			}
			time.Sleep(time.Duration(len(keys)) * pace / 2)
		}
	}
	return ctx.Err()
}

func (p *fullPublisher) draw() (keys []ledger.Key, delay time.Duration) {
	n := 1
	switch choice := p.random.IntN(10); {
	case choice < 4:
		n = 2 + p.random.IntN(mpubMax)
	case choice < 6 && p.deferred:
		delay = (1 + time.Duration(p.random.Int64N(int64(delayMax)))).Truncate(time.Millisecond)
	}
	for range n {
		keys = append(keys, p.book.Sent(p.number, delay))
	}
	return keys, delay
}

// publish sends one command. refused: the daemon said that it cannot.
func (p *fullPublisher) publish(ctx context.Context, keys []ledger.Key, delay time.Duration) (refused bool, err error) {
	bodies := make([][]byte, len(keys))
	for i, key := range keys {
		bodies[i] = p.book.Body(nil, key)
	}
	if p.number == publishers-1 {
		query := url.Values{"topic": {topic}}
		if delay > 0 {
			query.Set("defer", fmt.Sprint(delay.Milliseconds()))
		}
		err := p.web.publish(ctx, p.daemon.HTTPAddr, query, bodies)
		if err != nil && strings.Contains(err.Error(), "pub: 50") { // a status of 500 to 509
			return true, nil
		}
		return false, err
	}
	if p.conn == nil {
		if p.conn, p.release, err = dial(ctx, p.daemon.TCPAddr, nil); err != nil {
			return false, err
		}
	}
	switch {
	case len(bodies) > 1:
		p.conn.Out = codec.AppendMpub(p.conn.Out, topic, bodies)
	case delay > 0:
		p.conn.Out = codec.AppendDpub(p.conn.Out, topic, delay, bodies[0])
	default:
		p.conn.Out = codec.AppendPub(p.conn.Out, topic, bodies[0])
	}
	if err := p.conn.Flush(); err != nil {
		return false, err
	}
	frameType, data, err := p.conn.Next()
	switch {
	case err != nil:
		return false, err
	case frameType == codec.FrameResponse && string(data) == "OK":
		return false, nil
	case frameType == codec.FrameError && strings.Contains(string(data), "PUB_FAILED"):
		p.hangup() // the daemon closes it too
		return true, nil
	}
	return false, fmt.Errorf("answer to a publish: %q", data)
}

func (p *fullPublisher) hangup() {
	if p.conn != nil {
		p.release()
		p.conn = nil
	}
}

// fullFigures are what a run measured.
type fullFigures struct {
	finished int64 // messages while the disk was full
	back     []time.Duration

	mu       sync.Mutex
	refused  []time.Duration // how long each refusal took
	accepted []time.Duration // and each publish that was accepted while the disk was full
}

func (f *fullFigures) took(list *[]time.Duration, d time.Duration) {
	f.mu.Lock()
	*list = append(*list, d)
	f.mu.Unlock()
}

// p99 sorts what it is given.
func p99(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[(len(list)*99-1)/100]
}

// judge tells what the figures break. strict: also the limits of time, which a busy machine may break.
func (f *fullFigures) judge(strict bool) error {
	switch {
	case len(f.refused) == 0:
		return errors.New("no publish was ever refused: the disk was not full")
	case f.finished == 0:
		return &faultError{"nothing was finished while the disk was full"}
	case !strict:
		return nil
	case p99(f.refused) > refusedIn:
		return &faultError{fmt.Sprintf("the 99th of a hundred refusals took %v: %v", p99(f.refused), f)}
	case slices.Max(f.back) > backAgain:
		return &faultError{fmt.Sprintf("a publisher was accepted only %v after space returned", slices.Max(f.back))}
	}
	return nil
}

func (f *fullFigures) String() string {
	slices.Sort(f.back)
	return fmt.Sprintf("%d refusals, p99 %v, longest %v; while full %d publishes accepted, p99 %v, and %d messages finished; accepting again after %v at most",
		len(f.refused), p99(f.refused).Round(10*time.Microsecond), slices.Max(f.refused).Round(10*time.Microsecond), len(f.accepted),
		p99(f.accepted).Round(10*time.Microsecond), f.finished, slices.Max(f.back).Round(time.Millisecond))
}
