package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

// What a broker may do that has no descriptor left.
const (
	scarceFiles  = 100
	scarceCPU    = 0.2         // of one processor, more than without the flood
	scarceReturn = time.Second // from the end of the flood to the first answer to somebody new
)

// hold is what takes all descriptors: connections that stay. Those turned away come again at a pace that costs little by itself.
var hold = attack{name: "no descriptor left", clients: 300, pause: 500 * time.Millisecond, life: func(v victim) {
	if v.send(magic) {
		v.untilClosed()
	}
}}

// scarce runs a broker with a hundred descriptors, told to take more connections than that, into having none to spare, while an honest pair
// works and segments are filled. Nobody who is in may notice, and no file.
func scarce(ctx context.Context, o options, dir string) (err error) {
	data := filepath.Join(dir, "scarce")
	script := filepath.Join(dir, "scarce.sh")
	text := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec '%s' \"$@\"\n", scarceFiles, o.nsqd)
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(script, []byte(text), 0o700)); err != nil {
		return err
	}
	p, err := daemon.Start(ctx, daemon.Options{Path: script, DataPath: data,
		Args: []string{"--max-connections=10000", "--max-bytes-per-file=1048576"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop(30*time.Second)) }()
	if err := p.API().CreateTopic(ctx, honestTopic, "c"); err != nil {
		return err
	}
	quiet, _, err := scarceBout(ctx, o, p, 0)
	if err != nil {
		return fmt.Errorf("before the flood: %w", err)
	}
	busy, back, err := scarceBout(ctx, o, p, hold.clients)
	if err != nil {
		return err
	}
	more := (busy - quiet).Seconds() / o.length.Seconds()
	fmt.Fprintf(o.out, "\n%s: %.0f %% of a processor more than without the flood, the next client was served %s after it\n", hold.name, 100*more, short(back))
	damaged, err := filepath.Glob(filepath.Join(data, "*.damaged"))
	failures := []error{err}
	if len(damaged) > 0 {
		failures = append(failures, fmt.Errorf("files were set aside: %q", damaged))
	}
	if more > scarceCPU && !o.short {
		failures = append(failures, fmt.Errorf("it took %.0f %% of a processor", 100*more))
	}
	if back > scarceReturn && !o.short {
		failures = append(failures, fmt.Errorf("the next client was served after %s", back))
	}
	return errors.Join(failures...)
}

// scarceBout returns the broker's time on processors beside so many clients that hold, and how long after them somebody new was served.
func scarceBout(ctx context.Context, o options, p *daemon.Process, clients int) (cpu, back time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.length+settleTime)
	defer cancel()
	pair, err := connectPair(ctx, p.TCPAddr)
	if err != nil {
		return 0, 0, err
	}
	filler, err := client.Dial(ctx, p.TCPAddr, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, filler.Close()) }()
	a := hold
	a.clients = clients
	flooding, free := context.WithCancel(ctx)
	defer free()
	tcp := startFlood(flooding, p.TCPAddr, a)
	web := startFlood(flooding, p.HTTPAddr, a)
	for clients > 0 && !p.Logged("connections are open") { // what follows happens when nobody can get in any more
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
	before, err := p.CPU()
	if err != nil {
		return 0, 0, err
	}
	filled := make(chan error, 1)
	go func() { filled <- fill(ctx, filler, o.length) }()
	_, err = pair.run(o.length, o.rate)
	if err := errors.Join(err, <-filled); err != nil {
		return 0, 0, err
	}
	after, err := p.CPU()
	if err != nil {
		return 0, 0, err
	}
	free()
	tcp.wait()
	web.wait()
	begin := time.Now()
	for err = newcomer(ctx, p); err != nil; err = newcomer(ctx, p) { // turned away until the broker has seen the others go
		if paused := pause(ctx, 5*time.Millisecond); paused != nil {
			return 0, 0, errors.Join(err, paused)
		}
	}
	return after - before, time.Since(begin), nil
}

// newcomer is somebody new over TCP, and somebody new over HTTP.
func newcomer(ctx context.Context, p *daemon.Process) error {
	c, err := client.Dial(ctx, p.TCPAddr, nil)
	if err != nil {
		return err
	}
	c.Out = codec.AppendPub(c.Out, targetTopic, []byte("x"))
	if err := errors.Join(c.Expect("OK"), c.Close()); err != nil {
		return err
	}
	return p.API().CreateTopic(ctx, targetTopic)
}

// fill publishes a segment a second.
func fill(ctx context.Context, c *client.Conn, length time.Duration) error {
	bodies := make([][]byte, 10)
	for i := range bodies {
		bodies[i] = make([]byte, 10<<10)
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		c.Out = codec.AppendMpub(c.Out, targetTopic, bodies)
		if err := c.Expect("OK"); err != nil {
			return fmt.Errorf("filling segments: %w", err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
