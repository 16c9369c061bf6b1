package loop

import "github.com/nsqloop/nsqloop/fanout"

// Filter stands between the wire and the protocol of one connection, both ways. TLS, snappy and deflate are filters; a
// connection without any has a nil Filter, and then nothing is copied and nothing called.
//
// How they fit in. TLS drives crypto/tls over a connection in memory: Decode lends it what arrived and reads until it
// would block, Encode collects its records; its handshake runs in one of a few short-lived goroutines, and the filter is
// installed when it is done. Snappy parses its chunks as bytes come and encodes a chunk per flush. Deflate needs an
// inflater that stops anywhere, and flushes to a sync marker. Compression inside TLS is one Filter made of two.
// A filter is installed in the command that negotiates it: whatever was read behind that command is decoded by it.
//
// A Filter belongs to its connection's loop and must not wait for anything.
type Filter interface {
	// Decode appends the plain bytes that wire gives to dst, whose capacity bounds them, and tells how many bytes of
	// wire it is done with. If out has room left, wire is used up and nothing more can be had without more of it;
	// otherwise the session calls again, with the rest of wire, which may be empty. That is the byte budget: what a
	// small input expands to is taken in portions. wire is not kept. An error ends the connection.
	Decode(dst, wire []byte) (out []byte, used int, err error)

	// Encode appends the wire form of plain to dst, flushed: the peer can decode all of plain from it. plain is not
	// kept.
	Encode(dst, plain []byte) ([]byte, error)
}

const (
	filterPortion = 64 << 10 // plain bytes per Decode
	filterTurn    = 16       // portions per connection and turn
)

// receiveWire decodes what arrived and executes it, a portion at a time. What goes beyond this turn's share, or beyond
// what the client's unread replies allow, waits in its encoded form.
func (c *conn) receiveWire(wire []byte) {
	l := c.l
	if l.plain == nil {
		l.plain = make([]byte, 0, filterPortion)
	}
	for portion := 0; ; portion++ {
		if c.ending || c.dead {
			return
		}
		if c.full || c.asking() || portion == filterTurn {
			c.wire = l.blocks.grow(nil, wire)
			if c.wire == nil { // nothing but what the filter itself still has
				c.wire = l.blocks.get(1)
			}
			if !c.full && !c.asking() {
				c.pause(pauseTurn)
				l.pausing = append(l.pausing, c)
				l.yield()
			}
			return
		}
		out, used, err := c.filter.Decode(l.plain[:0], wire)
		if err != nil {
			l.log(LogInfo, "CLIENT(%s): %s", c.remote, err)
			c.dead = true
			return
		}
		wire = wire[used:]
		c.decode(out)
		if len(out) < cap(l.plain) {
			return
		}
	}
}

// upgraded goes on with rest, read behind the command that installed c.filter. If another filter was there already,
// rest is plain in the midst of its chain and dropped: clients must wait for the answer to an upgrade.
func (c *conn) upgraded(before Filter, rest []byte) {
	if before == nil {
		c.receiveWire(rest)
	}
}

// encode gives the wire form of plain, valid until the next call on this loop.
func (c *conn) encode(plain []byte) []byte {
	l := c.l
	out, err := c.filter.Encode(l.encoded[:0], plain)
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

// sendEncoded sends a run through the filter. The run is copied by that, so its lease on the log ends here.
func (c *conn) sendEncoded(run *fanout.Run) {
	l := c.l
	plain := run.Bytes
	if len(run.Head) > 0 {
		l.joined = append(append(l.joined[:0], run.Head...), run.Bytes...)
		plain = l.joined
	}
	p := c.encode(plain)
	run.Release()
	if c.dead {
		return
	}
	l.iov[0] = p
	p = p[c.write(l.iov[:1]):]
	l.iov[0] = nil
	if len(p) > 0 && !c.dead {
		c.control = l.blocks.grow(c.control, p)
		c.block()
	}
}
