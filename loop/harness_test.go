package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain())
	}
	// gnet starts a goroutine pool when it is imported; we use none of it.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// patience is how long a test waits for what must happen. Generous: it only matters when the test fails.
const patience = 20 * time.Second

// smallBuffer is the size of socket buffers where a test wants to fill them, in bytes. Much smaller ones hold less than
// one loopback segment, and then everything waits for TCP's timers.
const smallBuffer = 256 << 10

// smallSockets gives the connections of a server small buffers.
func smallSockets(s *Server) {
	control := func(_, _ string, rc syscall.RawConn) (err error) {
		return errors.Join(rc.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, smallBuffer),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer))
		}), err)
	}
	s.listen = func(network, addr string) (net.Listener, error) {
		lc := net.ListenConfig{Control: control}
		return lc.Listen(context.Background(), network, addr)
	}
}

// connectSmall is connect for a client that is meant to be slow.
func (s *testServer) connectSmall() *client {
	s.t.Helper()
	c := s.connect()
	require.NoError(s.t, c.Conn.(*net.TCPConn).SetReadBuffer(smallBuffer))
	require.NoError(s.t, c.Conn.(*net.TCPConn).SetWriteBuffer(smallBuffer))
	return c
}

// testLog collects log lines.
type testLog struct {
	mu    sync.Mutex
	lines []string
}

func (g *testLog) add(level LogLevel, format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

func (g *testLog) count(part string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func openBroker(t testing.TB, disk mmapq.Disk, sync mmapq.SyncPolicy) *fanout.Broker {
	b, err := fanout.Open(disk, mmapq.Options{SegmentMax: 1 << 20, PoolBytes: 4 << 20, Sync: sync}, fanout.Options{})
	require.NoError(t, err)
	return b
}

type testServer struct {
	*Server
	t      testing.TB
	broker *fanout.Broker
	log    *testLog

	diskBroken bool
}

func testOptions() Options {
	return Options{
		Addresses:    []string{"127.0.0.1:0"},
		Loops:        1,
		MagicTimeout: 5 * time.Second,
		Limits:       codec.DefaultLimits(),
		Identify:     codec.DefaultIdentifyLimits(),
		Server:       codec.ServerInfo{Version: "1.3.0+test", MaxRdyCount: 2500, MaxMsgTimeout: 15 * time.Minute, MaxDeflateLevel: 6},
	}
}

// serve starts a server on a broker of its own; both end with the test. change may be nil.
func serve(t testing.TB, change func(*Options)) *testServer {
	return serveWith(t, mmapq.SyncInterval, change, nil)
}

func serveWith(t testing.TB, sync mmapq.SyncPolicy, change func(*Options), prepare func(*Server)) *testServer {
	t.Helper()
	return serveOn(t, openBroker(t, mmapq.NewHeapDisk(), sync), change, prepare)
}

func serveOn(t testing.TB, b *fanout.Broker, change func(*Options), prepare func(*Server)) *testServer {
	t.Helper()
	opt := testOptions()
	log := &testLog{}
	opt.Log = log.add
	if change != nil {
		change(&opt)
	}
	s, err := New(b, opt)
	require.NoError(t, err)
	if prepare != nil {
		prepare(s)
	}
	require.NoError(t, s.Start())
	served := &testServer{Server: s, t: t, broker: b, log: log}
	t.Cleanup(func() {
		require.NoError(t, s.Stop())
		require.Zero(t, s.Counters().Open)
		if err := b.Close(); !served.diskBroken {
			require.NoError(t, err)
		}
		if t.Failed() {
			log.mu.Lock()
			defer log.mu.Unlock()
			t.Log("server log:\n" + strings.Join(log.lines, "\n"))
		}
	})
	return served
}

// client is a raw connection that speaks frames.
type client struct {
	net.Conn
	t   testing.TB
	buf []byte
}

func (s *testServer) dial() *client {
	s.t.Helper()
	return dialAddr(s.t, s.Addrs()[0])
}

func dialAddr(t testing.TB, addr net.Addr) *client {
	t.Helper()
	nc, err := net.Dial(addr.Network(), addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	return &client{Conn: nc, t: t}
}

// connect is dial and the magic.
func (s *testServer) connect() *client {
	s.t.Helper()
	c := s.dial()
	c.send(codec.MagicV2)
	return c
}

func (c *client) send(text string) { c.sendBytes([]byte(text)) }

func (c *client) sendBytes(p []byte) {
	c.t.Helper()
	_, err := c.Write(p)
	require.NoError(c.t, err)
}

// next reads one frame.
func (c *client) next() (frameType uint32, data []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	for {
		frameType, data, n, ok := codec.SplitFrame(c.buf)
		if n < 0 {
			return 0, nil, fmt.Errorf("bad frame % x", c.buf[:min(len(c.buf), 32)])
		}
		if ok {
			c.buf = c.buf[n:]
			return frameType, data, nil
		}
		piece := make([]byte, 64<<10)
		got, err := c.Read(piece)
		if c.buf = append(c.buf[:len(c.buf):len(c.buf)], piece[:got]...); err != nil && got == 0 {
			return 0, nil, err
		}
	}
}

func (c *client) frame() (uint32, string) {
	c.t.Helper()
	frameType, data, err := c.next()
	require.NoError(c.t, err)
	return frameType, string(data)
}

func (c *client) wantResponse(text string) {
	c.t.Helper()
	frameType, data := c.frame()
	require.Equal(c.t, text, data)
	require.EqualValues(c.t, codec.FrameResponse, frameType)
}

func (c *client) wantOK() {
	c.t.Helper()
	c.wantResponse("OK")
}

func (c *client) wantError(text string) {
	c.t.Helper()
	frameType, data := c.frame()
	require.Equal(c.t, text, data)
	require.EqualValues(c.t, codec.FrameError, frameType)
}

func (c *client) message() codec.Message {
	c.t.Helper()
	frameType, data, err := c.next()
	require.NoError(c.t, err)
	require.EqualValues(c.t, codec.FrameMessage, frameType, "got %q", data)
	m, ok := codec.ParseMessage(data)
	require.True(c.t, ok)
	return m
}

// wantClosed: the server closes with nothing further to read. A reset counts, unread input may have caused it.
func (c *client) wantClosed() {
	c.t.Helper()
	frameType, data, err := c.next()
	require.Error(c.t, err, "got a frame of type %d: %q", frameType, data)
	require.True(c.t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
}

// wantSilence proves that nothing more comes: the answer to a command that fails without closing is the next frame.
func (c *client) wantSilence() {
	c.t.Helper()
	c.send("FIN 0000000000000000\n")
	c.wantError("E_FIN_FAILED FIN 0000000000000000 failed ID not in flight")
}

func (c *client) identify(json string) string {
	c.t.Helper()
	c.sendBytes(codec.AppendIdentify(nil, []byte(json)))
	_, data := c.frame()
	return data
}

func (c *client) subscribe(topic, channel string, rdy int64) {
	c.t.Helper()
	c.sendBytes(codec.AppendSub(nil, topic, channel))
	c.wantOK()
	c.sendBytes(codec.AppendRdy(nil, rdy))
}

func (c *client) publish(topic string, bodies ...string) {
	c.t.Helper()
	var out []byte
	for _, body := range bodies {
		out = codec.AppendPub(out, topic, []byte(body))
	}
	c.sendBytes(out)
	for range bodies {
		c.wantOK()
	}
}

func (c *client) fin(m codec.Message) { c.sendBytes(codec.AppendFin(nil, m.ID)) }

// eventually waits for what no event tells of.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, patience, time.Millisecond, what)
}

// inLoop runs f on the loop goroutine. f must not fail the test at once: that would end the loop.
func inLoop(t testing.TB, l *loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	err := l.engine.(*gnetEngine).el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		defer close(done)
		f()
		return nil
	}))
	require.NoError(t, err)
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the loop does not answer")
	}
}

