package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rows: h2#log h6#15
func TestRequestLog(t *testing.T) {
	f := newFixture(t, nil)
	f.call(t, "GET", "/ping?x=%41", "")
	f.call(t, "GET", "/stats?topic=none", "")
	f.call(t, "GET", "/nope", "")
	f.call(t, "DELETE", "/p%69ng", "")
	f.call(t, "POST", "/topic/delete?topic=none", "")
	f.call(t, "POST", "/pub?topic=a", "x")
	f.call(t, "POST", "/mpub?topic=a&binary=maybe%0A", "\x00\x00\x00\x01\x00\x00\x00\x01a")
	f.call(t, "GET", "/ping/", "")
	f.call(t, "OPTIONS", "/ping", "")
	f.call(t, "GET", "/debug/pprof/cmdline", "")
	f.call(t, "GET", "/stats?%zz", "")
	want := []string{
		`INFO HTTP: listening on 127\.0\.0\.1:\d+`,
		`INFO 200 GET /ping\?x=%41 \(127\.0\.0\.1:\d+\) [\d.]+[nµm]?s`,
		`INFO 200 GET /stats\?topic=none \(127\.0\.0\.1:\d+\) \S+`,
		`INFO 404 GET /nope \(127\.0\.0\.1:\d+\) \S+`,
		`INFO 405 DELETE /p%69ng \(127\.0\.0\.1:\d+\) \S+`,
		`INFO 404 POST /topic/delete\?topic=none \(127\.0\.0\.1:\d+\) \S+`,
		"WARNING deprecated value 'maybe\n' used for /mpub binary param",
		`ERROR failed to parse request params - .*`,
		`INFO 400 GET /stats\?%zz \(127\.0\.0\.1:\d+\) \S+`,
	}
	lines := f.log.with("")
	require.Len(t, lines, len(want), "%q", lines)
	for i, pattern := range want {
		require.Regexp(t, "^"+pattern+"$", lines[i])
	}
}

// rows: h1#unix
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	listener, err := Listen(path)
	require.NoError(t, err)
	require.Equal(t, -1, Port(listener))
	_, err = Listen(path)
	require.EqualError(t, err, "listen ("+path+") failed - listen unix "+path+": bind: address already in use")
	f := serveOn(t, listener, nil)
	require.Equal(t, "OK", f.call(t, "GET", "/ping", "").body)
	require.Contains(t, f.call(t, "GET", "/info", "").body, `"http_port":-1,`)
	require.NotEmpty(t, f.log.with("200 GET /ping (@) "))
	require.NoError(t, f.server.Stop())
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "a clean stop removes the socket")
}

func TestListenFails(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = Listen(addr)
	require.EqualError(t, err, fmt.Sprintf("listen (%s) failed - listen tcp %s: bind: address already in use", addr, addr))
	require.Zero(t, Port(nil))
}

func TestContinueIsGivenOnlyForBodiesThatWillBeRead(t *testing.T) {
	f := newFixture(t, nil)
	c := dial(t, "tcp", f.addr)
	c.send(t, "POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	interim, err := c.in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", interim)
	_, err = c.in.ReadString('\n')
	require.NoError(t, err)
	c.send(t, "hello")
	got, err := c.read("POST")
	require.NoError(t, err)
	require.Equal(t, "OK", got.body)

	for target, status := range map[string]int{"/ping": 200, "/nope": 404, "/mpub?topic=!": 400, "/mpub": 400} {
		c := dial(t, "tcp", f.addr)
		method := "POST"
		if target == "/ping" {
			method = "GET"
		}
		c.send(t, method+" "+target+" HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		got, err := c.read(method)
		require.NoError(t, err)
		require.Equal(t, status, got.status, target)
	}
}

// A client that sends a huge body without asking must still get its refusal, not a reset.
func TestRefusalReachesAClientThatKeepsSending(t *testing.T) {
	f := newFixture(t, nil)
	for range 20 {
		c := dial(t, "tcp", f.addr)
		go func() {
			// Fails when the server has had enough, which is the point.
			_, _ = io.Copy(c.Conn, strings.NewReader("POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n"+strings.Repeat("x", 3000000)))
		}()
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, 413, got.status)
		_, err = c.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	}
}

func TestHeaderTooBig(t *testing.T) {
	f := newFixture(t, nil)
	fits := "GET /ping HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", headerBytesMax-100) + "\r\n\r\n"
	c := dial(t, "tcp", f.addr)
	c.send(t, fits)
	got, err := c.read("GET")
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
	c.send(t, strings.Replace(fits, "X: ", "X: "+strings.Repeat("y", 200), 1))
	got, err = c.read("GET")
	require.NoError(t, err)
	require.Equal(t, 431, got.status)
	require.Equal(t, "OK", f.call(t, "GET", "/ping", "").body)
}

// rows: h1#keep-alive
func TestPipelinedRequests(t *testing.T) {
	f := newFixture(t, nil)
	c := dial(t, "tcp", f.addr)
	const n = 50
	c.send(t, strings.Repeat(req("POST", "/pub?topic=t", "hello")+chunked("POST", "/pub?topic=t", "a", "b"), n))
	for range 2 * n {
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, "OK", got.body)
	}
	require.EqualValues(t, 2*n, f.broker.LookupTopic("t").Stats().MessageCount)
}

