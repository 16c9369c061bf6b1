package loop

import (
	"errors"
	"io"
)

// Filter stands between the wire and the protocol of one connection, both ways. TLS (tlsfilter.go), snappy and deflate
// (compress.go) are filters, compression inside TLS is one filter made of two (chain.go); a connection without any has a
// nil Filter, and then nothing is copied and nothing called. What installs one is in upgrade.go.
//
// A Filter belongs to its connection's loop and must not wait for anything.
type Filter interface {
	// Decode appends the plain bytes that wire gives to dst, whose capacity bounds them, and tells how many bytes of
	// wire it is done with. dst is empty and has room for filterPortion bytes. more: it must be called again, with the
	// rest of wire, which may be empty. That is the byte budget: what a small input expands to is taken in portions, and
	// the work of one call is bounded. wire is not kept. io.EOF: the peer ended its stream. Any other error ends the
	// connection.
	Decode(dst, wire []byte) (out []byte, used int, more bool, err error)

	// Encode appends the wire form of plain to dst, flushed: the peer can decode all of plain from it. plain is not
	// kept.
	Encode(dst, plain []byte) ([]byte, error)

	// Owes tells that the filter has something to say that is no answer to a command. Encode gives it, of nothing if
	// need be.
	Owes() bool

	// End appends what tells the peer that nothing more will come.
	End(dst []byte) []byte

	// Weight is what encoding a byte costs: 1 is about a third of a nanosecond.
	Weight() int

	// Close gives back what the filter has from its loop.
	Close()
}

const (
	filterPortion = 128 << 10 // plain bytes per Decode
	filterTurn    = 384 << 10 // plain bytes per connection and turn; what one read brings is never more
	decodeCost    = 32 << 10  // a Decode counts at least as much: it may have worked without giving anything
)

// receiveWire decodes what arrived and executes it, a portion at a time. What goes beyond this turn's share, or beyond
// what the client's unread replies allow, waits in its encoded form.
func (c *conn) receiveWire(wire []byte) {
	l := c.l
	if l.plain == nil {
		l.plain = make([]byte, 0, filterPortion)
	}
	for budget := filterTurn; !c.ending && !c.dead; {
		if budget <= 0 || c.full || c.up != nil || c.parked != nil || c.job != nil || c.asking() {
			c.keepWire(wire, budget <= 0)
			return
		}
		out, used, more, err := c.filter.Decode(l.plain[:0], wire)
		wire = wire[used:]
		c.decode(out)
		if c.filter.Owes() && !c.dead {
			c.sendWire(c.encode(nil))
		}
		if err != nil {
			c.wireEnded(err)
			return
		}
		if !more {
			return
		}
		cost := max(len(out), decodeCost)
		budget -= cost
		l.decoded += cost
	}
}

// keepWire keeps what is not decoded yet, or at least the knowledge that the filter may have something.
func (c *conn) keepWire(wire []byte, yield bool) {
	l := c.l
	if c.wire = l.blocks.grow(nil, wire); c.wire == nil {
		c.wire = l.blocks.get(1)
	}
	if yield && c.paused&pauseTurn == 0 {
		c.pause(pauseTurn)
		l.pausing = append(l.pausing, c)
		l.yield()
	}
}

// wireEnded: the filter gets no further.
func (c *conn) wireEnded(err error) {
	switch {
	case c.ending || c.dead:
	case errors.Is(err, io.EOF):
		c.peerClosed()
	default:
		c.l.log(LogInfo, "CLIENT(%s): %s", c.remote, err)
		c.dead = true
	}
}

// encode gives the wire form of plain, valid until the next call on this loop, and charges it to this turn.
func (c *conn) encode(plain []byte) []byte {
	l := c.l
	out, err := c.filter.Encode(l.encoded[:0], plain)
	l.encodeCost += len(plain) * c.filter.Weight()
	if err != nil {
		l.log(LogInfo, "CLIENT(%s): %s", c.remote, err)
		c.dead = true
		return nil
	}
	if cap(out) <= encodedKept {
		l.encoded = out
	}
	return out
}

// encodedKept bounds the buffer for encoded output that a loop keeps.
const encodedKept = 1 << 20