// bench is a loop without an engine: the test's goroutine is its goroutine.
type bench struct{ *loop }

type noEngine struct{}

func (noEngine) start(handler) error          { return nil }
func (noEngine) enroll(net.Conn, *conn) error { return nil }
func (noEngine) ring()                        {}
func (noEngine) yield()                       {}
func (noEngine) stop() error                  { return nil }

func idleLoop(s *testServer) bench {
	l := newLoop(s.Server, loopsMax-1, noEngine{})
	s.broker.AttachLoop(loopsMax-1, l)
	s.t.Cleanup(func() {
		l.drain()
		l.timer.Stop()
	})
	return bench{l}
}

// connect opens a connection on the loop; nothing reads for it but the test, which calls readable.
func (b bench) connect(t testing.TB) (*conn, *client) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(pair[1]), "peer")
	nc, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = nc.Close() })
	c := newConn(b.loop, "test", time.Now())
	b.load.Add(1)
	b.srv.open.Add(1)
	b.opened(c, lastWords(pair[0]))
	return c, &client{Conn: nc, t: t}
}

// turn reads the mail and takes up what was left over.
func (b bench) turn() {
	b.rung()
	b.resumed()
}

// warmTopic makes a topic that has a segment.
func (b bench) warmTopic(t testing.TB, name string) *fanout.Topic {
	t.Helper()
	topic, err := b.broker.Topic([]byte(name))
	require.NoError(t, err)
	_, err = topic.PublishWait([][]byte{[]byte("warm up")})
	require.NoError(t, err)
	require.NoError(t, topic.Empty())
	return topic
}

// stuff fills the socket of a connection on a bench: what follows is unsent. It gives the number of bytes that its peer
// has to skip.
func stuff(t testing.TB, c *conn) (size int) {
	t.Helper()
	require.NoError(t, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	for _, piece := range []int{1024, 1} {
		for {
			n, err := unix.Write(c.fd, make([]byte, piece))
			if err != nil {
				require.ErrorIs(t, err, unix.EAGAIN)
				break
			}
			size += n
		}
	}
	return size
}

// skip reads size bytes that are no frames.
func (c *client) skip(size int) {
	c.t.Helper()
	require.Empty(c.t, c.buf)
	_, err := io.ReadFull(c.Conn, make([]byte, size))
	require.NoError(c.t, err)
}
