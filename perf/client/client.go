// Package client is a V2 connection on a raw socket for the rigs under perf: they need to know which bytes went out, when an answer
// came in and what a connection still held when it broke, all of which a comfortable client hides.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/nsqloop/nsqloop/codec"
)

// Conn is one connection. It belongs to one goroutine; only Close and Write, of whole commands, may be called from others.
type Conn struct {
	net.Conn

	// Out collects commands until Flush.
	Out []byte

	in         []byte // in[start:end] arrived and is not cut yet
	start, end int
}

// readBuffer is the least room for one read.
const readBuffer = 64 << 10

// Dial connects to addr and sends the magic, followed, if identify is not nil, by IDENTIFY with it as JSON, whose answer is read: feature
// negotiation must not be asked for.
func Dial(ctx context.Context, addr string, identify map[string]any) (*Conn, error) {
	return Link{}.Dial(ctx, addr, identify)
}

// open is a connection whose magic waits in Out.
func open(ctx context.Context, addr string, local net.Addr) (*Conn, error) {
	dialer := net.Dialer{LocalAddr: local}
	socket, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: socket, Out: []byte(codec.MagicV2), in: make([]byte, readBuffer)}, nil
}

// appendIdentify adds IDENTIFY to Out.
func (c *Conn) appendIdentify(fields map[string]any) error {
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	c.Out = codec.AppendIdentify(c.Out, text)
	return nil
}

// Flush writes what Out holds.
func (c *Conn) Flush() error {
	if len(c.Out) == 0 {
		return nil
	}
	_, err := c.Write(c.Out)
	c.Out = c.Out[:0]
	return err
}

// Ready tells whether Next has a whole frame at hand and will not wait.
func (c *Conn) Ready() bool {
	_, _, _, ok := codec.SplitFrame(c.in[c.start:c.end])
	return ok
}

// Next waits for the next frame. data is valid until the next call. Heartbeats are not returned: the NOP that answers one is put
// into Out and flushed with it.
func (c *Conn) Next() (frameType uint32, data []byte, err error) {
	for {
		frameType, data, n, ok := codec.SplitFrame(c.in[c.start:c.end])
		if n < 0 {
			return 0, nil, fmt.Errorf("server sent a frame of size %x", c.in[c.start:c.start+4])
		}
		if !ok {
			if err := c.fill(); err != nil {
				return 0, nil, err
			}
			continue
		}
		c.start += n
		if frameType != codec.FrameResponse || string(data) != "_heartbeat_" {
			return frameType, data, nil
		}
		c.Out = codec.AppendNop(c.Out)
		if err := c.Flush(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads more, after what is there.
func (c *Conn) fill() error {
	if c.start > 0 {
		c.end = copy(c.in, c.in[c.start:c.end])
		c.start = 0
	}
	if len(c.in)-c.end < readBuffer/2 {
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := c.Read(c.in[c.end:])
	c.end += n
	if n > 0 {
		return nil // a lasting error comes again
	}
	return err
}

// Expect flushes and waits for a response that is exactly want. An error frame or another response is an error; so is a message.
func (c *Conn) Expect(want string) error {
	if err := c.Flush(); err != nil {
		return err
	}
	frameType, data, err := c.Next()
	if err != nil {
		return err
	}
	if frameType != codec.FrameResponse || string(data) != want {
		return fmt.Errorf("want response %q, got frame type %d: %.200q", want, frameType, data)
	}
	return nil
}

// Subscribe sends SUB and waits for its OK.
func (c *Conn) Subscribe(topic, channel string) error {
	c.Out = codec.AppendSub(c.Out, topic, channel)
	if err := c.Expect("OK"); err != nil {
		return fmt.Errorf("SUB: %w", err)
	}
	return nil
}
