package loop

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/fanout"
)

// Output goes straight to the socket. What it does not take is held here and tried again after 1, 2, 4, 8 and then
// every 16 ms: the rest of at most one run, as a reference into the log where possible, and at most outputMax bytes of
// replies and heartbeats behind it. A connection with anything unsent gets no further messages.
const (
	retryFirst = 1e6 // ns
	retrySteps = 4   // doublings
)

// heldRun is a run of which some bytes are unsent. It keeps its lease.
type heldRun struct {
	run   fanout.Run
	sent  int       // bytes of Head and Bytes that are out
	rest  [2][]byte // what is left of Head and Bytes
	block []byte    // copy of what lay in scratch memory, or nil

	unseen int // with a filter: bytes of sent that are encoded, but nothing of them is out
}

func (c *conn) unsent() bool { return c.held != nil || len(c.control) > 0 || len(c.wireOut) > 0 }

// controlRoom is how many bytes of replies may be given to sendControl now.
func (c *conn) controlRoom() int { return outputMax - (len(c.control) - c.controlSent) }

// write is the one place that writes to a client. It gives the number of bytes the socket took; fewer than offered
// means that it is full, or that the connection broke (dead). iov has at most three entries and is changed.
func (c *conn) write(iov [][]byte) (sent int) {
	for {
		if c.closed || c.dead {
			return sent
		}
		var n int
		var err error
		if len(iov) == 1 {
			n, err = unix.Write(c.fd, iov[0])
		} else {
			n, err = unix.Writev(c.fd, iov)
		}
		switch {
		case err == nil:
			sent += n
			if iov = advance(iov, n); len(iov) == 0 {
				return sent
			}
			// A short write nearly always means that the socket is full now, and the next attempt tells.
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return sent
		default:
			c.dead = true
			return sent
		}
	}
}

// advance drops the first n bytes of iov.
func advance(iov [][]byte, n int) [][]byte {
	for len(iov) > 0 && n >= len(iov[0]) {
		n -= len(iov[0])
		iov = iov[1:]
	}
	if len(iov) > 0 {
		iov[0] = iov[0][n:]
	}
	return iov
}

// sendControl sends frames behind everything unsent. p is copied if it must wait.
func (c *conn) sendControl(p []byte) {
	l := c.l
	if c.filter != nil && !c.unsent() {
		c.sendWire(c.encode(p))
		return
	}
	if !c.unsent() {
		l.iov[0] = p
		p = p[c.write(l.iov[:1]):]
		l.iov[0] = nil
		if len(p) == 0 || c.dead {
			return
		}
		c.block()
	}
	c.control = l.blocks.grow(c.compactControl(), p)
}

// compactControl moves what is unsent of control to its block's start.
func (c *conn) compactControl() []byte {
	if c.controlSent > 0 {
		c.control = c.control[:copy(c.control, c.control[c.controlSent:])]
		c.controlSent = 0
	}
	return c.control
}

// sendRun writes a claimed run. Nothing may be unsent.
func (c *conn) sendRun(run *fanout.Run) {
	l := c.l
	if c.filter != nil {
		c.sendEncoded(run)
		return
	}
	iov := l.iov[:0]
	if len(run.Head) > 0 {
		iov = append(iov, run.Head)
	}
	if len(run.Bytes) > 0 {
		iov = append(iov, run.Bytes)
	}
	size := len(run.Head) + len(run.Bytes)
	sent := c.write(iov)
	clear(l.iov[:])
	switch {
	case sent == size:
		run.Release()
	case c.dead:
		c.cons.Unwritten(run, sent)
		run.Release()
	default:
		c.hold(run, sent)
	}
}

// hold keeps a run of which sent bytes are out. Mapped bytes stay where they are, scratch memory is copied. run is moved
// away: what it refers to must not be reused by the next claim.
func (c *conn) hold(run *fanout.Run, sent int) {
	h := &heldRun{run: *run, sent: sent}
	head, tail := run.Head, run.Bytes
	if sent < len(head) {
		head = head[sent:]
	} else {
		tail = tail[sent-len(head):]
		head = nil
	}
	if run.Pinned {
		h.block = c.l.blocks.grow(nil, head)
		h.rest = [2][]byte{h.block, tail}
	} else {
		h.block = c.l.blocks.get(len(head) + len(tail))
		h.block = append(append(h.block, head...), tail...)
		h.rest[0] = h.block
	}
	*run = fanout.Run{}
	c.held = h
	c.block()
}

// block starts the retries: something is unsent from now on.
func (c *conn) block() {
	c.movedAt = c.l.now
	c.retryStep = 0
	c.retryAt = c.l.now + retryFirst
}

// flushOutput tries to send what is unsent.
func (c *conn) flushOutput() {
	if !c.unsent() {
		return
	}
	var sent int
	if c.filter != nil || len(c.wireOut) > 0 {
		sent = c.flushEncoded()
	} else {
		sent = c.flushPlain()
	}
	if sent > 0 {
		c.movedAt, c.retryStep = c.l.now, 0
	} else if c.retryStep < retrySteps {
		c.retryStep++
	}
	c.retryAt = 0
	if c.unsent() {
		c.retryAt = c.l.now + retryFirst<<c.retryStep
	}
}

// flushPlain is flushOutput without a filter. It tells how many bytes went out.
func (c *conn) flushPlain() int {
	iov := c.l.iov[:0]
	size := 0
	if c.held != nil {
		for _, part := range c.held.rest {
			if len(part) > 0 {
				iov = append(iov, part)
				size += len(part)
			}
		}
	}
	if rest := c.control[c.controlSent:]; len(rest) > 0 {
		iov = append(iov, rest)
		size += len(rest)
	}
	sent := c.write(iov)
	clear(c.l.iov[:])
	if sent > 0 {
		c.sentOutput(sent)
	}
	return sent
}

// sentOutput accounts for sent bytes of what is unsent.
func (c *conn) sentOutput(sent int) {
	if h := c.held; h != nil {
		for i := range h.rest {
			n := min(sent, len(h.rest[i]))
			h.rest[i] = h.rest[i][n:]
			h.sent += n
			sent -= n
		}
		if len(h.rest[0])+len(h.rest[1]) == 0 {
			c.dropHeld()
		}
	}
	c.controlSent += sent
	if c.controlSent == len(c.control) {
		c.l.blocks.put(c.control)
		c.control, c.controlSent, c.beatWaits = nil, 0, false
	}
}

// dropHeld lets go of the held run, sent or not.
func (c *conn) dropHeld() {
	if h := c.held; h != nil {
		c.held = nil
		c.l.blocks.put(h.block)
		h.run.Release()
	}
}