func TestTimeouts(t *testing.T) {
	const short = 150 * time.Millisecond
	f := newFixture(t, func(o *Options) { o.timeouts = timeouts{header: short, body: short, write: time.Second, idle: short} })
	t.Run("half a header", func(t *testing.T) {
		c := dial(t, "tcp", f.addr)
		c.send(t, "GET /ping HTTP/1.1\r\nHo")
		got, err := c.read("GET")
		require.NoError(t, err)
		require.Equal(t, 408, got.status)
	})
	t.Run("half a body", func(t *testing.T) {
		c := dial(t, "tcp", f.addr)
		c.send(t, "POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, 500, got.status)
		_, err = c.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("half a chunked body of an administrative request", func(t *testing.T) {
		c := dial(t, "tcp", f.addr)
		c.send(t, "POST /topic/empty?topic=t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, 400, got.status)
	})
	t.Run("nothing after a request", func(t *testing.T) {
		c := dial(t, "tcp", f.addr)
		c.send(t, line("GET", "/ping"))
		_, err := c.read("GET")
		require.NoError(t, err)
		_, err = c.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("a body that keeps coming may take longer", func(t *testing.T) {
		c := dial(t, "tcp", f.addr)
		const steps = 8
		c.send(t, fmt.Sprintf("POST /mpub?topic=slow HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", steps*bodyStep))
		start := time.Now()
		for range steps {
			c.send(t, strings.Repeat("x", bodyStep-1)+"\n")
			time.Sleep(short / 3) // the pace of the sender is what is tested
		}
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, "OK", got.body)
		require.Greater(t, time.Since(start), 2*short)
	})
}

// The buffer follows what arrives, not what is announced.
func TestClaimedLengthIsNotAllocated(t *testing.T) {
	r, w := io.Pipe()
	b := newBody(r, 5<<20, 5<<20)
	b.buf = nil // not a buffer that an earlier request has grown
	go func() {
		for range 3 {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return
			}
		}
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	_, err := b.all()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.LessOrEqual(t, cap(b.buf), 64<<10)
	b.release()
}

// rows: h2.routing.crash
func TestPanicIsAnsweredAndLogged(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Clients = func() Connections { panic("planted") } })
	got := f.call(t, "GET", "/stats", "")
	require.Equal(t, 500, got.status)
	require.Equal(t, `{"message":"INTERNAL_ERROR"}`, got.body)
	require.NotEmpty(t, f.log.with("ERROR panic in HTTP handler - planted"))
	require.NotEmpty(t, f.log.with("INFO 500 GET /stats "))
	require.Equal(t, "OK", f.call(t, "GET", "/ping", "").body)
}

func TestTooManyConnections(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxConnections = 2 })
	var held []*talker
	for range 2 {
		c := dial(t, "tcp", f.addr)
		c.send(t, line("GET", "/ping"))
		_, err := c.read("GET")
		require.NoError(t, err)
		held = append(held, c)
	}
	c := dial(t, "tcp", f.addr)
	got, err := c.read("GET")
	require.NoError(t, err)
	require.Equal(t, 503, got.status)
	require.NoError(t, held[0].Close())
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", f.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = io.WriteString(c, "GET /ping HTTP/1.0\r\n\r\n")
		answer, rerr := io.ReadAll(c)
		return err == nil && rerr == nil && strings.HasSuffix(string(answer), "OK")
	}, 5*time.Second, 20*time.Millisecond)
}

// starving is a listener that has no descriptors for a while.
type starving struct {
	net.Listener
	failures int
}

func (s *starving) Accept() (net.Conn, error) {
	if s.failures > 0 {
		s.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func TestAcceptOutlivesTheLackOfDescriptors(t *testing.T) {
	inner, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	f := serveOn(t, &starving{inner, 3}, nil)
	require.Equal(t, "OK", f.call(t, "GET", "/ping", "").body)
	require.Len(t, f.log.with("ERROR HTTP: accept failed"), 3)
	select {
	case <-f.server.Done():
		t.Fatal("the server gave up")
	default:
	}
}

func TestStopEndsAWaitForDescriptors(t *testing.T) {
	inner, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	l := newPatient("HTTP", &starving{inner, 1 << 30}, &memoryLog{})
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
}

// broken is a listener that fails for good.
type broken struct{ net.Listener }

func (b *broken) Accept() (net.Conn, error) { return nil, errors.New("planted") }

func TestServerTellsWhenItEnds(t *testing.T) {
	inner, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	s := New(&broken{inner}, Options{Log: &memoryLog{}})
	s.Start()
	<-s.Done()
	require.ErrorContains(t, s.Err(), "HTTP server ended - planted")
	require.ErrorContains(t, s.Stop(), "planted")
}

func TestStopLetsARequestFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	listener, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	log := &memoryLog{}
	s := New(listener, Options{Log: log, Config: func(string) (any, bool) { close(entered); <-leave; return "x", true }})
	s.Start()
	c := dial(t, "tcp", listener.Addr().String())
	c.send(t, line("GET", "/config/x"))
	<-entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop() }()
	<-s.Done() // no longer accepting
	close(leave)
	got, err := c.read("GET")
	require.NoError(t, err)
	require.Equal(t, "x", got.body)
	require.NoError(t, <-stopped)
	require.NotEmpty(t, log.with("INFO HTTP: closing "))
}
