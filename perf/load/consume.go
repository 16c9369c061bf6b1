package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

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
	Link         client.Link
	Identify     map[string]any // sent in IDENTIFY; nil sends none
	// Each, if not nil, is called with every body, by the goroutine of connection conn, before its FIN leaves.
	Each func(conn int, body []byte)
}

// Consuming is a load whose connections are subscribed, with RDY 0 yet.
type Consuming struct {
	Consumer
	conns []*client.Conn
	taken atomic.Int64
	all   chan struct{} // closed when every message was taken
	once  sync.Once
}

// readBytes is the room for one read of a consumer.
const readBytes = 512 << 10

// Prepare connects and subscribes. Close must be called.
func (c Consumer) Prepare(ctx context.Context) (*Consuming, error) {
	consuming := &Consuming{Consumer: c, all: make(chan struct{})}
	for range c.Conns {
		conn, err := c.Link.Dial(ctx, c.Addr, c.Identify)
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
	for i, conn := range c.conns {
		unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
		group.Go(func() error {
			defer unhook()
			if err := c.consume(i, conn); err != nil {
				return fmt.Errorf("consume: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		select {
		case <-c.all:
			// Every FIN was written before its message was counted, so the answer to CLS says that all of them were processed.
			for _, conn := range c.conns {
				if _, err := conn.Write(codec.AppendCls(nil)); err != nil {
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

func (c *Consuming) consume(index int, conn *client.Conn) error {
	conn.Out = codec.AppendRdy(conn.Out, int64(c.RDY))
	if err := conn.Flush(); err != nil {
		return err
	}
	in := make([]byte, max(readBytes, 2*(codec.MessageHeader+c.Size)))
	have := 0
	for {
		n, err := conn.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		batch, err := c.finishAll(index, conn, in[:have])
		if err != nil {
			return err
		}
		have = copy(in, in[batch.used:have])
		if batch.closed {
			return nil
		}
		if c.taken.Add(int64(batch.taken)) >= int64(c.Messages) {
			c.once.Do(func() { close(c.all) })
		}
	}
}

// batch is what one read brought.
type batch struct {
	used, taken int
	closed      bool // CLS was answered
}

// finishAll answers every whole frame of in.
func (c *Consuming) finishAll(index int, conn *client.Conn, in []byte) (b batch, err error) {
	for len(in)-b.used >= codec.FrameHeader {
		frame := in[b.used:]
		size := int(binary.BigEndian.Uint32(frame)) + 4
		if len(frame) < size {
			break
		}
		b.used += size
		switch binary.BigEndian.Uint32(frame[4:]) {
		case codec.FrameMessage:
			if size != codec.MessageHeader+c.Size {
				return b, fmt.Errorf("a message frame has %d bytes", size)
			}
			b.taken++
			if c.Each != nil {
				c.Each(index, frame[codec.MessageHeader:size])
			}
			conn.Out = codec.AppendFin(conn.Out, frame[codec.MessageIDAt:codec.MessageIDAt+codec.IDLen])
			if c.WriteEachFIN {
				if err := conn.Flush(); err != nil {
					return b, err
				}
			}
		case codec.FrameResponse:
			if bytes.Equal(frame[:size], codec.FrameCloseWait) {
				b.closed = true
				return b, nil
			}
			conn.Out = codec.AppendNop(conn.Out) // a heartbeat: nothing else is owed to us
		default:
			return b, fmt.Errorf("the broker answers %.120q", frame[codec.FrameHeader:size])
		}
	}
	return b, conn.Flush()
}
