package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

// nameCost is what a topic, or a channel, that nobody uses may take of the broker's memory, in bytes.
const nameCost = 16 << 10

const nameFlood = "a flood of names"

// names makes topics and channels up to the caps of a broker, and some more. Those are refused, and ephemeral ones leave nothing.
func names(ctx context.Context, o options, dir string) (err error) {
	data := filepath.Join(dir, "names")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	n := min(o.most, 2000)
	p, err := daemon.Start(ctx, daemon.Options{Path: o.nsqd, DataPath: data,
		Args: []string{fmt.Sprintf("--max-topics=%d", n), fmt.Sprintf("--max-channels-per-topic=%d", n)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(60*time.Second)) }()
	for i := range 10 { // each by one connection, which vanishes with it
		if err := ephemeral(ctx, p, i); err != nil {
			return fmt.Errorf("ephemeral: %w", err)
		}
	}
	for end := time.Now().Add(settleTime); ; {
		topics, err := p.API().Topics(ctx)
		if err != nil {
			return err
		}
		if len(topics) == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d ephemeral topics are left", len(topics))
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	topic, err := nameCosts(ctx, p, n, "503 Service Unavailable {\"message\":\"TOO_MANY_TOPICS\"}", func(i int) error {
		return p.API().CreateTopic(ctx, fmt.Sprintf("t%d", i))
	})
	if err != nil {
		return fmt.Errorf("topics: %w", err)
	}
	channel, err := nameCosts(ctx, p, n, "503 Service Unavailable {\"message\":\"TOO_MANY_CHANNELS\"}", func(i int) error {
		return p.API().Post(ctx, "/channel/create", map[string][]string{"topic": {"t0"}, "channel": {fmt.Sprintf("c%d", i)}})
	})
	if err != nil {
		return fmt.Errorf("channels: %w", err)
	}
	fmt.Fprintf(o.out, "\n%s: %d of each, %d bytes for a topic, %d for a channel\n", nameFlood, n, topic, channel)
	return refusedOverTCP(ctx, p)
}

// ephemeral makes a topic and a channel that live as long as their consumer.
func ephemeral(ctx context.Context, p *daemon.Process, i int) error {
	c, err := client.Dial(ctx, p.TCPAddr, nil)
	if err != nil {
		return err
	}
	return errors.Join(c.Subscribe(fmt.Sprintf("e%d#ephemeral", i), "c#ephemeral"), c.Close())
}

// nameCosts makes n of something and returns what one took; the next must be refused with the words given.
func nameCosts(ctx context.Context, p *daemon.Process, n int, refusal string, create func(i int) error) (int64, error) {
	before, err := p.Memory()
	if err != nil {
		return 0, err
	}
	for i := range n {
		if err := create(i); err != nil {
			return 0, fmt.Errorf("number %d of %d: %w", i+1, n, err)
		}
	}
	after, err := p.Memory()
	if err != nil {
		return 0, err
	}
	if err := create(n); err == nil || !strings.HasSuffix(err.Error(), refusal) {
		return 0, fmt.Errorf("one more than allowed: %v", err)
	}
	each := (after.Anon - before.Anon) / int64(n)
	if each > nameCost {
		return each, fmt.Errorf("each takes %d bytes", each)
	}
	return each, ctx.Err()
}

// refusedOverTCP expects the errors of the protocol for names beyond both caps.
func refusedOverTCP(ctx context.Context, p *daemon.Process) error {
	for _, command := range [][]byte{
		codec.AppendPub(nil, "onemore", []byte("x")),
		codec.AppendSub(nil, "onemore", "c"),
		codec.AppendSub(nil, "t0", "onemore"),
	} {
		c, err := client.Dial(ctx, p.TCPAddr, nil)
		if err != nil {
			return err
		}
		c.Out = append(c.Out, command...)
		if err := c.Flush(); err != nil {
			return err
		}
		kind, data, err := c.Next()
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
		if kind != codec.FrameError || !bytes.Contains(data, []byte("too many")) {
			return fmt.Errorf("%.20q is answered %.100q", command, data)
		}
	}
	return nil
}
