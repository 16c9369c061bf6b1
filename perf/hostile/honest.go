package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

const honestTopic = "honest"

// pair is the honest producer and the honest consumer.
type pair struct {
	pub, sub *client.Conn
}

// latency is the time from when a message was due to leave to its arrival.
type latency struct{ p50, p99 time.Duration }

func connectPair(ctx context.Context, addr string) (*pair, error) {
	pub, err := client.Dial(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	sub, err := client.Dial(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _, _ = pub.Close(), sub.Close() })
	if err := sub.Subscribe(honestTopic, "c"); err != nil {
		return nil, err
	}
	sub.Out = codec.AppendRdy(sub.Out, 100)
	return &pair{pub, sub}, errors.Join(pub.Flush(), sub.Flush())
}

// run publishes at a fixed rate, whatever the answers do, for the time given. Every message must arrive, once.
func (p *pair) run(length time.Duration, rate int) (latency, error) {
	n := int(length.Seconds() * float64(rate))
	answered := make(chan error, 1)
	go func() { answered <- p.answers(n) }()
	published := make(chan error, 1)
	go func() { published <- p.publish(n, time.Second/time.Duration(rate)) }()
	list := make([]time.Duration, 0, n)
	for range n {
		d, err := p.take()
		if err != nil {
			return latency{}, fmt.Errorf("honest consumer, after %d of %d messages: %w", len(list), n, err)
		}
		list = append(list, d)
	}
	for _, c := range []chan error{published, answered} {
		if err := <-c; err != nil {
			return latency{}, fmt.Errorf("honest producer: %w", err)
		}
	}
	if err := p.leave(); err != nil {
		return latency{}, fmt.Errorf("honest consumer leaving: %w", err)
	}
	slices.Sort(list)
	return latency{p50: list[n/2], p99: list[n*99/100]}, nil
}

// leave makes sure that the broker gives this consumer nothing more: what it did would reach the next pair as a second attempt.
func (p *pair) leave() error {
	p.sub.Out = append(p.sub.Out, "CLS\n"...)
	return p.sub.Expect("CLOSE_WAIT")
}

// publish sends message i when it is due: what was held up counts as late from then on.
func (p *pair) publish(n int, every time.Duration) error {
	begin := time.Now()
	body := make([]byte, 200)
	var out []byte
	for i := range n {
		due := begin.Add(time.Duration(i) * every)
		time.Sleep(time.Until(due))
		binary.BigEndian.PutUint64(body, uint64(due.UnixNano()))
		out = codec.AppendPub(out[:0], honestTopic, body)
		if _, err := p.pub.Write(out); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) answers(n int) error {
	for range n {
		frameType, data, err := p.pub.Next()
		if err != nil {
			return err
		}
		if frameType != codec.FrameResponse || string(data) != "OK" {
			return fmt.Errorf("the broker answers %.100q", data)
		}
	}
	return nil
}

func (p *pair) take() (time.Duration, error) {
	frameType, data, err := p.sub.Next()
	at := time.Now()
	if err != nil {
		return 0, err
	}
	m, ok := codec.ParseMessage(data)
	if frameType != codec.FrameMessage || !ok || len(m.Body) != 200 || m.Attempts != 1 {
		return 0, fmt.Errorf("the broker sent %.100q", data)
	}
	p.sub.Out = codec.AppendFin(p.sub.Out, m.ID)
	return time.Duration(at.UnixNano() - int64(binary.BigEndian.Uint64(m.Body))), p.sub.Flush()
}
