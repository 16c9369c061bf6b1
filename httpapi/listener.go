package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// Listen opens address: host:port is TCP, everything else the path of a unix socket. The error text is the stock daemon's.
func Listen(address string) (net.Listener, error) {
	network := "unix"
	if _, _, err := net.SplitHostPort(address); err == nil {
		network = "tcp"
	}
	inner, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen (%s) failed - %w", address, err)
	}
	return inner, nil
}

// Port of a listener: 0 without one, -1 for a unix socket.
func Port(l net.Listener) int {
	if l == nil {
		return 0
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		return tcp.Port
	}
	return -1
}

// Accepting after the process ran out of descriptors: the wait doubles from the first to the second.
const (
	acceptWaitMin = 5 * time.Millisecond
	acceptWaitMax = time.Second
)

// patient is a listener whose Accept outlives the lack of descriptors and memory, and connections that died in the queue: fasthttp's
// Serve gives up for good on such errors.
type patient struct {
	net.Listener
	name   string    // in log lines
	secure *security // nil without TLS
	log    Logger
	closed chan struct{} // closed by Close: ends a wait
}

func newPatient(name string, l net.Listener, log Logger) *patient {
	return &patient{Listener: l, name: name, log: log, closed: make(chan struct{})}
}

// Accept waits for the next connection. It is called by one goroutine.
func (p *patient) Accept() (net.Conn, error) {
	wait := acceptWaitMin
	for {
		c, err := p.Listener.Accept()
		if err == nil {
			if p.secure != nil {
				return p.secure.wrap(&conn{Conn: c}), nil
			}
			return &conn{Conn: c}, nil
		}
		if !passing(err) {
			return nil, err
		}
		p.log.Errorf("%s: accept failed, next try in %s - %s", p.name, wait, err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.closed:
			timer.Stop()
			return nil, net.ErrClosed
		}
		wait = min(2*wait, acceptWaitMax)
	}
}

// Close ends Accept. It is called once.
func (p *patient) Close() error {
	close(p.closed)
	return p.Listener.Close()
}

// passing tells errors that go away by themselves.
func passing(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPERM, syscall.EPROTO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// How long, and for how many bytes, a connection with an unread body is drained before it is closed.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 4 << 20
)

// conn is an accepted connection.
type conn struct {
	net.Conn
	linger atomic.Bool // it ends with an answer that went out before the whole body was read; set by its own goroutine
}

// Close ends the connection. With unread input a plain close would send a reset, which can overtake the answer and take it away from
// the client; so the sending side is closed first and input is dropped for a moment.
func (c *conn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Swap(false) {
		if half.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			// Whatever ends the draining (end of input, time, an error), the close below is the answer to it.
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		}
	}
	return c.Conn.Close()
}
