package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
)

// Subscribers are many consumers that have little to do: they answer heartbeats and finish what comes.
type Subscribers struct {
	Addr  string
	Conns int
	RDY   int // 0 takes nothing
	// Place says what connection n subscribes to; it creates them on the way.
	Place func(n int) (topic, channel string)
}

// Subscribed is a set of subscribed connections, each served by a goroutine.
type Subscribed struct {
	conns   []net.Conn
	serving sync.WaitGroup
	closing atomic.Bool
	failed  atomic.Pointer[error]
	Taken   atomic.Int64 // messages, so far
}

// dialers is how many connections are being opened at a time.
const dialers = 32

// sourceAddrs is over how many addresses of loopback the connections spread: one has 28,000 ports, and keeps those of closed connections
// for a minute.
const sourceAddrs = 8

// Subscribe opens all connections. Close must be called.
func (s Subscribers) Subscribe(ctx context.Context) (*Subscribed, error) {
	all := &Subscribed{conns: make([]net.Conn, s.Conns)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dialers)
	for n := range s.Conns {
		group.Go(func() error {
			conn, err := s.open(ctx, n)
			if err != nil {
				return fmt.Errorf("subscriber %d: %w", n, err)
			}
			all.conns[n] = conn
			all.serving.Go(func() {
				if err := all.serve(conn); err != nil && !all.closing.Load() {
					all.failed.Store(&err)
				}
			})
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		_ = all.Close() // the first error tells more
		return nil, err
	}
	return all, nil
}

func (s Subscribers) open(ctx context.Context, n int) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%sourceAddrs))}}
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	topic, channel := s.Place(n)
	out := codec.AppendSub([]byte(codec.MagicV2), topic, channel)
	if s.RDY > 0 {
		out = codec.AppendRdy(out, int64(s.RDY))
	}
	in := make([]byte, len(codec.FrameOK))
	if _, err = conn.Write(out); err == nil {
		_, err = io.ReadFull(conn, in)
	}
	if err == nil && string(in) != string(codec.FrameOK) {
		err = fmt.Errorf("the broker answers SUB with %.120q", in)
	}
	if err != nil {
		_ = conn.Close() // the first error tells more
		return nil, err
	}
	return conn, nil
}

// idleBytes is the room of a subscriber; messages must fit.
const idleBytes = 1024

func (s *Subscribed) serve(conn net.Conn) error {
	in, have := make([]byte, idleBytes), 0
	var out []byte
	for {
		if have == len(in) {
			return fmt.Errorf("a frame is longer than %d bytes", idleBytes)
		}
		n, err := conn.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		used := 0
		for have-used >= codec.FrameHeader {
			frame := in[used:have]
			size := int(binary.BigEndian.Uint32(frame)) + 4
			if len(frame) < size {
				break
			}
			used += size
			switch binary.BigEndian.Uint32(frame[4:]) {
			case codec.FrameMessage:
				s.Taken.Add(1)
				out = codec.AppendFin(out, frame[codec.MessageIDAt:codec.MessageIDAt+codec.IDLen])
			case codec.FrameResponse:
				out = codec.AppendNop(out)
			default:
				return fmt.Errorf("the broker answers %.120q", frame[:size])
			}
		}
		have = copy(in, in[used:have])
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
}

// Close closes the connections. The error is that of a subscriber that failed before.
func (s *Subscribed) Close() error {
	s.closing.Store(true)
	for _, conn := range s.conns {
		if conn != nil {
			_ = conn.Close() // nothing is left to lose
		}
	}
	s.serving.Wait()
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("a subscriber lost its connection: %w", *err)
	}
	return nil
}
