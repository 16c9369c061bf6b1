package loop

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// recorder is a handler that tells a test what it sees. Its functions run on the loop goroutine.
type recorder struct {
	onOpen  func(c *conn, s socket)
	onRead  func(c *conn, p []byte)
	onClose func(c *conn, err error)
	onRung  func()
	onYield func()
}

func (r *recorder) opened(c *conn, s socket)   { c.sock, c.fd = s, s.descriptor(); call2(r.onOpen, c, s) }
func (r *recorder) readable(c *conn, p []byte) { call2(r.onRead, c, p) }
func (r *recorder) closed(c *conn, err error)  { call2(r.onClose, c, err) }
func (r *recorder) rung() {
	if r.onRung != nil {
		r.onRung()
	}
}
func (r *recorder) resumed() { r.onYield() }
func call2[A, B any](f func(A, B), a A, b B) {
	if f != nil {
		f(a, b)
	}
}

func startEngine(t *testing.T, h handler) *gnetEngine {
	g := newGnetEngine(func(LogLevel, string, ...any) {})
	require.NoError(t, g.start(h))
	t.Cleanup(func() { require.NoError(t, g.stop()) })
	return g
}

// enrollPair gives a TCP connection of which one end is enrolled.
func enrollPair(t *testing.T, g *gnetEngine) (*conn, *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	nc, err := ln.Accept()
	require.NoError(t, err)
	c := newConn(nil, peer.LocalAddr().String(), time.Now())
	require.NoError(t, g.enroll(nc, c))
	return c, peer.(*net.TCPConn)
}

// onLoop runs f on the loop goroutine. f must not fail the test at once: that would end the loop.
func onLoop(t *testing.T, g *gnetEngine, r *recorder, f func()) {
	done := make(chan struct{})
	r.onRung = func() {
		f()
		close(done)
	}
	g.ring()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the bell was not heard")
	}
}

func TestEngineReadsEverything(t *testing.T) {
	var got bytes.Buffer
	all := make(chan struct{})
	g := startEngine(t, &recorder{onRead: func(_ *conn, p []byte) {
		if got.Write(p); got.Len() == 1<<20 {
			close(all)
		}
	}})
	_, peer := enrollPair(t, g)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, err := peer.Write(sent)
	require.NoError(t, err)
	<-all
	require.True(t, bytes.Equal(sent, got.Bytes()))
}

// A paused connection leaves its input in the kernel: the peer cannot send more than that holds, and nothing is lost.
func TestEnginePauseAndResume(t *testing.T) {
	var got int
	all := make(chan struct{})
	const total = 32 << 20
	r := &recorder{onRead: func(_ *conn, p []byte) {
		if got += len(p); got == total {
			close(all)
		}
	}}
	g := startEngine(t, r)
	c, peer := enrollPair(t, g)
	onLoop(t, g, r, func() { assert.NoError(t, c.sock.setReading(false)) })

	require.NoError(t, peer.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	sent, err := peer.Write(make([]byte, total))
	require.ErrorContains(t, err, "timeout")
	onLoop(t, g, r, func() { assert.Zero(t, got) })

	onLoop(t, g, r, func() { assert.NoError(t, c.sock.setReading(true)) })
	require.NoError(t, peer.SetWriteDeadline(time.Time{}))
	_, err = peer.Write(make([]byte, total-sent))
	require.NoError(t, err)
	<-all
}

// The descriptor can be written in closed, and is gone after it.
func TestEngineHalfClose(t *testing.T) {
	closed := make(chan error, 1)
	g := startEngine(t, &recorder{onClose: func(c *conn, err error) {
		if _, werr := unix.Write(c.fd, []byte("bye")); werr != nil {
			err = werr
		}
		closed <- err
	}})
	_, peer := enrollPair(t, g)
	require.NoError(t, peer.CloseWrite())
	require.ErrorIs(t, <-closed, io.EOF)
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	require.Equal(t, "bye", string(got))
}

func TestEngineReset(t *testing.T) {
	closed := make(chan error, 1)
	g := startEngine(t, &recorder{onClose: func(_ *conn, err error) { closed <- err }})
	_, peer := enrollPair(t, g)
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	require.ErrorIs(t, <-closed, unix.ECONNRESET)
}

// Closing a connection inside its own callback and from the mailbox: closed is not called for either, and the peer sees
// the end.
func TestEngineClose(t *testing.T) {
	r := &recorder{
		onRead:  func(c *conn, _ []byte) { c.sock.close(); c.sock.close() },
		onClose: func(*conn, error) { t.Error("closed was called") },
	}
	g := startEngine(t, r)
	_, peer := enrollPair(t, g)
	_, err := peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	c, peer := enrollPair(t, g)
	onLoop(t, g, r, func() { c.sock.close() })
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	r.onOpen = func(c *conn, _ socket) { c.sock.close() }
	_, peer = enrollPair(t, g)
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// A write that meets a reset must not touch the descriptor any more, which may be another's by then.
func TestWriteStopsWhenBroken(t *testing.T) {
	wrote := make(chan []int, 1)
	l := &loop{log: func(LogLevel, string, ...any) {}}
	r := &recorder{onClose: func(c *conn, _ error) {
		c.l = l
		first := c.write([][]byte{[]byte("se"), []byte("cret")})
		dead := c.dead
		c.dead, c.closed = false, true
		wrote <- []int{first, c.write([][]byte{[]byte("secret")})}
		assert.True(t, dead)
	}}
	g := startEngine(t, r)
	c, peer := enrollPair(t, g)
	onLoop(t, g, r, func() { assert.NoError(t, c.sock.setReading(false)) })
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close()) // a reset is told even to a paused connection
	require.Equal(t, []int{0, 0}, <-wrote)
}

// What yields comes back behind the input that waits, and not before; a ring may come before it.
func TestEngineYield(t *testing.T) {
	var order []string
	done := make(chan struct{})
	r := &recorder{onRead: func(*conn, []byte) { order = append(order, "read") }}
	g := startEngine(t, r)
	_, peer := enrollPair(t, g)
	yields := 0
	r.onYield = func() {
		order = append(order, "yield")
		if yields++; yields == 3 {
			close(done)
			return
		}
		_, err := peer.Write([]byte("x"))
		assert.NoError(t, err)
		g.yield()
	}
	onLoop(t, g, r, func() {
		_, err := peer.Write([]byte("x"))
		assert.NoError(t, err)
		g.yield()
	})
	<-done
	require.Equal(t, []string{"read", "yield", "read", "yield", "read", "yield"}, order)
}

func TestEpollOfStrangers(t *testing.T) {
	_, err := epollOf(nil)
	require.ErrorContains(t, err, "no epoll descriptor")
}

func TestSelfCheckRefusesAPauseThatDoesNothing(t *testing.T) {
	s := &selfConn{arrived: true}
	require.ErrorContains(t, s.resume(), "goes on reading")
}

func TestEngineLogsDoNotReachStdout(t *testing.T) {
	var lines []string
	g := gnetLog{func(_ LogLevel, format string, args ...any) { lines = append(lines, format) }}
	g.Warnf("x %d", 1)
	g.Errorf("y")
	require.Equal(t, "gnet: %s|gnet: %s", strings.Join(lines, "|"))
}
