package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/nsqloop/nsqloop/codec"
)

// Link is what lies between a connection and the bare socket. The zero value is nothing. It may be shared by many connections.
type Link struct {
	TLS    *tls.Config // negotiates tls_v1
	Snappy bool        // negotiates snappy
	Local  net.Addr    // address to connect from; nil lets the kernel choose
}

// Dial is the function of the same name over this link. A broker that refuses what the link needs is an error: a figure for TLS must
// not be measured without it.
func (l Link) Dial(ctx context.Context, addr string, identify map[string]any) (*Conn, error) {
	c, err := open(ctx, addr, l.Local)
	if err != nil {
		return nil, err
	}
	switch {
	case l.TLS != nil || l.Snappy:
		err = l.negotiate(ctx, c, identify)
	case identify != nil:
		if err = c.appendIdentify(identify); err == nil {
			err = c.Expect("OK")
		}
	}
	if err != nil {
		_ = c.Close() // the first error tells more
		return nil, fmt.Errorf("IDENTIFY: %w", err)
	}
	return c, nil
}

// negotiate asks for the link's layers and puts them on, TLS below snappy; the broker confirms each through the layer itself.
func (l Link) negotiate(ctx context.Context, c *Conn, identify map[string]any) error {
	fields := map[string]any{}
	maps.Copy(fields, identify)
	fields["feature_negotiation"], fields["tls_v1"], fields["snappy"] = true, l.TLS != nil, l.Snappy
	if err := c.appendIdentify(fields); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	frameType, text, err := c.Next()
	if err != nil {
		return err
	}
	if frameType != codec.FrameResponse {
		return fmt.Errorf("the broker answers %.200q", text)
	}
	var answer struct {
		TLS    bool `json:"tls_v1"`
		Snappy bool `json:"snappy"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	if answer.TLS != (l.TLS != nil) || answer.Snappy != l.Snappy {
		return fmt.Errorf("the broker does not go along: %.500s", text)
	}
	if l.TLS != nil {
		secure := tls.Client(c.Conn, l.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		c.Conn = secure
		if err := c.Expect("OK"); err != nil {
			return err
		}
	}
	if l.Snappy {
		// The broker goes on in snappy without waiting: some of that may have come with the last plain bytes.
		early := bytes.Clone(c.in[c.start:c.end])
		c.start, c.end = 0, 0
		c.Conn = newSnappyConn(c.Conn, early)
		return c.Expect("OK")
	}
	return nil
}

// snappyConn frames both directions in snappy. Every Write leaves at once.
type snappyConn struct {
	net.Conn
	in  io.Reader
	mu  sync.Mutex // writes come from two goroutines
	out *s2.Writer
}

// newSnappyConn is a layer on below, from which early has been read already.
func newSnappyConn(below net.Conn, early []byte) *snappyConn {
	return &snappyConn{
		Conn: below, in: s2.NewReader(io.MultiReader(bytes.NewReader(early), below)),
		out: s2.NewWriter(below, s2.WriterSnappyCompat(), s2.WriterFlushOnWrite(), s2.WriterConcurrency(1)),
	}
}

func (c *snappyConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *snappyConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}
