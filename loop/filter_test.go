package loop

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// silent is what a simple filter has nothing to say to.
type silent struct{}

func (silent) Owes() bool            { return false }
func (silent) End(dst []byte) []byte { return dst }
func (silent) Weight() int           { return 1 }
func (silent) Close()                {}

// xorFilter scrambles every byte, and repeats each of the letter after it has been told to: a toy compression.
type xorFilter struct {
	silent
	pending byte // to be repeated
	left    int
}

const (
	xorKey    = 0x55
	xorRepeat = '#' // repeats the byte behind it
	xorTimes  = 1 << 20
	xorBroken = '%'
)

func (f *xorFilter) Decode(dst, wire []byte) (out []byte, used int, more bool, err error) {
	for len(dst) < cap(dst) {
		if f.left > 0 {
			n := min(f.left, cap(dst)-len(dst))
			dst = append(dst, bytes.Repeat([]byte{f.pending}, n)...)
			f.left -= n
			continue
		}
		if used == len(wire) {
			break
		}
		b := wire[used] ^ xorKey
		used++
		switch {
		case f.left < 0:
			f.pending, f.left = b, xorTimes
		case b == xorRepeat:
			f.left = -1
		case b == xorBroken:
			return dst, used, false, errors.New("broken stream")
		default:
			dst = append(dst, b)
		}
	}
	return dst, used, len(dst) == cap(dst), nil
}

func (f *xorFilter) Encode(dst, plain []byte) ([]byte, error) {
	for _, b := range plain {
		dst = append(dst, b^xorKey)
	}
	return dst, nil
}

// xorConn is the client's end.
type xorConn struct{ net.Conn }

func (x xorConn) Read(p []byte) (int, error) {
	n, err := x.Conn.Read(p)
	for i := range p[:n] {
		p[i] ^= xorKey
	}
	return n, err
}

func (x xorConn) Write(p []byte) (int, error) {
	q := bytes.Clone(p)
	for i := range q {
		q[i] ^= xorKey
	}
	return x.Conn.Write(q)
}

func serveFiltered(t *testing.T) *testServer {
	return serveWith(t, mmapq.SyncInterval, func(o *Options) {
		o.upgrade = func(codec.Grant) Filter { return &xorFilter{} }
	}, smallSockets)
}

const negotiate = `{"feature_negotiation":true}`

// upgrade negotiates; the answer is plain.
func (s *testServer) upgraded() *client {
	s.t.Helper()
	c := s.connectSmall()
	require.Contains(s.t, c.identify(negotiate), `"max_rdy_count"`)
	c.Conn = xorConn{c.Conn}
	return c
}

func TestFilterBothWays(t *testing.T) {
	s := serveFiltered(t)
	p, c, plain := s.upgraded(), s.upgraded(), s.connect()
	c.subscribe("t", "ch", 2500)
	p.publish("t", "one", "two")
	plain.publish("t", "three")
	require.Equal(t, "one", string(c.message().Body))
	require.Equal(t, "two", string(c.message().Body))
	m := c.message()
	require.Equal(t, "three", string(m.Body))
	c.sendBytes(codec.AppendReq(nil, m.ID, 0))
	again := c.message()
	require.EqualValues(t, 2, again.Attempts)
	c.fin(again)
	c.wantSilence()
	p.send("WHAT\n")
	p.wantError("E_INVALID invalid command WHAT")
	p.wantClosed()
}

// What was read behind the command that negotiates belongs to the filter already.
func TestFilterTakesTheRestOfTheRead(t *testing.T) {
	s := serveFiltered(t)
	in := append([]byte(codec.MagicV2), codec.AppendIdentify(nil, []byte(negotiate))...)
	for _, b := range codec.AppendPub(nil, "t", []byte("x")) {
		in = append(in, b^xorKey)
	}
	c := s.dial()
	c.sendBytes(in)
	frameType, data := c.frame()
	require.EqualValues(t, codec.FrameResponse, frameType)
	require.Contains(t, data, "max_rdy_count")
	left := c.buf // already scrambled
	c.buf = nil
	for _, b := range left {
		c.buf = append(c.buf, b^xorKey)
	}
	c.Conn = xorConn{c.Conn}
	c.wantOK()
}

// A few bytes that expand to a gigabyte are taken in portions, between which others get their turn, and the memory for
// it is bounded.
func TestFilterPortions(t *testing.T) {
	s := serveFiltered(t)
	c, other := s.upgraded(), s.connect()
	c.send("SUB t ch\n")
	c.wantOK()
	const bodies = 20
	var in []byte
	for range bodies {
		in = append(in, "PUB t\n\x00\x10\x00\x00"+string(rune(xorRepeat))+"x"...)
	}
	c.sendBytes(in)
	other.publish("u", "between")
	require.Less(t, s.broker.LookupTopic("t").Stats().MessageCount, uint64(bodies))
	for range bodies {
		c.wantOK()
	}
	c.send("RDY 100\n")
	for range bodies {
		require.Equal(t, 1<<20, len(c.message().Body))
	}
}

// A stream that expands to commands with answers nobody reads stops like any other.
func TestFilterRepliesAreBounded(t *testing.T) {
	s := serveFiltered(t)
	c := s.upgraded()
	c.send("SUB t ch\n")
	c.wantOK()
	const commands = 50_000
	go func() {
		_, _ = c.Write([]byte(strings.Repeat("FIN 0123456789abcdef\n", commands)))
	}()
	l := s.loops[0]
	eventually(t, "full", func() (full bool) {
		inLoop(t, l, func() { full = l.all.first.full })
		return full
	})
	requireBounded(t, s)
	for i := range commands {
		if _, data, err := c.next(); err != nil || !strings.HasPrefix(string(data), "E_FIN_FAILED") {
			t.Fatalf("%d: %q %v", i, data, err)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	s := serveFiltered(t)
	c := s.upgraded()
	c.publish("t", "x")
	c.send(string(rune(xorBroken)))
	c.wantClosed()
	require.Equal(t, 1, s.log.count("broken stream"))
}
