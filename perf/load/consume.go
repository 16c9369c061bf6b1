package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

// Consumer describes a consuming load: everything is finished as it comes.
type Consumer struct {
	Addr     string
	Topic    string
	Channel  string
	Conns    int
	Messages int // to be taken over all connections; more or fewer is an error
	Size     int // bytes every body must have
	RDY      int
	// WriteEachFIN sends every FIN with a write of its own. Otherwise the FINs of all messages of one read leave in one write.
	WriteEachFIN bool
}

// Consuming is a load whose connections are subscribed, with RDY 0 yet.
type Consuming struct {
	Consumer
	conns []*client.Conn
	taken atomic.Int64
	all   chan struct{} // closed when every message was taken
	once  sync.Once
}

const (
	// readBytes is the room for one read of a consumer.
	readBytes = 512 << 10
	// lingerMax is how long the answer to CLS may take.
	lingerMax = 30 * time.Second
)

// Prepare connects and subscribes. Close must be called.
func (c Consumer) Prepare(ctx context.Context) (*Consuming, error) {
	consuming := &Consuming{Consumer: c, all: make(chan struct{})}
	for range c.Conns {
		conn, err := client.Dial(ctx, c.Addr, nil)
		if err == nil {
			consuming.conns = append(consuming.conns, conn)
			err = conn.Subscribe(c.Topic, c.Channel)
		}
		if err != nil {
			consuming.Close()
			return nil, err
		}
	}
	return consuming, nil
}

// Close closes the connections.
func (c *Consuming) Close() {
	for _, conn := range c.conns {
		_ = conn.Close() // after CLS nothing is left to lose
	}
}

// Run raises RDY, takes and finishes all messages, and returns when the broker has processed the last FIN.
func (c *Consuming) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, conn := range c.conns {
		unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
		group.Go(func() error {
			defer unhook()
			if err := c.consume(conn); err != nil {
				return fmt.Errorf("consume: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		select {
		case <-c.all:
			for _, conn := range c.conns {
				if err := conn.SetReadDeadline(time.Now()); err != nil {
					return err
				}
			}
		case <-ctx.Done():
		}
		return nil
	})
	err := group.Wait()
	if n := c.taken.Load(); err == nil && n != int64(c.Messages) {
		return fmt.Errorf("consume: %d messages came instead of %d", n, c.Messages)
	}
	return err
}

func (c *Consuming) consume(conn *client.Conn) error {
	conn.Out = codec.AppendRdy(conn.Out, int64(c.RDY))
	if err := conn.Flush(); err != nil {
		return err
	}
	in := make([]byte, max(readBytes, 2*(codec.MessageHeader+c.Size)))
	have := 0
	for {
		n, err := conn.Read(in[have:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if have > 0 {
				return fmt.Errorf("the broker sent %d bytes too many", have)
			}
			return c.leave(conn)
		}
		if err != nil {
			return err
		}
		have += n
		used, taken, err := c.finishAll(conn, in[:have])
		if err != nil {
			return err
		}
		have = copy(in, in[used:have])
		if c.taken.Add(int64(taken)) >= int64(c.Messages) {
			c.once.Do(func() { close(c.all) })
		}
	}
}

// finishAll answers every whole frame of in.
func (c *Consuming) finishAll(conn *client.Conn, in []byte) (used, taken int, err error) {
	for len(in)-used >= codec.FrameHeader {
		frame := in[used:]
		size := int(binary.BigEndian.Uint32(frame)) + 4
		if len(frame) < size {
			break
		}
		used += size
		switch binary.BigEndian.Uint32(frame[4:]) {
		case codec.FrameMessage:
			if size != codec.MessageHeader+c.Size {
				return 0, 0, fmt.Errorf("a message frame has %d bytes", size)
			}
			taken++
			conn.Out = codec.AppendFin(conn.Out, frame[codec.MessageIDAt:codec.MessageIDAt+codec.IDLen])
			if c.WriteEachFIN {
				if err := conn.Flush(); err != nil {
					return 0, 0, err
				}
			}
		case codec.FrameResponse:
			conn.Out = codec.AppendNop(conn.Out) // a heartbeat: nothing else is owed to us
		default:
			return 0, 0, fmt.Errorf("the broker answers %.120q", frame[codec.FrameHeader:size])
		}
	}
	return used, taken, conn.Flush()
}

// leave waits until all FINs were processed.
func (c *Consuming) leave(conn *client.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(lingerMax)); err != nil {
		return err
	}
	conn.Out = codec.AppendCls(conn.Out)
	return conn.Expect("CLOSE_WAIT")
}
