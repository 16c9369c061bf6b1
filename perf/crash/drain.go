package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

const (
	drainRDY   = 500
	drainPoll  = 20 * time.Millisecond
	drainQuiet = 300 * time.Millisecond // at the end, for deliveries that nobody is owed
	// drainStuck is how long nothing may arrive while something is owed. Longer than any delay of the load.
	drainStuck = 15 * time.Second
	// drainEmpty is how long the broker may say that it has nothing, while the ledger waits for something.
	drainEmpty = 2 * time.Second
)

// drainAll starts the daemon, takes and finishes everything, confirms it, kills the daemon and asks the ledger.
func (r *rig) drainAll(ctx context.Context) error {
	r.timeout = longTimeout
	r.book.SetMsgTimeout(longTimeout, longSlack)
	if err := r.start(ctx, nil); err != nil {
		return err
	}
	if err := r.checkChurn(ctx); err != nil {
		return err
	}
	if r.started != nil {
		if err := r.started(); err != nil {
			return err
		}
	}
	// It is there, unless a damaged manifest has lost it.
	if err := r.daemon.API().CreateTopic(ctx, topic, r.channels...); err != nil {
		return err
	}
	c, clientCtx := newClients(ctx, nil)
	end := make(chan struct{})
	confirmed := make(chan struct{}, consumers)
	for i := range consumers {
		k := r.newConsumer(c, i)
		k.rdy = drainRDY
		c.run(fmt.Sprintf("draining consumer %d of %s", i, k.channel), func() error {
			if err := k.drain(clientCtx, end); err != nil {
				return err
			}
			confirmed <- struct{}{}
			return nil
		})
	}
	err := r.awaitEmpty(ctx, c)
	close(end)
	for range consumers {
		if err != nil {
			break
		}
		select {
		case <-confirmed:
		case err = <-c.failed:
		case <-r.daemon.Done():
			err = &faultError{"ended by itself\n" + r.daemon.Tail(100)}
		}
	}
	// The kill comes right after the answer to CLS.
	c.ending.Store(true)
	err = errors.Join(err, r.daemon.Kill(), c.stop())
	r.book.Restarted()
	r.verdict = r.book.Report()
	if r.verbose {
		fmt.Fprintf(r.out, "drain: %v\n%v\n", c, r.verdict)
	}
	if r.verdict.Faults(r.allow...) > 0 {
		err = errors.Join(&faultError{r.verdict.String()}, err)
	}
	return err
}

// awaitEmpty returns nil when broker and ledger agree that nothing is left, and also when the broker has nothing or delivers nothing
// any more although the ledger knows better: the report will name what is lost.
func (r *rig) awaitEmpty(ctx context.Context, c *clients) error {
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	lastCount, lastChange := int64(-1), time.Now()
	var emptySince time.Time
	for {
		select {
		case <-poll.C:
		case err := <-c.failed:
			return err
		case <-r.daemon.Done():
			return &faultError{"ended by itself\n" + r.daemon.Tail(100)}
		case <-ctx.Done():
			return ctx.Err()
		}
		now := time.Now()
		if n := c.delivered.Load(); n != lastCount {
			lastCount, lastChange = n, now
		}
		stats, err := r.daemon.API().Topic(ctx, topic)
		if err != nil {
			return err
		}
		open := stats.Depth
		for _, channel := range stats.Channels {
			open += channel.Open()
		}
		if open > 0 {
			emptySince = time.Time{}
		} else if emptySince.IsZero() {
			emptySince = now
		}
		wait := drainEmpty
		if r.book.Open() == 0 {
			wait = drainQuiet
		}
		if !emptySince.IsZero() && now.Sub(emptySince) > wait {
			return nil
		}
		if now.Sub(lastChange) > drainStuck {
			return &faultError{fmt.Sprintf("nothing arrives for %v, but /stats says %+v", drainStuck, stats)}
		}
	}
}

// drain finishes everything until end is closed, then confirms it with CLS.
func (c *consumer) drain(ctx context.Context, end <-chan struct{}) error {
	release, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer release()
	watching := make(chan struct{})
	defer func() { <-watching }()
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	conn := c.conn
	go func() {
		defer close(watching)
		select {
		case <-end:
			_ = conn.SetReadDeadline(time.Now()) // wakes Next; a closed connection wakes it as well
		case <-stop.Done():
		}
	}()
	for {
		_, err := c.step(c.finish)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return c.closeWait()
		}
		if err != nil {
			return err
		}
		if !c.conn.Ready() {
			if err := c.conn.Flush(); err != nil {
				return err
			}
		}
	}
}

// closeWait sends CLS and settles, when its answer comes, what was answered before. Messages that were on their way are finished too,
// unconfirmed.
func (c *consumer) closeWait() error {
	covered := len(c.answered)
	c.conn.Out = codec.AppendCls(c.conn.Out)
	if err := c.conn.Flush(); err != nil {
		return err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(drainStuck)); err != nil {
		return err
	}
	for {
		frameType, data, err := c.conn.Next()
		if err != nil {
			return fmt.Errorf("CLS is not answered: %w", err)
		}
		switch {
		case frameType == codec.FrameResponse && string(data) == "CLOSE_WAIT":
			c.confirm(covered)
			return nil
		case frameType == codec.FrameMessage:
			m, ok := codec.ParseMessage(data)
			if !ok {
				return fmt.Errorf("message frame of %d bytes", len(data))
			}
			c.book.Delivered(m.Body, m.Attempts)
		case frameType == codec.FrameError:
			if err := c.refusal(data); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unexpected response %q to CLS", data)
		}
	}
}
