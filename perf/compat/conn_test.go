package compat

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	frameResponse = 0
	frameError    = 1
	frameMessage  = 2

	// frameSizeMax is far above any limit the suite gives a daemon: a larger
	// size means the stream is out of step.
	frameSizeMax = 16 << 20
	// pieceLarge is where bytewise sending stops being bytewise: a body of a
	// megabyte goes out in pieces of pieceSize, an odd number so that the cuts
	// fall everywhere.
	pieceLarge = 64 << 10
	pieceSize  = 4099
	// sendDeadline bounds one send to a peer that does not read.
	sendDeadline = 20 * time.Second
)

// An event is what the peer did to a connection: a frame, or its end.
type event struct {
	at   time.Time
	kind int32  // frame type when end is empty
	data []byte // frame data
	end  string // "eof", "reset", or what was wrong with the stream
}

func (e event) String() string {
	if e.end != "" {
		return e.end
	}
	text := fmt.Sprintf("%q", clip(e.data))
	switch e.kind {
	case frameResponse:
		return "response " + text
	case frameError:
		return "error " + text
	}
	m, err := parseMessage(e.data)
	if err != nil {
		return "message " + text + " (" + err.Error() + ")"
	}
	return fmt.Sprintf("message id=%s attempts=%d body=%q", m.id, m.attempts, clip(m.body))
}

// clip keeps reports readable where bodies are large.
func clip(b []byte) []byte {
	const most = 200
	if len(b) <= most {
		return b
	}
	return append(append([]byte{}, b[:most]...), fmt.Sprintf("... (%d bytes)", len(b))...)
}

// A conn is one connection of a conversation. A goroutine reads; everything
// else belongs to the goroutine that plays the script.
type conn struct {
	sock net.Conn
	raw  atomic.Bool // what IDENTIFY grants is left to the script

	anonymous atomic.Bool // shows no certificate

	mu      sync.Mutex // guards what follows
	events  []event
	arrived chan struct{} // closed and replaced when an event arrives
	gate    chan struct{} // non-nil and open while stalled
	out     layer         // what is sent through

	done       chan struct{} // closed when the reader has returned
	ended      bool          // the script saw the end
	reset      bool          // the script saw a reset, reading or writing
	halfClosed bool
	skip       map[int32]bool // frame types the script ignores
	skipBeats  bool
}

// dial connects. A connection that is going to stall gets a receive buffer of
// the given size, which counts only if it is set before the handshake; 0 leaves
// it to the kernel.
func dial(network, address string, receiveBuffer int) (*conn, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if receiveBuffer > 0 {
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			var err error
			controlErr := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			})
			return errors.Join(controlErr, err)
		}
	}
	sock, err := dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{sock: sock, out: layer{w: sock}, arrived: make(chan struct{}), done: make(chan struct{}), skip: map[int32]bool{}}
	go c.read()
	return c, nil
}

func (c *conn) read() {
	defer close(c.done)
	r := bufio.NewReaderSize(gatedReader{c}, 4096)
	for {
		e := readFrame(r)
		e.at = time.Now()
		events := []event{e}
		if !c.raw.Load() {
			r, events = c.upgrade(r, e)
		}
		c.mu.Lock()
		c.events = append(c.events, events...)
		close(c.arrived)
		c.arrived = make(chan struct{})
		c.mu.Unlock()
		if events[len(events)-1].end != "" {
			return
		}
	}
}

// gatedReader holds reads back while the connection is stalled.
type gatedReader struct{ c *conn }

func (g gatedReader) Read(p []byte) (int, error) {
	g.c.mu.Lock()
	gate := g.c.gate
	g.c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return g.c.sock.Read(p)
}

func readFrame(r *bufio.Reader) event {
	var head [8]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		return endEvent(err, n)
	}
	size := int32(binary.BigEndian.Uint32(head[:4]))
	kind := int32(binary.BigEndian.Uint32(head[4:]))
	if size < 4 || size > frameSizeMax || kind < frameResponse || kind > frameMessage {
		return event{end: fmt.Sprintf("malformed frame: size %d, type %d", size, kind)}
	}
	data := make([]byte, size-4)
	if n, err := io.ReadFull(r, data); err != nil {
		return endEvent(err, n+len(head))
	}
	return event{kind: kind, data: data}
}

// endEvent names the end of a stream after n bytes of an unfinished frame.
func endEvent(err error, n int) event {
	end := err.Error()
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		end = "eof"
	case errors.Is(err, syscall.ECONNRESET):
		end = "reset"
	}
	if n > 0 {
		end = fmt.Sprintf("%s inside a frame, after %d bytes of it", end, n)
	}
	return event{end: end}
}

// next waits for the next event the script does not skip; ok is false when none
// came in time. The event is taken only if take is set.
func (c *conn) next(wait time.Duration, take bool) (e event, ok bool) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		for len(c.events) > 0 && c.skipped(c.events[0]) {
			c.events = c.events[1:]
		}
		if len(c.events) > 0 {
			e = c.events[0]
			if take {
				c.events = c.events[1:]
			}
			c.mu.Unlock()
			return e, true
		}
		arrived := c.arrived
		c.mu.Unlock()
		select {
		case <-arrived:
		case <-deadline.C:
			return event{}, false
		}
	}
}

func (c *conn) skipped(e event) bool {
	return e.end == "" && (c.skip[e.kind] || c.skipBeats && isHeartbeat(e))
}

func isHeartbeat(e event) bool {
	return e.end == "" && e.kind == frameResponse && string(e.data) == "_heartbeat_"
}

// send writes data, in one write or in one per byte. That the peer has closed
// meanwhile is not an error here: the script says what it expects to read.
func (c *conn) send(data []byte, bytewise bool) error {
	if err := c.sock.SetWriteDeadline(time.Now().Add(sendDeadline)); err != nil {
		return err
	}
	piece := len(data)
	if bytewise && piece > 0 {
		piece = 1
		if len(data) > pieceLarge {
			piece = pieceSize
		}
	}
	for len(data) > 0 {
		n := min(piece, len(data))
		if err := c.write(data[:n]); err != nil {
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				c.reset = true
				return nil
			}
			return err
		}
		if data = data[n:]; bytewise && len(data) < 256 {
			// Gives the peer time to read this byte before the next arrives;
			// long payloads rely on the scheduler for that.
			time.Sleep(20 * time.Microsecond)
		}
	}
	return nil
}

func (c *conn) write(p []byte) error {
	c.mu.Lock()
	out := c.out
	c.mu.Unlock()
	return out.write(p)
}

func (c *conn) stall() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		return errors.New("stalled already")
	}
	c.gate = make(chan struct{})
	return nil
}

func (c *conn) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

func (c *conn) halfClose() error {
	c.halfClosed = true
	half, ok := c.sock.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("this kind of socket has no half close")
	}
	err := half.CloseWrite()
	if errors.Is(err, syscall.ENOTCONN) {
		return nil // the peer reset it first; reading will tell
	}
	return err
}

// close ends the connection and waits for its reader.
func (c *conn) close() error {
	c.resume()
	err := c.sock.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil // the script closed it
	}
	return err
}

// A message is the data of a message frame.
type message struct {
	timestamp int64 // ns since the epoch
	attempts  uint16
	id        string
	body      []byte
}

func parseMessage(data []byte) (message, error) {
	if len(data) < 26 {
		return message{}, fmt.Errorf("a message of %d bytes", len(data))
	}
	return message{
		timestamp: int64(binary.BigEndian.Uint64(data)),
		attempts:  binary.BigEndian.Uint16(data[8:]),
		id:        string(data[10:26]),
		body:      data[26:],
	}, nil
}
