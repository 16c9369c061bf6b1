package loop

import "github.com/nsqloop/nsqloop/fanout"

// Output through a filter is encoded piece by piece, each one when the socket has taken the one before: what waits is
// plain, a reference into the log where possible, and at most one encoded piece. So memory is bounded however slow the
// client is, and messages of which nothing went out are known when it leaves.
//
// Order on the wire: wireOut, the rest of held, then control.

const (
	encodePiece     = 64 << 10 // plain bytes of a piece: four TLS records, one chunk of snappy
	encodePieceSlow = 16 << 10 // where encoding is dear
	slowWeight      = 8

	// encodeTurn is what a loop spends on encoding in one turn, in the units of Filter.Weight: about a millisecond. Then
	// input that waits is looked at first.
	encodeTurn = 2 << 20
)

// piece is how many plain bytes are encoded at once.
func (c *conn) piece() int {
	if c.filter.Weight() >= slowWeight {
		return encodePieceSlow
	}
	return encodePiece
}

// encodes tells whether another piece may be encoded now. If it is only the turn that is over, the connection goes on
// in the next.
func (c *conn) encodes() bool {
	l := c.l
	if c.dead || len(c.wireOut) > 0 {
		return false
	}
	if l.encodeCost < encodeTurn {
		return true
	}
	if !c.owing {
		c.owing = true
		l.owing = append(l.owing, c)
		l.yield()
	}
	return false
}

// sendWire writes encoded bytes behind those that wait. It gives the number of bytes the socket took.
func (c *conn) sendWire(p []byte) (sent int) {
	l := c.l
	if len(p) == 0 || c.dead {
		return 0
	}
	if len(c.wireOut) == 0 {
		l.iov[0] = p
		sent = c.write(l.iov[:1])
		l.iov[0] = nil
		if p = p[sent:]; len(p) == 0 || c.dead {
			return sent
		}
		c.block()
	}
	c.wireOut = l.blocks.grow(c.compactWire(), p)
	return sent
}

// compactWire moves what is unsent of wireOut to its block's start.
func (c *conn) compactWire() []byte {
	if c.wireSent > 0 {
		c.wireOut = c.wireOut[:copy(c.wireOut, c.wireOut[c.wireSent:])]
		c.wireSent = 0
	}
	return c.wireOut
}

// sendEncoded sends a claimed run through the filter. Nothing may be unsent.
func (c *conn) sendEncoded(run *fanout.Run) {
	sent, unseen := 0, 0 // plain bytes encoded; those of the last piece if none of it went out
	size := len(run.Head) + len(run.Bytes)
	for sent < size && c.encodes() {
		piece := run.Bytes
		if sent < len(run.Head) {
			piece = run.Head[sent:]
		} else {
			piece = piece[sent-len(run.Head):]
		}
		piece = piece[:min(len(piece), c.piece())]
		sent += len(piece)
		if c.sendWire(c.encode(piece)) == 0 {
			unseen = len(piece)
		}
	}
	switch {
	case c.dead:
		c.cons.Unwritten(run, sent-unseen)
		run.Release()
	case sent == size && len(c.wireOut) == 0:
		run.Release()
	default:
		c.hold(run, sent)
		c.held.unseen = unseen
	}
}

// flushEncoded sends what is unsent, as far as the socket and this turn allow, and tells how many bytes went out.
func (c *conn) flushEncoded() (sent int) {
	for !c.dead {
		if len(c.wireOut) > 0 {
			c.l.iov[0] = c.wireOut[c.wireSent:]
			n := c.write(c.l.iov[:1])
			c.l.iov[0] = nil
			sent += n
			if c.wireSent += n; n > 0 && c.held != nil {
				c.held.unseen = 0
			}
			if c.wireSent < len(c.wireOut) {
				return sent
			}
			c.l.blocks.put(c.wireOut)
			c.wireOut, c.wireSent = nil, 0
		}
		if c.held != nil && len(c.held.rest[0])+len(c.held.rest[1]) == 0 {
			c.dropHeld()
		}
		if !c.unsent() {
			c.beatWaits = false
			return sent
		}
		if !c.encodes() {
			return sent
		}
		sent += c.sendPiece()
	}
	return sent
}

// sendPiece encodes and sends the first piece of what is held, else of control.
func (c *conn) sendPiece() (sent int) {
	if h := c.held; h != nil {
		from := &h.rest[0]
		if len(*from) == 0 {
			from = &h.rest[1]
		}
		piece := (*from)[:min(len(*from), c.piece())]
		*from = (*from)[len(piece):]
		h.sent += len(piece)
		h.unseen = 0
		if sent = c.sendWire(c.encode(piece)); sent == 0 {
			h.unseen = len(piece)
		}
		return sent
	}
	rest := c.control[c.controlSent:]
	piece := rest[:min(len(rest), c.piece())]
	sent = c.sendWire(c.encode(piece))
	if c.controlSent += len(piece); c.controlSent == len(c.control) {
		c.l.blocks.put(c.control)
		c.control, c.controlSent = nil, 0
	}
	return sent
}

// farewell tells the peer that nothing more comes, if nothing is in the way.
func (c *conn) farewell() {
	if c.filter == nil || c.dead || c.unsent() {
		return
	}
	l := c.l
	l.encoded = c.filter.End(l.encoded[:0])
	c.sendWire(l.encoded)
}
