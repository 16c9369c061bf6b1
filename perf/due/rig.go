package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/load"
)

type options struct {
	nsqd, dir   string
	delay, late time.Duration
	samples     int
	fill        int
	out         io.Writer
}

const (
	topic   = "due"
	filled  = "filled"
	channel = "ch"
	pace    = 2 * time.Millisecond
	long    = time.Hour
	window  = 1000 // DPUBs under way while filling
)

// rig is one run. Messages 0..samples-1 are published with the delay, the others requeued with it.
type rig struct {
	options
	data   string
	broker *daemon.Process
	sent   []time.Time // when the delay began, before the command was written
}

func (o options) run(ctx context.Context) (err error) {
	home, err := os.MkdirTemp(o.dir, "due-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	if o.nsqd == "" {
		o.nsqd = filepath.Join(home, "nsqd")
		if err := daemon.Build(ctx, o.nsqd); err != nil {
			return err
		}
	}
	r := &rig{options: o, data: filepath.Join(home, "data"), sent: make([]time.Time, 2*o.samples)}
	if err := os.Mkdir(r.data, 0o700); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.broker.Kill()) }()
	return r.measure(ctx)
}

func (r *rig) start(ctx context.Context) (err error) {
	r.broker, err = daemon.Start(ctx, daemon.Options{Path: r.nsqd, DataPath: r.data, Ready: 5 * time.Minute})
	return err
}

func (r *rig) measure(ctx context.Context) error {
	if r.fill > 0 {
		if err := r.fillUp(ctx); err != nil {
			return err
		}
	}
	if err := r.broker.API().CreateTopic(ctx, topic, channel); err != nil {
		return err
	}
	if err := r.deferAll(ctx); err != nil {
		return err
	}
	if err := r.broker.Kill(); err != nil {
		return err
	}
	began := time.Now()
	if err := r.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "killed, started in %d ms\n", time.Since(began).Milliseconds())
	if r.fill > 0 {
		if err := r.checkFilled(ctx); err != nil {
			return err
		}
	}
	return r.take(ctx)
}

// fillUp publishes what waits for an hour.
func (r *rig) fillUp(ctx context.Context) error {
	if err := r.broker.API().CreateTopic(ctx, filled, channel); err != nil {
		return err
	}
	before, err := r.broker.Memory()
	if err != nil {
		return err
	}
	conn, err := client.Dial(ctx, r.broker.TCPAddr, map[string]any{"heartbeat_interval": -1})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // everything was answered
	began := time.Now()
	free := make(chan struct{}, window)
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	group.Go(func() error {
		var out []byte
		for i := range r.fill {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			out = codec.AppendDpub(out, filled, long, binary.BigEndian.AppendUint64(nil, uint64(i)))
			if i%64 == 63 || i == r.fill-1 {
				if _, err := conn.Write(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
		return nil
	})
	group.Go(func() error {
		for range r.fill {
			if kind, data, err := conn.Next(); err != nil || kind != codec.FrameResponse || string(data) != "OK" {
				return fmt.Errorf("DPUB: frame type %d, %.100q, %w", kind, data, err)
			}
			<-free
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := r.broker.Memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%d messages deferred for an hour in %.1f s; anonymous memory %.1f -> %.1f MB, %.1f bytes each\n", r.fill, took.Seconds(),
		float64(before.Anon)/1e6, float64(after.Anon)/1e6, float64(after.Anon-before.Anon)/float64(r.fill))
	return nil
}

func (r *rig) checkFilled(ctx context.Context) error {
	t, err := r.broker.API().Topic(ctx, filled)
	if err != nil {
		return err
	}
	if len(t.Channels) != 1 || t.Channels[0].Deferred != int64(r.fill) {
		return fmt.Errorf("after the start: %+v", t)
	}
	m, err := r.broker.Memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "after the start: %d deferred, anonymous memory %.1f MB, %.1f bytes each\n", r.fill, float64(m.Anon)/1e6,
		float64(m.Anon)/float64(r.fill))
	return nil
}

func body(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

// deferAll publishes the first half with the delay, and delivers and requeues the second.
func (r *rig) deferAll(ctx context.Context) error {
	pub, err := client.Dial(ctx, r.broker.TCPAddr, nil)
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }() // everything was answered
	sub, err := r.subscribe(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := range r.samples {
		<-tick.C
		r.sent[i] = time.Now()
		pub.Out = codec.AppendDpub(pub.Out, topic, r.delay, body(i))
		if err := pub.Expect("OK"); err != nil {
			return err
		}
		i += r.samples
		pub.Out = codec.AppendPub(pub.Out, topic, body(i))
		if err := pub.Expect("OK"); err != nil {
			return err
		}
		kind, frame, err := sub.Next()
		if err != nil || kind != codec.FrameMessage {
			return fmt.Errorf("frame type %d, %w", kind, err)
		}
		id := frame[codec.MessageIDAt-codec.FrameHeader:][:codec.IDLen]
		r.sent[i] = time.Now()
		if _, err := sub.Write(codec.AppendReq(nil, id, r.delay)); err != nil {
			return err
		}
	}
	// The answer to CLS says that every REQ before it is recorded.
	sub.Out = codec.AppendCls(sub.Out)
	return errors.Join(sub.Expect("CLOSE_WAIT"), sub.Close())
}

func (r *rig) subscribe(ctx context.Context) (*client.Conn, error) {
	sub, err := client.Dial(ctx, r.broker.TCPAddr, nil)
	if err != nil {
		return nil, err
	}
	if err := sub.Subscribe(topic, channel); err != nil {
		return nil, err
	}
	sub.Out = codec.AppendRdy(sub.Out, 2500)
	return sub, sub.Flush()
}

// take receives everything and looks at the clock.
func (r *rig) take(ctx context.Context) error {
	sub, err := r.subscribe(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }() // the broker is killed next
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	times, seen := load.NewHistogram(), make([]bool, len(r.sent))
	early := 0
	for range r.sent {
		kind, frame, err := sub.Next()
		at := time.Now()
		if err != nil || kind != codec.FrameMessage {
			return fmt.Errorf("frame type %d, %w", kind, err)
		}
		at16 := codec.MessageIDAt - codec.FrameHeader
		attempts := int(binary.BigEndian.Uint16(frame[at16-2:]))
		i := int(binary.BigEndian.Uint32(frame[at16+codec.IDLen:]))
		if i >= len(seen) || seen[i] || attempts != 1+i/r.samples {
			return fmt.Errorf("message %d comes again, or with %d attempts", i, attempts)
		}
		seen[i] = true
		late := at.Sub(r.sent[i].Add(r.delay))
		if late < 0 {
			early++
		}
		if err := times.RecordValue(max(1, int64(late))); err != nil {
			return err
		}
		sub.Out = codec.AppendFin(sub.Out, frame[at16:at16+codec.IDLen])
		if err := sub.Flush(); err != nil {
			return err
		}
	}
	ms := func(q float64) float64 { return float64(times.ValueAtQuantile(q)) / 1e6 }
	fmt.Fprintf(r.out, "%d deferred and %d requeued for %v across the kill: %d early; late by p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n",
		r.samples, r.samples, r.delay, early, ms(50), ms(99), ms(99.9), ms(100))
	switch {
	case early > 0:
		return fmt.Errorf("%d messages were early", early)
	case times.ValueAtQuantile(99.9) > int64(r.late):
		return fmt.Errorf("p99.9 is %.2f ms, more than %v", ms(99.9), r.late)
	}
	return nil
}
