package httpapi

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// bodyStep is how much of a body is read at a time, and how much must arrive within the body time-out for the connection to live on.
const bodyStep = 64 << 10

var (
	errBodyTooLong = errors.New("body is longer than allowed")
	errBodyShort   = errors.New("body ended early")
)

// body reads one request body piece by piece into a buffer that grows only as bytes arrive, never by what the client claims. Its bytes
// are valid until release. Owned by the request's goroutine.
type body struct {
	stream  io.Reader
	claimed int // Content-Length, below 0 = chunked
	read    int // bytes taken from stream
	limit   int // read never exceeds limit+1
	buf     []byte
	pooled  *[]byte
	err     error                // what ended the stream; io.EOF = all is there
	ctx     *fasthttp.RequestCtx // its connection; nil in tests that bring their own stream
	step    time.Duration        // time for each bodyStep
}

var bodyPool = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// bodyKeep is the largest buffer that is kept for the next request: one of a body that was found too long for the default of --max-msg-size too.
const bodyKeep = 1<<20 + 1

// openBody starts reading the body of ctx. At most limit+1 bytes are ever taken, so that a longer body can be told from one that fits.
func (s *Server) openBody(ctx *fasthttp.RequestCtx, limit int64) *body {
	b := newBody(ctx.RequestBodyStream(), ctx.Request.Header.ContentLength(), limit)
	b.ctx, b.step = ctx, s.o.timeouts.body
	return b
}

func newBody(stream io.Reader, claimed int, limit int64) *body {
	b := &body{stream: stream, claimed: claimed, limit: int(min(limit, bodyLimitMax)), pooled: bodyPool.Get().(*[]byte)}
	b.buf = (*b.pooled)[:0]
	if stream == nil {
		b.err = io.EOF
	}
	return b
}

// bodyLimitMax keeps limit+1 from overflowing.
const bodyLimitMax = 1 << 40

// release ends the use of the body's bytes. What was left unread is dropped, or the connection ends with this request.
func (b *body) release() {
	switch {
	case b.complete() || b.ctx == nil:
	case b.err == nil || errors.Is(b.err, errBodyTooLong):
		dropUnread(b.ctx, b.claimed-b.read)
	default:
		closeUnread(b.ctx)
	}
	if cap(b.buf) <= bodyKeep {
		*b.pooled = b.buf[:0]
		bodyPool.Put(b.pooled)
	}
	b.buf, b.pooled = nil, nil
}

// unreadMax is how much of an unwanted body is read so that the connection can go on.
const unreadMax = 256 << 10

// dropUnread reads the rest of a body if that is not much; left below 0 = unknown. Otherwise the connection ends.
func dropUnread(ctx *fasthttp.RequestCtx, left int) {
	stream := ctx.RequestBodyStream()
	// The answer goes out after this, so a client that waits for it before it sends on must not be waited for in turn.
	if stream != nil && left <= unreadMax && ctx.Conn().SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		if _, err := io.CopyN(io.Discard, stream, unreadMax+1); err == io.EOF {
			return
		}
	}
	closeUnread(ctx)
}

// closeUnread ends the connection after the answer, and has it drain for a moment what the client is still sending.
func closeUnread(ctx *fasthttp.RequestCtx) {
	ctx.SetConnectionClose()
	switch c := ctx.Conn().(type) {
	case *conn:
		c.linger.Store(true)
	case *secureConn:
		c.below.linger.Store(true)
	}
}

// more reads at least one byte. false: nothing more can be read, see err.
func (b *body) more() bool {
	if b.err != nil {
		return false
	}
	want := b.limit + 1 - b.read
	if want == 0 {
		b.err = errBodyTooLong
		return false
	}
	if len(b.buf) == cap(b.buf) {
		b.grow()
	}
	room := min(cap(b.buf)-len(b.buf), want, bodyStep)
	n, err := b.stream.Read(b.buf[len(b.buf) : len(b.buf)+room])
	if b.read/bodyStep != (b.read+n)/bodyStep {
		b.extendDeadline()
	}
	b.buf = b.buf[:len(b.buf)+n]
	b.read += n
	switch {
	case err == io.EOF && b.claimed >= 0 && b.read < b.claimed:
		b.err = errBodyShort
		if b.ctx != nil {
			b.ctx.SetConnectionClose() // fasthttp takes the early end for a regular one
		}
	case err != nil && b.err == nil:
		b.err = err
	}
	return n > 0 || b.err == nil
}

// grow makes room: up to bodyStep at once what the client claims, beyond that double what has really come, and never more than may come.
func (b *body) grow() {
	size := max(2*cap(b.buf), 4<<10)
	if b.claimed > 0 && b.claimed <= bodyStep {
		size = max(size, b.claimed+1)
	}
	if most := b.limit + 1; most > cap(b.buf) {
		size = min(size, most)
	}
	bigger := make([]byte, len(b.buf), size)
	copy(bigger, b.buf)
	b.buf = bigger
}

// extendDeadline gives a client that keeps sending time for the next step.
func (b *body) extendDeadline() {
	if b.ctx == nil {
		return
	}
	if err := b.ctx.SetReadDeadline(time.Now().Add(b.step)); err != nil && b.err == nil {
		b.err = err
	}
}

// need reads until n bytes are in the buffer. false: they will not come.
func (b *body) need(n int) bool {
	for len(b.buf) < n {
		if !b.more() {
			return false
		}
	}
	return true
}

// complete tells whether the whole body was read.
func (b *body) complete() bool { return b.err == io.EOF }

// all reads to the end. err is nil, errBodyTooLong, or what stopped the reading.
func (b *body) all() ([]byte, error) {
	for b.more() {
	}
	if !b.complete() {
		return nil, b.err
	}
	if b.read > b.limit {
		return nil, errBodyTooLong
	}
	return b.buf, nil
}

// discardBody reads the body of ctx to its end and drops it. Its size is not limited, its pace is.
func (s *Server) discardBody(ctx *fasthttp.RequestCtx) error {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return nil
	}
	claimed := ctx.Request.Header.ContentLength()
	total := 0
	for {
		n, err := io.CopyN(io.Discard, stream, bodyStep)
		total += int(n)
		if err == nil {
			err = ctx.SetReadDeadline(time.Now().Add(s.o.timeouts.body))
		}
		switch {
		case err == io.EOF && claimed >= 0 && total < claimed:
			ctx.SetConnectionClose()
			return errBodyShort
		case err == io.EOF:
			return nil
		case err != nil:
			closeUnread(ctx)
			return err
		}
	}
}
